"""Run schemathesis over a hub: its configuration, the process, and what it counted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attack.api_world import World, document

LAST = (
    r"^(DELETE /api_keys/\{id\}|PATCH /api_keys/\{id\}|DELETE /sessions/\{id\}|DELETE /projects/\{project\}"
    r"|PUT /projects/\{project\}/ip_allowlist|POST /me/password|POST /hub/browser)$"
)
"""Operations that end the credential they are called with, or lock the caller out. They have a run of their own, the last
of its world: POST /hub/browser gives the session to another browser, POST /me/password ends all others."""

CHANGES = "^(PATCH|DELETE) "
READS = "^(GET|POST|PUT) "
BINDINGS: list[tuple[str, dict[str, str]]] = [
    (READS + "/accounts", {"path.id": "account"}),
    (CHANGES + "/accounts", {"path.id": "changed_account"}),
    (
        READS + "/auth_configs",
        {"path.id": "config", "body.connector_key": "connector", "query.connector_key": "connector"},
    ),
    (CHANGES + "/auth_configs", {"path.id": "changed_config"}),
    (READS + "/webhooks", {"path.id": "webhook", "path.delivery_id": "delivery", "header.x-account-id": "account"}),
    (CHANGES + "/webhooks", {"path.id": "changed_webhook", "path.secret_id": "secret"}),
    (READS + "/events", {"query.account_id": "account"}),
    (
        READS + "/hub/accounts",
        {"path.id": "hub_account", "body.integration_id": "config", "body.provider": "connector"},
    ),
    (CHANGES + "/hub/accounts", {"path.id": "changed_hub_account", "body.integration_id": "config"}),
    (READS + "/hub/connectors", {"path.integration_id": "config", "query.account_id": "hub_account"}),
    (READS + "/hub/connection_attempts", {"path.id": "attempt", "body.integration_id": "config"}),
    (READS + "/hub/guides", {"path.key": "connector", "query.method": "method"}),
    (READS + "/requests", {"path.id": "log"}),
    (CHANGES + "/api_keys", {"path.id": "key"}),
    ("^[A-Z]+ /organizations", {"path.organization": "organization", "path.user": "user"}),
    ("^[A-Z]+ /projects", {"path.project": "project", "path.user": "user"}),
    ("^[A-Z]+ /connectors", {"path.provider": "connector", "path.connector_key": "connector"}),
    (
        "^POST /connect_sessions",
        {"body.provider": "connector", "body.integration_id": "config", "body.account_id": "account"},
    ),
    ("^POST /unified", {"header.x-account-id": "account", "body.path": "path"}),
    ("^POST /actions", {"header.x-account-id": "account", "body.action": "action"}),
    ("^[A-Z]+ /proxy", {"header.x-account-id": "account", "path.path": "path"}),
]
"""Parameters that are drawn, half of the time, from what exists, so that the code behind the 404 is reached. What changes
or deletes has things of its own, so that the others stay good to the end."""

TAKEN = ["2xx", "3xx", 401, 403, 404, 409, 412, 422, 429]
"""What data that fits the schema may meet: not 400, which says that it is malformed."""
RULES = (
    r"^(\w+ /proxy/|POST /(unified/proxy|actions/rpc|connect_sessions|organizations|projects|set_up|welcome)$"
    r"|POST /(auth_configs|api_keys|hub/connection_attempts|me/password|me/second_factor/confirm|incoming_endpoints)$"
    r"|PATCH /(me|project|projects/\{project\}|accounts/\{id\}|auth_configs/\{id\})$"
    r"|POST /(organizations/\{organization\}/members|auth_configs/\{id\}/preflight)$"
    r"|(POST|PATCH) /webhooks(/\{id\})?$|PUT /(connectors/availability/|projects/\{project\}/ip_allowlist)"
    r"|GET /requests/statistics$)"
)
"""Operations with a rule that no JSON Schema can say, so that 400 may meet data that fits theirs: printable text,
contrast of colours, strength of a password, an address that may be called, names that a method takes, two fields
that must agree, a one-time code, a time in the past; and the proxied ones, where the provider has its own."""


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    code: int
    cases: int
    failures: list[str]
    output: str


def configuration(world: World, *, examples: int, seed: int, workers: int) -> str:
    """The TOML that schemathesis reads."""
    value = json.dumps
    out = [
        f"seed = {seed}",
        f"workers = {workers}",
        "continue-on-failure = true",
        'suppress-health-check = ["all"]',
        f"generation = {{max-examples = {examples}, allow-x00 = false, database = 'none', no-shrink = false}}",
        f"[auth.openapi.basic]\nusername = {value(world.project.key)}\npassword = ''",
        f"[auth.openapi.person]\nbearer = {value(world.person)}",
        f"[auth.openapi.session]\napi_key = {value(world.session)}",
    ]
    out += [f"[checks.positive_data_acceptance]\nexpected-statuses = {value(TAKEN)}"]
    out += [f"[dictionaries.{name}]\nvalues = {value(found)}" for name, found in world.ids.items()]
    for names, bound in BINDINGS:
        out.append(f"[[operations]]\ninclude-name-regex = {value(names)}\n[operations.parameters]")
        out += [f'"{name}" = {{dictionary = "{words}", probability = 0.5}}' for name, words in bound.items()]
    out.append(f"[[operations]]\ninclude-name-regex = {value(RULES)}")
    out.append(f"[operations.checks.positive_data_acceptance]\nexpected-statuses = {value([*TAKEN, 400])}")
    return "\n".join(out) + "\n"


def run(
    world: World, folder: Path, *, examples: int, last: bool = False, seed: int = 1, workers: int = 1, **more: Any
) -> Outcome:
    """One pass over all operations, or over those that may end the credential in use."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openapi.json").write_text(json.dumps(document()))
    settings = configuration(world, examples=examples, seed=seed, workers=workers)
    (folder / "schemathesis.toml").write_text(settings)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml")),
        *("run", str(folder / "openapi.json"), "--url", world.hub.url, "--no-color"),
        *("--include-name-regex" if last else "--exclude-name-regex", LAST),
        *(word for name, given in more.items() for word in (f"--{name.replace('_', '-')}", str(given))),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    (folder / "output.txt").write_text(output)
    cases = re.search(r"([\d,]+) generated", output)
    failures = re.findall(r"^_+ (\S.*?) _+$", output, re.MULTILINE)
    return Outcome(done.returncode, int(cases[1].replace(",", "")) if cases else 0, failures, output)
