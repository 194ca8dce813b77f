"""What the pages say and do, over HTTP: conditions of the menus, forms, secrets that never show, the audit log."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from mooring.identity import service
from mooring.identity.scopes import SCOPES
from tests.dashboard.people import Crew, done, shown_secret, text
from tests.flows.linking import link, on_database, sandbox_config, sandbox_consent, wait_until
from tests.hub import Hub, Project, ok, refused
from tests.mcp.oauth import Program, browser_of, linked, resource, tools_of
from tests.rows import query
from tests.sandbox.harness import Sandbox


def project_of(crew: Crew) -> Project:
    """The crew's project through an API key."""

    async def make(tx: Any) -> str:
        return (await service.create_api_key(tx, crew.project, "tests", list(SCOPES))).secret

    return Project(crew.hub, crew.project, on_database(crew.hub, make))


def reading(crew: Crew) -> Any:
    """Makes a key of the crew's project that reads the platform, and no connectors."""

    async def make(tx: Any) -> str:
        return (await service.create_api_key(tx, crew.project, "reader", ["platform:read"])).secret

    return make


def menu(page: str, config: str) -> list[str]:
    """The entries of a row's menu, in order."""
    inside = page.split(f'id="m-{config}"')[1].split("</div>")[0]
    return [re.sub(r"<[^>]+>", "", item) for item in re.findall(r'class="item[^>]*>(.*?)</(?:a|button)>', inside)]


READ = ["Edit", "View logs", "View accounts", "Copy auth config ID", "Copy connector key"]


class TestMenus:
    """Rows 003-9…11 and 002-20…22."""

    def test_a_single_config_can_be_deleted_and_not_made_default(self, crew: Crew) -> None:
        only = project_of(crew).config("github", "token")
        assert menu(crew.admin.get(crew.base + "/connectors").text, only["id"]) == [*READ, "Disable", "Delete"]

    def test_of_several_the_default_can_not_be_deleted_and_another_can_be_made_default(self, crew: Crew) -> None:
        project = project_of(crew)
        first, second = project.config("github", "token"), project.config("github", "token")
        page = crew.admin.get(crew.base + "/connectors").text
        assert menu(page, first["id"]) == [*READ, "Disable"]
        assert menu(page, second["id"]) == [*READ, "Make default", "Disable", "Delete"]
        done(crew.admin.post(f"{crew.base}/connectors/{second['id']}/default"))
        page = crew.admin.get(crew.base + "/connectors").text
        assert menu(page, second["id"]) == [*READ, "Disable"]
        assert menu(page, first["id"]) == [*READ, "Make default", "Disable", "Delete"]
        assert crew.admin.post(f"{crew.base}/connectors/{second['id']}/delete").status_code == 409
        done(crew.admin.post(f"{crew.base}/connectors/{first['id']}/delete"))

    def test_a_config_with_accounts_can_not_be_deleted(self, crew: Crew, provider: Sandbox) -> None:
        project = project_of(crew)
        config = sandbox_config(project, provider, "api_key")
        project.link(config, {"api_key": "sandbox-key-acme"})
        assert menu(crew.admin.get(crew.base + "/connectors").text, config["id"]) == [*READ, "Disable"]
        assert crew.admin.post(f"{crew.base}/connectors/{config['id']}/delete").status_code == 409

    def test_a_disabled_config_offers_to_enable_it(self, crew: Crew) -> None:
        config = project_of(crew).config("github", "token", active=False)
        assert menu(crew.admin.get(crew.base + "/connectors").text, config["id"]) == [*READ, "Enable", "Delete"]

    def test_who_may_not_change_sees_no_change(self, crew: Crew) -> None:
        config = project_of(crew).config("github", "token")
        page = crew.member.get(crew.base + "/connectors").text
        assert menu(page, config["id"]) == ["View", *READ[1:]]
        assert "Add a connector" not in page


