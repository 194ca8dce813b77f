"""Our Hub against servers that others wrote: oidc-provider's own login page, and Redmine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import no_errors
from tests.browser.hub_page import Stage, open_link, stage, submit, view
from tests.browser.test_hub_flows import accounts, heading, to_popup
from tests.conftest import Ports
from tests.hub import Project, ok
from tests.servers.oidc import OidcServer
from tests.servers.redmine import RedmineServer

BASIC = {"client_id": "basic-app", "client_secret": "basic-secret"}


@pytest.fixture(scope="module")
def real(ports: Ports, connectors_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A hub that may call the real servers."""
    allow = [f"127.0.0.1:{ports.oidc}", f"127.0.0.1:{ports.redmine}"]
    with stage(tmp_path_factory.mktemp("real"), allow=allow, connectors_dir=connectors_dir) as ready:
        yield ready


@pytest.fixture
def oidc_project(real: Stage, oidc: OidcServer) -> Project:
    project = real.project("Northwind")
    project.config("oidc-provider", "code", BASIC)
    return project


def sign_in(popup: Page) -> None:
    """The provider's own login page."""
    popup.locator("input[name=login]").fill("jane")
    popup.locator("input[name=password]").fill("any")
    popup.locator("button[type=submit]").click()


def test_a_login_at_the_providers_own_page(oidc_project: Project, tab: Page) -> None:
    open_link(tab, oidc_project.session("Acme"))
    view(tab, "form")
    expect(tab.locator(".scopes")).to_contain_text("Stay connected")
    popup = to_popup(tab)
    sign_in(popup)
    popup.get_by_role("button", name="Continue").click()
    view(tab, "done")
    expect(heading(tab)).to_have_text("OIDC Provider is connected")
    (account,) = accounts(oidc_project)
    assert ok(oidc_project.proxy(account["id"], path="/api/me"))["sub"] == "jane"
    no_errors(tab)


def test_whoever_leaves_the_login_page_is_told(oidc_project: Project, tab: Page) -> None:
    open_link(tab, oidc_project.session("Acme"))
    view(tab, "form")
    popup = to_popup(tab)
    popup.get_by_role("link", name="Cancel").click()
    view(tab, "failed")
    expect(heading(tab)).to_have_text("Access was not granted")
    assert accounts(oidc_project) == []


def test_redmine_by_key_and_by_password(real: Stage, redmine: RedmineServer, tab: Page) -> None:
    project = real.project("Northwind")
    for method in ("api_key", "password"):
        project.config("redmine", method)
    open_link(tab, project.session("Acme"))
    view(tab, "form")
    tab.locator("[name=base_url]").fill(redmine.base_url)
    tab.locator("[name=api_key]").fill("0" * 40)
    submit(tab)
    expect(tab.get_by_role("alert")).to_contain_text("does not accept")
    tab.locator("[name=api_key]").fill(redmine.jane_key)
    submit(tab)
    view(tab, "done")
    (account,) = accounts(project)
    assert ok(project.proxy(account["id"], path="/users/current.json"))["user"]["login"] == "jane"

    open_link(tab, project.session("Beta"))
    view(tab, "form")
    tab.get_by_role("radio").nth(1).check()
    tab.locator("[name=username]").fill(redmine.JANE[0])
    tab.locator("[name=password]").fill(redmine.JANE[1])
    tab.locator("[name=base_url]").fill(redmine.base_url)
    submit(tab)
    view(tab, "done")
    assert len(accounts(project)) == 2
    no_errors(tab)
