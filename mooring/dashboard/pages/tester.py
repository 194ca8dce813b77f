"""The request tester: one call through an account, and the whole exchange with every secret masked."""

from __future__ import annotations

import time
from typing import Any

import orjson
from starlette.responses import Response

from mooring import errors
from mooring.dashboard.pages.accounts import found
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import Form, View
from mooring.kit import ids
from mooring.logs.writer import Entry
from mooring.protocol.redact import redact_json, redact_text
from mooring.proxy import api as proxy
from mooring.proxy import service
from mooring.proxy.api import ProxyRequest

HERE = PROJECT + "/accounts/{id}/tester"
SHOWN = 200_000  # characters of an answer


@get(HERE, "member")
async def show(view: View) -> Response:
    """The form; a log entry's call can be put into it."""
    account, _ = await found(view)
    method = view.query("method").upper()
    return render(
        view,
        "tester.html",
        account=account,
        method=method if method.lower() in proxy.METHODS else "GET",
        path=view.query("path") or "/",
        methods=[m.upper() for m in proxy.METHODS],
    )


@post(HERE, "member", api="POST /unified/proxy")
async def send(view: View) -> Response:
    """Send the call and show what came back."""
    account, _ = await found(view)
    ask = _request(await view.form())
    entry = Entry(
        id=ids.time_uuid(),
        category="unified",
        project_id=view.project_id,
        method=(ask.method or "get").upper(),
        path=(ask.path or "").partition("?")[0],
        service="proxy",
        source_type="DASHBOARD",
        source_id=view.me.user.id,
        source_ip=view.address,
    )
    begun = time.perf_counter()
    status, code, out, refusal = 500, "InternalError", None, None
    try:
        answer = await service.call(view.context, view.project_id, account.id, proxy.ask_of(entry.method, ask), entry)
        try:
            out = await proxy.envelope(answer)
        finally:
            await answer.aclose()
        status, code = out["status"], ""
    except errors.MooringError as e:
        status, code, refusal = e.status, e.error_code, e
    finally:
        duration = (time.perf_counter() - begun) * 1000
        view.context.logs.add(entry.finish(status, duration, error_code=code or None))
    return render(
        view,
        "tester_answer.html",
        entry=entry,
        refusal=refusal,
        code=status,
        duration=duration,
        headers={k: redact_text(v, ()) for k, v in out["headers"].items()} if out else {},
        body=_shown(out["data"]) if out else "",
    )


def _request(form: Form) -> ProxyRequest:
    headers: dict[str, Any] = {}
    for line in form.raw("headers").splitlines():
        name, colon, value = line.partition(":")
        if line.strip() and not colon:
            raise errors.ValidationFailed("a header is not valid", errors=[f"headers: {line[:60]!r} has no colon"])
        if line.strip():
            headers[name.strip()] = value.strip()
    body: Any = None
    if form.raw("body").strip():
        try:
            body = orjson.loads(form.raw("body"))
        except orjson.JSONDecodeError:
            body = form.raw("body")
    if form.get("method").lower() not in proxy.METHODS:
        raise errors.ValidationFailed("the method is not valid", errors=[f"method: one of {', '.join(proxy.METHODS)}"])
    return ProxyRequest(method=form.get("method"), path=form.get("path")[:8000], headers=headers, body=body)


def _shown(data: Any) -> str:
    """The body with every value masked whose name tells of a secret, cut to what a page can hold."""
    if isinstance(data, dict | list):
        text = orjson.dumps(redact_json(data), option=orjson.OPT_INDENT_2).decode()
    else:
        text = "" if data is None else redact_text(str(data), ())
    return text if len(text) <= SHOWN else text[:SHOWN] + " …"
