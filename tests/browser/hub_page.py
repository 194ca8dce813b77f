"""A hub with the sandbox behind it, and every state of our Hub's page reached as a person reaches it."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page

from mooring.accounts import service as accounts
from mooring.accounts.models import Account
from tests.flows.linking import SANDBOX_CLIENT, on_database
from tests.hub import Hub, Project, Session, ok
from tests.sandbox.harness import Sandbox, start_sandbox, stop_sandbox
from tests.servers.ports import free_port

API_KEY = "sandbox-key-acme"
SHIPPED = {
    "airtable": "api_key",
    "ashby": "api_key",
    "bamboohr": "api_key",
    "github": "token",
    "hibob": "service_user",
    "hubspot": "private_app",
    "teamtailor": "api_key",
    "workday": "client_credentials",
}

MANY = 300
CONNECTOR = """\
connector: {key}
title: {title}
category: {category}
base_url: https://{key}.example
auth:
  api_key:
    bearer: ${{api_key}}
    fields: {{api_key: {{secret: true}}}}
"""


@dataclass
class Stage:
    """A running hub with the sandbox as its provider."""

    hub: Hub
    provider: Sandbox
    projects: dict[str, Project] = field(default_factory=dict)

    def project(self, name: str = "Northwind People", *methods: str, branded: bool = False, **settings: Any) -> Project:
        """A project with these methods of the sandbox."""
        made = self.hub.new_project(name)
        if branded:
            settings = {"support_contact": "help@northwind.example", **settings}
        if settings:
            ok(made.http.patch("/project", json=settings))
        for method in methods:
            self.config(made, method)
        return made

    def config(self, project: Project, method: str, **more: Any) -> dict[str, Any]:
        """An auth config of the sandbox."""
        client = SANDBOX_CLIENT if method == "oauth2" else {}
        return project.config("sandbox", method, {"sandbox_url": self.provider.url, **client}, **more)


@contextmanager
def stage(folder: Path, **hub: Any) -> Iterator[Stage]:
    """Start the sandbox and a hub that may call it."""
    port = free_port()
    process, url = start_sandbox(port=port)
    try:
        allow = ",".join([f"127.0.0.1:{port}", *hub.pop("allow", ())])
        with (
            Hub(folder / "hub", free_port(), egress_allow=allow, single_process=True, **hub) as running,
            httpx.Client(base_url=url, timeout=10, trust_env=False) as http,
        ):
            yield Stage(running, Sandbox(url, http))
    finally:
        stop_sandbox(process)


@contextmanager
def crowded(folder: Path) -> Iterator[tuple[Stage, Project]]:
    """A hub with MANY connectors, a third in each of three categories, and an auth config of each."""
    connectors = folder / "connectors"
    connectors.mkdir()
    for number in range(MANY):
        key = f"system{number:03}"
        text = CONNECTOR.format(key=key, title=f"System {number:03}", category=("hris", "ats", "crm")[number % 3])
        (connectors / f"{key}.yaml").write_text(text)
    with stage(folder, connectors_dir=connectors) as ready:
        project = ready.project("Northwind")
        for number in range(MANY):
            project.config(f"system{number:03}", "api_key")
        yield ready, project


def open_link(page: Page, session: Session, *, start: bool = True) -> None:
    """Open a session's link, and go past the welcome if it shows one."""
    page.goto(session.created["auth_link_url"])
    view(page, "welcome")
    if start:
        page.get_by_role("button").last.click()
        page.locator('.view:not([data-view="welcome"])').wait_for()


def view(page: Page, name: str) -> Any:
    """Wait for a view."""
    found = page.locator(f'.view[data-view="{name}"]')
    found.wait_for()
    return found


def submit(page: Page) -> None:
    """Press the form's main button."""
    page.locator("button[type=submit]").click()


