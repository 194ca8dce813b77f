"""What the Hub weighs, and that every language says all that English says."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page

from mooring.connect.assets import WEB, hub_script
from mooring.identity.project_settings import LANGUAGES, SURFACES
from tests.browser.chromium import no_errors
from tests.browser.hub_page import Stage, crowded, open_link, view
from tests.hub import Project, client

LIMIT = 25 * 1024  # bytes of script and style, gzip


def test_script_and_style_weigh_little() -> None:
    weight = len(gzip.compress(hub_script().encode(), 9)) + len(gzip.compress((WEB / "hosted.js").read_bytes(), 9))
    assert weight <= LIMIT, weight


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_says_everything(code: str) -> None:
    english = json.loads((WEB / "lang" / "en.json").read_text("utf-8"))
    texts = json.loads((WEB / "lang" / f"{code}.json").read_text("utf-8"))
    assert list(texts) == list(english)
    for key, text in texts.items():
        assert text.strip() == text and text, key
        assert set(re.findall(r"\{\w+}", text)) == set(re.findall(r"\{\w+}", english[key])), key
    same = [key for key, text in texts.items() if text == english[key] and len(text) > 14]
    assert code == "en" or not same  # nothing was left untranslated


def test_every_text_that_the_script_asks_for_exists() -> None:
    english = json.loads((WEB / "lang" / "en.json").read_text("utf-8"))
    code = "".join(p.read_text("utf-8") for p in WEB.glob("*.js"))
    asked = set(re.findall(r'\bt\("([a-zA-Z_]+)"[,)]', code))
    assert asked and asked <= set(english), asked - set(english)


def test_the_style_knows_the_surfaces_that_colours_are_checked_against() -> None:
    style = (WEB / "hub.css").read_text("utf-8")
    light, _, dark = style.partition(".hub.dark")
    for theme, part in (("light", light), ("dark", dark)):
        found = re.search(r"--surface: var\(--mooring-surface, (#\w+)\)", part)
        assert found is not None
        colour = found[1] if len(found[1]) == 7 else "#" + "".join(c * 2 for c in found[1][1:])
        assert colour == SURFACES[theme]


def test_files_are_kept_by_their_version(s: Stage) -> None:
    http = client(s.hub.url)
    first = http.get("/hub.js")
    assert first.headers["access-control-allow-origin"] == "*" and "must-revalidate" in first.headers["cache-control"]
    assert http.get("/hub.js", headers={"if-none-match": first.headers["etag"]}).status_code == 304
    version = first.headers["etag"].strip('"')
    assert "immutable" in http.get(f"/hub.js?v={version}").headers["cache-control"]
    assert "immutable" not in http.get("/hub.js?v=other").headers["cache-control"]
    assert http.get("/assets/hub/xx.json").status_code == 404
    assert http.get("/assets/hub/..%2fen.json").status_code == 404
    in_script = re.search(r'const VERSION = "(\w+)"', first.text)
    assert in_script is not None
    assert "immutable" in http.get(f"/assets/hub/de.json?v={in_script[1]}").headers["cache-control"]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A hub with 300 connectors."""
    with crowded(tmp_path_factory.mktemp("crowd")) as made:
        yield made


def test_three_hundred_connectors_are_drawn_and_searched(crowd: Any, tab: Page) -> None:
    ready, made = crowd
    project = Project(ready.hub, made.id, made.key)
    open_link(tab, project.session("Acme"))
    view(tab, "picker")
    assert tab.locator(".grid li").count() == 300
    tab.get_by_role("searchbox").fill("system 29")
    assert tab.locator(".grid li:visible").count() == 10
    tab.get_by_role("searchbox").fill("")
    tab.get_by_role("button", name="HR", exact=True).click()
    assert tab.locator(".grid li:visible").count() == 100
    no_errors(tab)


def test_a_guide_is_rebuilt_from_an_allowlist(tab: Page) -> None:
    """The server has sanitised it already; nothing that runs or loads would pass here either."""
    tab.set_content("<title>t</title><main></main>")
    tab.evaluate(hub_script().replace('"use strict";', '"use strict"; window.safe = (html) => safeMarkup(html);', 1))
    shown = tab.evaluate(
        "html => window.safe(html).innerHTML",
        "<h1 onclick=alert(1)>Steps</h1><script>alert(1)</script><p style=color:red>Open <b>Settings</b> "
        "<a href='https://x.example/a' onmouseover=alert(1)>here</a><a href='javascript:alert(1)'>there</a>"
        "<img src=x onerror=alert(1)><iframe src=//x></iframe><svg><a href='javascript:1'>y</a></svg>"
        "<form><li>z</li></form>",
    )
    assert shown == (
        "<h3>Steps</h3><p>Open <b>Settings</b> "
        '<a href="https://x.example/a" target="_blank" rel="noopener noreferrer">here</a><span>there</span>'
        "y</p><li>z</li>"
    )