def test_disabling_warns_with_the_number_of_accounts_and_enabling_restores(crew: Crew, provider: Sandbox) -> None:
    project = project_of(crew)
    config = sandbox_config(project, provider, "api_key")
    accounts = [project.link(config, {"api_key": "sandbox-key-acme"}, owner=f"o{n}") for n in range(2)]
    warning = text(crew.admin.part(f"{crew.base}/connectors/{config['id']}/disable"))
    assert "2 linked accounts become inactive" in warning
    done(crew.admin.post(f"{crew.base}/connectors/{config['id']}/disable"))
    assert project.account(accounts[0])["status"] == "inactive"
    assert project.proxy(accounts[0], path="/api/me").status_code == 412
    done(crew.admin.post(f"{crew.base}/connectors/{config['id']}/enable"))
    assert project.account(accounts[0])["status"] == "active"


def test_a_connector_is_set_up_by_the_form_and_its_secret_never_shows(crew: Crew, provider: Sandbox) -> None:
    at = crew.base + "/connectors"
    form = {
        "method": "oauth2",
        "setup.oauth2.client_id": "sandbox-client",
        "setup.oauth2.client_secret": "a-very-secret-secret",
        "setup.oauth2.sandbox_url": provider.url,
        "setup.api_key.sandbox_url": "http://ignored.example",
        "default": "yes",
    }
    assert crew.admin.post(f"{at}/new/sandbox", {**form, "setup.oauth2.client_id": ""}).status_code == 400
    done(crew.admin.post(f"{at}/new/sandbox", form), at)
    config = project_of(crew).http.get("/auth_configs").json()["data"][0]
    assert config["default"] and config["active"] and config["setup"]["client_id"] == "sandbox-client"
    page = crew.admin.get(f"{at}/{config['id']}").text
    assert "a-very-secret-secret" not in page and "Stored; leave empty to keep it" in page
    assert f"/connect/oauth2/sandbox/callback" in page  # noqa: F541
    done(crew.admin.post(f"{at}/{config['id']}", {"name": "Renamed", "setup.oauth2.client_id": "other"}))
    changed = project_of(crew).http.get(f"/auth_configs/{config['id']}").json()
    assert changed["name"] == "Renamed" and changed["secrets_set"] and changed["setup"]["client_id"] == "other"


def test_an_api_key_is_shown_once_and_works_until_it_is_disabled(crew: Crew) -> None:
    form = {"label": "backend", "scope": ["platform:read"], "days": "30"}
    assert crew.admin.post(crew.base + "/api-keys", {**form, "days": "7x"}).status_code == 400
    secret = shown_secret(crew.admin.post(crew.base + "/api-keys", form))
    project = Project(crew.hub, crew.project, secret)
    assert project.http.get("/accounts").status_code == 200
    assert project.http.get("/auth_configs").status_code == 403
    page = crew.viewer.get(crew.base + "/api-keys").text
    assert "backend" in page and "in 29 d" in page and secret not in page and secret.rpartition(".")[2] not in page
    key = query(crew.hub, "SELECT id FROM api_keys WHERE project_id = :p", p=crew.project)[0][0]
    done(crew.admin.post(f"{crew.base}/api-keys/{key}/disable"))
    wait_for_status(project, 401)
    done(crew.admin.post(f"{crew.base}/api-keys/{key}/enable"))
    wait_for_status(project, 200)


def wait_for_status(project: Project, status: int) -> None:
    from tests.flows.linking import wait_until

    wait_until(lambda: project.http.get("/accounts").status_code == status)


@pytest.mark.parametrize("entries", ["10.0.0.0/8", "192.0.2.1", "198.51.100.1-198.51.100.9", "2001:db8::/32"])
def test_keys_are_refused_from_addresses_that_are_not_on_the_list(crew: Crew, entries: str) -> None:
    project = project_of(crew)
    at = crew.base + "/settings/ip-allowlist"
    done(crew.admin.post(at, {"entries": entries}))
    wait_for_status(project, 403)
    assert project.proxy("x", path="/").json()["errorCode"] == "AddressNotAllowedError"
    done(crew.admin.post(at, {"entries": entries + "\n127.0.0.0-127.0.0.9"}))
    wait_for_status(project, 200)


def test_a_list_of_addresses_with_faults_names_them_all(crew: Crew) -> None:
    answer = crew.admin.post(crew.base + "/settings/ip-allowlist", {"entries": "10.0.0.1/8\nfoo\n9.9.9.9-1.1.1.1\n"})
    assert answer.status_code == 400
    assert all(part in text(answer) for part in ("10.0.0.1/8", "foo", "9.9.9.9-1.1.1.1"))


