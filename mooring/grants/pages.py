"""The browser's side: an assistant's request, who the person is, and what they allow (OAuth 2.1 §4.1, rules O6 to O9)."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import RedirectResponse

from mooring import errors
from mooring.accounts.context import Context
from mooring.grants import clients, consent, requests, rules, service
from mooring.grants.layout import document
from mooring.grants.models import GrantLink
from mooring.grants.pace import Pace
from mooring.grants.requests import Ask, Owner
from mooring.grants.words import asked_for, say
from mooring.identity import audit
from mooring.identity.project_settings import ProjectSettings
from mooring.identity.service import ProjectId
from mooring.kit import ids

router = APIRouter(prefix="/connect/assistants", include_in_schema=False)

AUTHORIZATIONS: Final = Pace(120)
COOKIE_SECONDS: Final = 3600
_ONCE: Final = (
    *("client_id", "redirect_uri", "response_type", "code_challenge", "code_challenge_method", "state", "scope"),
    "resource",
)

Page = Callable[[Request], Awaitable[Response]]


def _page(path: str, method: str) -> Callable[[Page], Page]:
    """A route for people: a refusal is a page too, in their language."""

    def decorate(handler: Page) -> Page:
        async def served(request: Request) -> Response:
            try:
                return await handler(request)
            except errors.MooringError as e:
                if "text/html" not in request.headers.get("accept", ""):
                    raise
                request.scope["mooring.error_code"] = e.error_code
                return _refusal(request, [e.message, e.error_hint], status=e.status)

        served.__name__, served.__doc__ = handler.__name__, handler.__doc__
        router.add_api_route(path, served, methods=[method])
        return handler

    return decorate


def _refusal(request: Request, lines: Sequence[str | None], *, status: int, back: str = "") -> Response:
    language = language_of(request)
    title = say(language, "This did not work")
    told = [*lines, *(() if back else ("You can close this window and try again.",))]
    text = "".join(f"<p>{html.escape(_sentence(say(language, line)))}</p>" for line in told if line)
    return document(title, f"<h1>{html.escape(title)}</h1>{text}{back}", language=language, status=status)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def language_of(request: Request) -> str:
    """The language in which the person reads."""
    return asked_for(request.headers.get("accept-language", ""))


def browser_of(request: Request) -> str | None:
    """The key of the browser, from its cookie."""
    context: Context = request.app.state.context
    return request.cookies.get(_cookie_name(context))


def _cookie_name(context: Context) -> str:
    # `__Host-` needs Secure, which plain http on a developer's machine can't have.
    return "__Host-mooring-assistants" if context.public_url.startswith("https://") else "mooring-assistants"


def remember(context: Context, response: Response, browser: str) -> Response:
    """Give the browser its key."""
    response.set_cookie(
        _cookie_name(context),
        browser,
        max_age=COOKIE_SECONDS,
        path="/",
        secure=context.public_url.startswith("https://"),
        httponly=True,
        samesite="lax",  # it comes back by navigations from the operator's site
    )
    return response


def act(request: Request, kind: str, id: str) -> None:
    """From here on, who acts is the person at this browser, or the program that sent it."""
    address = request.client.host if request.client else None
    audit.act_as(audit.Actor(kind, id[:80], None, address))


@_page("/authorize", "GET")
async def authorize(request: Request) -> Response:
    """Take an assistant's request and find out who sits there. Never redirects to an address that is not registered."""
    context: Context = request.app.state.context
    AUTHORIZATIONS.count(request.client.host if request.client else None)
    query = request.query_params
    if any(len(query.getlist(name)) > 1 for name in _ONCE):  # RFC 6749 §3.1
        raise errors.BadRequest("the request repeats a parameter", code="AssistantRequestError")
    client = await clients.find(context, query.get("client_id", ""))
    redirect_uri = query.get("redirect_uri", "")
    if not rules.is_registered(redirect_uri, client.redirect_uris):
        raise errors.BadRequest(
            "the address to return to is not one that this program has registered",
            code="AssistantRequestError",
            hint="Remove the connection in the assistant and add it again.",
        )
    fault = _fault(context, query)
    if fault is not None:
        return _turned_away(request, client.name, redirect_uri, *fault)
    target = rules.read_resource(context.public_url, query["resource"])
    assert target is not None
    browser = browser_of(request)
    async with context.db.read() as tx:
        link = await requests.link_of_browser(tx, browser)
        app = await _project_of(context, target[1], link, await service.offering(tx))
    if link is not None and link.project_id != app.project_id:
        link = None
    owner = Owner(link.owner_id, link.owner_name) if link is not None else None
    if owner is None and app.assistant_login_url is None:
        raise errors.SessionExpired(
            "nobody is signed in for assistants in this browser",
            code="AssistantNobodyError",
            hint="Open the link for assistants that your application gives you, in this browser, then begin again.",
        )
    ask = Ask(
        project=ProjectId(app.project_id),
        client=client,
        redirect_uri=redirect_uri,
        state=query.get("state"),
        challenge=query["code_challenge"],
        resource=target[0],
        writes=rules.asks_to_write(query.get("scope")),
    )
    if browser is None or not 40 <= len(browser) <= 200:
        browser = ids.secret_token()
    async with context.db.begin() as tx:
        row, handle = await requests.begin(tx, ask, browser, owner)
    if owner is None:
        url = f"{app.assistant_login_url}?{urlencode({'request': handle})}"
    else:
        url = f"{context.public_url}/connect/assistants/requests/{row.id}"
    return remember(context, RedirectResponse(url, status_code=302), browser)


