"""The sandbox's pages for people: front page, consent, and what is shown where no redirect is safe."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from starlette.responses import HTMLResponse

from mooring.sandbox.data import API_KEYS, BASIC_LOGINS, CLIENTS, COMPANIES, SCOPES, SERVICE_USERS

_CSS = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #55606e; --page: #f4f6f8; --card: #fff;
  --line: #c3cad3; --accent: #0b5d78; --on-accent: #fff; --warn: #a3231c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf2; --soft: #a9b4c0; --page: #12171d;
  --card: #1b222b; --line: #46525f; --accent: #7fd0e8; --on-accent: #08232d; --warn: #ff9d94; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 30rem; margin: 0 auto; padding: 1.5rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .75rem; }
main.wide { max-width: 50rem; }
h1 { margin: 0 0 .5rem; font-size: 1.35rem; line-height: 1.25; }
h2 { margin: 1.75rem 0 .5rem; font-size: 1.05rem; }
p { margin: 0 0 1rem; }
.soft { color: var(--soft); }
.badge { display: inline-block; margin-bottom: .75rem; padding: .1rem .6rem; border: 1px solid var(--line);
  border-radius: 1rem; font-size: .8rem; color: var(--soft); }
.alert { padding: .6rem .8rem; border: 1px solid var(--warn); border-radius: .4rem; color: var(--warn); }
fieldset { margin: 0 0 1.25rem; padding: 0; border: 0; }
legend { margin-bottom: .4rem; padding: 0; font-weight: 600; }
label { display: flex; gap: .7rem; align-items: flex-start; padding: .55rem .7rem; margin-bottom: .4rem;
  border: 1px solid var(--line); border-radius: .5rem; cursor: pointer; }
label small { display: block; color: var(--soft); }
input { flex: none; width: 1.1rem; height: 1.1rem; margin: .2rem 0 0; accent-color: var(--accent); }
.actions { display: flex; flex-wrap: wrap; gap: .6rem; }
button { flex: 1 1 8rem; min-height: 2.75rem; padding: .5rem 1rem; border: 1px solid var(--accent);
  border-radius: .5rem; background: transparent; color: var(--accent); font: inherit; font-weight: 600;
  cursor: pointer; }
button.main { background: var(--accent); color: var(--on-accent); }
a { color: var(--accent); }
a:focus-visible, button:focus-visible, input:focus-visible, label:focus-within {
  outline: 3px solid var(--accent); outline-offset: 2px; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; overflow-wrap: normal; }
th, td { padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
code { font: .9em ui-monospace, monospace; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
_HEADERS = {
    # no form-action: Chromium applies it to the redirect after the form too, which leads to the client
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def _page(title: str, body: str, *, status: int = 200, wide: bool = False) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        f"<main{' class=wide' if wide else ''}>\n{body}\n</main>\n</body>\n</html>\n",
        status,
        _HEADERS,
    )


def _checked(yes: bool) -> str:
    return " checked" if yes else ""


def consent(
    *,
    query: str,
    client_id: str,
    redirect_host: str,
    scopes: Sequence[str],
    company: str | None = None,
    problem: str | None = None,
) -> HTMLResponse:
    """Ask who signs in and what the client may do."""
    chosen = company if company in COMPANIES else next(iter(COMPANIES))
    companies = "\n".join(
        f'<label><input type="radio" name="company" value="{each.key}"{_checked(each.key == chosen)}>'
        f"<span>{escape(each.name)}<small>as {escape(each.admin)}, administrator</small></span></label>"
        for each in COMPANIES.values()
    )
    # after a submission without any scope the boxes stay as they were left
    mark = _checked(problem is None)
    boxes = "\n".join(
        f'<label><input type="checkbox" name="scope" value="{escape(scope)}"{mark}>'
        f"<span>{escape(SCOPES[scope])}<small><code>{escape(scope)}</code></small></span></label>"
        for scope in scopes
    )
    alert = f'<p class="alert" role="alert" id="problem">{escape(problem)}</p>' if problem else ""
    described = ' aria-describedby="problem"' if problem else ""
    body = f"""<p class="badge">Mooring sandbox: a simulated provider</p>
