"""Weigh and time our Hub beside StackOne's published component: `python -m bench.hub`.

Time runs from the last byte of the script to the moment when the form's first input is on the page. Both components talk to
the same Mooring on loopback and show the same form; each visit is a fresh profile with a cold cache. Our picker of 300
connectors is timed as well: drawn again after a step back, and searched.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
from pathlib import Path
from typing import Any, cast

from playwright.sync_api import Browser, Playwright, sync_playwright

from mooring.connect.assets import WEB, hub_script
from mooring.identity.project_settings import LANGUAGES
from tests.browser.chromium import PUBLISHED_HUB, launch
from tests.browser.hub_page import MANY, Stage, crowded, open_link, stage, view
from tests.browser.site import Site, serve
from tests.hub import Project

VISITS = 10
WATCH = """
const started = () => performance.getEntriesByType('resource').find(e => /\\.js(\\?|$)/.test(e.name));
const deep = (node) => node.querySelector('input:not([type=radio]), textarea, select')
  || [...node.querySelectorAll('*')].map(e => e.shadowRoot && deep(e.shadowRoot)).find(Boolean);
const look = () => {
  const hub = document.querySelector('TAG');
  const input = hub && ((hub.shadowRoot && deep(hub.shadowRoot)) || deep(hub));
  if (input && started()) window.usable = performance.now() - started().responseEnd; else requestAnimationFrame(look);
};
look();
"""

PICKER = """async () => {
  const root = document.querySelector('mooring-hub').shadowRoot, drawn = [], searched = [];
  for (let i = 0; i < 12; i++) {
    let t = performance.now();
    root.querySelector('.back').click();
    for (let turn = 0; turn < 50 && !root.querySelector('[data-view=picker]'); turn++) await null;
    root.querySelector('.grid').offsetHeight;
    drawn.push(performance.now() - t);
    t = performance.now();
    const input = root.querySelector('.search');
    input.value = 'system 29';
    input.dispatchEvent(new Event('input'));
    root.querySelector('.grid').offsetHeight;
    searched.push(performance.now() - t);
    root.querySelector('.grid li:not([hidden]) .row').click();
    while (!root.querySelector('[data-view=form]')) await new Promise(r => setTimeout(r));
  }
  return {drawn, searched};
}"""


def main() -> None:
    """Print the table."""
    scripts = {"mooring-hub": hub_script().encode(), "stackone-hub": PUBLISHED_HUB.read_bytes()}
    times: dict[str, list[float]] = {tag: [] for tag in scripts}
    with (
        tempfile.TemporaryDirectory() as folder,
        stage(Path(folder)) as ready,
        serve("127.0.0.1") as site,
        sync_playwright() as playwright,
    ):
        project = ready.project("Bench", "api_key")
        site.pages["/published.js"] = scripts["stackone-hub"].decode()
        browser = launch(playwright)
        try:
            for visit in range(VISITS + 1):  # the first one warms the server up
                for tag in scripts:
                    spent = _visit(browser, site, ready, project, tag)
                    if visit:
                        times[tag].append(spent)
        finally:
            browser.close()
        picker = _picker(playwright, Path(folder) / "many")
    print(f"{'':14}{'gzip bytes':>12}{'raw bytes':>12}{'ms to usable, median':>22}{'fastest':>9}{'slowest':>9}")
    for tag, content in scripts.items():
        ms = times[tag]
        print(
            f"{tag:14}{len(gzip.compress(content, 9)):>12}{len(content):>12}{statistics.median(ms):>22.0f}"
            f"{min(ms):>9.0f}{max(ms):>9.0f}"
        )
    largest = max(len(gzip.compress((WEB / "lang" / f"{code}.json").read_bytes(), 9)) for code in LANGUAGES)
    print(f"A language other than English adds at most {largest} bytes (gzip).")
    for what, ms in picker.items():
        print(f"A picker of {MANY} connectors is {what} in {statistics.median(ms):.0f} ms (slowest {max(ms):.0f} ms).")


def _picker(playwright: Playwright, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of each drawing and each search."""
    folder.mkdir()
    browser = launch(playwright)
    try:
        with crowded(folder) as (_, project):
            page = browser.new_page()
            open_link(page, project.session("Acme"))
            view(page, "picker")
            page.locator(".grid .row").first.click()
            view(page, "form")
            return cast("dict[str, list[float]]", page.evaluate(PICKER))
    finally:
        browser.close()


def _visit(browser: Browser, site: Site, ready: Stage, project: Project, tag: str) -> float:
    token, hub = project.session("Acme").token, ready.hub.url
    source = f"{hub}/hub.js" if tag == "mooring-hub" else "/published.js"
    attributes = f'token="{token}" base-url="{hub}" app-url="{hub}"'
    url = site.put(
        "/", f'<{tag} {attributes}></{tag}><script>{WATCH.replace("TAG", tag)}</script><script src="{source}"></script>'
    )
    profile = browser.new_context()
    try:
        page = profile.new_page()
        page.goto(url)
        found: Any = page.wait_for_function("window.usable", timeout=30_000)
        return float(found.json_value())
    finally:
        profile.close()


if __name__ == "__main__":
    main()