def test_a_project_is_renamed_deleted_and_restored(crew: Crew) -> None:
    project = project_of(crew)
    done(crew.admin.post(crew.base + "/rename", {"name": "Another name"}))
    assert crew.owner.post(crew.base + "/delete", {"name": "wrong"}).status_code == 400
    done(crew.owner.post(crew.base + "/delete", {"name": "Another name"}))
    wait_for_status(project, 401)
    assert crew.admin.get(crew.base + "/connectors").status_code == 404
    assert "Another name" in crew.owner.get("/dashboard/projects").text
    done(crew.owner.post(crew.base + "/restore"))
    wait_for_status(project, 200)


def test_a_failed_call_is_explained_and_can_be_copied_and_exported(crew: Crew, provider: Sandbox) -> None:
    project = project_of(crew)
    account = link(project, sandbox_config(project, provider), sandbox_consent(provider))
    project.proxy(account, path="/api/nothing")
    page = crew.viewer.get(f"{crew.base}/logs?result=failed").text
    entry = re.findall(r'/logs/([0-9a-f-]{36})"', page)[0]
    detail = text(crew.viewer.get(f"{crew.base}/logs/{entry}"))
    assert "The provider has nothing at this address." in detail
    assert f"x-account-id: {account}" in detail and "$API_KEY" in detail
    exported = crew.viewer.get(f"{crew.base}/logs/export?as=csv")
    rows = list(csv.DictReader(io.StringIO(exported.text)))
    assert [r["status"] for r in rows if r["id"] == entry] == ["404"]
    assert [r["request_id"] for r in crew.viewer.get(f"{crew.base}/logs/export?as=json&result=failed").json()] == [
        entry
    ]
    assert "404" not in text(crew.viewer.get(f"{crew.base}/logs?status=2xx&path=nothing")).split("Newest first")[-1]
    for span in ("1h", "24h", "7d", "30d"):
        charts = crew.viewer.get(f"{crew.base}/logs/charts?range={span}")
        assert charts.text.count('class="chart"') == 2
        assert re.findall(r"<div><b>(\d+)</b><span>(calls|failed)", charts.text)[:2] == [
            ("1", "calls"),
            ("1", "failed"),
        ]


def test_the_request_tester_sends_a_call_and_masks_what_comes_back(crew: Crew, provider: Sandbox) -> None:
    project = project_of(crew)
    account = link(project, sandbox_config(project, provider), sandbox_consent(provider))
    answer = crew.member.post(f"{crew.base}/accounts/{account}/tester", {"method": "GET", "path": "/api/me"})
    assert answer.status_code == 200 and "200" in text(answer) and "Acme" in answer.text
    refused = crew.member.post(f"{crew.base}/accounts/{account}/tester", {"method": "GET", "path": "/../../etc"})
    assert "alert bad" in refused.text


def test_accounts_are_suspended_converted_edited_tested_and_deleted(crew: Crew, provider: Sandbox) -> None:
    project = project_of(crew)
    account = link(project, sandbox_config(project, provider), sandbox_consent(provider))
    at = f"{crew.base}/accounts/{account}"
    done(crew.member.post(at + "/test"))
    done(crew.member.post(at + "/suspend"))
    assert crew.member.post(at + "/test").status_code == 412
    done(crew.member.post(at + "/resume"))
    done(crew.member.post(at + "/type"))
    form = {"label": "L", "owner_name": "New", "owner_id": "n-1", "metadata": '{"plan": "gold"}'}
    assert crew.member.post(at + "/edit", {**form, "metadata": "[1]"}).status_code == 400
    done(crew.member.post(at + "/edit", form))
    now = project.account(account)
    assert (now["type"], now["label"], now["metadata"]) == ("test", "L", {"plan": "gold"})
    assert "account.created" in crew.viewer.get(at).text
    shown = shown_secret(crew.member.post(f"{crew.base}/link", {"account": account, "life": "86400"}))
    assert "/embedded/integrations?token=" in shown
    done(crew.member.post(at + "/delete"))
    assert crew.member.get(at).status_code == 404


