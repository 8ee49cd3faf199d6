"""The paper's figures in the app, in a real browser: over the authors' files where they are, else a made-up release."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from backend.pipeline.import_published import import_published
from tests.browser.conftest import Visit, settle
from tests.published.sample import write_release
from tests.published.test_sample import COMBINED_ARM, GENERAL, MEDICAL_ARM, RELEASED

pytestmark = pytest.mark.browser
PATIENCE = 60_000  # milliseconds; the first view of a page computes what later views have


@pytest.fixture(scope="module")
def study(studies, tmp_path_factory) -> str:
    """The name of the published study among the studies of the app."""
    files = RELEASED if RELEASED.is_dir() else write_release(tmp_path_factory.mktemp("release"))
    import_published([files], root=studies, name="published")
    return "study=published"


@pytest.mark.parametrize(
    "path", ["", "responses", "adapters", "probes", "convergence", "steering", "ablation", "scaled_adapters"]
)
def test_every_page_draws_over_the_published_study(visit: Visit, study: str, path: str):
    page = visit(f"{path}?{study}")
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE)
    expect(page.locator('[data-testid="stAlertContentError"]')).to_have_count(0)


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the authors' files are not on this machine")
def test_the_papers_figures(visit: Visit, study: str):
    scaling = visit(f"scaling?{study}")
    expect(scaling.get_by_text(f"{MEDICAL_ARM}: 39 kept, 41 dropped")).to_be_visible(timeout=PATIENCE)
    expect(scaling.get_by_text(f"{COMBINED_ARM}: 47 kept, 33 dropped")).to_be_visible(timeout=PATIENCE)
    edge = scaling.get_by_role("spinbutton", name="Medical >")
    edge.fill("50")
    edge.press("Enter")
    settle(scaling)
    expect(scaling.get_by_text(f"{MEDICAL_ARM}: 36 kept, 44 dropped")).to_be_visible(timeout=PATIENCE)
    shared = visit(scaling.url)
    expect(shared.get_by_text(f"{MEDICAL_ARM}: 36 kept, 44 dropped")).to_be_visible(timeout=PATIENCE)
    directions = visit(f"convergence?{study}")
    expect(directions.get_by_text(f"Cosine with {GENERAL}, at the same layer")).to_be_visible(timeout=PATIENCE)
    sweeps = visit(f"steering?{study}&steering_condition=steer+R1_3_3_3+general+data-diff+L24+×6")
    expect(sweeps.get_by_text("800 answers, least aligned first")).to_be_visible(timeout=PATIENCE)
