"""`plan`, `apply` and `export` against a hub that runs: what they change, what they say, and what they never say."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mooring.connectors.yaml_source import read_yaml
from mooring.protocol.signing import new_secret
from tests.hub import Hub, Project
from tests.plan.desk import Desk
from tests.rows import query
from tests.sandbox.harness import Sandbox

DOCS = Path(__file__).resolve().parents[2] / "docs"
HIBOB = {"connector": "hibob", "method": "service_user", "name": "HiBob"}


def example() -> str:
    text = (DOCS / "plan.md").read_text()
    found = re.search(r"<!-- a test applies it -->\n```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def stored(hub: Hub, *tables: str) -> str:
    return "\n".join(str(row) for table in tables for row in query(hub, f"SELECT * FROM {table}"))


def test_the_example_is_applied_once_and_its_secrets_are_nowhere_in_clear(desk: Desk) -> None:
    desk.write(example().replace("name: Acme\n    projects", f"name: {desk.organization}\n    projects"))
    hook = new_secret()
    (desk.folder / "webhook-secret").write_text(hook + "\n")
    desk.secret("HUBSPOT_CLIENT_SECRET")
    shown = desk.plan()
    assert shown.endswith("5 to create\n")
    assert "setup.client_secret: secret set" in shown
    assert not query(desk.hub, "SELECT 1 FROM organizations WHERE name = :n", n=desk.organization)

    assert desk.apply().endswith("done\n")
    entries = query(desk.hub, "SELECT count(*) FROM audit_entries")
    assert desk.plan(code=0) == desk.apply() == "nothing to do\n"
    assert query(desk.hub, "SELECT count(*) FROM audit_entries") == entries
    who = query(desk.hub, "SELECT actor_kind FROM audit_entries WHERE project_id = :p", p=desk.project("production"))
    assert {kind for (kind,) in who} == {"command"} and len(who) >= 7

    everything = stored(desk.hub, "auth_configs", "webhook_secrets", "audit_entries", "events", "changes")
    assert "2f0e7c1a" in everything
    assert desk.env["HUBSPOT_CLIENT_SECRET"] not in everything and hook not in everything
    output = desk.run("export", "--project", desk.project("production"))
    assert hook not in output.out


def test_what_is_exported_plans_to_nothing_and_rebuilds_a_project(desk: Desk) -> None:
    desk.put(
        {
            "name": "app",
            "settings": {"display_name": "no", "accent_dark": "#ffd0a0", "return_urls": ["https://a.example/x"]},
            "unavailable": {"slack": "later: 1e3"},
            "auth_configs": [
                HIBOB,
                {
                    "connector": "hubspot",
                    "method": "oauth2",
                    "name": "007",
                    "pin": "1.x.x",
                    "active": False,
                    "setup": {"client_id": "12:30", "client_secret": desk.secret("A_SECRET")},
                },
            ],
            "webhooks": [
                {"url": "https://hooks.example/a?token=t0ken", "secrets": [desk.hook_secret("HOOK")]},
                {"url": "https://hooks.example/b", "enabled": False, "secrets": [desk.hook_secret("HOOK_B")]},
            ],
        }
    )
    desk.apply()
    target = desk.folder / "out.yaml"
    desk.run("export", "--project", desk.project(), "-o", str(target))
    text = target.read_text()
    assert "t0ken" not in text
    assert text.startswith("# yaml-language-server: $schema=http")
    assert "exists" in desk.run("export", "-o", str(target), code=1).err
    jsonschema.validate(yaml.safe_load(text), json.loads((DOCS / "hub.schema.json").read_text()))

    wanted = re.findall(r"^#   ([A-Z0-9_]+)$", text, re.MULTILINE)
    values = {"CLIENT_SECRET": desk.env["A_SECRET"], "WEBHOOK_1_URL": "https://hooks.example/a?token=t0ken"}
    values |= {"WEBHOOK_1_SECRET": desk.env["HOOK"], "WEBHOOK_2_SECRET": desk.env["HOOK_B"]}
    desk.env = {name: next(v for end, v in values.items() if name.endswith(end)) for name in wanted}
    assert len(wanted) == 4
    desk.write(text)
    assert desk.plan(code=0) == "nothing to do\n"
    desk.write(text.replace("name: app", "name: copy"))
    desk.apply()
    assert desk.plan(code=0).endswith("project " + desk.organization + " / app\nnothing to do\n")


def test_each_kind_of_change_is_shown_done_and_then_done(desk: Desk) -> None:
    config: dict[str, Any] = {
        "connector": "hubspot",
        "method": "oauth2",
        "name": "HubSpot",
        "setup": {"client_id": "one", "client_secret": desk.secret("S")},
    }
    hook: dict[str, Any] = {"url": "https://hooks.example/a", "secrets": [desk.hook_secret("H1")]}
    project: dict[str, Any] = {"name": "app", "auth_configs": [config], "webhooks": [hook]}
    desk.put(project)
    desk.apply()

    def step(*expected: tuple[str, str, Any, Any]) -> None:
        """Applying changes exactly these fields (kind, field, old, new)."""
        desk.put(project)
        changes = [(c["kind"], f) for c in desk.applied() for f in c["fields"]]
        found = [(kind, f["field"], f.get("old"), f.get("new", f.get("secret"))) for kind, f in changes]
        assert sorted(found, key=str) == sorted(expected, key=str)

    project["log_days"], project["ip_allowlist"] = 12, ["192.0.2.1"]
    step(("project", "log_days", 90, 12), ("project", "ip_allowlist", [], ["192.0.2.1"]))
    project["settings"] = {"allowed_origins": ["https://a.example/", "https://a.example"], "assistants": True}
    step(
        ("project", "settings.allowed_origins", [], ["https://a.example"]),
        ("project", "settings.assistants", False, True),
    )
    project["settings"] = {"allowed_origins": None}
    step(("project", "settings.allowed_origins", ["https://a.example"], []))
    (desk.folder / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    project["settings"] = {"logo": {"file": "logo.png"}}
    desk.put(project)
    assert "settings.logo: (none) → image " in desk.plan()
    desk.apply()
    assert desk.changes() == []
    project["unavailable"] = {"slack": "not  yet"}
    step(("project", "unavailable", {}, {"slack": "not yet"}))
    project["unavailable"] = {}
    step(("project", "unavailable", {"slack": "not yet"}, {}))
    config |= {"scopes": ["oauth"], "active": False, "pin": "1.0.x"}
    step(
        ("auth_config", "scopes", None, ["oauth"]),
        ("auth_config", "active", True, False),
        ("auth_config", "pin", "latest", "1.0.x"),
    )
    config["scopes"] = None
    config["setup"] = {"client_id": "two"}  # what is left out stays
    step(("auth_config", "scopes", ["oauth"], None), ("auth_config", "setup.client_id", "one", "two"))
    desk.secret("S")
    config["setup"] = {"client_secret": {"env": "S"}}
    step(("auth_config", "setup.client_secret", None, "changes"))
    config["was"], config["name"] = "HubSpot", "CRM"
    step(("auth_config", "name", "HubSpot", "CRM"))
    second = {**HIBOB, "connector": "hubspot", "method": "private_app", "name": "Private", "default": True}
    project["auth_configs"] = [{**config, "default": False}, second]
    step(
        ("auth_config", "default", True, False),
        *(("auth_config", k, None, second[k]) for k in ("method", "name", "default")),
    )
    hook |= {"events": ["account.error", "account.created"], "description": "d", "enabled": False}
    step(
        ("webhook", "events", [], ["account.error", "account.created"]),
        ("webhook", "description", None, "d"),
        ("webhook", "enabled", True, False),
    )
    hook["events"] = ["account.created", "account.error"]
    step()
    hook |= {"was": hook["url"], "url": "https://hooks.example/b"}
    step(("webhook", "url", "https://hooks.example/a", "https://hooks.example/b"))
    hook["secrets"] = [{"env": "H1"}, desk.hook_secret("H2")]
    step(("webhook", "secrets.1", None, "set"))
    project |= {"was": "app", "name": "renamed"}
    step(("project", "name", "app", "renamed"))
    step()


def test_only_prune_deletes_after_a_yes_and_a_deleted_project_comes_back(desk: Desk) -> None:
    hook = {"url": "https://hooks.example/a", "secrets": [desk.hook_secret("H1"), desk.hook_secret("H2")]}
    other = {**HIBOB, "method": "api_token", "name": "Other"}
    desk.put({"name": "app", "auth_configs": [HIBOB, other], "webhooks": [hook]}, {"name": "old"})
    desk.apply()
    old = desk.project("old")
    desk.put({"name": "app", "auth_configs": [], "webhooks": [{**hook, "secrets": [{"env": "H2"}]}]})
    assert desk.plan(code=0).count("not in the file, stays: ") == 4
    desk.apply()
    shown = [(c["action"], c["kind"], c["path"][-1]) for c in desk.changes("--prune")]
    assert shown[:2] == [("delete", "auth_config", "Other"), ("delete", "auth_config", "HiBob")]
    assert ("delete", "project", "old") in shown and len(shown) == 4

    done = desk.run("apply", "-f", str(desk.path), "--prune", code=1, answer="n\n")
    assert "Delete 4?" in done.err
    assert len(desk.changes("--prune")) == 4
    desk.run("apply", "-f", str(desk.path), "--prune", code=0, answer="y\n")
    assert desk.plan("--prune", code=0) == "nothing to do\n"

    desk.put({"name": "old", "log_days": 5})
    assert "^ restore project" in desk.plan()
    desk.apply()
    assert desk.project("old") == old
    desk.put({"name": "old"})
    desk.apply("--prune", "--yes")
    assert not query(desk.hub, "SELECT 1 FROM projects WHERE id = :p AND deleted_at IS NOT NULL", p=old)


def test_everything_that_is_wrong_is_told_with_its_place(desk: Desk) -> None:
    desk.write("version: 1\norganisations: []\n")
    assert desk.refused() == "mooring: hub.yaml:2:1: unknown key `organisations`; did you mean `organizations`?\n"
    desk.write("version: 1\norganizations:\n  - name: A\n    projects:\n      - name: p\n        webhook: []\n")
    assert "hub.yaml:6:9: unknown key `webhook`; did you mean `webhooks`?" in desk.refused()
    desk.own = True
    desk.write(
        f"""\
