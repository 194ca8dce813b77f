"""The page behind every `auth_link_url`: a plain form on top of the Hub's JSON API, for links that are mailed."""

from __future__ import annotations

import secrets
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Response
from starlette.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--fg:#1b2430;--dim:#5a6675;--line:#cbd2da;--go:#1d5fd0;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1b2129;--fg:#e8ecf1;--dim:#a3afbd;--line:#3a4450;--go:#6ea2ff;--bad:#ff9c94}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);color:var(--fg);
font:16px/1.5 system-ui,sans-serif}main{width:min(30rem,calc(100vw - 2rem));margin:1rem;padding:2rem;background:var(--card);
border:1px solid var(--line);border-radius:12px}h1{font-size:1.3rem;margin:0 0 .75rem}p{margin:.5rem 0;color:var(--dim)}
.row{margin:1rem 0}
label{display:block;font-weight:600;margin-bottom:.25rem}small{display:block;color:var(--dim);margin-top:.25rem}
input,select,textarea{
width:100%;padding:.6rem .7rem;font:inherit;color:inherit;background:var(--bg);border:1px solid var(--line);
border-radius:8px}button{font:inherit;cursor:pointer;border-radius:8px;border:1px solid var(--line);background:var(--bg);
color:inherit;padding:.6rem .9rem}button.primary{width:100%;background:var(--go);border-color:var(--go);color:var(--card);
font-weight:600}button:disabled{opacity:.6;cursor:progress}:focus-visible{outline:3px solid var(--go);outline-offset:2px}
.list{list-style:none;padding:0;display:grid;gap:.5rem}.list button{width:100%;display:flex;gap:.75rem;align-items:center;
text-align:left}.error{color:var(--bad)}.error:empty{display:none}
"""


@lru_cache(maxsize=1)
def _script() -> str:
    return Path(__file__).with_name("link.js").read_text(encoding="utf-8")


@router.get("/embedded/integrations")
async def auth_link() -> Response:
    """Serve the page. Its script reads the token from the address and takes it out of there at once."""
    nonce = secrets.token_urlsafe(16)
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Connect an account</title>'
        f'<style nonce="{nonce}">{_STYLE}</style></head><body><main><p role="status">Loading …</p>'
        "<noscript><p>This page needs JavaScript.</p></noscript></main>"
        f'<script nonce="{nonce}">{_script()}</script></body></html>'
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(document, headers={"content-security-policy": policy})
