"""Templates to answers: one environment, one strict policy, one way to show a refusal."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import HTMLResponse, Response

from mooring import errors
from mooring.dashboard import locale
from mooring.dashboard.notes import NOTES
from mooring.dashboard.view import NOTE_COOKIE, THEME_COOKIE, View
from mooring.kit import clock

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent
STATIC = _FOLDER / "static"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The template environment, with everything escaped and nothing undefined."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {"iso": clock.iso, "json": _json, "number": _number, "ms": _ms, "pretty": _pretty}
    made.globals |= {"asset": asset, "ago": ago, "languages": locale.LANGUAGES}
    return made


@lru_cache(maxsize=16)
def asset(name: str) -> Mapping[str, str]:
    """Address and integrity of a file that we serve: a new file has a new address."""
    digest = hashlib.sha384((STATIC / name).read_bytes()).digest()
    version = base64.urlsafe_b64encode(digest[:9]).decode()
    return {
        "url": f"/dashboard/static/{name}?v={version}",
        "integrity": f"sha384-{base64.b64encode(digest).decode()}",
    }


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()


def _pretty(text: str) -> str:
    """A body that is JSON with line breaks in it; any other as it is."""
    if text.lstrip()[:1] not in {"{", "["}:
        return text
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:  # no JSON, or a body that was cut
        return text


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _ms(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f} s"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def ago(view: View, moment: datetime) -> str:
    """How far away a time is, in words."""
    seconds = (clock.now() - moment).total_seconds()
    for size, past, future in (
        (86400 * 365, "{n} y ago", "in {n} y"),
        (86400, "{n} d ago", "in {n} d"),
        (3600, "{n} h ago", "in {n} h"),
        (60, "{n} min ago", "in {n} min"),
    ):
        if abs(seconds) >= size:
            return view.t(past if seconds > 0 else future, n=int(abs(seconds) // size))
    return view.t("just now") if seconds >= 0 else view.t("now")


def policy(nonce: str) -> str:
    """The page's Content-Security-Policy: our own files, scripts with this answer's nonce, and nothing else (rule W3)."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
    )


def render(view: View, template: str, /, *, status: int = 200, **values: Any) -> Response:
    """A page, or a part of one."""
    note = NOTES.get(view.request.cookies.get(NOTE_COOKIE, ""))
    theme = view.request.cookies.get(THEME_COOKIE, "")
    text = (
        environment()
        .get_template(template)
        .render(
            {
                **view.values(),
                "note": note,
                "theme": theme if theme in {"light", "dark"} else "auto",
                **values,
            }
        )
    )
    headers = {
        "content-security-policy": policy(view.nonce),
        "cross-origin-opener-policy": "same-origin",
        "vary": "Cookie",
    }
    response = HTMLResponse(text, status_code=status, headers=headers)
    if note and not is_part(view):
        response.delete_cookie(NOTE_COOKIE, path="/")
    return response


def is_part(view: View) -> bool:
    """Whether htmx asked, which puts the answer into a page that is there."""
    return view.request.headers.get("hx-request") == "true"


def show_refusal(view: View, error: errors.MooringError) -> Response:
    """A refusal: beside the form that was sent, or as a page of its own."""
    part = is_part(view)
    answer = render(view, "refusal_part.html" if part else "refusal.html", status=error.status, refused=error)
    answer.headers.update({k: v for k, v in error.headers.items() if k.lower() != "www-authenticate"})
    if part and view.request.method == "GET":
        # A part that could not be loaded, such as a dialog whose subject is gone: it is told in the page's corner.
        answer.headers["hx-retarget"], answer.headers["hx-reswap"] = "#corner", "innerHTML"
    return answer