<h1>Allow {escape(client_id)} to use your company’s data?</h1>
<p class="soft">You will return to {escape(redirect_host)}.</p>
{alert}
<form method="post" action="/oauth/authorize?{escape(query)}">
<input type="hidden" name="scopes_shown" value="1">
<fieldset><legend>Sign in as</legend>
{companies}
</fieldset>
<fieldset{described}><legend>It may</legend>
{boxes}
</fieldset>
<div class="actions">
<button class="main" name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button>
</div>
</form>"""
    return _page("Allow access? · Mooring sandbox", body, status=400 if problem else 200)


def refusal(reason: str) -> HTMLResponse:
    """Explain an authorization request that must not be redirected (RFC 6749 §4.1.2.1)."""
    body = f"""<p class="badge">Mooring sandbox: a simulated provider</p>
<h1>This authorization request cannot go on</h1>
<p>{escape(reason)}</p>
<p class="soft">Correct the link and open it again. <a href="/">What the sandbox knows</a></p>"""
    return _page("Cannot authorize · Mooring sandbox", body, status=400)


def home(issuer: str) -> HTMLResponse:
    """Say what this is and which credentials it takes."""
    rows = [
        *(
            ("API key", f"X-Api-Key: {key}", who.company, "" if len(who.scopes) > 1 else ", profile only")
            for key, who in API_KEYS.items()
        ),
        *(("Basic", f"{user} / {password}", who.company, "") for (user, password), who in BASIC_LOGINS.items()),
        *(
            ("Service user", f"X-Service-User-Id: {name}, X-Service-User-Token: {token}", who.company, "")
            for (name, token), who in SERVICE_USERS.items()
        ),
    ]
    credentials = "\n".join(
        f"<tr><td>{kind}</td><td><code>{escape(value)}</code></td><td>{escape(COMPANIES[company].name)}{note}</td></tr>"
        for kind, value, company, note in rows
    )
    clients = "\n".join(
        f"<tr><td><code>{escape(client.id)}</code></td><td><code>{escape(client.secret)}</code></td>"
        f"<td>{', '.join(sorted(client.grants))}</td></tr>"
        for client in CLIENTS.values()
    )
    body = f"""<p class="badge">Simulated provider, fictitious data, no network</p>
<h1>Mooring sandbox</h1>
<p>A small HR system with two companies, to try linked accounts against: five ways to authenticate, an
OAuth 2.0 server, an API, and switches for faults. Everything is in memory; a restart forgets it.</p>
<p><a href="/api/me?api_key=sandbox-key-acme">Who am I</a> ·
<a href="/api/employees?api_key=sandbox-key-acme">Employees</a> ·
<a href="/.well-known/oauth-authorization-server">OAuth metadata</a> ·
<a href="/_control/state">Counters and switches</a></p>
<h2>Credentials</h2>
<div class="scroll" role="region" aria-label="Credentials" tabindex="0"><table>
<thead><tr><th scope="col">Method</th><th scope="col">Value</th><th scope="col">Company</th></tr></thead>
<tbody>
{credentials}
</tbody></table></div>
<p class="soft">An API key may also come as the query parameter <code>api_key</code>.</p>
<h2>OAuth clients</h2>
<div class="scroll" role="region" aria-label="OAuth clients" tabindex="0"><table>
<thead><tr><th scope="col">Id</th><th scope="col">Secret</th><th scope="col">Grants</th></tr></thead>
<tbody>
{clients}
</tbody></table></div>
<p class="soft">Issuer: <code>{escape(issuer)}</code>. Scopes: <code>{escape(" ".join(SCOPES))}</code>.</p>"""
    return _page("Mooring sandbox", body, wide=True)
