"""From a probe to a subset that answers: train, filter, brush a region of the map, send it to Live, generate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, expect

from backend.edits import Gain
from tests.browser.conftest import Visit, button, parameters, settle
from tests.studies.fake_worker import FakeWorker, fake_worker
from tests.studies.synthetic import ORGANISM

pytestmark = pytest.mark.browser
BOTH = ("layers.3.mlp.down_proj", "layers.4.mlp.down_proj")  # they tell the medical topic


@pytest.fixture(scope="module")
def worker() -> Iterator[FakeWorker]:
    with fake_worker() as running:
        yield running


def choose(page: Page, label: str, text: str) -> None:
    """An option of a menu, typed, since the list is drawn in part."""
    box = page.get_by_role("combobox", name=label).last
    box.click()
    box.fill(text)
    box.press("Enter")
    settle(page)


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Brush the first chart between two places, as shares of its width and height."""
    box = page.locator('[data-testid="stVegaLiteChart"]').first.bounding_box()
    assert box
    (x, y), (to_x, to_y) = ((box["x"] + box["width"] * a, box["y"] + box["height"] * b) for a, b in (start, end))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=8)
    page.mouse.up()


def test_train_filter_brush_and_send_to_live(live: Callable[[str], Page], worker: FakeWorker):
    page = live("probes")
    button(page, "Train").click()
    expect(page.get_by_text(re.compile(r"permutation p = 0\.0\d+, \d+ shuffles"))).to_be_visible()
    choose(page, "Adapters of layer", "3")
    page.keyboard.press("Escape")  # a menu of several stays open
    expect(page.get_by_text("The controls have changed since this probe was trained:")).to_be_visible()
    button(page, "Train").click()
    expect(page.get_by_text("not clear of chance")).to_be_visible()

    page.locator('[data-testid="stSidebarNav"]').get_by_role("link", name="Specialisation", exact=True).click()
    settle(page)
    drag(page, (0.88, 0.4), (0.99, 0.85))
    expect(page.get_by_text("In the brushed region: L3, L4.")).to_be_visible()
    choose(page, "Fill the first set from", "the brushed region")
    expect(page.get_by_text("bad-medical: L3, L4 ×30; others ×0")).to_be_visible()
    button(page, "Run it on the Live page").click()
    page.wait_for_url(re.compile("/live"))
    settle(page)
    query = parse_qs(parameters(page))
    assert query["live_gain_b_L3"] == query["live_gain_b_L4"] == ["30"]
    assert query["live_gain_b_L9"] == ["0"]

    button(page, "Generate").click()
    expect(page.get_by_text("plain79").first).to_be_visible()
    plain, edited = (request.arms[0] for request in worker.requests[-2:])
    assert plain.edits == (Gain(ORGANISM, 1.0),)
    factors = {edit.factor: set(edit.adapters or ()) for edit in edited.edits if edit.adapters}
    assert factors[30.0] == set(BOTH)
    assert len(factors[0.0]) == 7


def test_the_arrow_keys_go_from_adapter_to_adapter_and_the_address_follows(visit: Visit):
    page = visit("one_adapter?adapter_name=layers.5.mlp.down_proj")
    expect(page.get_by_text("mlp.down_proj, layer 5")).to_be_visible()
    settle(page)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("mlp.down_proj, layer 6")).to_be_visible()
    page.wait_for_url(re.compile("adapter_name=layers.6"))
    for layer in (5, 4):
        settle(page)
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_text(f"mlp.down_proj, layer {layer}")).to_be_visible()
    page.wait_for_url(re.compile("adapter_name=layers.4"))
    shared = visit(page.url)
    expect(shared.get_by_text("mlp.down_proj, layer 4")).to_be_visible()


@pytest.mark.parametrize("path", ["specialisation", "one_adapter"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_draw(visit: Visit, path: str, scheme: str):
    page = visit(path, scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