def _fault(context: Context, query: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with a request of a known client to a registered address (RFC 6749 §4.1.2.1)."""
    if query.get("response_type") != "code":
        return "unsupported_response_type", "response_type must be code"
    if query.get("code_challenge_method") != "S256" or not rules.is_challenge(query.get("code_challenge")):
        return "invalid_request", "PKCE with code_challenge_method S256 is required"
    if len(query.get("state", "")) > 2000 or "\0" in query.get("state", ""):
        return "invalid_request", "state is too long"
    if rules.read_resource(context.public_url, query.get("resource", "")) is None:
        return "invalid_target", "resource must be the address of this hub that was given to the assistant"
    return None


def _turned_away(request: Request, name: str, redirect_uri: str, error: str, why: str) -> Response:
    """Tell the program what is wrong: at once where it runs on this machine, else when the person wants to go there.

    Anybody can register, so a redirect without a person's click would make us an open redirector (RFC 9700 §4.11.2).
    """
    context: Context = request.app.state.context
    url = consent.answer(context, redirect_uri, request.query_params.get("state"), error=error, error_description=why)
    if rules.is_loopback(redirect_uri):
        return RedirectResponse(url, status_code=302)
    language = language_of(request)
    back = say(language, "Back to {client}").format(client=name)
    line = say(language, "the program's request is faulty: {why}").format(why=why)
    link = f'<p><a class="go" href="{html.escape(url)}">{html.escape(back)}</a></p>'
    return _refusal(request, [line], status=400, back=link)


async def _project_of(
    context: Context, named: str | None, link: GrantLink | None, offering: Sequence[str]
) -> ProjectSettings:
    """The project whose end user this is: named by the address, or by the browser's link, or the only one there is."""
    project = named or (link.project_id if link is not None else offering[0] if len(offering) == 1 else None)
    try:
        app = await context.projects(project) if project is not None else None
    except errors.NotFound:
        app = None
    if app is None or not app.assistants:
        raise errors.NotFound("assistants are not offered here", hint="Ask whoever gave you the address.")
    return app


@_page("/continue", "GET")
async def go_on(request: Request) -> Response:
    """Take the browser in that comes back from the operator's product."""
    context: Context = request.app.state.context
    row = await requests.enter(context.db, request.query_params.get("code", ""), browser_of(request))
    return RedirectResponse(f"{context.public_url}/connect/assistants/requests/{row.id}", status_code=303)


@_page("/requests/{id}", "GET")
async def ask_person(request: Request) -> Response:
    """Ask the person what they allow."""
    return await consent.show(request, request.path_params["id"], browser_of(request))


@_page("/requests/{id}", "POST")
async def take_decision(request: Request) -> Response:
    """Take the person's decision and send the browser back to the assistant."""
    form = await read_form(request)
    return await consent.take(request, request.path_params["id"], browser_of(request), form)


@_page("/link", "GET")
async def show_link(request: Request) -> Response:
    """Say what the link is for. Looking at it does not open it: mail programs look too."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        row = await requests.link_of_token(tx, request.query_params.get("token", ""))
    return await consent.introduce(request, row)


@_page("/link", "POST")
async def open_link(request: Request) -> Response:
    """Open a link: this browser is its owner's from here on, for half an hour."""
    context: Context = request.app.state.context
    await read_form(request)
    async with context.db.begin() as tx:
        row, browser = await requests.open_link(tx, request.query_params.get("token", ""))
        act(request, "end_user", row.owner_id)
        target = ("owner", row.owner_id)
        audit.note(tx, "assistant_link.opened", project_id=row.project_id, target=target, label=row.owner_name)
    return remember(context, RedirectResponse(f"{context.public_url}/connect/assistants", status_code=303), browser)


@_page("", "GET")
async def show_grants(request: Request) -> Response:
    """Show the person the address for assistants, and which are connected."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        link = await _own_link(request, tx)
    return await consent.overview(request, link, browser_of(request) or "")


@_page("/disconnect/{id}", "POST")
async def disconnect(request: Request) -> Response:
    """End one of the person's own grants."""
    context: Context = request.app.state.context
    form = await read_form(request)
    async with context.db.begin() as tx:
        link = await _own_link(request, tx)
        consent.require_token(form, request.path_params["id"], browser_of(request))
        row = await service.get(tx, ProjectId(link.project_id), request.path_params["id"], lock=True)
        if (row.owner_id, row.owner_name) != (link.owner_id, link.owner_name):
            raise errors.NotFound("no such grant")
        act(request, "end_user", link.owner_id)
        await service.end(tx, row, "end_user")
    return RedirectResponse(f"{context.public_url}/connect/assistants", status_code=303)


async def _own_link(request: Request, tx: AsyncSession) -> GrantLink:
    link = await requests.link_of_browser(tx, browser_of(request))
    if link is None:
        raise errors.SessionExpired("this link is unknown or over", hint="Ask for a new one where you got it.")
    return link


async def read_form(request: Request) -> list[tuple[str, str]]:
    """A form of one of our own pages. Raises Forbidden for one that another site sent (rule W5)."""
    context: Context = request.app.state.context
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    # Our pages send no referrer, for which browsers say that the origin is null.
    if site not in {None, "same-origin"} or (site is None and origin not in {None, "null", context.own_origin}):
        raise errors.Forbidden("this form does not come from this hub's own page")
    try:
        return parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=500)
    except (UnicodeDecodeError, ValueError):
        raise errors.BadRequest("the form can't be read") from None
