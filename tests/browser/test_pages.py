"""Every page in a real browser: it draws, its links work, it shows model text as text, and asks nobody outside.

The `visit` fixture checks after each test that no request left the machine and no page showed an exception.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.browser.conftest import Visit, parameters, settle
from tests.studies.synthetic import synthetic_study

pytestmark = pytest.mark.browser
PAGES = {
    "": "Overview",
    "responses": "Responses",
    "adapters": "Adapters",
    "probes": "Probes",
    "directions": "Directions",
}


def drag(page: Page, label: str, steps: int) -> None:
    """Move the lower handle of a slider by so many steps, with the keyboard."""
    handle = page.get_by_role("slider", name=label).first
    handle.focus()
    for _ in range(steps):
        page.keyboard.press("ArrowRight")
    settle(page)


@pytest.mark.parametrize("path", [*PAGES, "live"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_draws(visit: Visit, path: str, scheme: str):
    page = visit(path, scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_the_navigation_reaches_every_page_and_keeps_the_study(visit: Visit):
    page = visit("?study=synthetic")
    sidebar = page.locator('[data-testid="stSidebarNav"]')
    for path, title in PAGES.items():
        sidebar.get_by_role("link", name=title, exact=True).click()
        expect(page).to_have_title(title)
        settle(page)
        assert path in page.url
        expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_filtering_adapters_by_layer_is_in_the_link_and_the_link_reproduces_it(visit: Visit):
    page = visit("adapters")
    expect(page.get_by_text("9 of 9 adapters")).to_be_visible()
    drag(page, "Layers", 3)
    expect(page.get_by_text("6 of 9 adapters")).to_be_visible()
    page.wait_for_url(re.compile("scalars_layers="))
    assert parse_qs(parameters(page))["scalars_layers"] == ["4", "9"]
    shared = visit(page.url)
    expect(shared.get_by_text("6 of 9 adapters")).to_be_visible()


def test_charts_stand_below_each_other_where_a_window_is_narrow(visit: Visit):
    page = visit()
    rates = page.get_by_role("heading", name=re.compile("How often is each organism"))
    charts = rates.locator("xpath=following::*[@data-testid='stVegaLiteChart']")
    tops = [(charts.nth(at).bounding_box() or {"y": 0})["y"] for at in (0, 1)]
    assert tops[0] == tops[1]
    page.set_viewport_size({"width": 900, "height": 900})
    settle(page)
    first, second = (charts.nth(at).bounding_box() or {} for at in (0, 1))
    assert second["y"] >= first["y"] + first["height"]
    assert first["x"] + first["width"] <= 900


@pytest.mark.parametrize("width", [390, 900, 1400])
def test_the_story_is_whole_at_any_width(visit: Visit, width: int):
    page = visit()
    page.set_viewport_size({"width": width, "height": 900})
    settle(page)
    cards = page.get_by_role("listitem").filter(has=page.locator("a[href^='#story-']"))
    expect(cards).to_have_count(6)
    expect(cards.first).to_be_in_viewport()
    cut = cards.evaluate_all(
        "cards => cards.flatMap(c => [...c.querySelectorAll('*')]).filter(e => e.scrollWidth > e.clientWidth + 1 && "
        "e.clientWidth > 0 && getComputedStyle(e).display !== 'inline').map(e => e.textContent)"
    )
    assert cut == []
    cards.first.get_by_role("link").click()
    expect(page.get_by_role("heading", name="1. The organism")).to_be_in_viewport()


def test_a_shared_link_to_a_response_opens_it(visit: Visit):
    page = visit("responses")
    page.get_by_role("button", name="Next").click()
    page.wait_for_url(re.compile("[?&]response="))
    response = parse_qs(parameters(page))["response"][0]
    shared = visit(page.url)
    expect(shared.get_by_text(response).last).to_be_visible()


def test_clicking_a_point_reads_that_response(visit: Visit):
    page = visit("responses")
    point = page.locator('[data-testid="stVegaLiteChart"] .mark-symbol path[aria-roledescription="point"]').first
    point.click(force=True)
    page.wait_for_url(re.compile("[?&]response="))


def test_rows_selected_one_after_the_other_are_read(visit: Visit):
    page = visit("responses")
    settle(page)
    table = page.locator(".st-key-responses_table").get_by_test_id("stDataFrame")
    read: list[str] = []
    for row in (3, 5):
        before = page.url
        table.click(position={"x": 15, "y": 35 * row + 17})
        page.wait_for_function("before => location.href !== before", arg=before, timeout=15_000)
        settle(page)
        read.append(parse_qs(parameters(page))["response"][0])
    assert read[0] != read[1]
    page.get_by_role("button", name="Previous").click()
    settle(page)
    page.get_by_role("button", name="Previous").click()
    settle(page)
    assert parse_qs(parameters(page))["response"] == [read[0]]  # rows 3 and 5 are two apart


def test_brushing_leaves_the_responses_inside(visit: Visit):
    page = visit("responses")
    everything = page.get_by_text("320 responses. Select a row")
    expect(everything).to_be_visible()
    chart = page.locator('[data-testid="stVegaLiteChart"]').first
    chart.scroll_into_view_if_needed()  # it stands below the list
    box = chart.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.55)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.8, steps=8)
    page.mouse.up()
    expect(everything).not_to_be_visible()
    expect(page.get_by_text("responses. Select a row")).to_be_visible()


def test_html_of_prompts_and_answers_is_shown_and_never_run(visit: Visit):
    page = visit("responses?responses_search=alert(1)")
    alerts: list[str] = []

    def alerted(dialog: Dialog) -> None:
        alerts.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", alerted)
    expect(page.get_by_text("<script>alert(1)</script>").last).to_be_visible()
    assert not alerts


def test_the_study_of_a_link_is_kept_from_page_to_page(visit: Visit, studies: Path):
    synthetic_study(studies, "another", rows=1)
    page = visit("probes?study=another")
    for name in ("Responses", "Directions", "Overview"):
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        settle(page)
        expect(page.get_by_test_id("stSidebar").get_by_role("combobox", name="Study")).to_have_value("another")
        assert parse_qs(parameters(page))["study"] == ["another"]


def test_an_unknown_study_is_explained(visit: Visit):
    page = visit("?study=nowhere")
    expect(page.get_by_role("alert")).to_contain_text("nowhere")


def test_tokens_say_their_value(visit: Visit):
    page = visit("responses")
    token = page.locator('span[aria-label*="token"]').first
    expect(token).to_be_visible()
    assert token.get_attribute("title") == token.get_attribute("aria-label")
