"""What the person sees and decides: the consent page, the page of their assistants, and the way back to a program."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response

from mooring import errors
from mooring.accounts.context import Context
from mooring.grants import requests, rules, service
from mooring.grants.layout import document
from mooring.grants.models import GrantLink, GrantRequest
from mooring.grants.requests import Choice, Owner
from mooring.grants.words import asked_for, say
from mooring.identity import audit
from mooring.identity.project_api import logo_url
from mooring.identity.project_settings import ProjectSettings
from mooring.identity.service import ProjectId
from mooring.protocol.redact import clean_line

Form = Sequence[tuple[str, str]]


def form_token(subject: str, browser: str | None) -> str:
    """What only a page of ours in this very browser can put into a form: its key is in a cookie that no script reads."""
    return hashlib.sha256(f"mooring form\0{subject}\0{browser or ''}".encode()).hexdigest()


def require_token(form: Form, subject: str, browser: str | None) -> None:
    """Raise Forbidden for a form that did not come from our page in this browser."""
    given = dict(form).get("token", "")
    if not browser or not hmac.compare_digest(given.encode(), form_token(subject, browser).encode()):
        raise errors.Forbidden("this form does not come from this hub's own page")


def answer(context: Context, redirect_uri: str, state: str | None, **parameters: str) -> str:
    """The redirect URI with an answer: with the program's state, and who we are (RFC 9207)."""
    more = {"state": state} if state is not None else {}
    return rules.with_parameters(redirect_uri, {**parameters, **more, "iss": context.public_url})


async def show(request: Request, id: str, browser: str | None, fault: str | None = None) -> Response:
    """The consent page."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        row, owner = await requests.look(tx, id, browser)
        choices = await requests.choices(tx, context.registry, ProjectId(row.project_id), owner)
    app = await context.projects(row.project_id)
    language = asked_for(request.headers.get("accept-language", ""))
    t = _Texts(language, client=row.client_name, app=app.name, owner=owner.name)
    heading = say(language, "Allow {client} to use your accounts?").format(client=row.client_name)
    body = (
        f"<h1>{html.escape(heading)}</h1>"
        f"<p>{t('{client} wants to work with accounts that you have linked in {app}.')}</p>"
        f'<p class="where">{t("Access goes to")} <b>{_destination(row.redirect_uri, language)}</b>'
        f'<span class="sub">{t(_UNKNOWN)}</span></p>'
        f'<p class="soft">{t("Signed in as {owner}")}</p>'
    )
    token = f'<input type="hidden" name="token" value="{form_token(row.id, browser)}">'
    cancel = f'<button name="decision" value="deny" formnovalidate>{t("Cancel")}</button>'
    if choices:
        problem = f'<p class="bad" role="alert">{t(fault)}</p>' if fault else ""
        allow = f'<button class="first" name="decision" value="allow">{t("Allow")}</button>'
        inside = f"{_accounts(choices, t)}{problem}{_access(row, t)}"
        buttons = f'<div class="buttons">{allow}{cancel}</div>'
    else:
        inside, buttons = f"<p>{t(_NOTHING)}</p>", f'<div class="buttons">{cancel}</div>'
    body += f'<form method="post">{token}{inside}{buttons}</form>'
    logo = logo_url(context.public_url, app)
    return document(heading, body, language=language, app=app, logo=logo, status=400 if fault else 200)


_UNKNOWN = "{app} does not know this program. Allow it only if you have just begun to connect it yourself."
_NOTHING = (
    "You have no linked account that an assistant could use. "
    "Link one in {app} first, then begin again in your assistant."
)
_INTRODUCTION = (
    "This link is for {owner} in {app}. "
    "It lets an assistant such as a desktop chat program work with your linked accounts."
)
_ADDRESS = (
    "Give this address to your assistant as a remote MCP server (custom connector). "
    "It then opens this browser and asks you."
)


class _Texts:
    """Texts in one language as markup: names are filled in and everything is escaped."""

    def __init__(self, language: str, **names: str) -> None:
        self._language = language
        self._names = {key: f"<b>{html.escape(name)}</b>" for key, name in names.items()}

    def __call__(self, text: str) -> str:
        return html.escape(say(self._language, text)).format(**self._names)


def _destination(uri: str, language: str) -> str:
    if rules.is_loopback(uri):
        return html.escape(say(language, "a program on this computer"))
    if not rules.is_web(uri):
        text = say(language, "the program on this computer that opens {scheme} addresses")
        return html.escape(text.format(scheme=rules.destination(uri)))
    return html.escape(rules.destination(uri))


def _accounts(choices: Sequence[Choice], t: _Texts) -> str:
    rows = []
    for choice in choices:
        account = choice.account
        names = dict.fromkeys(filter(None, (account.label, account.identity_label, account.origin_username)))
        below = f'<span class="sub">{html.escape(clean_line(" · ".join(names), 200))}</span>' if names else ""
        checked = " checked" if len(choices) == 1 else ""
        box = f'<input type="checkbox" name="account" value="{html.escape(account.id)}"{checked}>'
        rows.append(f"<label>{box}<span>{html.escape(choice.connector.title)}{below}</span></label>")
    return f"<fieldset><legend>{t('Accounts')}</legend>{''.join(rows)}</fieldset>"


def _access(row: GrantRequest, t: _Texts) -> str:
    options = [("read", "Only read", "Look things up; it can't change anything.")]
    if row.writes:
        options.append(("write", "Read and write", "Also create, change and delete, as far as the account may."))
    rows = [
        f'<label><input type="radio" name="access" value="{value}"{" checked" if value == "read" else ""}>'
        f'<span>{t(title)}<span class="sub">{t(below)}</span></span></label>'
        for value, title, below in options
    ]
    return f"<fieldset><legend>{t('What it may do')}</legend>{''.join(rows)}</fieldset>"


async def take(request: Request, id: str, browser: str | None, form: Form) -> Response:
    """Take the decision of the consent page."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        row, owner = await requests.look(tx, id, browser)
    require_token(form, row.id, browser)
    address = request.client.host if request.client else None
    audit.act_as(audit.Actor("end_user", owner.id[:80], None, address))
    if dict(form).get("decision") != "allow":
        async with context.db.begin() as tx:
            await requests.spend(tx, row)
        return _back(context, request, row, error="access_denied", error_description="the person did not allow it")
    chosen = [value for name, value in form if name == "account"]
    if not chosen:
        return await show(request, id, browser, "Choose at least one account.")
    if not (await context.projects(row.project_id)).assistants:  # switched off while the page was open
        raise errors.NotFound("assistants are not offered here", hint="Ask whoever gave you the address.")
    writes = dict(form).get("access") == "write"
    async with context.db.begin() as tx:
        code = await requests.decide(tx, context.registry, row, owner, chosen, writes=writes)
    return _back(context, request, row, code=code)


