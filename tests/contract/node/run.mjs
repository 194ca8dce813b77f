// Drives StackOne's official TypeScript client from outside: one JSON command per line in, one JSON answer per line out.
//   environment  HUB_URL, HUB_API_KEY
//   command      {"id": 1, "call": "accounts.getAccount", "args": {"id": "…"}, "options": {}}; "security" where it comes first
//   answer       {"id": 1, "ok": true, "result": …, "http": …} or {"id": 1, "ok": false, "error": …, "http": …}
// `call` is the method's path on the client, `args` its request object; a string in startDate or endDate becomes a Date.
// `http` is the last exchange of the call as it was on the wire, for what the client does not hand on
// (proxyRequest drops the answer's body): {method, path, status, headers, body}. Retries are off.
import { AsyncLocalStorage } from 'node:async_hooks';
import readline from 'node:readline';
import { HTTPClient, StackOne } from '@stackone/stackone-client-ts';

const exchange = new AsyncLocalStorage();

async function recordingFetch(input, init) {
  const request = new Request(input, init);
  const { pathname, search } = new URL(request.url);
  const seen = { method: request.method, path: pathname + search, status: null, headers: null, body: null };
  const holder = exchange.getStore();
  holder.http = seen;
  const response = await fetch(request);
  seen.status = response.status;
  seen.headers = Object.fromEntries(response.headers);
  seen.body = parsed(await response.clone().text());
  return response;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const client = new StackOne({
  serverURL: process.env.HUB_URL,
  security: { username: process.env.HUB_API_KEY, password: '' },
  httpClient: new HTTPClient({ fetcher: recordingFetch }),
  retryConfig: { strategy: 'none' },
  timeoutMs: 30_000,
});

function withDates(key, value) {
  return (key === 'startDate' || key === 'endDate') && typeof value === 'string' ? new Date(value) : value;
}

function methodOf(call) {
  const names = call.split('.');
  const method = names.pop();
  const owner = names.reduce((value, name) => value?.[name], client);
  if (typeof owner?.[method] !== 'function') throw new TypeError(`the client has no method ${call}`);
  return owner[method].bind(owner);
}

function describeError(error) {
  return {
    name: error.name,
    message: error.message,
    statusCode: error.statusCode ?? null,
    body: typeof error.body === 'string' ? parsed(error.body) : null,
    data: error.data$ ?? null, // the typed fields, as the client's own error class read them
    details: typeof error.pretty === 'function' ? error.pretty() : null, // what did not fit the client's schema
  };
}

async function answer(line) {
  const { id, call, args, options, security } = JSON.parse(line, withDates);
  const holder = { http: null };
  const reply = await exchange.run(holder, async () => {
    try {
      const { rawResponse, ...result } = await methodOf(call)(...(security ? [security] : []), args ?? {}, options ?? {});
      return { id, ok: true, result };
    } catch (error) {
      return { id, ok: false, error: describeError(error) };
    }
  });
  process.stdout.write(`${JSON.stringify({ ...reply, http: holder.http })}\n`);
}

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', answer);
