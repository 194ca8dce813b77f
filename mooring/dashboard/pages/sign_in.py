"""Signing in and out, the first set-up, invitations, and proving again who one is."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import RedirectResponse, Response

from mooring import errors
from mooring.dashboard.render import render
from mooring.dashboard.routing import get, post
from mooring.dashboard.view import View
from mooring.identity import passwords, sessions, signing_in, single_sign_on, users
from mooring.identity.user_models import User


def safe_next(text: str) -> str:
    """A page of ours to go to afterwards; anything else becomes the first page (rule O8)."""
    parts = urlsplit(text)
    ours = not parts.scheme and not parts.netloc and parts.path.startswith("/dashboard") and "\\" not in text
    return text if ours and text.isprintable() else "/dashboard"


def _session_cookie(view: View, response: Response, token: str) -> Response:
    from mooring.dashboard.app import cookie_name

    response.set_cookie(
        cookie_name(view.context),
        token,
        max_age=int(sessions.LONGEST.total_seconds()),
        path="/",
        secure=view.secure,
        httponly=True,
        samesite="lax",
    )
    return response


async def start_session(view: View, user: User, how: str) -> str:
    """A new session for a person who proved who they are; the one that the browser had ends. Returns the cookie's value."""
    agent = view.request.headers.get("user-agent")
    _, token = await signing_in.start(
        view.context.db, user, address=view.address, agent=agent, how=how, instead=view.signed_in
    )
    return token


@get("/", "public")
async def root(view: View) -> Response:
    """Lead to the dashboard."""
    return RedirectResponse("/dashboard", status_code=303)


@get("/dashboard/sign-in", "public")
async def show(view: View) -> Response:
    """Ask who it is. Before anybody was set up, say how to begin."""
    async with view.context.db.read() as tx:
        ready = await users.any_user(tx)
    if view.signed_in is not None:
        return RedirectResponse(safe_next(view.query("next")), status_code=303)
    template = "sign_in.html" if ready else "not_set_up.html"
    single = view.context.settings.oidc_issuer is not None
    return render(view, template, next=safe_next(view.query("next")), single=single)


@post("/dashboard/sign-in", "public", api="POST /sessions")
async def sign_in(view: View) -> Response:
    """Check password and second factor, and start a session."""
    form = await view.form()
    db, vault = view.context.db, view.context.vault
    user = await signing_in.by_password(
        db, vault, form.get("email"), form.raw("password"), form.get("code"), view.address
    )
    if user is None:
        return render(view, "sign_in_code.html")
    token = await start_session(view, user, "password")
    return _session_cookie(view, view.go(safe_next(form.get("next"))), token)


@post("/dashboard/sign-out", "user", api="DELETE /sessions/current")
async def sign_out(view: View) -> Response:
    """End the session on the server, and in the browser."""
    from mooring.dashboard.app import cookie_name

    async with view.context.db.begin() as tx:
        await sessions.end(tx, view.me.user.id, view.me.session.id)
    response = view.go("/dashboard/sign-in", "signed_out")
    response.delete_cookie(cookie_name(view.context), path="/", secure=view.secure, httponly=True, samesite="lax")
    return response


@get("/dashboard/set-up", "public")
async def show_set_up(view: View) -> Response:
    """The form for the first person, for whoever has the link that the host printed."""
    async with view.context.db.read() as tx:
        await users.find_token(tx, "setup", view.query("token"))
    return render(view, "set_up.html", token=view.query("token"), minimum=passwords.MIN_LENGTH)


@post("/dashboard/set-up", "public", api="POST /set_up")
async def set_up(view: View) -> Response:
    """Make the first person and sign them in."""
    form = await view.form()
    user = await users.set_up(
        view.context.db,
        token=form.get("token"),
        email=form.get("email"),
        name=form.get("name"),
        password=form.raw("password"),
        organization=form.get("organization"),
        project=form.get("project"),
    )
    token = await start_session(view, user, "set-up")
    return _session_cookie(view, view.go("/dashboard", "set_up"), token)


@get("/dashboard/welcome", "public")
async def show_welcome(view: View) -> Response:
    """The form of an invitation."""
    async with view.context.db.read() as tx:
        row = await users.find_token(tx, "invite", view.query("token"))
        user = await tx.get_one(User, row.user_id)
    return render(view, "welcome.html", token=view.query("token"), user=user, minimum=passwords.MIN_LENGTH)


@post("/dashboard/welcome", "public", api="POST /welcome")
async def welcome(view: View) -> Response:
    """Take the password of an invited person and sign them in."""
    form = await view.form()
    user = await users.choose_password(view.context.db, form.get("token"), form.raw("password"), form.get("name"))
    token = await start_session(view, user, "invitation")
    return _session_cookie(view, view.go("/dashboard"), token)


@get("/dashboard/confirm", "user")
async def show_confirm(view: View) -> Response:
    """Ask for the password again before something grave."""
    return render(view, "confirm.html", next=safe_next(view.query("next")))


@post("/dashboard/confirm", "user", api="POST /sessions/current/confirm")
async def confirm(view: View) -> Response:
    """Note that the person proved again who they are."""
    form = await view.form()
    await signing_in.confirm(view.context.db, view.me, form.raw("password"), view.address)
    return view.go(safe_next(form.get("next")), "confirmed")


def provider_of(view: View) -> single_sign_on.Provider:
    """The identity provider of the settings. Raises NotFound when there is none."""
    c, s = view.context, view.context.settings
    if s.oidc_issuer is None or s.oidc_client_id is None:
        raise errors.NotFound("this hub has no single sign-on")
    redirect_uri = f"{c.public_url}/dashboard/sso/callback"
    secret = s.oidc_client_secret or ""
    return single_sign_on.Provider(s.oidc_issuer, s.oidc_client_id, secret, redirect_uri, c.http, c.db, c.vault)


@get("/dashboard/sso", "public")
async def start_single_sign_on(view: View) -> Response:
    """Send the browser to the identity provider."""
    started = await single_sign_on.start(provider_of(view), safe_next(view.query("next")))
    response = RedirectResponse(started.url, status_code=303)
    response.set_cookie(
        "__Host-mooring-sso" if view.secure else "mooring-sso",
        started.browser,
        max_age=600,
        path="/",
        secure=view.secure,
        httponly=True,
        samesite="lax",
    )
    return response


@get("/dashboard/sso/callback", "public")
async def finish_single_sign_on(view: View) -> Response:
    """Take the identity provider's answer and start a session."""
    cookie = view.request.cookies.get("__Host-mooring-sso" if view.secure else "mooring-sso")
    given = view.request.query_params
    if len(given.multi_items()) != len(given.keys()):
        raise errors.BadRequest("the callback repeats a parameter", code="OAuthCallbackError")
    user, then = await single_sign_on.finish(provider_of(view), dict(view.request.query_params), cookie)
    token = await start_session(view, user, "single sign-on")
    return _session_cookie(view, RedirectResponse(safe_next(then), status_code=303), token)
