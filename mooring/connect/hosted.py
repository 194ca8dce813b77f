"""The page behind every `auth_link_url`: it mounts our Hub, and only a project's own pages may frame it (rules W2, W3)."""

from __future__ import annotations

import html
import json
import secrets

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from mooring import errors
from mooring.accounts.context import Context
from mooring.connect import assets, service

router = APIRouter(include_in_schema=False)

_STYLE = (
    ":root{color-scheme:light dark}body{margin:0;min-height:100vh;background:#eef1f5;font-family:system-ui,sans-serif}"
    "main{box-sizing:border-box;padding:clamp(.5rem,5vh,4rem) .5rem}"
    "@media(prefers-color-scheme:dark){body{background:#11161d}}@media(max-width:30rem){main{padding:.5rem .5rem}}"
    "noscript{display:block;padding:2rem;text-align:center}"
)


@router.get("/embedded/integrations")
async def auth_link(request: Request, token: str = "") -> Response:
    """Serve the page. Its script reads the token from the address and takes it out of there at once."""
    context: Context = request.app.state.context
    name, origins = "", []
    try:
        async with context.db.read() as tx:
            session = await service.by_token(tx, token)
        app = await context.projects(session.project_id)
        name, origins = app.name, sorted(context.origins_of(app))
    except errors.SessionExpired:  # the page itself says so, in the person's language
        pass
    nonce = secrets.token_urlsafe(16)
    attributes = f'hosted data-origins="{html.escape(json.dumps(origins))}"'
    framing = " ".join(["'self'", *origins])
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f'<title>{html.escape(f"Connect to {name}" if name else "Connect")}</title><style nonce="{nonce}">{_STYLE}</style>'
        f"</head><body><main><mooring-hub {attributes}></mooring-hub><noscript>This page needs JavaScript.</noscript></main>"
        f'<script nonce="{nonce}">{assets.hosted_script()}</script>'
        f'<script nonce="{nonce}" src="../hub.js?v={assets.script_version()}"></script></body></html>'
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src 'self'; "
        f"base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors {framing}"
    )
    return HTMLResponse(document, headers={"content-security-policy": policy})
