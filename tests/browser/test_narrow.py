"""Charts at three widths in a real browser: no text is cut, and no plot is squeezed away."""

import pytest

from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

LEAST = 120  # pixels of a plot
LEEWAY = 3  # pixels that letters may stand over
PAGES = ("", "adapters", "directions", "robustness")  # the study has one judge, so Judges draws nothing
CHARTS = """() => [...document.querySelectorAll('[data-testid="stVegaLiteChart"] svg.marks')].map(svg => {
    const outer = svg.getBoundingClientRect();
    const seen = each => each.getBoundingClientRect().width && +(each.getAttribute('opacity') ?? 1);
    const words = [...svg.querySelectorAll('text')].filter(seen);
    const over = each => { const r = each.getBoundingClientRect();
        return Math.max(outer.left - r.left, r.right - outer.right); };
    return {
        plot: svg.querySelector('.role-frame.root path.background').getBoundingClientRect().width,
        cut: words.filter(each => each.textContent.includes('…')).map(each => each.textContent),
        over: words.filter(each => over(each) > LEEWAY).map(each => `${each.textContent} by ${Math.round(over(each))}`),
    };
})""".replace("LEEWAY", str(LEEWAY))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path or "overview")
def test_no_text_is_cut_and_no_plot_is_squeezed_away(visit: Visit, path):
    page = visit(path)
    wrong = []
    for width in (1400, 900, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(1500)
        charts = page.evaluate(CHARTS)
        assert charts
        wrong += [(width, each) for each in charts if each["plot"] < LEAST or each["cut"] or each["over"]]
    assert not wrong
