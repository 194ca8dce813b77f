"""What is known of one cause of failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fault = Literal["user", "operator", "provider", "network", "mooring"]


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause. `code` is stable; programs may compare it. The texts are complete sentences.

    `for_user` and `what_to_do` are for the person who links an account and never heard of Mooring. `for_operator` is
    technical. `retry` says that the same attempt may succeed later without a change. `rejects` says that the provider
    refused the credential itself, as opposed to: nothing is known of it.
    """

    code: str
    title: str
    for_user: str
    what_to_do: str
    for_operator: str
    fault: Fault
    retry: bool = False
    rejects: bool = False
