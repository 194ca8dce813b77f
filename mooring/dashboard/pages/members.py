"""The people of an organization: invite, role, a new link for who is locked out, take out."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.responses import Response

from mooring import errors
from mooring.dashboard.render import render
from mooring.dashboard.routing import get, post
from mooring.dashboard.view import View
from mooring.identity import roles, users
from mooring.identity.models import Organization

HERE = "/dashboard/organizations/{organization}/members"


def _organization(view: View) -> int:
    """The organization of the path, of which the person must be an admin. Raises NotFound for any other."""
    text = view.path("organization")
    id = int(text) if text.isdigit() and len(text) < 16 else 0
    if not view.me.rights.owns(id):
        raise errors.NotFound("no such organization")
    return id


def _at(view: View) -> str:
    return f"/dashboard/organizations/{view.path('organization')}/members"


@get(HERE, "owner", api="GET /organizations/{organization}/members")
async def show(view: View) -> Response:
    """Everybody with their roles."""
    id = _organization(view)
    async with view.context.db.read() as tx:
        organization = await tx.get_one(Organization, id)
        rows = await users.members(tx, id)
    return render(view, "members.html", organization=organization, rows=rows, roles=roles.ORGANIZATION_ROLES)


@get(HERE + "/invite", "owner")
async def ask_invite(view: View) -> Response:
    """The dialog for an invitation."""
    id = _organization(view)
    async with view.context.db.read() as tx:
        organization = await tx.get_one(Organization, id)
    mine = [p for p, _ in view.projects if p.organization_id == id and p.deleted_at is None]
    return render(view, "member_invite.html", organization=organization, mine=mine, roles=roles.PROJECT_ROLES)


@post(HERE, "owner", api="POST /organizations/{organization}/members", confirmed=True)
async def invite(view: View) -> Response:
    """Add somebody, and show the link by which they choose a password."""
    id = _organization(view)
    form = await view.form()
    async with view.context.db.begin() as tx:
        user, token = await users.invite(tx, id, form.get("email"), form.get("name"), form.get("role"))
        project = next((p for p, _ in view.projects if p.id == form.get("project") and p.organization_id == id), None)
        if project is not None and form.get("role") != "admin":
            await users.set_project_role(tx, project, user.id, form.get("project_role"))
    if token is None:
        return view.go(_at(view), "invited")
    return _link(view, token, user.email)


def _link(view: View, token: str, email: str) -> Response:
    link = f"{view.context.public_url}/dashboard/welcome?{urlencode({'token': token})}"
    answer = render(view, "member_link.html", link=link, email=email, then=_at(view))
    answer.headers["hx-retarget"] = "#dialog"
    return answer


@post(HERE + "/{user}/role", "owner", api="PATCH /organizations/{organization}/members/{user}", confirmed=True)
async def set_role(view: View) -> Response:
    """Change a member's role in the organization."""
    id = _organization(view)
    form = await view.form()
    async with view.context.db.begin() as tx:
        await users.set_organization_role(tx, id, view.path("user"), form.get("role"))
    return view.go(_at(view), "saved")


@post(HERE + "/{user}/remove", "owner", api="DELETE /organizations/{organization}/members/{user}", confirmed=True)
async def remove(view: View) -> Response:
    """Take somebody out, with their roles in the organization's projects."""
    id = _organization(view)
    async with view.context.db.begin() as tx:
        await users.set_organization_role(tx, id, view.path("user"), None)
    return view.go(_at(view), "deleted")


@post(HERE + "/{user}/reset", "owner", api="POST /organizations/{organization}/members/{user}/reset", confirmed=True)
async def reset(view: View) -> Response:
    """A new link for somebody who is locked out; the old password and second factor end."""
    id = _organization(view)
    async with view.context.db.begin() as tx:
        user, token = await users.reset_access(tx, id, view.path("user"))
    return _link(view, token, user.email)
