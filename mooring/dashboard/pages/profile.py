"""The person's own page: name, language, password, second factor, sessions."""

from __future__ import annotations

from starlette.responses import Response

from mooring.dashboard import locale
from mooring.dashboard.render import render
from mooring.dashboard.routing import get, post
from mooring.dashboard.view import View
from mooring.identity import passwords, second_factor, sessions, users
from mooring.identity.user_models import User

HERE = "/dashboard/profile"


@get(HERE, "user", api="GET /me, GET /sessions")
async def show(view: View) -> Response:
    """What the person may change about themselves."""
    async with view.context.db.read() as tx:
        rows = await sessions.search(tx, view.me.user.id)
    return render(view, "profile.html", rows=rows, minimum=passwords.MIN_LENGTH)


@post(HERE, "user", api="PATCH /me")
async def change(view: View) -> Response:
    """Change name and language."""
    form = await view.form()
    async with view.context.db.begin() as tx:
        user = await tx.get_one(User, view.me.user.id)
        user.name = users.clean_name(form.get("name"))
        user.language = form.get("language") if form.get("language") in locale.LANGUAGES else None
    return view.go(HERE, "saved")


@post(HERE + "/password", "user", api="POST /me/password")
async def change_password(view: View) -> Response:
    """Change the password; every other session ends."""
    form = await view.form()
    await users.change_password(view.context.db, view.me, form.raw("old"), form.raw("new"))
    return view.go(HERE, "password")


@post(HERE + "/second-factor", "user", api="POST /me/second_factor", confirmed=True)
async def enroll(view: View) -> Response:
    """Make a secret and show it as a QR code, until a code proves that the app has it."""
    import segno

    async with view.context.db.begin() as tx:
        user = await tx.get_one(User, view.me.user.id)
        secret = await second_factor.enroll(tx, view.context.vault, user)
    picture = segno.make(second_factor.link(user, secret), error="m").svg_inline(
        omitsize=True, svgclass="qr", lineclass=None, dark="#000"
    )
    return render(view, "second_factor.html", secret=secret, picture=picture)


@post(HERE + "/second-factor/confirm", "user", api="POST /me/second_factor/confirm", confirmed=True)
async def confirm(view: View) -> Response:
    """Put the second factor in force, and show the recovery codes this once."""
    form = await view.form()
    async with view.context.db.begin() as tx:
        user = await tx.get_one(User, view.me.user.id, with_for_update=True)
        codes = await second_factor.confirm(tx, view.context.vault, user, form.get("code"))
        await sessions.end_all(tx, user.id, but=view.me.session.id)
    answer = render(view, "recovery_codes.html", codes=codes)
    answer.headers["hx-retarget"] = "#dialog"
    return answer


@post(HERE + "/second-factor/off", "user", api="DELETE /me/second_factor", confirmed=True)
async def turn_off(view: View) -> Response:
    """Take the second factor away."""
    async with view.context.db.begin() as tx:
        await second_factor.turn_off(tx, await tx.get_one(User, view.me.user.id))
    return view.go(HERE, "second_factor_off")


@post(HERE + "/sessions/{id}/end", "user", api="DELETE /sessions/{id}")
async def end(view: View) -> Response:
    """End one of the person's sessions."""
    async with view.context.db.begin() as tx:
        await sessions.end(tx, view.me.user.id, view.path("id"))
    return view.go(HERE, "ended")
