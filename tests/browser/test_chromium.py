"""The harness itself: a page works, a script's fault and an inaccessible page are found."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.chromium import no_errors, violations


def test_a_page_runs_its_script(tab: Page) -> None:
    tab.set_content("<title>t</title><main><h1 id=h>a</h1></main><script>h.textContent = 'b'</script>")
    assert tab.inner_text("h1") == "b"
    no_errors(tab)


def test_a_fault_in_a_script_is_found(tab: Page) -> None:
    tab.set_content("<script>nothing.here()</script>")
    with pytest.raises(AssertionError):
        no_errors(tab)


def test_what_a_screen_reader_cannot_read_is_found(tab: Page) -> None:
    tab.set_content("<html lang=en><title>t</title><main><h1>h</h1><input></main>")
    assert [v.partition(":")[0] for v in violations(tab)] == ["label"]
