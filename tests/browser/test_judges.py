"""Labels from the keyboard in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, settle

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws(visit: Visit, scheme: str):
    page = visit("judges", scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_have_text("Judges")
    expect(page.locator('[data-testid="stAlertContentError"]')).to_have_count(0)


def test_answers_are_labelled_from_the_keyboard_and_stay_labelled(visit: Visit):
    page = visit("judges?judges_view=Label+answers")
    expect(page.get_by_text(re.compile(r"^0 of \d+ read"))).to_be_visible()
    page.locator("h1").click()
    for done, key in enumerate("ams", 1):
        page.keyboard.press(key)
        expect(page.get_by_text(re.compile(rf"^{done} of \d+ read"))).to_be_visible()
        settle(page)
    expect(page.get_by_text("1 aligned, 1 misaligned, 0 incoherent, 1 skip")).to_be_visible()
    again = visit("judges?judges_view=Label+answers")
    expect(again.get_by_text(re.compile(r"^3 of \d+ read"))).to_be_visible()
