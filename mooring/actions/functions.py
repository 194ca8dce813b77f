"""Functions of installed packages as steps of actions: the way out for what the format can't say.

A connector's file names `package.module:name`; the operator names the modules that may run, in MOORING_PYTHON_MODULES. Such
a function is trusted: it runs inside the hub. It gets no credential: its requests take the account's road like any other.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import structlog

from mooring import errors
from mooring.protocol.headers import raw
from mooring.proxy.reading import Whole
from mooring.proxy.service import Call

log = structlog.get_logger(__name__)

Sender = Callable[[Call], Awaitable[Whole]]


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's answer: its status, its headers by lower-case name, and its data (JSON, else text)."""

    status: int
    headers: Mapping[str, str]
    data: Any


@dataclass(frozen=True, slots=True)
class PythonStep:
    """What a function is given."""

    _scope: Mapping[str, Any] = field(repr=False)
    _send: Sender = field(repr=False)

    @property
    def input(self) -> dict[str, Any]:
        """The action's arguments."""
        return dict(self._scope["input"])

    @property
    def steps(self) -> dict[str, Any]:
        """What the steps before gave, by id."""
        return dict(self._scope["steps"])

    @property
    def auth(self) -> dict[str, Any]:
        """The account's values that are not secret."""
        return dict(self._scope["auth"])

    @property
    def item(self) -> Any:
        """The item of `each`; None elsewhere."""
        return self._scope.get("item")

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> Reply:
        """Call the provider: `path` under the account's base URL, its credential added, its limits kept.

        Raises the refusal that the answer means, as the action's other requests do.
        """
        sent = {"accept": "application/json, */*;q=0.8", **{n.lower(): v for n, v in (headers or {}).items()}}
        body = None
        if json is not None:
            body = orjson.dumps(json)
            sent.setdefault("content-type", "application/json")
        pairs = [(n, v) for n, value in (query or {}).items() for v in (value if isinstance(value, list) else [value])]
        text = urlencode([(n, v) for n, v in pairs if v is not None], quote_via=quote)
        whole = await self._send(Call(method.upper(), path, text, raw(list(sent.items())), body))
        return Reply(whole.status, whole.headers, whole.data)


async def run(name: str, modules: Sequence[str], step: PythonStep) -> Any:
    """Run a function, plain or async. Raises NotSupported for one that may not run or is not there.

    An exception of the function is logged with its traceback and answered as an Internal without its text: that may hold
    anything.
    """
    function = _found(name, modules)
    try:
        given = function(step)
        return await given if inspect.isawaitable(given) else given
    except errors.MooringError:
        raise
    except Exception:
        log.exception("a function of an action failed", function=name)
        raise errors.Internal(f"the function {name} of the action failed", hint="The hub's log says how.") from None


def _found(name: str, modules: Sequence[str]) -> Callable[[PythonStep], Any]:
    module, _, function = name.partition(":")
    if not any(module == known or module.startswith(f"{known}.") for known in modules):
        raise errors.NotSupported(
            f"the function {name} may not run", hint=f"The operator allows it with MOORING_PYTHON_MODULES={module}."
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as e:
        raise errors.NotSupported(f"the function {name} is not installed: {type(e).__name__}") from None
    if not callable(found):
        raise errors.NotSupported(f"{name} is no function")
    return found  # type: ignore[no-any-return]
