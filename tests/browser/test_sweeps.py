"""The pages of sweeps in a real browser: points are picked by a click, and what is found goes to Live in one."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, parameters, settle
from tests.studies.swept import BAD, named, swept_study

pytestmark = pytest.mark.browser
PATHS = ("steering", "ablation", "convergence", "directions")


@pytest.fixture(scope="module")
def study(studies) -> str:
    """The name of the study of sweeps among the studies of the app, as a query."""
    swept_study(studies)
    return "study=swept"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_of_sweeps_draws(visit: Visit, study: str, path: str, scheme: str):
    page = visit(f"{path}?{study}", scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator('[data-testid="stAlertContentError"]')).to_have_count(0)
    expect(
        page.locator('[data-testid="stVegaLiteChart"] svg, [data-testid="stVegaLiteChart"] canvas').first
    ).to_be_visible()


def test_a_click_on_a_cell_of_the_heat_map_reads_its_answers(visit: Visit, study: str):
    page = visit(f"steering?{study}")
    cells = page.locator('[data-testid="stVegaLiteChart"]').first.locator('path[aria-roledescription="rect mark"]')
    cells.nth(5).click(force=True)
    page.wait_for_url(re.compile("steering_condition="))
    settle(page)
    chosen = parse_qs(parameters(page))["steering_condition"][0]
    assert chosen.startswith(f"steer {named(BAD[0])} L")
    expect(page.get_by_text(f"base, {chosen}", exact=True)).to_be_visible()


def send(page: Page, button: str = "Send to Live") -> dict[str, str]:
    """Send what is shown to Live; the query of the page it leads to."""
    page.locator('[data-testid="stMain"]').get_by_role("button", name=button, exact=True).click()
    page.wait_for_url(re.compile(r"/live\b"))
    settle(page)
    expect(page.locator('[data-testid="stException"]')).to_have_count(0)
    return {key: values[0] for key, values in parse_qs(parameters(page)).items()}


def chosen(page: Page) -> list[str]:
    """What the menus of the page stand at."""
    menus = page.locator('[data-testid="stMain"] [data-testid="stSelectbox"] input')
    return [re.sub(r" #[0-9a-f]{12}$", "", menus.nth(at).input_value()) for at in range(menus.count())]


def test_a_point_of_a_steering_sweep_goes_to_live_with_its_strength(visit: Visit, study: str):
    name = named(BAD[0])
    page = visit(f"steering?{study}&steering_condition=steer+{name.replace(' ', '+')}+L4+×2")
    assert send(page)["live_layer_b_0"] == "4"
    assert name in chosen(page)
    expect(page.get_by_text(re.compile("λ 2.00 ×"))).to_be_visible()


def test_an_ablation_goes_to_live_on_its_organism(visit: Visit, study: str):
    page = visit(f"ablation?{study}&ablation_organism={BAD[1]}")
    query = send(page)
    assert (query["live_worn_b"], query["live_kind_b_0"], query["live_where_b_0"]) == (BAD[1], "Ablate", "every layer")
    assert query["live_at_b_0"] == "every token (paper)"


def test_a_direction_of_the_matrix_goes_to_live_in_one_click(visit: Visit, study: str):
    page = visit(f"convergence?{study}")
    send(page, named(BAD[2]))
    assert named(BAD[2]) in chosen(page)


def test_the_overview_answers_to_its_own_name(visit: Visit):
    page = visit("overview")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("Page not found")).to_have_count(0)


def test_a_direction_can_be_taken_away_as_a_file(visit: Visit, study: str):
    page = visit(f"directions?{study}&directions_more=Provenance+and+file")
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("safetensors")).click()
    assert download.value.suggested_filename.endswith(".safetensors")


@pytest.mark.parametrize("path", PATHS)
def test_a_plot_keeps_its_room_on_a_telephone(visit: Visit, study: str, path: str):
    """Names and numbers give way before the marks do; the plot is what the first background of a chart is behind."""
    page = visit(f"{path}?{study}")
    page.set_viewport_size({"width": 390, "height": 4000})
    settle(page)
    charts = page.locator('[data-testid="stVegaLiteChart"] svg.marks')
    expect(charts.first).to_be_visible()
    page.wait_for_timeout(1000)  # charts follow the window in their own time
    widths = charts.evaluate_all(
        "charts => charts.map(c => c.querySelector('path.background').getBoundingClientRect().width)"
    )
    assert min(widths) >= 120, widths
