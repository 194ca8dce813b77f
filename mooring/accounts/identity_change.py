"""Whether a credential belongs to another account at the provider than the one that it replaces. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mooring.accounts.testing import Identity

IDENTITY_CHANGED: Final = "identity_changed"


@dataclass(frozen=True, slots=True)
class LinkWarning:
    """Something about a link that is no error, but perhaps not meant: a stable code and a sentence."""

    code: str
    description: str

    def show(self) -> dict[str, str]:
        """The API shape."""
        return {"code": self.code, "description": self.description}


def identity_warning(before: Identity, after: Identity) -> LinkWarning | None:
    """The warning that a credential belongs to another account at the provider than the one that it replaces."""
    if not before.id or not after.id or before.id == after.id:
        return None
    was, now = before.label or before.id, after.label or after.id
    if was == now:
        was, now = before.id, after.id
    return LinkWarning(
        IDENTITY_CHANGED,
        f"the new credential belongs to another account at the provider: {now}, before it was {was}",
    )
