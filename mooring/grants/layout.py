"""How pages about assistants look, and the policy that they carry: no foreign scripts, no frames, forms to ourselves."""

from __future__ import annotations

import html
import secrets

from starlette.responses import HTMLResponse, Response

from mooring.identity.project_settings import ProjectSettings

_STYLE = """
:root{color-scheme:light dark;--accent:LIGHT;--on:#fff;--bg:#eef1f5;--card:#fff;--fg:#18212d;--soft:#566274;--line:#dde3ea;
--bad:#b3261e;--raised:#f5f7fa}
@media(prefers-color-scheme:dark){:root{--accent:DARK;--on:#0d1726;--bg:#11161d;--card:#1a2029;--fg:#e9edf3;--soft:#a7b2c1;
--line:#364150;--bad:#ffa79f;--raised:#232b36}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
overflow-wrap:anywhere;padding:clamp(.5rem,6vh,4rem) .5rem}
main{max-width:34rem;margin:0 auto;padding:1.75rem;background:var(--card);border:1px solid var(--line);border-radius:14px}
h1{font-size:1.3rem;line-height:1.3;margin:0 0 .75rem}h2{font-size:1rem;margin:1.5rem 0 .5rem}p{margin:.5rem 0}
img{max-height:2.5rem;max-width:60%;display:block;margin:0 0 1rem}
.soft,.sub{color:var(--soft)}.sub{display:block;font-size:.875rem}.bad{color:var(--bad);font-weight:600}
fieldset{border:0;margin:1.25rem 0 0;padding:0}legend{font-weight:600;padding:0;margin:0 0 .4rem}
label{display:flex;gap:.7rem;align-items:flex-start;padding:.65rem .8rem;border:1px solid var(--line);border-radius:10px;
margin:0 0 .5rem;cursor:pointer}label:hover{background:var(--raised)}input{width:1.1rem;height:1.1rem;margin:.2rem 0 0;
accent-color:var(--accent);flex:none}
.where{margin:1rem 0;padding:.7rem .8rem;background:var(--raised);border-radius:10px}
code{font:600 .95rem/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace;user-select:all}
.buttons{display:flex;gap:.6rem;margin:1.5rem 0 0;flex-wrap:wrap}
button,.go{font:inherit;font-weight:600;padding:.6rem 1.2rem;border-radius:10px;border:1px solid var(--line);
background:var(--card);color:var(--fg);cursor:pointer;text-decoration:none;display:inline-block}
button.first,.go{background:var(--accent);border-color:var(--accent);color:var(--on)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
ul{list-style:none;margin:0;padding:0}li{display:flex;gap:1rem;align-items:center;justify-content:space-between;
padding:.7rem 0;border-top:1px solid var(--line)}
"""


def document(
    title: str,
    body: str,
    *,
    language: str,
    app: ProjectSettings | None = None,
    logo: str | None = None,
    script: str | None = None,
    status: int = 200,
) -> Response:
    """A page. `body` must be escaped already."""
    nonce = secrets.token_urlsafe(16)
    light, dark = (app.accent_light, app.accent_dark) if app else (None, None)
    style = _STYLE.replace("LIGHT", light or "#1d5fd0").replace("DARK", dark or "#8ab4ff")
    image = f'<img src="{html.escape(logo)}" alt="">' if logo else ""
    code = f'<script nonce="{nonce}">{script}</script>' if script else ""
    page = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><style nonce="{nonce}">{style}</style></head>'
        f"<body><main>{image}{body}</main>{code}</body></html>"
    )
    scripts = f"script-src 'nonce-{nonce}'; " if script else ""
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; {scripts}img-src 'self'; "
        f"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    # The same for browsers that know no frame-ancestors.
    headers = {"content-security-policy": policy, "x-frame-options": "DENY"}
    return HTMLResponse(page, status_code=status, headers=headers)
