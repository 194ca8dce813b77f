"""Who may do what: the one place where roles are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from mooring import errors

Need = Literal["public", "user", "viewer", "member", "admin", "owner"]
"""What a route needs: nobody in particular, anybody who is signed in, a role in the project, or an organization's admin."""

PROJECT_ROLES: Final = ("viewer", "member", "admin")
ORGANIZATION_ROLES: Final = ("basic", "admin")
_RANK: Final = {role: rank for rank, role in enumerate(PROJECT_ROLES)}

MEANINGS: Final[dict[str, str]] = {
    "viewer": "Sees everything of the project; changes nothing.",
    "member": "Links, tests, suspends and deletes accounts, replays deliveries, decides about calls that wait.",
    "admin": "Sets up connectors, API keys, webhooks, settings and members of the project.",
    "owner": "Admin of the organization: every project in it, its members, its audit log and the system page.",
}
"""Role → what it may do, in plain words."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What one person may do: roles by organization and by project, as they stand in the database now."""

    organizations: Mapping[int, str] = field(default_factory=dict)
    projects: Mapping[str, str] = field(default_factory=dict)

    def owns(self, organization_id: int) -> bool:
        """Whether the person is an admin of the organization."""
        return self.organizations.get(organization_id) == "admin"

    @property
    def owns_any(self) -> bool:
        """Whether the person is an admin of some organization."""
        return "admin" in self.organizations.values()

    def role_in(self, project_id: str, organization_id: int) -> str | None:
        """The role in a project. An organization's admin is an admin of all of its projects."""
        return "admin" if self.owns(organization_id) else self.projects.get(project_id)

    def may(self, need: Need, project_id: str, organization_id: int) -> bool:
        """Whether the person may do in this project what needs `need`."""
        if need == "owner":
            return self.owns(organization_id)
        role = self.role_in(project_id, organization_id)
        if role is None:
            return False
        return need in {"public", "user"} or _RANK[role] >= _RANK[need]

    def require(self, need: Need, project_id: str, organization_id: int) -> None:
        """Raise NotFound for somebody outside the project, and Forbidden for a role that is too small."""
        if self.role_in(project_id, organization_id) is None:
            raise errors.NotFound("no such project")
        if not self.may(need, project_id, organization_id):
            raise errors.Forbidden(
                f"your role in this project does not permit this; it needs {need}",
                hint="Ask an admin of the project to do it, or to give you the role.",
            )


def check_role(role: str, known: tuple[str, ...]) -> str:
    """The role if it is one. Raises ValidationFailed."""
    if role not in known:
        raise errors.ValidationFailed(
            f"unknown role {role[:40]!r}", errors=[f"role: must be one of {', '.join(known)}"]
        )
    return role
