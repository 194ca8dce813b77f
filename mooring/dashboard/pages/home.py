"""The first page, and the projects: create, rename, delete with days of grace, restore."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from mooring import errors
from mooring.dashboard.render import render
from mooring.dashboard.routing import get, post
from mooring.dashboard.view import View
from mooring.identity import projects, service, users

PROJECT_COOKIE = "mooring-project"


@get("/dashboard", "user")
async def home(view: View) -> Response:
    """Lead to the project that was looked at last, or to the list."""
    live = [p for p, _ in view.projects if p.deleted_at is None]
    last = view.request.cookies.get(PROJECT_COOKIE)
    found = next((p for p in live if p.id == last), live[0] if live else None)
    return RedirectResponse(f"/dashboard/p/{found.id}/connectors" if found else "/dashboard/projects", status_code=303)


@get("/dashboard/projects", "user", api="GET /projects, mooring project list")
async def show(view: View) -> Response:
    """All projects that the person may see."""
    rights = view.me.rights
    rows = [(p, o, rights.role_in(p.id, o.id), projects.gone_at(p)) for p, o in view.projects]
    async with view.context.db.read() as tx:
        owned = await users.owned_organizations(tx, rights)
    return render(view, "projects.html", rows=rows, owned=owned)


@get("/dashboard/projects/new", "owner")
async def ask_create(view: View) -> Response:
    """The dialog for a new project."""
    async with view.context.db.read() as tx:
        owned = await users.owned_organizations(tx, view.me.rights)
    return render(view, "project_new.html", owned=owned)


@post(
    "/dashboard/projects",
    "owner",
    api="POST /projects, POST /organizations, mooring project create NAME --organization ORGANIZATION",
)
async def create(view: View) -> Response:
    """Make a project, in an organization of which the person is an admin; a new organization if they name one."""
    form = await view.form()
    name = users.clean_name(form.get("name"))
    async with view.context.db.begin() as tx:
        if form.get("organization") == "new":
            new_name = users.clean_name(form.get("organization_name"), "organization")
            organization_id = (await users.create_organization(tx, new_name, view.me.user.id)).id
        else:
            organization_id = int(form.get("organization")) if form.get("organization").isdigit() else 0
            if not view.me.rights.owns(organization_id):
                raise errors.NotFound("no such organization")
        project = await service.create_project(tx, organization_id, name)
    return view.go(f"/dashboard/p/{project.id}/connectors", "created")


@get("/dashboard/p/{project}/rename", "admin")
async def ask_rename(view: View) -> Response:
    """The dialog for another name."""
    return render(view, "project_rename.html")


@post("/dashboard/p/{project}/rename", "admin", api="PATCH /projects/{project}")
async def rename(view: View) -> Response:
    """Give the project another name."""
    form = await view.form()
    async with view.context.db.begin() as tx:
        await projects.rename(tx, view.project.id, form.get("name"))
    return view.go("/dashboard/projects", "renamed")


@get("/dashboard/p/{project}/delete", "owner")
async def ask_delete(view: View) -> Response:
    """The dialog that says what a deletion does."""
    return render(view, "project_delete.html", days=projects.GRACE.days)


@post("/dashboard/p/{project}/delete", "owner", api="DELETE /projects/{project}", confirmed=True)
async def delete(view: View) -> Response:
    """Stop the project; it is destroyed after the days of grace, or at once if asked."""
    form = await view.form()
    if form.get("name") != view.project.name:
        raise errors.ValidationFailed("the name is not the project's", errors=["name: type it as it is shown"])
    async with view.context.db.begin() as tx:
        await projects.delete(tx, view.project.id, now=form.flag("now"))
    return view.go("/dashboard/projects", "project_deleted" if not form.flag("now") else "deleted")


@post("/dashboard/p/{project}/restore", "owner", api="POST /projects/{project}/restore")
async def restore(view: View) -> Response:
    """Take a deletion back."""
    async with view.context.db.begin() as tx:
        await projects.restore(tx, view.project.id)
    return view.go("/dashboard/projects", "restored")
