"""The snippets of docs/embed.md run as they stand: servers' ones make a session, pages' ones link an account with it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page

from mooring.connect.assets import hub_script
from tests.browser.chromium import NODE_MODULES, no_errors
from tests.browser.hub_page import API_KEY, Stage, submit, view
from tests.browser.site import Site
from tests.browser.test_hub_flows import accounts
from tests.hub import Project, ok

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = dict(
    re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", (ROOT / "docs" / "embed.md").read_text("utf-8"), re.DOTALL)
)
PACKAGE = ROOT / "packages" / "hub"


def test_all_snippets_are_run_below() -> None:
    assert set(SNIPPETS) == {"python", "node", "curl", "vanilla", "react", "vue"}


@pytest.fixture
def project(s: Stage) -> Project:
    return s.project("Northwind", "api_key")


def made(project: Project, language: str, tmp_path: Path) -> dict[str, str]:
    """A session, made by a snippet."""
    code, hub = SNIPPETS[language], project.hub.url
    if language == "python":
        names: dict[str, object] = {}
        exec(compile(code, "embed.md", "exec"), names)
        return names["connect_session"](hub, project.key, "customer-42", "Acme Inc.")  # type: ignore[operator,no-any-return]
    if language == "node":
        (tmp_path / "server.mjs").write_text(code)
        call = 'import {connectSession as f} from "./server.mjs";'
        call += "console.log(JSON.stringify(await f(...process.argv.slice(2))))"
        (tmp_path / "call.mjs").write_text(call)
        command = ["node", str(tmp_path / "call.mjs"), hub, project.key, "customer-42", "Acme Inc."]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)  # type: ignore[no-any-return]
    env = {"PATH": "/usr/bin:/bin", "HUB": hub, "KEY": project.key, "NO_PROXY": "*"}
    done = subprocess.run(["sh", "-c", code], check=True, capture_output=True, text=True, timeout=60, env=env)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("language", ["python", "node", "curl"])
def test_a_server_makes_a_session(project: Project, tmp_path: Path, language: str) -> None:
    session = made(project, language, tmp_path)
    assert session["auth_link_url"].startswith(project.hub.url)
    seen = ok(project.http.post("/connect_sessions/authenticate", json={"token": session["token"]}), 201)
    assert seen["origin_owner_id"] == "customer-42" and seen["origin_owner_name"] == "Acme Inc."


def library(site: Site) -> str:
    """Publish the package and the frameworks; returns the import map."""
    site.pages["/hub/hub.js"] = hub_script()
    for name in ("index.js", "react.js"):
        site.pages[f"/hub/{name}"] = (PACKAGE / name).read_text()
    site.pages["/vue.js"] = (NODE_MODULES / "vue/dist/vue.esm-browser.prod.js").read_text()
    for name in ("react", "react-dom"):
        site.pages[f"/{name}.umd.js"] = (NODE_MODULES / f"{name}/umd/{name}.production.min.js").read_text()
    names = "createElement, useEffect, useRef, useState"
    site.pages["/react.js"] = f"export const {{ {names} }} = window.React;"
    imports = {
        "@mooring/hub": "/hub/index.js",
        "@mooring/hub/react": "/hub/react.js",
        "react": "/react.js",
        "vue": "/vue.js",
    }
    return f'<script type="importmap">{json.dumps({"imports": imports})}</script>'


def without_jsx(code: str) -> str:
    """The one element of the snippet as the call that every JSX compiler makes of it."""
    tag = re.search(r"<MooringHub (.*?) />", code, re.DOTALL)
    assert tag is not None
    values = re.sub(r"(\w+)=(?:\{(.*?)\}|(\"[^\"]*\"))(?=\s+\w+=|$)", r"\1: \2\3,", tag[1], flags=re.DOTALL)
    return code.replace(tag[0], f"React.createElement(MooringHub, {{ {values} }})")


def page_of(site: Site, kind: str, hub: str, token: str) -> str:
    """A page that mounts a snippet."""
    code = SNIPPETS[kind].replace("HUB", hub).replace("TOKEN", token)
    if kind == "vanilla":
        return site.put("/", code)
    head = library(site)
    if kind == "react":
        scripts = '<script src="/react.umd.js"></script><script src="/react-dom.umd.js"></script>'
        mount = f"const made = React.createElement(Integrations, {{token: {token!r}}});"
        mount += "ReactDOM.createRoot(document.querySelector('#app')).render(made);"
        return site.put(
            "/", f'{head}{scripts}<div id="app"></div><script type="module">{without_jsx(code)}\n{mount}</script>'
        )
    body = code.replace("export default {", "const Integrations = {")
    mount = (
        "import { createApp } from 'vue';\n"
        f"const app = createApp(Integrations, {{ token: {token!r} }});"
        "app.config.compilerOptions.isCustomElement = (tag) => tag === 'mooring-hub'; app.mount('#app');"
    )
    return site.put("/", f'{head}<div id="app"></div><script type="module">{body}\n{mount}</script>')


@pytest.mark.parametrize("kind", ["vanilla", "react", "vue"])
def test_a_page_links_an_account(s: Stage, project: Project, tab: Page, site: Site, kind: str) -> None:
    ok(project.http.patch("/project", json={"allowed_origins": [site.origin]}))
    said: list[str] = []
    tab.on("console", lambda m: said.append(m.text))
    tab.goto(page_of(site, kind, s.hub.url, project.session("Acme").token))
    view(tab, "form")
    tab.locator("[name=api_key]").fill(API_KEY)
    submit(tab)
    view(tab, "done")
    (account,) = accounts(project)
    assert f"linked {account['id']} sandbox" in said
    no_errors(tab)


def test_old_pages_open_the_hub_in_a_dialog(s: Stage, project: Project, tab: Page, site: Site) -> None:
    """`@stackone/react-hub` loads connect.js and calls Connect.start()."""
    token = project.session("Acme").token
    for path in ("/stackone/connect.js", "/connect.js"):
        script = f"""<script src="{s.hub.url}{path}"></script><button onclick="go()">Connect</button><script>
        window.told = [];
        const go = () => Connect.start({{sessionToken: {token!r}, apiUrl: {s.hub.url!r},
          onSuccess: a => told.push(['success', a]), onCancel: () => told.push(['cancel']),
          onClose: () => told.push(['close'])}});
        </script>"""
        tab.goto(site.put("/", script))
        tab.get_by_role("button", name="Connect").click()
        tab.locator("dialog .view").wait_for()
        tab.keyboard.press("Escape")
        tab.locator("dialog").wait_for(state="detached")
        assert tab.evaluate("told") == [["cancel"], ["close"]]
    tab.get_by_role("button", name="Connect").click()
    view(tab, "form")
    tab.locator("[name=api_key]").fill(API_KEY)
    submit(tab)
    view(tab, "done")
    tab.get_by_role("button", name="Done").click()
    tab.locator("dialog").wait_for(state="detached")
    (account,) = accounts(project)
    assert tab.evaluate("told")[2:] == [["success", {"id": account["id"], "provider": "sandbox"}], ["close"]]
    no_errors(tab)


def test_the_package_is_complete(tmp_path: Path) -> None:
    manifest = json.loads((PACKAGE / "package.json").read_text())
    from mooring import __version__

    assert manifest["name"] == "@mooring/hub" and manifest["version"] == __version__
    made_here = {"hub.js"}
    assert all((PACKAGE / name).exists() for name in manifest["files"] if name not in made_here)
    done = subprocess.run(
        ["node", "--input-type=module", "-e", hub_script()], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr  # on a server it does nothing
