"""Read `hub.yaml`. Every fault is reported with file, line and column, and all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from mooring.connectors.loader import translate
from mooring.connectors.problem import Problem
from mooring.connectors.yaml_source import Fault, Location, Source, read_yaml
from mooring.errors import ConfigurationError, MooringError
from mooring.plan.spec import TAGS, HubSpec

MAX_BYTES: Final = 4_000_000


class HubFileError(ConfigurationError):
    """The file is wrong, or the hub can't be brought to it; the message has one line per fault."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(slots=True)
class HubFile:
    """A file that was read, with a place for whatever else is found wrong with it."""

    name: str
    folder: Path
    spec: HubSpec
    source: Source = field(repr=False)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, at: Location, message: str, *, on_key: bool = False) -> None:
        """Note what is wrong at a place of the file."""
        self.faults.append(Fault(at, message, on_key))

    def refuse(self, at: Location, error: MooringError) -> None:
        """Note a refusal: each of its lines at the key that it names, else at `at`."""
        hint = f" {error.error_hint}" if error.error_hint else ""
        if not error.errors:
            self.fault(at, f"{error.message.removesuffix('.')}.{hint}" if hint else error.message)
        for line in error.errors:
            key = line.split(" ", 1)[0].rstrip(":")
            parts = ("scopes",) if key == "setup.scopes" else tuple(key.split(".", 1))
            self.fault((*at, *parts), line + (f".{hint}" if hint else ""))

    def check(self) -> None:
        """Raise HubFileError if anything was found wrong."""
        if self.faults:
            raise HubFileError(_located(self.name, self.source, self.faults))


def _located(name: str, source: Source, faults: Iterable[Fault]) -> Iterable[Problem]:
    return [Problem(name, *source.position(f.location, on_key=f.on_key), f.message) for f in faults]


def read_file(path: Path) -> HubFile:
    """Read and check one file. Raises HubFileError."""
    name = str(path)
    try:
        content = path.read_bytes()
        text = content.decode() if len(content) <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
        raise HubFileError([Problem(name, 1, 1, f"cannot be read: {reason}")]) from None
    if len(content) > MAX_BYTES:
        raise HubFileError([Problem(name, 1, 1, f"is larger than {MAX_BYTES} bytes")])
    source = read_yaml(text)
    if source.faults:
        raise HubFileError(Problem(name, *place, message) for place, message in source.faults)
    if not isinstance(source.data, dict):
        raise HubFileError([Problem(name, 1, 1, "the file is a mapping that begins with `version: 1`")])
    try:
        spec = HubSpec.model_validate(source.data)
    except ValidationError as e:
        details = e.errors(include_url=False, include_input=False)
        for detail in details:
            detail["loc"] = tuple(part for part in detail["loc"] if part not in TAGS)
        raise HubFileError(_located(name, source, [translate(detail, HubSpec) for detail in details])) from None
    return HubFile(name, path.absolute().parent, spec, source)