version: 1
organizations:
  - name: {desk.organization}
    projects:
      - name: app
        log_days: 0
        settings: {{accent_light: "#ffffff", default_language: xx}}
        auth_configs:
          - {{connector: hubspot, method: oauth2, name: A, setup: {{client_id: x, client_secret: plain}}}}
          - {{connector: hubspot, method: oauth2, name: B, setup: {{client_id: x, client_secret: {{env: MISSING_ONE}}}}}}
          - {{connector: hubspot, method: oauth2, name: C, setup: {{client_idd: x}}}}
          - {{connector: nonsense, method: oauth2, name: D}}
          - {{connector: hubspot, method: oauth3, name: E, setup: {{client_secret: {{file: missing.txt}}}}}}
          - {{connector: hubspot, method: oauth2, name: C, setup: {{}}}}
          - {{connector: hibob, method: api_token, name: F, default: false}}
        webhooks:
          - url: https://hooks.example/
connectors:
  - {{key: nonsense}}
  - {{key: hibob}}
  - {{key: limited, version: 9.9.9}}
  - {{key: places, sha256: {"0" * 64}}}
"""
    )
    said = desk.refused()
    for part in (
        ":7:34: accent_light: #ffffff has a contrast",
        ":7:63: default_language: must be one of",
        ":9:96: `client_secret` is secret: write {env: NAME}",
        ":10:102: the environment variable MISSING_ONE is not set",
        ":11:79: setup.client_idd is unknown",
        ":12:25: no connector 'nonsense'",
        ":13:42: the connector 'hubspot' has no auth method 'oauth3'",
        ":13:89: missing.txt can't be read",
        ":14:13: the same stands in line 11",
        ":15:69: a connector with auth configs always has a default one",
        ":17:13: a new endpoint needs `secrets`",
        ":19:11: there is no connector `nonsense`",
        ":20:11: `hibob` is shipped",
        ":21:29: `limited` is there as",
        ":22:27: the file of `places`",
    ):
        assert part in said, f"{part}\n{said}"
    assert "plain\n" not in said

    # What only the services know is told by the rehearsal, all of it at once.
    desk.put(
        {"name": "app", "log_days": 0, "webhooks": [{"url": "http://hooks.example/", "secrets": [desk.secret("W")]}]}
    )
    said = desk.refused()
    assert "log_days: must be from 1 to 730" in said and "url: must be https" in said
    assert not query(desk.hub, "SELECT 1 FROM organizations WHERE name = :n", n=desk.organization)
    assert "No such option" in desk.run("plan", "--nonsense", code=1).err
    assert "log_days" in desk.run("apply", "-f", str(desk.path), code=1).err


def test_two_of_one_name_are_told_apart_by_id(desk: Desk) -> None:
    desk.put({"name": "app", "auth_configs": [{**HIBOB, "name": "A"}, {**HIBOB, "name": "B"}]})
    desk.apply()
    rows = query(desk.hub, "SELECT id FROM auth_configs WHERE project_id = :p AND name = 'B'", p=desk.project())
    desk.put({"name": "app", "auth_configs": [{**HIBOB, "id": rows[0][0], "name": "A"}]})
    assert [c["action"] for c in desk.changes()] == ["change"]
    desk.apply()
    desk.put({"name": "app", "auth_configs": [{**HIBOB, "name": "A"}]})
    assert "there are 2 of this name; say which one is meant with `id`" in desk.refused()
    desk.write(desk.run("export", "--project", desk.project()).out)
    assert desk.path.read_text().count("  id: ") == 2
    assert desk.plan(code=0) == "nothing to do\n"


def test_own_connectors_are_listed_with_their_hash(desk: Desk) -> None:
    desk.own = True
    listed = read_yaml(desk.run("export").out).data["connectors"]
    assert {"limited", "places", "signing"} <= {each["key"] for each in listed}
    desk.put(connectors=listed)
    assert [c["kind"] for c in desk.changes()] == ["organization"]


def test_a_running_hub_uses_what_was_applied_within_a_second(desk: Desk, project: Project, provider: Sandbox) -> None:
    desk.organization = query(
        desk.hub,
        "SELECT o.name FROM organizations o JOIN projects p ON p.organization_id = o.id WHERE p.id = :p",
        p=project.id,
    )[0][0]
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url}, name="Sandbox")
    account = project.link(config, {"api_key": "sandbox-key-acme"})
    assert project.proxy(account, path="/api/me").status_code == 200
    entry = {"connector": "sandbox", "method": "api_key", "name": "Sandbox"}
    for active, status in ((False, 412), (True, 200)):
        desk.put({"name": "test", "auth_configs": [{**entry, "active": active}]})
        desk.apply()
        deadline = time.monotonic() + 1
        while project.proxy(account, path="/api/me").status_code != status:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    desk.put({"name": "test", "auth_configs": []})
    assert "this auth config has linked accounts" in desk.refused("--prune")


@pytest.mark.parametrize("wrong", ["organizations: [{name: x, extra: 1}]", "organizations: [{projects: []}]"])
def test_the_schema_refuses_what_the_command_refuses(wrong: str, tmp_path: Path) -> None:
    schema = json.loads((DOCS / "hub.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(example()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(f"version: 1\n{wrong}"), schema)