def test_a_webhook_is_added_tested_rotated_and_deleted(crew: Crew) -> None:
    at = crew.base + "/webhooks"
    assert crew.admin.post(at, {"url": "http://10.0.0.1/x", "which": "all"}).status_code == 400
    url = f"http://127.0.0.1:{crew.hub.env['MOORING_EGRESS_ALLOW'].split(',')[0].rpartition(':')[2]}/hook"
    secret = shown_secret(crew.admin.post(at, {"url": url, "which": "some", "event": ["account.created"]}))
    id = query(crew.hub, "SELECT id FROM webhook_endpoints WHERE project_id = :p", p=crew.project)[0][0]
    page = crew.viewer.get(f"{at}/{id}").text
    assert secret not in page and "account.created" in page
    test = crew.member.post(f"{at}/{id}/test")
    assert "webhook_endpoint.test" in test.text
    second = shown_secret(crew.admin.post(f"{at}/{id}/secrets"))
    assert second != secret
    keys = query(crew.hub, "SELECT id, active FROM webhook_secrets WHERE endpoint_id = :e ORDER BY created_at", e=id)
    assert crew.admin.post(f"{at}/{id}/secrets/{keys[0][0]}/delete").status_code == 409
    done(crew.admin.post(f"{at}/{id}/secrets/{keys[1][0]}/switch", {"active": "yes"}))
    done(crew.admin.post(f"{at}/{id}/secrets/{keys[0][0]}/delete"))
    done(crew.admin.post(f"{at}/{id}/delete"))


def test_search_finds_pages_connectors_accounts_and_log_entries(crew: Crew, provider: Sandbox) -> None:
    project = project_of(crew)
    account = link(project, sandbox_config(project, provider), sandbox_consent(provider), owner="Zebra")
    project.proxy(account, path="/api/me")
    at = crew.base + "/search?q="
    assert account in crew.viewer.part(at + "zebr").text
    assert "/connectors/" in crew.viewer.part(at + "sandb").text
    assert "/webhooks" in crew.viewer.part(at + "webh").text
    project.http.get("/requests/logs")
    entry = query(crew.hub, "SELECT id FROM request_logs WHERE account_id = :a", a=account)[0][0]
    assert f"/logs/{entry}" in crew.viewer.part(at + entry).text
    assert "Nothing found" in text(crew.viewer.part(at + "%25%25"))


def test_the_search_over_the_api_finds_the_same(crew: Crew, provider: Sandbox) -> None:
    project = project_of(crew)
    config = sandbox_config(project, provider)
    account = link(project, config, sandbox_consent(provider), owner="Zebra")
    project.proxy(account, path="/api/me")
    ok(project.http.get("/requests/logs"))
    entry = query(crew.hub, "SELECT id FROM request_logs WHERE account_id = :a", a=account)[0][0]

    def kinds(words: str, asked: Project = project) -> list[tuple[str, str]]:
        return [(hit["kind"], hit["id"]) for hit in ok(asked.http.get("/search", params={"q": words}))["data"]]

    assert kinds("zebr") == [("account", account)]
    assert ("auth_config", config["id"]) in kinds("SANDB")
    assert kinds(entry) == [("request_log", entry)]
    assert kinds("z") == kinds("%%") == []
    stranger = crew.hub.new_project()
    assert kinds("zebr", stranger) == kinds(entry, stranger) == kinds(config["id"], stranger) == []
    refused(project.http.get("/search"), 400, "ValidationError")
    bare = Project(crew.hub, crew.project, on_database(crew.hub, reading(crew)))
    assert kinds("SANDB", bare) == [] and kinds("zebr", bare) == [("account", account)]


def test_every_page_has_a_strict_policy_and_no_inline_code(crew: Crew) -> None:
    for page in ("connectors", "accounts", "logs", "webhooks", "events", "api-keys", "settings", "audit"):
        answer = crew.owner.get(f"{crew.base}/{page}")
        policy = answer.headers["content-security-policy"]
        assert "script-src 'nonce-" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"\son[a-z]+=|style=|javascript:|hx-on|<script(?![^>]*nonce=)", answer.text)
        assert not re.search(r'(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)', answer.text)


