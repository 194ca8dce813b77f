"""Words by which providers tell what is wrong. General language only: what one provider says stands in its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_READ: Final = 8_000  # characters; a refusal is short, a page says it early
Rules = tuple[tuple[str, re.Pattern[str]], ...]


def compile_rules(phrases: Mapping[str, tuple[str, ...]]) -> Rules:
    """Make one pattern per cause of its alternatives. The order decides where several match."""
    return tuple((code, re.compile("|".join(words), re.IGNORECASE | re.DOTALL)) for code, words in phrases.items())


def first(rules: Rules, text: str) -> str | None:
    """The first cause whose words stand in the text, or None."""
    return next((code for code, pattern in rules if pattern.search(text)), None)


_ANSWERS: Final = compile_rules(
    {
        "blocked_by_firewall": (
            r"attention required",
            r"access denied.{0,80}(?:reference #|incident|edgesuite)",
            r"request (?:was )?blocked",
            r"web application firewall",
            r"security (?:service|check).{0,60}(?:protect|brows)",
            r"captcha|are you (?:a )?human|bot protection|unusual traffic|pardon our interruption",
        ),
        "maintenance": (
            r"(?:under|down for|scheduled|planned|in) maintenance|maintenance (?:mode|window|page|work)",
            r"<title>\s*maintenance",
            r"we.{0,6}ll be (?:right )?back|be back soon|temporarily (?:down|offline)",
        ),
        "ip_not_allowed": (
            r"\bip\b.{0,12}(?:address)?.{0,25}(?:not (?:allowed|permitted|authori[sz]ed|on the)|restrict|denied|blocked)",
            r"(?:ip|network) (?:allow|white)[ -]?list|not (?:allow|white)listed",
            r"not allowed from (?:this|your) (?:ip|network|location)",
        ),
        "mfa_required": (
            r"\bmfa\b|\b2fa\b|two[- ]?(?:factor|step)|second factor|multi[- ]?factor",
            r"one[- ]?time (?:password|code)|single sign[- ]?on|\bsso\b|saml (?:is )?(?:required|enforced)",
        ),
        "user_locked": (
            r"(?:user|account|login)[^.]{0,30}\block(?:ed|out)\b",
            r"too many (?:failed|invalid|login|unsuccessful)",
        ),
        "rate_limited": (r"rate[- _]?limit|too many requests|throttl|quota (?:exceeded|reached)|request limit",),
        "account_suspended": (
            r"suspended|unpaid|past[- ]due|payment (?:required|overdue)|billing",
            r"trial.{0,20}(?:ended|expired|over)|subscription.{0,25}(?:ended|expired|cancel|inactive)",
            r"(?:account|tenant|company|organi[sz]ation)[^.]{0,20}(?:closed|deactivated|frozen)",
        ),
        "plan_lacks_api": (
            r"api (?:access )?(?:is )?(?:currently )?(?:not |dis)(?:enabled|included|available|abled)",
            r"(?:plan|edition|licen[cs]e|package|tier)[^.]{0,40}(?:not|does ?n.t|lacks|required|upgrade)",
            r"upgrade your|rest api.{0,20}(?:off|disabled)",
        ),
        "key_expired": (
            r"(?:key|token|credential|secret|password)[^.]{0,25}(?:has |is |have )?expired",
            r"expired[_ -](?:key|token|credential)",
        ),
        "key_revoked": (
            r"(?:key|token|credential)[^.]{0,25}(?:deleted|disabled|deactivated|inactive|removed)",
            r"\brevoked\b",
        ),
        "wrong_environment": (
            r"(?:test|sandbox|live|production|staging|demo)[ -]?(?:mode|environment|key|token|account|tenant|api)\b",
            r"(?:wrong|different|another|other) (?:environment|region|data ?cent(?:er|re))",
        ),
        "not_an_administrator": (
            r"(?:must|need|requires?|only)[^.]{0,40}\b(?:admin(?:istrator)?s?|owners?|super[- ]?admin)\b",
            r"not an? admin",
        ),
        "missing_scope": (r"scope|permission|privilege|forbidden|not authori[sz]ed to|access rights?|insufficient",),
        "wrong_credentials": (r"invalid|incorrect|unknown|unauthori[sz]ed|authentication",),
    }
)
_LOGIN = re.compile(r"type=.?password|log ?in|sign ?in|anmelden|se connecter|iniciar", re.IGNORECASE)


def find(text: str) -> str | None:
    """The cause that an answer's text speaks of, or None."""
    return first(_ANSWERS, text[:_READ])


def login_page(text: str) -> bool:
    """Whether a page asks for a login."""
    return _LOGIN.search(text[:_READ]) is not None
