"""`GET /guides/{key}`: a connector's connection guide as a page for everybody."""

from __future__ import annotations

import html
import secrets

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from mooring import errors
from mooring.connectors.definition import Connector
from mooring.connectors.guides import Guide, render_guide

router = APIRouter(include_in_schema=False)

_STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--fg:#1b2430;--dim:#55616f;--line:#d3d9e1;--go:#1a56c4;--soft:#eef1f5}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1b2129;--fg:#e8ecf1;--dim:#a9b4c1;--line:#38424e;--go:#84b1ff;
--soft:#242c36}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:1rem/1.6 system-ui,sans-serif}
main{max-width:46rem;margin:0 auto;padding:2rem 1.25rem 4rem}
header{display:flex;gap:1rem;align-items:center;margin-bottom:1.5rem}header img{width:3rem;height:3rem;border-radius:10px}
h1{font-size:1.6rem;line-height:1.25;margin:0}header p{margin:.15rem 0 0;color:var(--dim)}
nav ul{list-style:none;margin:0 0 1.5rem;padding:0;display:flex;flex-wrap:wrap;gap:.4rem 1.1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.25rem 1.5rem;margin:0 0 1rem}
h2{font-size:1.15rem;margin:0 0 .6rem}h3{font-size:1rem;margin:1.3rem 0 .4rem}h2+h3{margin-top:0}
p,ul,ol{margin:.5rem 0}ul,ol{padding-left:1.4rem}li{margin:.35rem 0}li::marker{color:var(--dim)}
a{color:var(--go);text-underline-offset:.15em}
:focus-visible{outline:3px solid var(--go);outline-offset:2px;border-radius:4px}
code{background:var(--soft);padding:.1rem .35rem;border-radius:5px;font-size:.9em;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:.6rem 0}
th,td{text-align:left;vertical-align:top;padding:.5rem .6rem;border-bottom:1px solid var(--line)}
th{color:var(--dim);font-weight:600}
footer{color:var(--dim);margin-top:1.5rem}@media print{section{border:0;padding:0}nav{display:none}}
@media(max-width:30rem){main{padding-top:1.25rem}section{padding:1rem}}
"""


@router.get("/guides/{key}")
async def guide_page(request: Request, key: str, method: str | None = None) -> Response:
    """The guide of one connector, or of one of its auth methods."""
    connector = request.app.state.context.registry.get(key)
    if connector is None or (method is not None and method not in connector.auth):
        raise errors.NotFound("there is no such guide")
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "object-src 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "cache-control": "public, max-age=300"}
    return HTMLResponse(_document(connector, render_guide(connector, method), nonce), headers=headers)


def _document(connector: Connector, guide: Guide, nonce: str) -> str:
    title = html.escape(guide.title)
    links = "".join(f'<li><a href="#{s.id}">{html.escape(s.title)}</a></li>' for s in guide.sections)
    docs = ""
    if connector.docs:
        docs = (
            f'<a href="{html.escape(connector.docs)}" target="_blank" rel="noopener noreferrer">'
            f"{html.escape(connector.title)}'s own documentation</a>"
        )
    about = f"<p>{html.escape(connector.description)}</p>" if connector.description else ""
    body = guide.html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><style nonce="{nonce}">{_STYLE}</style></head><body><main>'
        f'<header><img src="../logos/{connector.key}.svg" alt="" width="48" height="48"><div><h1>{title}</h1>{about}</div>'
        "</header>"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>{body}<footer>{docs}</footer></main></body></html>'
    )
