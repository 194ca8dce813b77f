"""The command line, as processes: help, keys, projects, connectors, migrations."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mooring import __version__
from mooring.cli import app
from mooring.identity.scopes import DEFAULT, SCOPES
from tests.command import mooring

GOOD = """\
connector: inventory
title: Inventory
category: other
base_url: https://inventory.example.com
auth:
  api_key:
    bearer: "${api_key}"
    fields: {api_key: {secret: true}}
"""


def commands(command: click.Command, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    below = [c for name, sub in getattr(command, "commands", {}).items() for c in commands(sub, *path, name)]
    return [(path, command), *below]


ALL = commands(get_command(app))


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) or "mooring" for path, _ in ALL])
def test_help_tells_of_every_option_argument_and_command(path: tuple[str, ...], command: click.Command) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    shown = " ".join(done.output.split())
    assert command.help and command.help.split(".")[0] in shown
    for parameter in command.params:
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name
        assert name and name.casefold() in shown.casefold()
        told = getattr(parameter, "help", None)
        assert told and told in shown, f"{name} has no help"
    for name, below in getattr(command, "commands", {}).items():
        assert re.search(rf"\b{name} +{re.escape((below.help or '?')[:16])}", shown), name


def test_help_of_the_process(tmp_path: Path) -> None:
    for arguments in ((), ("--help",)):
        done = mooring(tmp_path, *arguments)
        assert "Usage: mooring" in done.stdout + done.stderr and "Traceback" not in done.stderr
        assert all(name in done.stdout + done.stderr for name in ("serve", "demo", "sandbox", "migrate"))


def test_version(tmp_path: Path) -> None:
    assert mooring(tmp_path, "--version").stdout == f"mooring {__version__}\n"


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    done = mooring(tmp_path, "srve")
    assert done.returncode == 2 and "srve" in done.stderr and "Traceback" not in done.stderr


def test_migrate_twice_applies_once(tmp_path: Path) -> None:
    first, second = mooring(tmp_path, "migrate"), mooring(tmp_path, "migrate")
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.startswith("applied: 0001")
    assert second.stdout == "the schema is up to date\n"


def test_migrate_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    first = mooring(tmp_path, "migrate", MOORING_DATABASE_URL=postgres_url)
    second = mooring(tmp_path, "migrate", MOORING_DATABASE_URL=postgres_url)
    assert first.stdout.startswith("applied: 0001"), first.stderr
    assert second.stdout == "the schema is up to date\n"


def test_migrate_refuses_a_schema_of_the_future(tmp_path: Path) -> None:
    import sqlite3

    mooring(tmp_path, "migrate")
    with sqlite3.connect(tmp_path / "data" / "mooring.db") as database:
        database.execute("UPDATE mooring_version SET version_num = '9999'")
    database.close()
    done = mooring(tmp_path, "migrate")
    assert done.returncode == 2
    assert done.stderr.startswith("mooring: MOORING_DATABASE_URL: the database has schema 9999, newer than")
    assert done.stderr.count("\n") == 1


def rows(folder: Path, *arguments: str) -> list[list[str]]:
    done = mooring(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_the_life_of_an_api_key(tmp_path: Path) -> None:
    made = mooring(tmp_path, "api-key", "create", "--label", "ci")
    assert made.returncode == 0, made.stderr
    key = made.stdout.removesuffix("\n")  # alone on standard output: KEY=$(mooring api-key create)
    assert (match := re.fullmatch(r"v1\.local\.([A-Za-z0-9]+)\.[A-Za-z0-9_-]{43}", key))
    assert key not in made.stderr and match[1] in made.stderr
    ((id, project, label, state, used, scopes),) = rows(tmp_path, "api-key", "list")
    assert (id, label, state, used) == (match[1], "ci", "enabled", "never used")
    assert scopes.split(",") == list(DEFAULT)
    assert rows(tmp_path, "project", "list") == [[project, "default", "default"]]
    assert mooring(tmp_path, "api-key", "disable", id).stdout == f"disabled {id}\n"
    assert rows(tmp_path, "api-key", "list")[0][3] == "disabled"
    assert mooring(tmp_path, "api-key", "enable", id).stdout == f"enabled {id}\n"
    assert rows(tmp_path, "api-key", "list")[0][3] == "enabled"
    assert mooring(tmp_path, "api-key", "revoke", id).stdout == f"revoked {id}\n"
    assert rows(tmp_path, "api-key", "list") == []
    for verb in ("revoke", "disable", "enable"):
        gone = mooring(tmp_path, "api-key", verb, id)
        assert gone.returncode == 2 and id in gone.stderr and gone.stderr.count("\n") == 1
    assert secret_is_nowhere(tmp_path, key)


def secret_is_nowhere(folder: Path, key: str) -> bool:
    secret = key.rpartition(".")[2].encode()
    return all(secret not in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_scopes_are_chosen_by_name(tmp_path: Path) -> None:
    mooring(tmp_path, "api-key", "create", "--scopes", "unified:read, platform:read")
    assert rows(tmp_path, "api-key", "list")[0][5] == "platform:read,unified:read"
    wrong = mooring(tmp_path, "api-key", "create", "--scopes", "unified:reed")
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert "unified:reed" in wrong.stderr and all(scope in wrong.stderr for scope in SCOPES)


def test_with_several_projects_a_key_needs_one_by_name(tmp_path: Path) -> None:
    one, two = (mooring(tmp_path, "project", "create", name).stdout.strip() for name in ("Acme One", "two"))
    assert re.fullmatch(r"acme-one-\d{5}", one)
    unclear = mooring(tmp_path, "api-key", "create")
    assert unclear.returncode == 2 and "--project" in unclear.stderr and unclear.stderr.count("\n") == 1
    assert mooring(tmp_path, "api-key", "create", "--project", "two").returncode == 0
    assert mooring(tmp_path, "api-key", "create", "--project", one).returncode == 0
    assert [row[1] for row in rows(tmp_path, "api-key", "list")] == [two, one]
    assert [row[1] for row in rows(tmp_path, "api-key", "list", "--project", one)] == [one]
    absent = mooring(tmp_path, "api-key", "list", "--project", "three")
    assert absent.returncode == 2 and "'three'" in absent.stderr


def test_projects_of_several_organizations(tmp_path: Path) -> None:
    first = mooring(tmp_path, "project", "create", "same", "--organization", "a").stdout.strip()
    second = mooring(tmp_path, "project", "create", "same", "--organization", "b").stdout.strip()
    third = mooring(tmp_path, "project", "create", "other", "--organization", "a").stdout.strip()
    assert rows(tmp_path, "project", "list") == [
        [first, "same", "a"],
        [second, "same", "b"],
        [third, "other", "a"],
    ]
    unclear = mooring(tmp_path, "api-key", "create", "--project", "same")
    assert unclear.returncode == 2 and first in unclear.stderr and second in unclear.stderr


def test_connectors_list_has_the_catalogue_and_the_own_folder(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text(GOOD)
    done = mooring(tmp_path, "connectors", "list", MOORING_CONNECTORS_DIR=str(tmp_path))
    listed = {row[0]: row for row in (line.split("\t") for line in done.stdout.splitlines())}
    assert {"hubspot", "redmine", "sandbox"} < set(listed)
    assert listed["inventory"] == ["inventory", "Inventory", "other", "api_key", "1.0.0"]


def test_connectors_show_tells_fields_scopes_and_addresses(tmp_path: Path) -> None:
    shown = mooring(tmp_path, "connectors", "show", "sandbox").stdout
    assert "Template(" not in shown
    for text in (
        "Sandbox",
        "api_key: API key",
        "end user gives: api_key (API key) [secret]",
        "operator gives: client_secret",
        "PKCE: S256",
        "scope: employees:read",
        "tested with: GET /api/me",
        "base URL: ${sandbox_url",
        "authorize: ${sandbox_url",
        "token: ${sandbox_url",
    ):
        assert text in shown, text


def test_connectors_show_of_an_unknown_key(tmp_path: Path) -> None:
    done = mooring(tmp_path, "connectors", "show", "hubspott")
    assert done.returncode == 2 and "'hubspott'" in done.stderr and done.stderr.count("\n") == 1


def test_connectors_check_of_the_catalogue(tmp_path: Path) -> None:
    done = mooring(tmp_path, "connectors", "check")
    assert done.returncode == 0 and re.fullmatch(r"\d+ connectors are fine\n", done.stdout)


def test_connectors_check_names_file_line_and_column_of_every_fault(tmp_path: Path) -> None:
    good, shape, template = (tmp_path / f"{name}.yaml" for name in ("inventory", "shape", "template"))
    good.write_text(GOOD)
    shape.write_text(GOOD.replace("inventory", "shape", 1).replace("title", "titel"))
    template.write_text(GOOD.replace("inventory", "template", 1).replace("{api_key}", "{api_kye}"))
    done = mooring(tmp_path, "connectors", "check", str(good), str(shape), str(template))
    assert done.returncode == 2
    assert done.stdout == f"{good}: inventory is fine (api_key)\n"
    faults = done.stderr.splitlines()
    assert any(line.startswith(f"{shape}:2:1: ") and "titel" in line for line in faults), faults
    assert any(line.startswith(f"{template}:7:") and "api_kye" in line for line in faults), faults


def test_connectors_check_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = mooring(tmp_path, "connectors", "check", str(tmp_path / "absent.yaml"))
    assert (done.returncode, done.stderr) == (2, f"mooring: {tmp_path}/absent.yaml: there is no such file\n")


def test_a_wrong_setting_stops_every_command(tmp_path: Path) -> None:
    for arguments in (("migrate",), ("api-key", "list"), ("project", "list"), ("connectors", "list")):
        done = mooring(tmp_path, *arguments, MOORING_LOG_LEVEL="loud")
        assert done.returncode == 2
        assert done.stderr.startswith("mooring: MOORING_LOG_LEVEL ") and done.stderr.count("\n") == 1
