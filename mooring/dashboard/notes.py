"""What a page says after something was done. Only the key travels through the browser."""

from __future__ import annotations

from typing import Final

NOTES: Final[dict[str, str]] = {
    "saved": "Saved.",
    "created": "Created.",
    "deleted": "Deleted.",
    "enabled": "Enabled.",
    "disabled": "Disabled.",
    "unavailable": "The connector is not available in this project now.",
    "available": "The connector is available again.",
    "default": "This is the default configuration now.",
    "suspended": "The account is suspended: calls through it are refused.",
    "resumed": "The account serves again.",
    "converted": "The account's type was changed.",
    "tested": "The provider accepts the account's credential.",
    "replayed": "It is being sent again.",
    "signed_out": "You are signed out.",
    "password": "Your password was changed. All other sessions have ended.",
    "second_factor_off": "The second factor is off.",
    "invited": "The person was added.",
    "renamed": "Renamed.",
    "project_deleted": "The project is stopped. It can be restored for seven days.",
    "restored": "The project is back.",
    "ended": "The session has ended.",
    "ended_grant": "The assistant is disconnected.",
    "confirmed": "Thank you. Please repeat what you were doing.",
    "set_up": "Welcome. This installation is yours now.",
}
