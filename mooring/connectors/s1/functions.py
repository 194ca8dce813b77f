"""The functions that `.s1.yaml` expressions may call. A name that is not among them yields UNDEFINED, as in the original."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mooring.connectors.s1.dates import has_passed, next_anniversary, years_elapsed
from mooring.protocol.expression_functions import FUNCTIONS, Function
from mooring.protocol.expression_values import UNDEFINED

MOST_ARGUMENTS: Final = 20
# Names of the published grammar first, then those that later versions of it are known to have.
_SHARED: Final = ("present", "missing", "includes", "includesSome", "keys", "values", "now")
_LATER: Final = ("encodeBase64", "decodeBase64", "capitalize", "sha256", "join")
# Method calls do nothing in the original. These are the ones that authors wrote expecting that they work.
_METHODS: Final = {
    "toUpperCase": "upper",
    "toLowerCase": "lower",
    "trim": "trim",
    "split": "split",
    "join": "join",
    "replace": "replace",
}


def _loose(function: Function) -> Function:
    """Take any number of arguments: missing ones are UNDEFINED, superfluous ones are ignored."""
    call, least, most = function

    def run(*arguments: Any) -> Any:
        padded = [*arguments, *[UNDEFINED] * (least - len(arguments))]
        return call(*padded[:most])

    return Function(run, 0, MOST_ARGUMENTS)


def _dated(call: Callable[..., Any], least: int, most: int) -> Function:
    """A function of dates, which takes UNDEFINED for nothing."""
    return Function(lambda *given: call(*[None if value is UNDEFINED else value for value in given]), least, most)


_KNOWN: Final = {
    **{name: _loose(FUNCTIONS[name]) for name in (*_SHARED, *_LATER)},
    "nextAnniversary": _loose(_dated(next_anniversary, 2, 2)),
    "yearsElapsed": _loose(_dated(years_elapsed, 2, 3)),
    "hasPassed": _loose(_dated(has_passed, 2, 3)),
}
_CALLED_BEHIND: Final = {name: _loose(FUNCTIONS[ours]) for name, ours in _METHODS.items()}
_NOTHING: Final = Function(lambda *_: UNDEFINED, 0, MOST_ARGUMENTS)


class Table(Mapping[str, Function]):
    """Functions by name that has an answer for every name, and remembers which it did not know."""

    def __init__(self, known: Mapping[str, Function]) -> None:
        self._known = known
        self.used: list[str] = []
        self.unknown: list[str] = []

    def __getitem__(self, name: str) -> Function:
        function = self._known.get(name)
        (self.unknown if function is None else self.used).append(name)
        return function or _NOTHING

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def function_table() -> Table:
    """The functions, for one expression."""
    return Table(_KNOWN)


def method_table(*, strict: bool) -> Table:
    """What may be called behind a value: nothing works in strict mode."""
    return Table({} if strict else _CALLED_BEHIND)
