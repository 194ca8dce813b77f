"""States of the dashboard for screenshots: a hub with accounts at the sandbox, good and bad calls, and every page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.chromium import launch
from tests.dashboard.people import PASSWORD, set_up
from tests.flows.linking import link, sandbox_config, sandbox_consent
from tests.hub import Hub, Project, close_clients
from tests.sandbox.harness import Sandbox, start_sandbox, stop_sandbox
from tests.servers.ports import free_port

SIZES = {"wide": (1280, 860), "narrow": (360, 780)}
THEMES = ("light", "dark")


@dataclass(frozen=True)
class State:
    """One thing to look at: its name, its address, and what is done before the picture is taken."""

    name: str
    path: str
    act: Callable[[Page], None] | None = None
    signed_in: bool = True


@dataclass(frozen=True)
class Scene:
    """A hub with something to see."""

    hub: Hub
    project: str
    accounts: tuple[str, ...]
    failed_log: str
    refused_log: str
    kept_log: str
    config: str
    webhook: str
    approval: str


def _dialog(page: Page) -> None:
    page.locator("dialog[open]").wait_for()


def _open(name: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.get_by_role("button", name=name, exact=True).first.click()
        _dialog(page)

    return act


def _menu(page: Page) -> None:
    page.locator("main [popovertarget^='m-']").first.click()


def _look(page: Page) -> None:
    page.get_by_role("button", name="Look for problems").click()
    page.locator("#findings table").wait_for()


def _search(page: Page) -> None:
    page.keyboard.press("/")
    _dialog(page)
    page.locator("#s-q").fill("acme")
    page.wait_for_timeout(700)


def states(scene: Scene) -> list[State]:
    """Every page, and its menus and dialogs."""
    p = f"/dashboard/p/{scene.project}"
    return [
        State("sign-in", "/dashboard/sign-in", signed_in=False),
        State("connectors", f"{p}/connectors"),
        State("connectors-menu", f"{p}/connectors", _menu),
        State("connector-choose", f"{p}/connectors/new"),
        State("connector-new", f"{p}/connectors/new/sandbox"),
        State("connector-unavailable", f"{p}/connectors/new/github"),
        State("connector-make-unavailable", f"{p}/connectors/new/sandbox", _open("Make unavailable")),
        State("connector-edit", f"{p}/connectors/{scene.config}"),
        State("connector-disable", f"{p}/connectors/{scene.config}", _open("Disable")),
        State("accounts", f"{p}/accounts"),
        State("accounts-menu", f"{p}/accounts", _menu),
        State("account", f"{p}/accounts/{scene.accounts[0]}"),
        State("account-link", f"{p}/accounts", _open("Link an account")),
        State("tester", f"{p}/accounts/{scene.accounts[0]}/tester?path=/api/employees", _send),
        State("assistants", f"{p}/assistants"),
        State("approvals", f"{p}/approvals"),
        State("approval", f"{p}/approvals/{scene.approval}"),
        State("logs", f"{p}/logs"),
        State("log", f"{p}/logs/{scene.failed_log}"),
        State("log-refused", f"{p}/logs/{scene.refused_log}"),
        State("log-advanced", f"{p}/logs/{scene.kept_log}"),
        State("charts", f"{p}/logs/charts?range=1h"),
        State("webhooks", f"{p}/webhooks"),
        State("webhook", f"{p}/webhooks/{scene.webhook}"),
        State("webhook-new", f"{p}/webhooks", _open("Add an endpoint")),
        State("events", f"{p}/events"),
        State("api-keys", f"{p}/api-keys"),
        State("api-key-new", f"{p}/api-keys", _open("New API key")),
        State("settings", f"{p}/settings"),
        State("audit", f"{p}/audit"),
        State("search", f"{p}/accounts", _search),
        State("projects", "/dashboard/projects"),
        State("project-delete", f"{p}/settings", _open("Delete")),
        State("members", "/dashboard/organizations/1/members"),
        State("profile", "/dashboard/profile"),
        State("system", "/dashboard/system", _look),
        State("not-found", "/dashboard/nowhere"),
    ]


def _send(page: Page) -> None:
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator("#answer .badge").first.wait_for()


def furnish(hub: Hub, provider: Sandbox) -> Scene:
    """Set the hub up and let things happen in it."""
    owner = set_up(hub)
    first = owner.get("/dashboard").headers["location"].split("/")[3]
    key_dialog = owner.post(
        f"/dashboard/p/{first}/api-keys",
        {
            "label": "backend",
            "scope": [
                "platform:read",
                "platform:write",
                "connectors:read",
                "connectors:write",
                "unified:read",
                "unified:write",
            ],
        },
    )
    from tests.dashboard.people import shown_secret
    from tests.mcp.oauth import Program, browser_of

    project = Project(hub, first, shown_secret(key_dialog))
    owner.post(f"/dashboard/p/{first}/settings/advanced-logs", {"advanced_logs": "all", "advanced_logs_days": "7"})
    oauth = sandbox_config(project, provider)
    key = sandbox_config(project, provider, "api_key")
    project.config("github", "token")
    names = ["Acme Foods", "Nordwind Logistik", "Blue Peak Insurance", "Kestrel Robotics", "Ōtsuka Trading"]
    accounts = [link(project, oauth, sandbox_consent(provider), owner=name) for name in names[:3]]
    accounts += [project.link(key, {"api_key": "sandbox-key-acme"}, owner=name) for name in names[3:]]
    for account in accounts:
        for path in ("/api/employees", "/api/employees", "/api/nothing"):
            project.proxy(account, path=path)
    project.http.patch(f"/accounts/{accounts[1]}", json={"status": "suspended"})
    project.proxy(accounts[1], path="/api/employees")
    made = project.http.post("/webhooks", json={"url": f"http://127.0.0.1:{hub.port}/hook"})
    owner.get(f"/dashboard/p/{first}/logs")
    rows = project.http.get("/requests/logs").json()["data"]
    owner.post(f"/dashboard/p/{first}/connectors/new/github/unavailable", {"reason": "Needs the partner agreement"})
    agent = {"label": "assistant", "scope": "actions:execute", "approval": "delete"}
    helper = Project(hub, first, shown_secret(owner.post(f"/dashboard/p/{first}/api-keys", agent)))
    call = {"action": "delete_employee", "path": {"id": "emp_acme_001"}}
    waiting = helper.http.post("/actions/rpc", json=call, headers={"x-account-id": accounts[0]}).json()
    owner.post(f"/dashboard/p/{first}/assistants/offer", {"offered": "on"})
    Program(project).connect(browser_of(project, names[0]), accounts[:1], "write")
    by_status = {row["status"]: row["id"] for row in rows}
    webhook = made.json()["id"]
    return Scene(
        hub,
        first,
        tuple(accounts),
        by_status[412],
        by_status[404],
        by_status[200],
        oauth["id"],
        webhook,
        waiting["approval"]["id"],
    )


def sign_in(context: BrowserContext, hub: Hub, email: str = "owner@example.com") -> None:
    """Sign the browser in by the form, as a person does."""
    page = context.new_page()
    page.goto(f"{hub.url}/dashboard/sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/connectors")
    page.close()


# A picture of a whole page shows more than a window does: logos below it are not loaded yet.
LOADED = """async () => {
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
}"""


def pictures(browser: Browser, scene: Scene, folder: Path, only: str = "") -> Iterator[Path]:
    """Take every picture, in every theme and size."""
    folder.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        for size, (width, height) in SIZES.items():
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, locale="en-US"
            )
            anonymous = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
            sign_in(context, scene.hub)
            for state in states(scene):
                if only and only not in state.name:
                    continue
                page = (context if state.signed_in else anonymous).new_page()
                page.goto(scene.hub.url + state.path)
                if state.act:
                    state.act(page)
                page.evaluate(LOADED)
                page.wait_for_timeout(150)
                path = folder / f"dashboard-{state.name}-{theme}-{size}.png"
                page.screenshot(path=str(path), full_page=state.act is None)
                page.close()
                yield path
            context.close()
            anonymous.close()


def main(folder: str, only: str = "") -> None:
    """Take the pictures into a folder: `python -m tests.browser.gallery_dashboard FOLDER [NAME]`."""
    import tempfile

    import httpx

    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port, hub_port = free_port(), free_port()
        process, url = start_sandbox(port=port)
        stack.callback(stop_sandbox, process)
        http = stack.enter_context(httpx.Client(base_url=url, timeout=10, trust_env=False))
        allow = f"127.0.0.1:{port},127.0.0.1:{hub_port}"
        hub = stack.enter_context(Hub(room / "hub", hub_port, egress_allow=allow, single_process=True))
        stack.callback(close_clients)
        scene = furnish(hub, Sandbox(url, http))
        browser = launch(stack.enter_context(sync_playwright()))
        stack.callback(browser.close)
        for path in pictures(browser, scene, Path(folder), only):
            print(path, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
