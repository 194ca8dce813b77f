"""Debian's chromium, driven by Playwright; axe-core for what a program can find of accessibility."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

NODE_MODULES = Path(__file__).with_name("node") / "node_modules"
PUBLISHED_HUB = NODE_MODULES / "@stackone" / "hub" / "dist" / "webcomponent.js"
_AXE = NODE_MODULES / "axe-core" / "axe.min.js"
# Without these the browser looks for hosts that a closed machine cannot reach.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def launch(playwright: Playwright) -> Browser:
    """Start chromium without a window."""
    return playwright.chromium.launch(executable_path=_program(), args=list(ARGUMENTS))


def launch_with_preferences(playwright: Playwright, folder: Path, preferences: Mapping[str, Any]) -> BrowserContext:
    """Start chromium with a profile in this folder, in whose settings these were changed."""
    (folder / "Default").mkdir(parents=True)
    (folder / "Default" / "Preferences").write_text(json.dumps(preferences), encoding="utf-8")
    return playwright.chromium.launch_persistent_context(folder, executable_path=_program(), args=list(ARGUMENTS))


def _program() -> str:
    return shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file. Playwright keeps a loop running as long as it lives, which no asynchronous test
    of another file would survive."""
    with sync_playwright() as playwright:
        running = launch(playwright)
        try:
            yield running
        finally:
            running.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A page in a profile of its own. A fault in a page's script fails the test."""
    profile = browser.new_context()
    try:
        yield watched(profile)
    finally:
        profile.close()


def watched(profile: BrowserContext) -> Page:
    """A new page whose uncaught errors end in `page_errors`; look with `no_errors`."""
    page = profile.new_page()
    found: list[str] = []
    page.on("pageerror", lambda e: found.append(str(e)))
    page.page_errors = found  # type: ignore[attr-defined]
    return page


def no_errors(page: Page) -> None:
    """Fail if a script of the page failed."""
    assert page.page_errors == []  # type: ignore[attr-defined]


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page as it stands, shadow roots included: rule, help and the elements."""
    page.evaluate(_AXE.read_text(encoding="utf-8"))  # evaluated, not added as an element: a CSP would refuse that
    found: dict[str, Any] = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", _TAGS)
    return [f"{v['id']}: {v['help']} at {[n['target'] for n in v['nodes']][:5]}" for v in found["violations"]]