def _back(context: Context, request: Request, row: GrantRequest, **parameters: str) -> Response:
    """Send the browser on to the program, from a page: a policy about forms binds all redirects that follow a form.

    Programs redirect further, to other sites and to schemes of their own, where the page stays.
    """
    url = answer(context, row.redirect_uri, row.state, **parameters)
    language = asked_for(request.headers.get("accept-language", ""))
    title = say(language, "Done. You can close this window.")
    back = html.escape(say(language, "Back to {client}").format(client=row.client_name))
    body = f'<h1>{html.escape(title)}</h1><p><a class="go" href="{html.escape(url)}">{back}</a></p>'
    script = f"location.replace({json.dumps(url)})".replace("<", "\\u003c")
    return document(title, body, language=language, script=script)


async def introduce(request: Request, link: GrantLink) -> Response:
    """The page behind a link: for whom it is, and a button."""
    context: Context = request.app.state.context
    app = await context.projects(link.project_id)
    language = asked_for(request.headers.get("accept-language", ""))
    t = _Texts(language, app=app.name, owner=link.owner_name)
    body = (
        f"<h1>{t('Connect an assistant')}</h1><p>{t(_INTRODUCTION)}</p>"
        f'<p class="soft">{t("If you did not ask for it, close this window.")}</p>'
        f'<form method="post"><div class="buttons"><button class="first">{t("Continue")}</button></div></form>'
    )
    title = say(language, "Connect an assistant")
    return document(title, body, language=language, app=app, logo=logo_url(context.public_url, app))


async def overview(request: Request, link: GrantLink, browser: str) -> Response:
    """The page of a person's assistants: the address to give them, and those that are connected."""
    context: Context = request.app.state.context
    app: ProjectSettings = await context.projects(link.project_id)
    language = asked_for(request.headers.get("accept-language", ""))
    owner = Owner(link.owner_id, link.owner_name)
    async with context.db.read() as tx:
        project = ProjectId(link.project_id)
        rows = await service.search(tx, project, owner_id=owner.id, owner_name=owner.name)
        choices = await requests.choices(tx, context.registry, project, owner)
        reached = await service.accounts_of(tx, [row.id for row in rows])
    names = {choice.account.id: choice.connector.title for choice in choices}
    t = _Texts(language, app=app.name, owner=owner.name)
    at = f"{context.public_url}/connect/assistants"
    items = "".join(_item(row, reached[row.id], names, language, browser, at) for row in rows)
    address = rules.resource_of(context.public_url, link.project_id)
    body = (
        f"<h1>{t('Connect an assistant')}</h1><p>{t(_ADDRESS)}</p>"
        f'<p class="where"><code>{html.escape(address)}</code></p>'
        f'<p class="soft">{t("Begin within half an hour, in this browser.")}<br>{t("Signed in as {owner}")}</p>'
        f"<h2>{t('Connected')}</h2>" + (f"<ul>{items}</ul>" if items else f"<p>{t('No assistant is connected.')}</p>")
    )
    title = say(language, "Assistants")
    return document(title, body, language=language, app=app, logo=logo_url(context.public_url, app))


def _item(row: Any, reached: Sequence[str], names: dict[str, str], language: str, browser: str, at: str) -> str:
    since = say(language, "since {date}").format(date=row.created_at.date().isoformat())
    access = say(language, "Read and write" if row.writes else "Only read")
    titles = ", ".join(dict.fromkeys(names[id] for id in reached if id in names))
    below = " · ".join(filter(None, (titles, access, since)))
    token = f'<input type="hidden" name="token" value="{form_token(row.id, browser)}">'
    label = html.escape(say(language, "Disconnect"))
    action = f"{html.escape(at)}/disconnect/{html.escape(row.id)}"
    form = f'<form method="post" action="{action}">{token}<button>{label}</button></form>'
    name = html.escape(row.client_name)
    return f'<li><span><b>{name}</b><span class="sub">{html.escape(below)}</span></span>{form}</li>'