class TestAudit:
    def test_changes_name_who_did_them_from_where(self, crew: Crew) -> None:
        project = project_of(crew)
        config = project.config("github", "token")
        done(crew.admin.post(f"{crew.base}/connectors/{config['id']}/disable"))
        rows = query(
            crew.hub,
            "SELECT action, actor_kind, actor_label, address FROM audit_entries WHERE target_id = :t ORDER BY seq",
            t=config["id"],
        )
        assert [(r[0], r[1], r[3]) for r in rows] == [
            ("auth_config.created", "api_key", "127.0.0.1"),
            ("auth_config.disabled", "user", "127.0.0.1"),
        ]
        assert rows[1][2] == crew.admin.email
        assert "auth_config.disabled" in crew.admin.get(crew.base + "/audit").text

    def test_a_change_that_is_rolled_back_leaves_no_entry(self, crew: Crew) -> None:
        before = query(crew.hub, "SELECT seq FROM audit_head")
        assert crew.admin.post(crew.base + "/settings/log-days", {"days": "0"}).status_code == 400
        assert query(crew.hub, "SELECT seq FROM audit_head") == before


@pytest.fixture
def chain(hub: Hub) -> Hub:
    """A hub whose chain is whole, put back afterwards."""
    assert hub.command("audit", "verify").returncode == 0
    return hub


_CHANGE = "UPDATE audit_entries SET action = action || 'x' WHERE seq = 2"
_BACK = "UPDATE audit_entries SET action = substr(action, 1, length(action) - 1) WHERE seq = 2"
_MOVE, _MOVED = ("UPDATE audit_entries SET seq = {} WHERE seq = {}".format(*pair) for pair in ((-2, 2), (2, -2)))


@pytest.mark.parametrize(
    ("damage", "mend", "says"),
    [
        (_CHANGE, _BACK, "entry 2:"),
        (_MOVE, _MOVED, "entry 1:"),
        ("UPDATE audit_head SET seq = seq - 1", "UPDATE audit_head SET seq = seq + 1", "entry "),
    ],
)
def test_a_damaged_chain_is_found(chain: Hub, damage: str, mend: str, says: str) -> None:
    query(chain, damage)
    try:
        told = chain.command("audit", "verify", check=False)
    finally:
        query(chain, mend)
    assert told.returncode == 1 and says in told.stderr, told.stderr
    assert chain.command("audit", "verify").returncode == 0


def test_an_assistant_is_shown_with_its_owner_and_disconnected(crew: Crew, provider: Sandbox) -> None:
    at, project = crew.base + "/assistants", project_of(crew)
    assert "switched off in this project" in crew.viewer.get(at).text
    done(crew.admin.post(at + "/offer", {"offered": "on"}))
    account = linked(project, provider, "owner-7")
    program = Program(project)
    token = program.connect(browser_of(project, "owner-7"), [account], "write")["access_token"]
    page = crew.viewer.get(at).text
    assert resource(project) in page and "Desk" in page and "owner-7 Inc." in page and account in page
    assert "read and write" in page and "Disconnect</button>" not in page  # a viewer can't
    assert tools_of(program.call(token))
    (grant,) = query(crew.hub, "SELECT id FROM grants WHERE project_id = :p", p=crew.project)
    assert f"{at}/{grant[0]}/revoke" in crew.member.get(at).text
    done(crew.member.post(f"{at}/{grant[0]}/revoke"))
    assert "by an operator" in crew.viewer.get(at).text
    wait_until(lambda: program.call(token).status_code == 401)
    done(crew.admin.post(at + "/offer", {"offered": ""}))
    assert "switched off in this project" in crew.viewer.get(at).text


def test_nothing_is_offered_for_an_account_that_another_hub_took_over(crew: Crew, provider: Sandbox) -> None:
    account = linked(project_of(crew), provider)
    at = f"{crew.base}/accounts/{account}"
    assert "Test the connection" in crew.admin.get(at).text
    query(crew.hub, "UPDATE accounts SET status = 'handed_over' WHERE id = :a", a=account)
    for page in (crew.admin.get(at).text, crew.admin.get(f"{crew.base}/accounts").text):
        for offered in ("Test the connection", "Request tester", "Reconnect link", "Suspend"):
            assert offered not in page, offered
