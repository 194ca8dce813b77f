"""Every cause once, by its code. `docs/causes.md` is generated from it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mooring.diagnosis.cause import Cause
from mooring.diagnosis.causes_credential import CREDENTIAL
from mooring.diagnosis.causes_flow import FLOW
from mooring.diagnosis.causes_host import HOST
from mooring.diagnosis.causes_oauth import OAUTH

GROUPS: Final[Mapping[str, tuple[Cause, ...]]] = MappingProxyType(
    {
        "What was typed, and the account at the provider": CREDENTIAL,
        "The address, the network, the provider's servers": HOST,
        "The registered app and its tokens": OAUTH,
        "The sign-in, and this hub's set-up": FLOW,
    }
)
CAUSES: Final[Mapping[str, Cause]] = MappingProxyType({c.code: c for group in GROUPS.values() for c in group})
