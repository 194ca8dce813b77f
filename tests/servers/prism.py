"""A vendor's published OpenAPI document as a server: prism checks each request against it and answers by its examples."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.servers.ports import HOST, free_port
from tests.servers.process import COUNTERPARTS, Server, require_node_modules, require_program

FOLDER = COUNTERPARTS / "prism"
GITHUB = FOLDER / "node_modules/@octokit/openapi/generated/api.github.com.json"
FIGMA = FOLDER / "node_modules/@figma/rest-api-spec/openapi/openapi.yaml"


def document(path: Path) -> dict[str, Any]:
    """A published document."""
    require_node_modules(FOLDER)
    text = path.read_text()
    found: dict[str, Any] = json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
    return found


def cut(whole: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """A document with these paths alone and what they refer to: prism reads GitHub's 800 for half a minute."""
    kept = {path: whole["paths"][path] for path in paths}
    out = {**whole, "paths": kept, "components": {}}
    out.pop("x-webhooks", None)
    out.pop("webhooks", None)
    todo: list[Any] = [kept]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            target = one.get("$ref")
            if isinstance(target, str) and target.startswith("#/components/"):
                _, _, kind, name = target.split("/")
                group = out["components"].setdefault(kind, {})
                if name not in group:
                    group[name] = whole["components"][kind][name]
                    todo.append(group[name])
            todo += one.values()
        elif isinstance(one, list):
            todo += one
    out["components"]["securitySchemes"] = whole["components"].get("securitySchemes", {})
    return out


class PrismServer(Server):
    """Serves a document. A request that does not fit it is refused with what is wrong."""

    name = "prism"
    start_timeout = 90.0

    def __init__(self, spec: dict[str, Any], port: int | None = None) -> None:
        super().__init__(port or free_port())
        require_node_modules(FOLDER)
        self._node = require_program("node")
        self._spec = spec

    def prepare(self) -> None:
        """Write the document where prism reads it."""
        (self.folder / "openapi.json").write_text(json.dumps(self._spec, default=str))

    def command(self) -> Sequence[str]:
        """Return prism with its checks of requests on."""
        program = FOLDER / "node_modules/@stoplight/prism-cli/dist/index.js"
        options = ["-h", HOST, "-p", str(self.port), "--errors", "--multiprocess", "false"]
        return [self._node, str(program), "mock", *options, str(self.folder / "openapi.json")]
