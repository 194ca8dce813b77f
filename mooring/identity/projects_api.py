"""Projects and who is in them over the API, for a person who is signed in."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring.identity import projects, service, users
from mooring.identity.models import Project
from mooring.identity.person import Person, owned, person_with
from mooring.kit.body import Body, Whole

router = APIRouter(prefix="/projects", tags=["Projects"])

Anybody = Annotated[Person, Depends(person_with("user"))]
Viewer = Annotated[Person, Depends(person_with("viewer"))]
Admin = Annotated[Person, Depends(person_with("admin"))]
GraveAdmin = Annotated[Person, Depends(person_with("admin", confirmed=True))]
Owner = Annotated[Person, Depends(person_with("owner"))]
GraveOwner = Annotated[Person, Depends(person_with("owner", confirmed=True))]
OwnerOfDeleted = Annotated[Person, Depends(person_with("owner", deleted=True))]
Role = Literal["viewer", "member", "admin"]


class ProjectOfPerson(BaseModel):
    """A project as a person sees it. A deleted one has `deleted_at`, and is destroyed at `gone_at`."""

    id: str
    name: str
    organization_id: str
    role: str | None
    log_days: int
    ip_allowlist: list[str]
    created_at: datetime
    deleted_at: datetime | None
    gone_at: datetime | None


class ProjectsOfPerson(BaseModel):
    """The projects that the person may see, deleted ones in their days of grace too."""

    data: list[ProjectOfPerson]


class ProjectCreate(Body):
    """A new project, in an organization of which the person is an admin."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    organization_id: str = Field(max_length=20)


class ProjectChange(Body):
    """A change of a project; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, max_length=200)
    log_days: Whole | None = Field(
        None,
        json_schema_extra={"minimum": projects.LOG_DAYS[0], "maximum": projects.LOG_DAYS[1]},
        description="For how many days request logs are kept.",
    )


class IpAllowlist(Body):
    """From where API keys may call: addresses, ranges and networks. Empty means from anywhere."""

    model_config = ConfigDict(extra="forbid")

    entries: list[str] = Field(max_length=1000)


class ProjectMemberOut(BaseModel):
    """Somebody with a role in the project. `inherited` says that it comes from being an admin of the organization."""

    id: str
    email: str
    name: str
    role: str
    inherited: bool


class ProjectMemberList(BaseModel):
    """Everybody with a role in the project, by name."""

    data: list[ProjectMemberOut]


class ProjectRole(Body):
    """A role in the project."""

    model_config = ConfigDict(extra="forbid")

    role: Role


def _out(person: Person, row: Project) -> ProjectOfPerson:
    return ProjectOfPerson(
        id=row.id,
        name=row.name,
        organization_id=str(row.organization_id),
        role=person.signed_in.rights.role_in(row.id, row.organization_id),
        log_days=row.log_days,
        ip_allowlist=list(row.ip_allowlist),
        created_at=row.created_at,
        deleted_at=row.deleted_at,
        gone_at=projects.gone_at(row),
    )


@router.get("")
async def list_projects(request: Request, person: Anybody) -> ProjectsOfPerson:
    """All projects that the person may see."""
    async with request.app.state.context.db.read() as tx:
        rows = await projects.visible(tx, person.signed_in.rights)
    return ProjectsOfPerson(data=[_out(person, row) for row, _ in rows])


@router.post("", status_code=201)
async def create_project(request: Request, person: Owner, body: ProjectCreate) -> ProjectOfPerson:
    """Make a project."""
    organization_id = owned(person.signed_in, body.organization_id)
    async with request.app.state.context.db.begin() as tx:
        return _out(person, await service.create_project(tx, organization_id, users.clean_name(body.name)))


@router.get("/{project}")
async def get_project_of_person(person: Viewer, project: str) -> ProjectOfPerson:
    """One project."""
    return _out(person, person.project)


@router.patch("/{project}")
async def patch_project_of_person(
    request: Request, person: Admin, project: str, body: ProjectChange
) -> ProjectOfPerson:
    """Give it another name, or say how long its request logs are kept."""
    row = person.project
    async with request.app.state.context.db.begin() as tx:
        if body.name is not None:
            row = await projects.rename(tx, row.id, body.name)
        if body.log_days is not None:
            row = await projects.set_log_days(tx, row.id, body.log_days)
    return _out(person, row)


@router.put("/{project}/ip_allowlist")
async def put_ip_allowlist(request: Request, person: GraveAdmin, project: str, body: IpAllowlist) -> ProjectOfPerson:
    """Say from where the project's API keys may call; every worker notices within a second."""
    async with request.app.state.context.db.begin() as tx:
        return _out(person, await projects.set_ip_allowlist(tx, person.project.id, body.entries))


@router.delete("/{project}")
async def delete_project(request: Request, person: GraveOwner, project: str, now: bool = False) -> ProjectOfPerson:
    """Stop it: its API keys refuse at once, and after seven days it is destroyed; with `now`, very soon."""
    async with request.app.state.context.db.begin() as tx:
        return _out(person, await projects.delete(tx, person.project.id, now=now))


@router.post("/{project}/restore")
async def restore_project(request: Request, person: OwnerOfDeleted, project: str) -> ProjectOfPerson:
    """Take a deletion back, while the days of grace last."""
    async with request.app.state.context.db.begin() as tx:
        return _out(person, await projects.restore(tx, person.project.id))


@router.get("/{project}/members")
async def list_project_members(request: Request, person: Viewer, project: str) -> ProjectMemberList:
    """Everybody with a role in the project."""
    async with request.app.state.context.db.read() as tx:
        people = await users.members(tx, person.project.organization_id)
        own = await users.project_roles(tx, person.project.id)
    return ProjectMemberList(
        data=[
            ProjectMemberOut(
                id=u.id,
                email=u.email,
                name=u.name,
                role="admin" if role == "admin" else own[u.id],
                inherited=role == "admin",
            )
            for u, role in people
            if role == "admin" or u.id in own
        ]
    )


@router.put("/{project}/members/{user}", status_code=204)
async def put_project_member(request: Request, person: GraveAdmin, project: str, user: str, body: ProjectRole) -> None:
    """Give a member of the organization a role in the project, or another one."""
    async with request.app.state.context.db.begin() as tx:
        await users.set_project_role(tx, person.project, user, body.role)


@router.delete("/{project}/members/{user}", status_code=204)
async def remove_project_member(request: Request, person: GraveAdmin, project: str, user: str) -> None:
    """Take somebody's role in the project away; they stay in the organization."""
    async with request.app.state.context.db.begin() as tx:
        await users.set_project_role(tx, person.project, user, None)
