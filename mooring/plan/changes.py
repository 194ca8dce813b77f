"""A plan: what would have to change, as data for people and for programs. No secret is shown in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mooring.connectors.yaml_source import Location

Action = Literal["create", "change", "restore", "delete"]
Kind = Literal["organization", "project", "auth_config", "webhook", "webhook_secret"]
MARKS: Final[Mapping[Action, str]] = {"create": "+", "change": "~", "restore": "^", "delete": "-"}


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field, old and new. A secret one only says what happens to it."""

    name: str
    old: Any = None
    new: Any = None
    kept: Literal["set", "changes", "removed"] | None = None
    """What happens to a secret; its values are in nobody's plan."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        if self.kept:
            return {"field": self.name, "secret": self.kept}
        return {"field": self.name, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that has to be made, changed, restored or deleted. `want` is for the services and may hold secrets."""

    action: Action
    kind: Kind
    at: Location
    """Where the thing stands in the file; of what is deleted, the thing that it belongs to."""
    path: tuple[str, ...]
    """What people call it, from the organization down."""
    id: str | None = None
    fields: tuple[FieldChange, ...] = ()
    want: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "action": self.action,
            "kind": self.kind,
            "path": list(self.path),
            "id": self.id,
            "fields": [f.as_json() for f in self.fields],
        }


@dataclass(slots=True)
class Plan:
    """All changes, and what is in the hub but not in a list of the file, and stays."""

    changes: list[Change] = field(default_factory=list)
    left: list[Change] = field(default_factory=list)

    @property
    def deletions(self) -> list[Change]:
        """What would be deleted."""
        return [c for c in self.changes if c.action == "delete"]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "changes": [c.as_json() for c in self.changes],
            "left": [{k: v for k, v in c.as_json().items() if k in {"kind", "path", "id"}} for c in self.left],
            "summary": self.counts(),
        }

    def counts(self) -> dict[Action, int]:
        """How many changes of each kind of action."""
        found = Counter(c.action for c in self.changes)
        return {action: found[action] for action in MARKS}

    def lines(self) -> Iterator[str]:
        """For people."""
        for change in self.changes:
            words = change.kind.replace("_", " ")
            yield f"{MARKS[change.action]} {change.action} {words} {' / '.join(change.path)}"
            width = max((len(f.name) for f in change.fields), default=0)
            for f in change.fields:
                if f.kept:
                    told = f"secret {f.kept}"
                elif change.action == "create":
                    told = show(f.new)
                else:
                    told = f"{show(f.old)} → {show(f.new)}"
                yield f"    {f.name}:{' ' * (width - len(f.name))} {told}"
        for change in self.left:
            yield f"  not in the file, stays: {change.kind.replace('_', ' ')} {' / '.join(change.path)}"
        if not self.changes:
            yield "nothing to do"
            return
        counts = self.counts()
        yield ", ".join(f"{counts[action]} to {action}" for action in MARKS if counts[action])


def show(value: Any) -> str:
    """A value on one line, with nothing that moves a terminal's cursor."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(show(v) for v in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {show(v)}" for k, v in value.items()) + "}"
    text = str(value)
    return text if text.isprintable() and text else repr(text)
