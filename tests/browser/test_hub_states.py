"""Every state of the Hub: accessible in both themes, without a horizontal scroll bar at 320 px, without script errors."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.chromium import no_errors, violations
from tests.browser.hub_page import STATES, Stage

WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """[...document.querySelector('mooring-hub').shadowRoot.querySelectorAll('a,button,input,select,textarea,summary')]
  .filter(e => { const b = e.getBoundingClientRect(); return b.width && (b.width < 24 || b.height < 24)
    && !(e.matches('a') && e.parentElement.matches('p,li')) && !(e.type === 'radio') })
  .map(e => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_accessible(s: Stage, tab: Page, name: str) -> None:
    tab.emulate_media(reduced_motion="reduce", color_scheme="light")
    STATES[name](s, tab)
    for theme in ("light", "dark"):
        tab.emulate_media(reduced_motion="reduce", color_scheme=theme)
        tab.wait_for_timeout(50)
        assert violations(tab) == [], theme
    tab.set_viewport_size({"width": 320, "height": 640})
    assert tab.evaluate(WIDE) == 0
    assert tab.evaluate(SMALL) == []  # WCAG 2.5.8; links inside a sentence are exempt
    no_errors(tab)
