// panva's oidc-provider as a provider to link accounts with. The OAuth engine is untouched; around it:
//   /api/me, /api/echo   a resource that takes Bearer or DPoP tokens (401 with WWW-Authenticate when not live)
//   control port PORT+1  GET /stats   GET /private-key   POST /reset   POST /fault {mode, n, ms}   POST /expire-access
// Environment: PORT, ISS (issuer, when reached through another address), REDIRECT_URIS (comma-separated),
//   AT_TTL (seconds, 3600), ROTATE (1 | 0 | default), GRACE (seconds in which a used refresh token still works; 0 = strict)
import { createHash, generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
import { Provider } from 'oidc-provider';
import { MapAdapter, onGrantRevoked, store } from './adapter.mjs';

const HOST = '127.0.0.1';
const PORT = Number(process.env.PORT);
const ISSUER = process.env.ISS || `http://${HOST}:${PORT}`;
const ACCESS_TTL = Number(process.env.AT_TTL || 3600);
const ROTATE = process.env.ROTATE ?? '1';
const REDIRECT_URIS = process.env.REDIRECT_URIS.split(',');

const zeroStats = () => ({
  token: 0, token_code: 0, token_ok: 0, token_err: {}, revoke: 0, introspect: 0, api: 0, api_401: 0,
  grant_revocations: 0, reuse_detected: 0, max_inflight: 0,
});
const noFault = () => ({ mode: 'none', n: 0, ms: 0 });
let stats = zeroStats();
let fault = noFault();
let inflight = 0;
onGrantRevoked(() => { stats.grant_revocations++; });

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const publicJwk = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'pk1', use: 'sig', alg: 'ES256' };
const privateJwk = { ...pair.privateKey.export({ format: 'jwk' }), kid: 'pk1', alg: 'ES256' };

const app = (client_id, more) => ({
  client_id, redirect_uris: REDIRECT_URIS, response_types: ['code'], grant_types: ['authorization_code', 'refresh_token'],
  application_type: 'native', // RFC 8252, 7.3: on loopback any port of the redirect URI matches
  ...more,
});
const machine = (client_id, more) => ({
  client_id, redirect_uris: [], response_types: [], grant_types: ['client_credentials'], ...more,
});

const provider = new Provider(ISSUER, {
  adapter: MapAdapter,
  clients: [
    app('basic-app', { client_secret: 'basic-secret', token_endpoint_auth_method: 'client_secret_basic' }),
    app('post-app', { client_secret: 'post-secret', token_endpoint_auth_method: 'client_secret_post' }),
    // RFC 6749, 2.3.1: both parts are form-encoded inside Basic
    app('odd:app%/+ x', { client_secret: 's:e%c r+e/t~', token_endpoint_auth_method: 'client_secret_basic' }),
    app('public-app', { token_endpoint_auth_method: 'none' }),
    app('pkjwt-app', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [publicJwk] } }),
    app('csjwt-app', {
      client_secret: 'client-secret-jwt-needs-32-bytes-or-more', token_endpoint_auth_method: 'client_secret_jwt',
    }),
    app('dpop-app', { client_secret: 'dpop-secret', dpop_bound_access_tokens: true }),
    app('par-app', { client_secret: 'par-secret', require_pushed_authorization_requests: true }),
    machine('machine', { client_secret: 'machine-secret', scope: 'api:read' }),
    machine('rs', { client_secret: 'rs-secret' }),
  ],
  scopes: ['openid', 'email', 'profile', 'offline_access', 'api:read', 'api:write'],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
  pkce: { required: () => true },
  rotateRefreshToken: ROTATE === 'default' ? undefined : ROTATE === '1',
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: ACCESS_TTL, ClientCredentials: ACCESS_TTL, AuthorizationCode: 60, Interaction: 3600,
    Session: 86400, RefreshToken: 14 * 86400, Grant: 14 * 86400,
  },
  features: {
    devInteractions: { enabled: true }, clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true }, revocation: { enabled: true },
    pushedAuthorizationRequests: { enabled: true }, dPoP: { enabled: true },
    resourceIndicators: {
      enabled: true, defaultResource: () => undefined, useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'api:read api:write', accessTokenFormat: 'opaque', accessTokenTTL: ACCESS_TTL,
      }),
    },
  },
  cookies: { keys: ['for-tests-on-loopback-only'] },
  findAccount: async (ctx, sub) => ({ accountId: sub, claims: async () => ({ sub, email: `${sub}@example.com`, email_verified: !sub.startsWith('unverified') }) }),
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
});
const isCode = (ctx) => ctx.oidc?.params?.grant_type === 'authorization_code';
provider.on('grant.success', (ctx) => { stats.token_ok++; if (isCode(ctx)) stats.token_code++; });
provider.on('grant.error', (ctx, error) => {
  if (isCode(ctx)) stats.token_code++;
  stats.token_err[error.error] = (stats.token_err[error.error] || 0) + 1;
  if (/already used/.test(error.error_detail || '')) stats.reuse_detected++;
});
const oidc = provider.callback();

