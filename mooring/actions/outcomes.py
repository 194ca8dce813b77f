"""What an answer of the provider means for an action: a result, nothing, or one of our refusals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mooring import errors
from mooring.connectors.definition import Connector, Meaning
from mooring.connectors.meanings import first_meaning
from mooring.protocol.expressions import UNDEFINED
from mooring.protocol.redact import clean_line
from mooring.proxy.reading import Whole

_OF_OUTCOME: Final[Mapping[str, type[errors.MooringError]]] = {
    "not_found": errors.NotFound,
    "rate_limited": errors.RateLimited,
    "auth_expired": errors.AccountInvalidCredentials,
    "forbidden": errors.Forbidden,
    "conflict": errors.Conflict,
    "invalid": errors.Unprocessable,
    "retry": errors.Unavailable,
    "fail": errors.ProviderError,
}
_OF_STATUS: Final[Mapping[int, type[errors.MooringError]]] = {
    400: errors.BadRequest,
    401: errors.AccountInvalidCredentials,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.NotFound,
    412: errors.Conflict,
    422: errors.Unprocessable,
    429: errors.RateLimited,
}
_SAID: Final = ("message", "error_description", "detail", "title", "error", "errors", "msg", "description")


def judge(connector: Connector, meanings: Iterable[Meaning], answer: Whole) -> bool:
    """Whether the answer is a result; False when a rule says to ignore it, which leaves the action without data.

    Rules of the action come before those of the connector. Raises the refusal that the first matching one names; without
    any, statuses from 400 on mean what HTTP says. Each refusal carries `provider_errors`.
    """
    found = first_meaning((*meanings, *connector.meanings), answer.status, answer.headers, answer.body)
    outcome = found.outcome if found is not None else None
    if outcome == "ignore":
        return False
    if outcome is None and answer.status < 400:
        return True
    if outcome is not None:
        kind = _OF_OUTCOME[outcome]
    else:
        kind = _OF_STATUS.get(answer.status, errors.ProviderError if answer.status >= 500 else errors.BadRequest)
    told = _declared(found, answer) or _words(answer.data)
    message = f"{connector.title} answered {answer.status}" + (f": {told}" if told else "")
    headers = {"retry-after": after} if (after := answer.headers.get("retry-after")) and kind in _WAITING else {}
    code = "ProviderRateLimitError" if kind is errors.RateLimited else None
    raise kind(message, code=code, extra={"provider_errors": [answer.as_error()]}, headers=headers)


_WAITING: Final = (errors.RateLimited, errors.Unavailable)


def refusal(connector: Connector, status: int, answer: Whole, words: str | None) -> errors.MooringError:
    """The refusal for a status that a connector gives an answer, with the provider's own answer beside it."""
    kind = _OF_STATUS.get(status, errors.ProviderError if status >= 500 else errors.BadRequest)
    told = clean_line(words, 300) if words else _words(answer.data)
    message = f"{connector.title} answered {answer.status}" + (f": {told}" if told else "")
    return kind(message, extra={"provider_errors": [answer.as_error()]})


def _declared(meaning: Meaning | None, answer: Whole) -> str | None:
    if meaning is None or meaning.message is None:
        return None
    scope = {"response": {"status": answer.status, "headers": dict(answer.headers), "body": answer.data}}
    value = meaning.message.value(scope)
    return clean_line(str(value), 300) if value is not UNDEFINED and value is not None else None


def _words(data: Any, depth: int = 0) -> str | None:
    """What the provider says of its error, in one line."""
    if isinstance(data, str):
        return clean_line(data, 300) if data.strip() and not data.lstrip().startswith("<") else None
    if depth > 3:
        return None
    if isinstance(data, list):
        parts = [words for item in data[:3] if (words := _words(item, depth + 1))]
        return "; ".join(parts) or None
    if isinstance(data, Mapping):
        for name in _SAID:
            if name in data and (words := _words(data[name], depth + 1)):
                return words
    return None
