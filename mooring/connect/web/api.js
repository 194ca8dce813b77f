// Calls of the Hub's JSON API. A refusal is thrown as the server's own error body.

class Refusal extends Error {
  constructor(status, body) {
    super(body.message || "");
    this.status = status;
    this.body = body;
  }
}

async function call(app, path, method = "GET", body = undefined) {
  const headers = { "x-hub-session-token": app.token };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (app.browser) headers["x-hub-browser"] = app.browser;
  let response;
  try {
    response = await fetch(`${app.base}/hub${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
  } catch {
    throw new Refusal(0, { errorCode: "Offline" });
  }
  const data = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return data;
  throw new Refusal(response.status, data || { message: `HTTP ${response.status}` });
}
