"""The shipped connectors with every host behind one address of this machine: `https://a.b/c` is `<base>/a.b/c`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mooring.connectors.yaml_source import read_yaml

CATALOG = Path(__file__).parents[2] / "mooring" / "connectors" / "catalog"
PREFIX = "x-"
WHOLE = "https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*"


def write_rewritten(folder: Path, base: str) -> list[str]:
    """Write the connectors into a folder; returns their keys as they are shipped."""
    keys = []
    for file in sorted(CATALOG.glob("*.yaml")):
        data: Any = read_yaml(file.read_text(encoding="utf-8")).data
        if data["connector"] == "sandbox":
            continue
        keys.append(data["connector"])
        data["connector"] = PREFIX + data["connector"]
        data.pop("actions", None)
        whole = {name for url in _urls(data) if (name := _first_name(url)) is not None}
        for method in data["auth"].values():
            if isinstance(method.get("test"), str):
                raise TypeError(f"{file.name}: a test that names an action is not rewritten here")
            for group in ("fields", "app_fields"):
                for name, field in (method.get(group) or {}).items():
                    if name in whole and field is not None:
                        field["pattern"] = WHOLE
                        field.pop("default", None)
            for block in ("oauth2", "session"):
                own = method.get(block) or {}
                for keep in (own.get("keep") or {}, (own.get("then") or {}).get("keep") or {}):
                    for name, kept in keep.items():
                        if name in whole:
                            keep[name] = {"path": kept["path"] if isinstance(kept, dict) else kept, "pattern": WHOLE}
                for name, kept in ((method.get(block) or {}).get("callback_keep") or {}).items():
                    if name in whole and isinstance(kept, dict):
                        kept["pattern"] = WHOLE
        text = json.dumps(_rewritten(data, base), indent=1)  # JSON is YAML
        (folder / f"{data['connector']}.yaml").write_text(text, encoding="utf-8")
    return keys


def _rewritten(tree: Any, base: str, key: str = "") -> Any:
    if isinstance(tree, dict):
        return {k: _rewritten(v, base, str(k)) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_rewritten(v, base, key) for v in tree]
    addressed = key.endswith("_url") or key in {"get", "post", "put", "issuer"}
    if isinstance(tree, str) and addressed and tree.startswith("https://"):
        return f"{base}/{tree.removeprefix('https://')}"
    return tree


def _urls(data: dict[str, Any]) -> list[str]:
    found = [data.get("base_url", "")]
    for method in data["auth"].values():
        found.append(method.get("base_url", ""))
        found += [v for k, v in (method.get("oauth2") or {}).items() if k.endswith("_url")]
        found += [v for k, v in (method.get("session") or {}).items() if k in {"get", "post"}]
    return found


def _first_name(url: str) -> str | None:
    """The value that a URL begins with, where it does."""
    found = re.match(r"\$\{(?:\w+\()?(\w+)", url)
    return found[1] if found else None
