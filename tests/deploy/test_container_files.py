"""The Containerfile and compose.yaml, as far as they can be checked without an engine."""

from __future__ import annotations

import fnmatch
import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from mooring import __version__, settings
from mooring.cli import app
from mooring.kit.vault import read_key_file
from mooring.settings import FILED
from tests.deploy.containerfile import DEPLOY, ROOT, read_stages

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("mooring")}


def parses(arguments: list[str]) -> None:
    """Fail unless these arguments are a command of ours with options that it has."""
    command: Any = get_command(app)
    while getattr(command, "commands", None):
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
    command.make_context("mooring", list(arguments)).close()


def test_the_image_has_stages_and_the_last_one_is_the_hub() -> None:
    build, runtime, backup, last = read_stages()
    assert (build.name, runtime.name, backup.name, last.name) == ("build", "runtime", "backup", None)
    assert build.base == runtime.base == "${PYTHON}" and backup.base == last.base == "runtime" and not last.steps
    assert re.search(r"^ARG PYTHON=python:3\.1[1-9]-slim$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)


def test_the_image_runs_as_a_fixed_user_who_is_not_root() -> None:
    _, runtime, backup, _ = read_stages()
    assert runtime.last("USER") == backup.last("USER") == "10001:10001"
    made = " ".join(runtime.all("RUN"))
    assert "--uid 10001" in made and "--gid 10001" in made
    after_user = [word for word, _ in runtime.steps[[w for w, _ in runtime.steps].index("USER") :]]
    assert "COPY" not in after_user and "RUN" not in after_user


def test_the_image_says_how_it_is_started_asked_and_stopped() -> None:
    runtime = read_stages()[1]
    assert runtime.last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(runtime.last("ENTRYPOINT") or "") == ["mooring"]
    parses(json.loads(runtime.last("CMD") or ""))
    health = (runtime.last("HEALTHCHECK") or "").partition("CMD ")[2]
    program, flag, code = json.loads(health)
    assert (program, flag) == ("python", "-c") and "/readyz" in code
    compile(code, "healthcheck", "exec")
    assert "org.opencontainers.image.licenses" in (runtime.last("LABEL") or "")


def test_whatever_is_fetched_has_hashes_and_the_pin_of_redis_is_found() -> None:
    build = read_stages()[0]
    for step in build.all("RUN"):
        for command in re.findall(r"pip (?:install|wheel)[^&]*", step):
            local = "--no-deps" in command and ("/tmp/wheel" in command or "--no-build-isolation" in command)
            assert "--require-hashes" in command or local, command
    awk = next(step for step in build.all("RUN") if step.startswith("awk")).partition(" > ")[0]
    lock = subprocess.run(["sh", "-c", awk], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.match(r"redis==\S+ \\\n", lock) and lock.count("==") == 1 and lock.count("--hash=sha256:") >= 1


def test_no_secret_enters_a_layer() -> None:
    allowed = [
        line for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for stage in read_stages():
        for word in ("ENV", "ARG", "LABEL"):
            assert not re.search(
                r"(KEYS?|SECRET|PASSWORD|TOKEN|DATABASE_URL)=", " ".join(stage.all(word)), re.IGNORECASE
            )
        for step in stage.all("COPY"):
            if step.startswith("--from="):
                continue
            for source in step.split()[:-1]:
                assert f"!{source}" in allowed, source
                assert (ROOT / source).exists(), source
    assert (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()[1] == "*"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights_and_a_root_that_is_read_only(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"] and "privileged" not in service
    assert service["image"].endswith(f":{__version__}")
    assert service["stop_grace_period"] == "20s"
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")  # TLS ends at a proxy: nothing else should reach it
    parses(service["command"])


def test_every_setting_of_the_compose_file_exists_and_no_secret_is_one() -> None:
    for service in OURS.values():
        given = {
            name: re.sub(r"\$\{\w+:[?-]([^}]*)\}", r"\1", str(value)) for name, value in service["environment"].items()
        }
        assert settings.unknown(given) == []
        assert not set(given) & (FILED | {"MOORING_MASTER_KEYS"})
        for path in (value for name, value in given.items() if name.endswith("_FILE")):
            assert Path(path).parent == Path("/run/secrets") and Path(path).name in service["secrets"]


def test_what_services_name_is_defined_and_a_profile_is_whole() -> None:
    defined = set(COMPOSE["secrets"])
    for name, service in COMPOSE["services"].items():
        assert set(service.get("secrets", ())) <= defined
        volumes = [volume.partition(":")[0] for volume in service.get("volumes", ())]
        assert set(volumes) <= set(COMPOSE["volumes"]), name
        for other in service.get("depends_on", {}):
            assert set(service["profiles"]) <= set(COMPOSE["services"][other]["profiles"])
    assert {n for n, s in COMPOSE["services"].items() if "scaled" in s["profiles"]} == {
        "web", "worker", "postgres", "valkey",
    }  # fmt: skip
    assert [n for n, s in COMPOSE["services"].items() if "single" in s["profiles"]] == ["hub"]


def test_the_secret_files_are_made_once_and_serve(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    for _ in range(2):
        subprocess.run([str(DEPLOY / "make-secrets"), str(folder)], check=True, capture_output=True)
        made = {path.name: path.read_text() for path in folder.iterdir()}
        assert set(made) == {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o400 for path in folder.iterdir())
    (folder / "database-url").unlink()  # one that is lost is made again from the others
    subprocess.run([str(DEPLOY / "make-secrets"), str(folder)], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    assert len(read_key_file(folder / "master-keys", data_dir=tmp_path / "data")) == 1
    loaded = settings.load(
        {
            "MOORING_DATABASE_URL_FILE": str(folder / "database-url"),
            "MOORING_REDIS_URL_FILE": str(folder / "redis-url"),
        }
    )
    assert f":{made['postgres-password'].strip()}@postgres:" in (loaded.database_url or "")
    password = re.search(r"^requirepass (\S{30,})$", made["valkey.conf"], re.MULTILINE)
    assert password and f":{password[1]}@valkey:" in (loaded.redis_url or "")


def test_the_secrets_of_this_folder_are_not_kept_in_git() -> None:
    patterns = (ROOT / ".gitignore").read_text().splitlines()
    assert any(fnmatch.fnmatch("/deploy/secrets/", pattern) for pattern in patterns)
