"""A folder with a `hub.yaml` of one organization, and the commands that an operator runs on it."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.testing import CliRunner

from mooring.cli import plan
from mooring.cli.identity import audit_app
from mooring.protocol.signing import new_secret
from tests.hub import Hub
from tests.rows import query

COMMANDS = typer.Typer()  # only these: the runner makes the whole command line anew for each run
plan.attach(COMMANDS)
COMMANDS.add_typer(audit_app, name="audit")


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """Where somebody writes the file and runs the commands, in this process: the imports of a new one take seconds."""

    hub: Hub
    folder: Path
    organization: str = field(default_factory=lambda: f"Org {secrets.token_hex(4)}")
    env: dict[str, str] = field(default_factory=dict)
    own: bool = False  # whether the commands see the connectors of the tests

    @property
    def path(self) -> Path:
        return self.folder / "hub.yaml"

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def put(self, *projects: dict[str, Any], **more: Any) -> None:
        """Write a file with these projects of the organization."""
        organizations = [{"name": self.organization, "projects": list(projects)}]
        self.write(yaml.safe_dump({"version": 1, "organizations": organizations, **more}, sort_keys=False))

    def secret(self, name: str, value: str | None = None) -> dict[str, str]:
        """A reference, with its value in the environment of the commands."""
        self.env[name] = value or f"secret-{secrets.token_hex(12)}"
        return {"env": name}

    def hook_secret(self, name: str) -> dict[str, str]:
        return self.secret(name, new_secret())

    def run(self, *arguments: str, code: int | None = 0, answer: str | None = None) -> Done:
        env = {**self.hub.env, "MOORING_DATABASE_URL": self.hub.database_url, **self.env}
        if not self.own:
            env["MOORING_CONNECTORS_DIR"] = ""  # to read them takes most of the time
        result = CliRunner().invoke(COMMANDS, list(arguments), env=env, input=answer)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        done = Done(result.exit_code, result.stdout, result.stderr)
        for value in self.env.values():
            assert value not in done.out + done.err
        if code is not None:
            assert done.code == code, done.out + done.err
        return done

    def plan(self, *more: str, code: int = 2) -> str:
        return self.run("plan", "-f", str(self.path), *more, code=code).out

    def apply(self, *more: str) -> str:
        return self.run("apply", "-f", str(self.path), *more).out

    def refused(self, *more: str) -> str:
        """What `plan` says is wrong, with the file's name cut to its last part."""
        return self.run("plan", "-f", str(self.path), *more, code=1).err.replace(str(self.path), "hub.yaml")

    def changes(self, *more: str) -> list[dict[str, Any]]:
        done = self.run("plan", "-f", str(self.path), "--json", *more, code=None)
        assert done.code in (0, 2), done.err
        found: list[dict[str, Any]] = json.loads(done.out)["changes"]
        assert done.code == (2 if found else 0)
        return found

    def applied(self) -> list[dict[str, Any]]:
        """Apply, and what was changed."""
        found = json.loads(self.run("apply", "-f", str(self.path), "--json").out)
        assert found["applied"] is bool(found["changes"])
        changes: list[dict[str, Any]] = found["changes"]
        return changes

    def project(self, name: str = "app") -> str:
        """The id of a project."""
        rows = query(
            self.hub,
            "SELECT p.id FROM projects p JOIN organizations o ON o.id = p.organization_id "
            "WHERE o.name = :o AND p.name = :p AND p.deleted_at IS NULL",
            o=self.organization,
            p=name,
        )
        return str(rows[0][0])