def png(width: int, height: int, colour: tuple[int, int, int]) -> str:
    """A picture of one colour, as base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(colour) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(content).decode()


# --- the states, each reached for real -----------------------------------------------------------------------------


def _welcome(s: Stage, page: Page) -> None:
    open_link(page, s.project(methods_name(), "api_key", branded=True).session("Acme", provider="sandbox"), start=False)


def methods_name() -> str:
    return "Northwind People"


def _many(s: Stage) -> Project:
    project = s.project(methods_name(), "api_key", branded=True)
    for key, method in SHIPPED.items():
        setup = {"tenant": "Acme", "host": "wd2-impl-services1.workday.com"} if key == "workday" else {}
        if key != "workday":
            project.config(key, method, setup)
    return project


def _picker(s: Stage, page: Page) -> None:
    open_link(page, _many(s).session("Acme"))
    view(page, "picker")


def _picker_search(s: Stage, page: Page) -> None:
    _picker(s, page)
    page.get_by_role("searchbox").fill("bam")


def _picker_nothing(s: Stage, page: Page) -> None:
    _picker(s, page)
    page.get_by_role("searchbox").fill("payroll of mars")


def _picker_accounts(s: Stage, page: Page) -> None:
    project = _many(s)
    config = ok(project.http.get("/auth_configs", params={"connector_key": "sandbox"}))["data"][0]
    project.link(config, {"api_key": API_KEY}, owner="Acme")
    open_link(page, project.session("Acme"))


def _empty(s: Stage, page: Page) -> None:
    open_link(page, s.project(methods_name(), branded=True).session("Acme"))


def _form(s: Stage, page: Page) -> None:
    open_link(page, s.project(methods_name(), "basic", branded=True).session("Acme"))
    view(page, "form")


def _form_methods(s: Stage, page: Page) -> None:
    open_link(page, s.project(methods_name(), "api_key", "basic", "oauth2", branded=True).session("Acme"))
    view(page, "form")


def _form_help(s: Stage, page: Page) -> None:
    project = s.project(methods_name(), branded=True)
    project.config("hibob", "service_user")
    open_link(page, project.session("Acme"))
    view(page, "form")


def _form_faults(s: Stage, page: Page) -> None:
    _form(s, page)
    submit(page)
    page.get_by_role("alert").wait_for()


def _form_trimmed(s: Stage, page: Page) -> None:
    _form(s, page)
    page.locator("input[name=username]").fill("  jane ")
    page.locator("input[name=password]").fill("secret")


def _testing(s: Stage, page: Page) -> None:
    _form_key(s, page)
    s.provider.fault("api", "hang", ms=9000, times=1)
    page.locator("input[name=api_key]").fill(API_KEY)
    submit(page)
    page.locator(".busy").wait_for()


def _form_key(s: Stage, page: Page) -> None:
    open_link(page, s.project(methods_name(), "api_key", branded=True).session("Acme"))
    view(page, "form")


def _rejected(s: Stage, page: Page) -> None:
    _form_key(s, page)
    page.locator("input[name=api_key]").fill("sandbox-key-wrong")
    submit(page)
    page.get_by_role("alert").wait_for()


def _rejected_details(s: Stage, page: Page) -> None:
    _rejected(s, page)
    page.locator(".note.bad summary").click()


def _consent(s: Stage, page: Page) -> None:
    open_link(page, s.project(methods_name(), "oauth2", branded=True).session("Acme"))
    view(page, "form")


def _waiting(s: Stage, page: Page) -> None:
    _consent(s, page)
    with page.expect_popup():
        submit(page)
    view(page, "waiting")


def _closed(s: Stage, page: Page) -> None:
    _consent(s, page)
    with page.expect_popup() as popup:
        submit(page)
    view(page, "waiting")
    popup.value.close()
    page.locator("[data-asked=closed]").wait_for()


def _answered(s: Stage, page: Page, decision: str, *, scopes: bool = True) -> None:
    _consent(s, page)
    with page.expect_popup() as popup:
        submit(page)
    provider = popup.value
    provider.locator("button[value=allow]").wait_for()
    if not scopes:
        provider.locator('input[value="employees:write"]').uncheck()
    provider.locator(f"button[value={decision}]").click()


def _denied(s: Stage, page: Page) -> None:
    _answered(s, page, "deny")
    view(page, "failed")


def _failed(s: Stage, page: Page) -> None:
    _consent(s, page)
    s.provider.fault("token", "status_503", times=20)
    with page.expect_popup() as popup:
        submit(page)
    popup.value.locator("button[value=allow]").click()
    view(page, "failed")
    s.provider.control("reset")


def _done(s: Stage, page: Page) -> None:
    _answered(s, page, "allow")
    view(page, "done")


def _partial(s: Stage, page: Page) -> None:
    _answered(s, page, "allow", scopes=False)
    view(page, "done")


def _linked(s: Stage, method: str = "service_user", **session: Any) -> tuple[Project, str]:
    project = s.project(methods_name(), branded=True)
    config = s.config(project, method)
    typed = {"service_user_id": "SERVICE-1001", "service_user_token": "sandbox-service-token"}
    return project, project.link(config, typed, owner="Acme", **session)


def _account(s: Stage, page: Page) -> None:
    project, _ = _linked(s)
    open_link(page, project.session("Acme"))
    page.locator(".stack .row").click()
    view(page, "account")


def _account_error(s: Stage, page: Page) -> None:
    project, account = _linked(s)
    reason = "Sandbox: The key was deleted or switched off at the provider."

    async def work(tx: Any) -> None:
        found = await tx.get(Account, account)
        assert await accounts.note_fact(tx, found, "credentials_rejected", "key_revoked", reason)

    on_database(s.hub, work)
    open_link(page, project.session("Acme"))
    page.locator(".stack .row").click()
    view(page, "account")


def _branded(s: Stage, page: Page) -> None:
    look = {"accent_light": "#8a1f5c", "accent_dark": "#f2a3d0", "logo": png(120, 40, (138, 31, 92))}
    open_link(page, s.project(methods_name(), "oauth2", branded=True, **look).session("Acme"), start=False)


def _remove(s: Stage, page: Page) -> None:
    _account(s, page)
    page.locator(".button.danger").click()
    view(page, "remove")


def _edit(s: Stage, page: Page) -> None:
    project, account = _linked(s)
    open_link(page, project.session("Acme", account_id=account))
    view(page, "form")


def _expired(s: Stage, page: Page) -> None:
    page.goto(f"{s.hub.url}/embedded/integrations?token=nonsense")
    view(page, "fatal")


def _in_use(s: Stage, page: Page) -> None:
    session = s.project(methods_name(), "api_key", branded=True).session("Acme")
    assert session.http.post("/hub/browser", headers={"x-hub-browser": "a" * 64}).status_code == 204
    page.goto(session.created["auth_link_url"])
    view(page, "fatal")


STATES: dict[str, Callable[[Stage, Page], None]] = {
    "welcome": _welcome,
    "picker": _picker,
    "picker-search": _picker_search,
    "picker-nothing": _picker_nothing,
    "picker-accounts": _picker_accounts,
    "empty": _empty,
    "form": _form,
    "form-methods": _form_methods,
    "form-help": _form_help,
    "form-faults": _form_faults,
    "form-trimmed": _form_trimmed,
    "testing": _testing,
    "rejected": _rejected,
    "rejected-details": _rejected_details,
    "consent": _consent,
    "waiting": _waiting,
    "closed": _closed,
    "denied": _denied,
    "failed": _failed,
    "done": _done,
    "partial": _partial,
    "account": _account,
    "account-error": _account_error,
    "branded": _branded,
    "remove": _remove,
    "edit": _edit,
    "expired": _expired,
    "in-use": _in_use,
}
"""Every state by its name, and how it is reached."""