async function readBody(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function answerJson(res, status, value, headers = {}) {
  res.writeHead(status, { 'content-type': 'application/json', ...headers });
  res.end(JSON.stringify(value));
}

const retryAfter = (taken) => ({ 'retry-after': String(Math.ceil(taken.ms / 1000) || 1) });

// The fault in force, if it is one of `modes`; each use takes one off its count.
function takeFault(modes) {
  if (fault.n <= 0 || !Object.hasOwn(modes, fault.mode)) return null;
  fault.n--;
  return fault;
}

const apiFaults = {
  api429: (res, taken) => { res.writeHead(429, retryAfter(taken)).end(); },
  api503: (res, taken) => { res.writeHead(503, retryAfter(taken)).end(); },
};

// Faults in which the provider does not act on the token request.
const tokenFaults = {
  token429: (res, taken) => { res.writeHead(429, retryAfter(taken)).end(); },
  token503: (res) => { res.writeHead(503).end('upstream'); },
  tokenHtml: (res) => { res.writeHead(200, { 'content-type': 'text/html' }).end('<html>captive portal</html>'); },
  tokenRedirect: (res) => { res.writeHead(307, { location: 'http://127.0.0.1:1/steal' }).end(); },
  tokenRst: (res) => { res.socket.resetAndDestroy(); },
  tokenHang: () => {},
  tokenHuge: (res) => { // half a gigabyte of JSON string
    res.writeHead(200, { 'content-type': 'application/json' });
    res.write('{"access_token":"');
    const piece = 'A'.repeat(1 << 20);
    let sent = 0;
    const more = () => {
      while (sent++ < 512) if (!res.write(piece)) return res.once('drain', more);
      return res.end('"}');
    };
    more();
  },
  tokenSlowloris: (res) => { // one space every half second, for ever
    res.writeHead(200, { 'content-type': 'application/json' });
    const timer = setInterval(() => res.write(' '), 500);
    res.on('close', () => clearInterval(timer));
  },
};

// Faults in which the provider commits the rotation, and the client never, or late, sees the answer.
const afterCommitFaults = {
  tokenDropAfterCommit: (res) => {
    res.writeHead = () => res;
    res.write = () => true;
    res.end = () => { res.socket.resetAndDestroy(); return res; };
  },
  tokenDelayAfterCommit: (res, taken) => {
    const end = res.end.bind(res);
    res.end = (...args) => { setTimeout(() => end(...args), taken.ms); return res; };
  },
};

async function protectedApi(req, res) {
  stats.api++;
  const presented = /^(?:Bearer|DPoP) (.+)$/i.exec(req.headers.authorization || '');
  const token = presented
    && (await provider.AccessToken.find(presented[1]) || await provider.ClientCredentials.find(presented[1]));
  if (!token) {
    stats.api_401++;
    const challenge = presented ? 'Bearer error="invalid_token"' : 'Bearer';
    return answerJson(res, 401, { error: 'invalid_token' }, { 'www-authenticate': challenge });
  }
  const taken = takeFault(apiFaults);
  if (taken) return apiFaults[taken.mode](res, taken);
  const body = await readBody(req);
  return answerJson(res, 200, {
    sub: token.accountId ?? null, client_id: token.clientId, scope: token.scope,
    method: req.method, url: req.url, headers: req.headers,
    body_sha256: createHash('sha256').update(body).digest('hex'),
  });
}

function tokenEndpoint(req, res) {
  stats.token++;
  inflight++;
  stats.max_inflight = Math.max(stats.max_inflight, inflight);
  res.on('close', () => { inflight--; });
  const before = takeFault(tokenFaults);
  if (before) return tokenFaults[before.mode](res, before);
  const after = takeFault(afterCommitFaults);
  if (after) afterCommitFaults[after.mode](res, after);
  return oidc(req, res);
}

const server = http.createServer((req, res) => {
  const path = req.url.split('?')[0];
  if (path.startsWith('/api/')) return protectedApi(req, res);
  if (path === '/token' && req.method === 'POST') return tokenEndpoint(req, res);
  if (path === '/token/revocation') stats.revoke++;
  if (path === '/token/introspection') stats.introspect++;
  return oidc(req, res);
});
server.keepAliveTimeout = 5000;

const knownModes = { ...apiFaults, ...tokenFaults, ...afterCommitFaults };
const control = {
  'GET /stats': () => {
    const live = [...store].filter(([key, entry]) => key.startsWith('AccessToken:') && entry.expires > Date.now());
    return { ...stats, live_access: live.length };
  },
  'GET /private-key': () => privateJwk,
  'POST /reset': () => { stats = zeroStats(); fault = noFault(); return { ok: true }; },
  'POST /fault': (asked) => {
    if (asked.mode !== 'none' && !Object.hasOwn(knownModes, asked.mode)) throw new Error(`unknown fault mode ${asked.mode}`);
    fault = { ...noFault(), n: 1, ...asked };
    return fault;
  },
  'POST /expire-access': () => {
    const gone = [...store.keys()].filter((key) => /^(AccessToken|ClientCredentials):/.test(key));
    for (const key of gone) store.delete(key);
    return { expired: gone.length };
  },
};
const controlServer = http.createServer(async (req, res) => {
  const act = control[`${req.method} ${req.url}`];
  const body = await readBody(req);
  if (!act) return answerJson(res, 404, { error: `no such control: ${req.method} ${req.url}` });
  try {
    return answerJson(res, 200, act(body.length ? JSON.parse(body) : {}));
  } catch (error) {
    return answerJson(res, 400, { error: error.message });
  }
});

// Whoever waits for the issuer to answer may then rely on the control port too.
controlServer.listen(PORT + 1, HOST, () => server.listen(PORT, HOST));
