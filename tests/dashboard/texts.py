"""The texts of the dashboard's pages: what a catalogue of another language must hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

FOLDER = Path(__file__).resolve().parents[2] / "mooring" / "dashboard"
_CALL = re.compile(r"""\bt\(\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*[,)]""")


def texts() -> set[str]:
    """Every text that stands in a template or a page as a literal, and those of the tables that pages translate."""
    from mooring.accounts import lifecycle
    from mooring.accounts.forecast import REASONS
    from mooring.actions.approvals import State
    from mooring.dashboard import explain
    from mooring.dashboard.notes import NOTES
    from mooring.dashboard.pages import api_keys, assistants, connectors, link, search, settings, webhooks
    from mooring.identity.roles import MEANINGS, ORGANIZATION_ROLES, PROJECT_ROLES
    from mooring.identity.scopes import SCOPES
    from mooring.webhooks.events import EVENTS

    found = set()
    for path in [*FOLDER.rglob("*.html"), *FOLDER.rglob("*.py")]:
        for double, single in _CALL.findall(path.read_text(encoding="utf-8")):
            found.add((double or single).replace('\\"', '"').replace("\\'", "'"))
    found |= {*NOTES.values(), *REASONS.values(), *MEANINGS.values(), *SCOPES.values(), *EVENTS.values()}
    found |= {
        *lifecycle.STATUSES,
        *PROJECT_ROLES,
        *ORGANIZATION_ROLES,
        *webhooks.STATUSES,
        *get_args(State),
        "production",
        "test",
        "user",
    }
    found |= {
        *link.LIVES.values(),
        *api_keys.LIVES.values(),
        *assistants.ENDED_BY.values(),
        *webhooks.REPLAYS.values(),
        *search.PAGES.values(),
        *settings.ADVANCED.values(),
    }
    found |= {name for name, _ in search.KINDS.values()}
    found |= explain.texts()
    source = (FOLDER / "pages" / "connectors.py").read_text(encoding="utf-8")
    found |= set(re.findall(r'return "([A-Z][^"]+)"', source)) | {"It has linked accounts."}
    source = (FOLDER / "render.py").read_text(encoding="utf-8")
    found |= set(re.findall(r'"(\{n\} [a-z ]+ago|in \{n\} [a-z]+)"', source))
    assert connectors
    return {text for text in found if text}
