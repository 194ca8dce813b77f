"""Accounts that move between hubs while both of them, and a provider with strict rotation, are at work."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.flows.linking import alter, credential, end_token, link, oidc_consent, wait_until
from tests.hub import Hub, Project, ok, refused
from tests.moving.moves import PASSPHRASE, Callers, accounts, settings_of
from tests.rows import query
from tests.sandbox.harness import Sandbox
from tests.servers.oidc import OidcServer

CLIENT = {"client_id": "basic-app", "client_secret": "basic-secret"}
ME = "/api/me"
AWAY = "412 AccountHandedOverError"


@pytest.fixture
def here(hubs: Callable[[str], Hub]) -> Project:
    """A project of a hub on SQLite."""
    return hubs("sqlite").new_project("here")


@pytest.fixture
def there(hubs: Callable[[str], Hub]) -> Project:
    """A project of a hub on PostgreSQL, with a master key of its own."""
    return hubs("postgres").new_project("there")


def test_accounts_move_to_another_database_and_back_while_both_hubs_call(
    here: Project, there: Project, oidc: OidcServer, tmp_path: Path
) -> None:
    config = here.config("oidc-provider", "code", CLIENT)
    there.config("oidc-provider", "code", CLIENT)
    moved = [link(here, config, oidc_consent(here, oidc), owner=f"owner-{n}") for n in range(3)]
    oidc.reset()
    stop = threading.Event()
    with Callers(here, moved) as ours, Callers(there, moved) as theirs:

        def expire() -> None:
            # As often as can be: a token that ends before its first use would help no call.
            while not stop.is_set():
                oidc.expire_access()
                wanted = {id: ours.good[id] + theirs.good[id] + 3 for id in moved}
                while any(ours.good[id] + theirs.good[id] < n for id, n in wanted.items()) and not stop.wait(0.01):
                    pass

        def renewed(callers: Callers) -> None:
            callers.wait_until_all("200")
            before = oidc.stats()["token_ok"]
            wait_until(lambda: oidc.stats()["token_ok"] >= before + len(moved), 30)

        storm = threading.Thread(target=expire)
        storm.start()
        try:
            renewed(ours)
            accounts(here, "export", "--hand-over", tmp_path / "out")
            ours.wait_until_all(AWAY)
            accounts(there, "import", tmp_path / "out")
            renewed(theirs)
            again = accounts(there, "import", tmp_path / "out")
            assert "imported 0, left as they were 3" in again.out
            accounts(there, "export", "--hand-over", tmp_path / "back")
            theirs.wait_until_all(AWAY)
            accounts(here, "import", tmp_path / "back")
            renewed(ours)
        finally:
            stop.set()
            storm.join()
    stats = oidc.stats()
    assert stats["reuse_detected"] == 0 and stats["token_err"] == {}
    assert set(ours.seen) == {"200", AWAY}
    assert set(theirs.seen) == {"404 NotFoundError", "200", AWAY}
    assert [here.account(id)["status"] for id in moved] == ["active"] * 3


@pytest.fixture
def account(here: Project, there: Project, oidc: OidcServer) -> str:
    """An account at one hub, and the same app at the other."""
    there.config("oidc-provider", "code", CLIENT)
    made = link(here, here.config("oidc-provider", "code", CLIENT), oidc_consent(here, oidc))
    oidc.reset()
    return made


def test_a_renewal_under_way_ends_before_the_token_leaves_and_none_begins_after(
    here: Project, there: Project, account: str, oidc: OidcServer, tmp_path: Path
) -> None:
    accounts(here, "handed-over")  # the first command of a process imports a lot
    end_token(here.hub, account)
    oidc.fault("tokenDelayAfterCommit", ms=5000)  # the provider has rotated, its answer is on the way
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(here.proxy, account, path=ME)
        wait_until(lambda: oidc.stats()["token"] == 1)
        accounts(here, "export", "--hand-over", tmp_path / "out")
        assert call.result().status_code in {200, 412}  # renewed; the account may have left before the call went on
    end_token(here.hub, account)
    refused(here.proxy(account, path=ME), 412, "AccountHandedOverError")
    assert oidc.stats()["token"] == 1
    accounts(there, "import", tmp_path / "out")
    end_token(there.hub, account)
    assert ok(there.proxy(account, path=ME))["sub"] == "jane"
    stats = oidc.stats()
    assert (stats["token_ok"], stats["reuse_detected"]) == (2, 0)


def test_a_renewal_that_ended_in_the_unknown_keeps_its_account_here(
    here: Project, account: str, tmp_path: Path
) -> None:
    row = credential(here.hub, account)
    assert row is not None
    alter(here.hub, account, pending_generation=row.generation)
    done = accounts(here, "export", "--hand-over", "--wait", "1", tmp_path / "out", check=False)
    assert done.code == 2 and "1 could not be handed over" in done.err
    assert not (tmp_path / "out").exists() and here.account(account)["status"] == "active"


def test_what_was_handed_over_is_frozen_in_every_way(
    here: Project, account: str, oidc: OidcServer, tmp_path: Path
) -> None:
    bundle = accounts(here, "export", "--hand-over", tmp_path / "out").out.strip()
    shown = here.account(account)
    assert (shown["status"], shown["status_reasons"][-1]["code"]) == ("suspended", "handed_over")
    assert [a["id"] for a in ok(here.http.get("/accounts", params={"status": "suspended"}))] == [account]
    refused(here.http.patch(f"/accounts/{account}", json={"status": "active"}), 412, "AccountHandedOverError")
    refused(here.http.post(f"/accounts/{account}/test"), 412)
    config = shown["integration_id"]
    for more in ({}, {"account_id": account}):  # the upsert rule finds it, too
        refused(here.session(integration_id=config, **more).start_oauth(config), 412, "AccountHandedOverError")
    ok(here.http.patch(f"/accounts/{account}", json={"label": "still mine"}))
    ok(here.http.delete(f"/accounts/{account}"))
    wait_until(lambda: here.http.get(f"/accounts/{account}").status_code == 404)
    assert query(here.hub, "SELECT count(*) FROM jobs WHERE kind = 'revoke' AND payload LIKE :p", p=f"%{account}%") == [
        (0,)
    ]
    assert oidc.stats()["revoke"] == 0  # the grant is in use elsewhere
    assert accounts(here, "hand-back", bundle, "--yes", check=False).code == 2


def test_hand_back_restores_each_account_as_it_was(here: Project, account: str, tmp_path: Path) -> None:
    ok(here.http.patch(f"/accounts/{account}", json={"status": "suspended"}))
    before = here.account(account)
    bundle = accounts(here, "export", "--hand-over", tmp_path / "out").out.strip()
    assert accounts(here, "handed-over").out.split("\t")[::2] == [bundle, "1\n"]
    assert "1 accounts serve here again" in accounts(here, "hand-back", bundle, "--yes").out
    after = here.account(account)
    assert {**after, "updated_at": 0} == {**before, "updated_at": 0}
    ok(here.http.patch(f"/accounts/{account}", json={"status": "active"}))
    assert here.proxy(account, path=ME).status_code == 200
    refusal = accounts(here, "import", tmp_path / "out", check=False)
    assert refusal.code == 1 and "it is live here" in refusal.err
    actions = {row[0] for row in query(here.hub, "SELECT action FROM audit_entries WHERE project_id = :p", p=here.id)}
    assert {"accounts.exported", "account.handed_over", "account.handed_back", "accounts.handed_back"} <= actions


def test_only_a_bundle_that_is_newer_brings_an_account_back(
    here: Project, there: Project, account: str, oidc: OidcServer, tmp_path: Path
) -> None:
    accounts(here, "export", "--hand-over", tmp_path / "1")
    own = accounts(here, "import", tmp_path / "1", check=False)
    assert own.code == 1 and "holds nothing newer" in own.err
    accounts(there, "import", tmp_path / "1")
    accounts(there, "export", "--hand-over", tmp_path / "2")
    accounts(here, "import", tmp_path / "2")
    end_token(here.hub, account)
    assert here.proxy(account, path=ME).status_code == 200
    accounts(here, "export", "--hand-over", tmp_path / "3")
    stale = [
        accounts(here, "import", tmp_path / "2", check=False),
        accounts(there, "import", tmp_path / "1", check=False),
    ]
    assert [done.code for done in stale] == [1, 1] and all("holds nothing newer" in done.err for done in stale)
    accounts(there, "import", tmp_path / "3")
    end_token(there.hub, account)
    assert there.proxy(account, path=ME).status_code == 200
    assert oidc.stats()["reuse_detected"] == 0


def test_a_copy_has_no_refresh_token_and_a_later_hand_over_completes_it(
    here: Project, there: Project, account: str, oidc: OidcServer, tmp_path: Path
) -> None:
    done = accounts(here, "export", tmp_path / "copy")
    assert "1 of them without their refresh token" in done.err
    assert '"refresh_token":null' in opened(tmp_path / "copy")
    assert "The bundle is a copy" in accounts(there, "import", tmp_path / "copy").err
    assert [p.proxy(account, path=ME).status_code for p in (here, there)] == [200, 200]
    end_token(there.hub, account)
    refused(there.proxy(account, path=ME), 401, "AccountExpiredCredentialsError")
    assert oidc.stats()["token"] == 0
    accounts(here, "export", "--hand-over", tmp_path / "all")
    accounts(there, "import", tmp_path / "all")
    end_token(there.hub, account)
    assert there.proxy(account, path=ME).status_code == 200
    assert oidc.stats()["reuse_detected"] == 0


def opened(path: Path) -> str:
    """The records of a bundle, by the script that the documentation shows."""
    page = (Path(__file__).parents[2] / "docs" / "moving.md").read_text()
    script = page.partition("```python\n")[2].partition("```")[0]
    assert len(script.splitlines()) <= 24
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(path)],
        input=PASSPHRASE + "\n",
        text=True,
        capture_output=True,
        check=True,
    )
    return done.stdout


def test_a_bundle_opens_without_mooring_and_shows_nothing_without_its_passphrase(
    here: Project, there: Project, account: str, tmp_path: Path
) -> None:
    done = [accounts(here, "export", "--hand-over", "--with-auth-configs", tmp_path / "out")]
    (record,) = [json.loads(line) for line in opened(tmp_path / "out").splitlines()]
    assert (record["id"], record["status"], record["origin_owner_id"]) == (account, "active", "owner-1")
    done.append(accounts(there, "import", tmp_path / "out"))
    tokens = record["credential"]
    secrets = [tokens["access_token"], tokens["refresh_token"], CLIENT["client_secret"]]
    content = (tmp_path / "out").read_bytes().decode("latin1")
    places = [content, here.hub.log(), there.hub.log(), *(text for d in done for text in (d.out, d.err))]
    assert not [secret for secret in secrets for place in places if secret in place]
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_auth_configs_are_matched_by_their_app(here: Project, there: Project, account: str, tmp_path: Path) -> None:
    bundle = tmp_path / "out"
    accounts(here, "export", bundle, "--hand-over")
    (mine,) = ok(there.http.get("/auth_configs"))["data"]
    ok(there.http.patch(f"/auth_configs/{mine['id']}", json={"setup": {"client_id": "post-app"}}))
    other = accounts(there, "import", bundle, check=False)
    assert other.code == 1 and "renewed only with their own app" in " ".join(other.err.split())
    assert there.http.get("/accounts").json() == []
    first, second = (there.config("oidc-provider", "code", CLIENT, name=name) for name in ("one", "two"))
    several = accounts(there, "import", bundle, check=False)
    assert several.code == 1 and "several here fit" in several.err
    config_here = here.account(account)["integration_id"]
    wrong = accounts(there, "import", bundle, "--map", f"{config_here}=nothing", check=False)
    assert wrong.code == 1 and "no auth config of this project" in wrong.err
    checked = accounts(there, "import", bundle, "--map", f"{config_here}=two", "--dry-run")
    assert "1 new" in checked.err and there.http.get("/accounts").json() == []
    accounts(there, "import", bundle, "--map", f"{config_here}=two")
    assert there.account(account)["integration_id"] == second["id"] != first["id"]


def test_client_secrets_travel_only_when_asked_for(
    here: Project, hubs: Callable[[str], Hub], account: str, oidc: OidcServer, tmp_path: Path
) -> None:
    empty = hubs("postgres").new_project("empty")
    accounts(here, "export", tmp_path / "without")
    assert "this project has none" in accounts(empty, "import", tmp_path / "without", check=False).err
    accounts(here, "export", tmp_path / "with", "--with-auth-configs", "--hand-over")
    assert "auth config to be made" in accounts(empty, "import", tmp_path / "with").err
    end_token(empty.hub, account)
    assert empty.proxy(account, path=ME).status_code == 200  # renewed with the app that came along


def test_a_killed_export_can_be_finished(here: Project, there: Project, account: str, tmp_path: Path) -> None:
    """The last moment before the file is there: everything is frozen, nothing is written."""
    code = (
        "import os, sys, mooring.moving.exporting as e\n"
        "async def die(*a, **k): os._exit(9)\n"
        "e._write = die\n"
        "from mooring.__main__ import main\n"
        "sys.exit(main())\n"
    )
    env = settings_of(here.hub)
    command = ["accounts", "export", "--hand-over", str(tmp_path / "out"), "--project", here.id]
    killed = subprocess.run(
        [sys.executable, "-c", code, *command], env=env, capture_output=True, text=True, check=False
    )
    assert killed.returncode == 9, killed.stderr
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 1
    bundle = accounts(here, "handed-over").out.split("\t")[0]
    assert f"handing over with the bundle {bundle}" in killed.stderr
    assert accounts(here, "export", "--resume", "mb_other", tmp_path / "out", check=False).code == 2
    assert accounts(here, "export", "--resume", bundle, tmp_path / "out").out.strip() == bundle
    assert [p.name for p in tmp_path.iterdir()] == ["out"]  # what the killed run left is gone
    accounts(there, "import", tmp_path / "out")
    assert there.proxy(account, path=ME).status_code == 200


def test_an_export_that_fails_hands_nothing_over(here: Project, account: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    assert "exists" in accounts(here, "export", "--hand-over", tmp_path / "there", check=False).err
    assert accounts(here, "export", "--hand-over", tmp_path / "no" / "folder", check=False).code == 2
    typo = accounts(
        here, "export", "--hand-over", "--account", account, "--account", "typo", tmp_path / "x", check=False
    )
    assert typo.code == 2 and "no such account" in typo.err and "typo" in typo.err
    weak = accounts(here, "export", "--hand-over", tmp_path / "weak", passphrase="short", check=False)
    assert weak.code == 2 and "at least 12" in weak.err
    assert here.account(account)["status"] == "active" and (tmp_path / "there").read_text() == "mine"


def test_a_damaged_or_locked_bundle_imports_nothing(
    here: Project, there: Project, account: str, tmp_path: Path
) -> None:
    accounts(here, "export", "--hand-over", tmp_path / "out")
    content = (tmp_path / "out").read_bytes()
    wrong = accounts(there, "import", tmp_path / "out", passphrase="not the passphrase", check=False)
    assert wrong.code == 2 and "BundlePassphraseError" in wrong.err
    (tmp_path / "flipped").write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
    done = accounts(there, "import", tmp_path / "flipped", check=False)
    assert done.code == 2 and "BundleDamagedError" in done.err
    assert there.http.get("/accounts").json() == []


def test_a_killed_import_is_just_repeated(here: Project, there: Project, provider: Sandbox, tmp_path: Path) -> None:
    config = here.config("sandbox", "api_key", {"sandbox_url": provider.url})
    there.config("sandbox", "api_key", {"sandbox_url": provider.url})
    moved = [here.link(config, {"api_key": "sandbox-key-acme"}, f"owner-{n}") for n in range(3)]
    accounts(here, "export", "--hand-over", tmp_path / "out", "--owner", "owner-0", "--owner", "owner-1")
    code = (
        "import os, sys, mooring.moving.importing as i\n"
        "i.BATCH, save, left = 1, i._save, [1]\n"
        "async def die(*a, **k):\n"
        "    left and left.pop() or os._exit(9)\n"
        "    await save(*a, **k)\n"
        "i._save = die\n"
        "from mooring.__main__ import main\n"
        "sys.exit(main())\n"
    )
    env = settings_of(there.hub)
    command = ["accounts", "import", str(tmp_path / "out"), "--project", there.id]
    killed = subprocess.run([sys.executable, "-c", code, *command], env=env, capture_output=True, check=False)
    assert killed.returncode == 9, killed.stderr
    assert len(there.http.get("/accounts").json()) == 1
    assert "imported 1, left as they were 1" in accounts(there, "import", tmp_path / "out").out
    wait_until(lambda: there.proxy(moved[0], path=ME).status_code == there.proxy(moved[1], path=ME).status_code == 200)
    assert [here.proxy(id, path=ME).status_code for id in moved] == [412, 412, 200]
    assert there.account(moved[0])["provider_account"] == here.account(moved[0])["provider_account"]
