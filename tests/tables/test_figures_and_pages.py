"""What `figures` prints is what the pages draw: number for number, on a study whose sweeps were cut short."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from streamlit.testing.v1 import AppTest

from backend.pipeline.import_published import import_published
from backend.study import open_study
from backend.tables.figures import Choices, figures
from tests.pages.test_judges import second_judge
from tests.published.sample import write_release
from tests.studies import swept
from tests.studies.gained import gained_study
from tests.studies.synthetic import synthetic_study

Opened = Callable[..., AppTest]
CUT = swept.Shape(cut=40, layers=6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep cut short, recorded gains, two judges, and a release with scaled adapters."""
    root = tmp_path_factory.mktemp("made")
    swept.swept_study(root, "cut", shape=CUT)
    gained_study(root)
    synthetic_study(root)
    second_judge(root)
    import_published([write_release(tmp_path_factory.mktemp("release"))], root=root)
    return root


@pytest.fixture
def opened(open_page: Opened, made: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A page of one of these studies, which must draw without an error."""

    def run(name: str, study: str, **query: str) -> AppTest:
        monkeypatch.setenv("EM_STUDIES", str(made))
        monkeypatch.setenv("EM_STUDY", study)
        page = open_page(name, **query)
        assert not page.exception
        assert not page.error
        return page

    return run


def printed(made: Path, study: str, page: str, title: str) -> pl.DataFrame:
    [frame] = [t.frame for t in figures(open_study(study, made), page, Choices()) if t.title.startswith(title)]
    assert frame.height
    return frame


def shown(page: AppTest, alt: str) -> pl.DataFrame:
    """The table of this description."""
    [found] = [each for each in page.dataframe if each.proto.alt == alt]
    return pl.from_pandas(found.value)


def drawn(page: AppTest) -> Iterator[pl.DataFrame]:
    """The data of every chart."""
    for chart in page.get("vega_lite_chart"):
        for data in chart.proto.datasets:
            yield pl.read_ipc_stream(data.data.data)


def assert_same(left: pl.DataFrame, right: pl.DataFrame, columns: list[str], by: list[str]) -> None:
    assert left.height
    sides = (side.select(columns).sort(by) for side in (left, right))
    assert_frame_equal(*sides, check_dtypes=False, check_exact=True)


def assert_drawn(page: AppTest, table: pl.DataFrame, numbers: list[str], by: list[str]) -> None:
    """Some chart holds these columns, and every row of such a chart is a row of the table."""
    charts = [data for data in drawn(page) if {*numbers, *by} <= set(data.columns)]
    assert charts
    for data in charts:
        assert_same(data, table.join(data.select(by), on=by, how="semi", nulls_equal=True), [*by, *numbers], by)


def test_rates_and_differences_of_the_overview(opened, made):
    page = opened(
        "overview", "cut", overview_conditions=[c.name for _, c, _ in swept.sweep(CUT, swept.directions(CUT))]
    )
    key = ["organism", "condition", "metric"]
    rates = shown(page, "Rates").filter(pl.col("n") > 0)
    table = printed(made, "cut", "overview", "EM and coherence by organism, condition (")
    assert_same(rates, table, [*key, "n", "value", "low", "high", "dropped"], key)
    gaps = printed(made, "cut", "overview", "Differences")
    assert_same(shown(page, "Differences between rates"), gaps, gaps.columns, gaps.columns[:4])
    questions = printed(made, "cut", "overview", "EM by question")
    assert_drawn(page, questions, ["value", "low", "high", "n"], ["question_id", "condition", "organism"])


@pytest.mark.parametrize("about", ["questions like these", "these very questions"])
def test_before_and_after_an_ablation(opened, made, about):
    page = opened("ablation", "cut", ablation_about=about)
    table = printed(made, "cut", "ablation", f"Before and after ablation, intervals for {about}")
    assert_same(shown(page, "Before and after every ablation"), table, table.columns, ["organism", "cell", "metric"])


def test_rates_of_a_sweep_with_its_seeds_counted_together(opened, made):
    page = opened("steering", "cut")
    table = printed(made, "cut", "steering", "Rates by direction and strength")
    key = ["organism", "cell", "metric"]
    assert_drawn(page, table, ["value", "low", "high", "n", "relative", "difference", "clear"], key)
    pooled = table.filter(pl.col("cell").str.ends_with("2 directions"), pl.col("metric") == "em")
    assert pooled.height == CUT.layers * len(swept.STRENGTHS)
    assert not table["cell"].str.contains(r"random \d").any()


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("steering", "Rates by direction"),
        ("ablation", "Before and after ablation, intervals for questions"),
        ("overview", "Differences"),
    ],
)
def test_controls_without_an_effect_show_none(made, page, title):
    """Beside whole answers, which are misaligned much more often, every control would seem to lower the rate."""
    frame = printed(made, "cut", page, title)
    names = "cell" if "cell" in frame.columns else "condition"
    random = frame.filter(pl.col(names).str.contains("random"))
    if "metric" in random.columns:
        random = random.filter(pl.col("metric") == "em")
    if "against" in random.columns:
        random = random.filter(pl.col("against") == pl.col("organism"))
        assert random["under"].unique().to_list() == [CUT.beside]
    assert random.height
    assert random["difference"].abs().mean() < 0.1
    assert random["clear"].mean() <= 0.05


def test_what_adapters_cause(opened, made):
    page = opened("specialisation", "gained")
    titles = ("What zeroing one module", "What one brings alone")
    table = pl.concat(printed(made, "gained", "specialisation", title) for title in titles).filter(metric="em")
    assert_drawn(page, table, ["value", "n", "change", "change_low", "change_high"], ["unit", "against"])
    rates = printed(made, "gained", "specialisation", "Rates under every recorded condition").filter(metric="em")
    assert_same(shown(page, "Rates under every condition"), rates, ["condition", "n"], ["condition"])


def test_what_adapters_tell(opened, made):
    page = opened("adapters", "gained")
    contrast = page.selectbox(key="scalars_contrast").value
    table = printed(made, "gained", "adapters", "Which adapters").filter(pl.col("contrast") == contrast)
    assert_drawn(page, table, ["value", "low", "high"], ["adapter"])


def test_the_four_way_table_and_its_cut_offs(opened, made):
    page = opened("scaled_adapters", "published")
    table = printed(made, "published", "scaled_adapters", "Scaled adapters, share of kept answers")
    key = ["organism", "condition", "cell"]
    assert_same(shown(page, "Four-way table"), table, [*key, "n", "value", "low", "high", "dropped"], key)
    cell = page.selectbox(key="scaling_cell").value
    moved = printed(made, "published", "scaled_adapters", f"The share of {cell} as")
    assert_drawn(page, moved, ["value", "low", "high", "n"], ["condition", "coherent", "medical"])


def test_agreement_of_two_judges(opened, made):
    page = opened("judges", "synthetic")
    one, other = (page.selectbox(key=f"judges_{which}").value for which in ("judge", "reference"))
    table = printed(made, "synthetic", "judges", f"{one} measured against {other}")
    assert_same(shown(page, "Measures of agreement"), table, table.columns, ["measure"])


def test_cosines_over_layers(opened, made):
    page = opened("convergence", "cut")
    table = printed(made, "cut", "convergence", "Cosine between directions")
    pairs = shown(page, "Cosines of every pair")
    assert_same(pairs, table.join(pairs.select("a", "b"), on=["a", "b"], how="semi"), table.columns, ["a", "b"])


def test_agreement_of_organisms_at_a_layer(opened, made):
    page = opened("convergence", "cut")
    layer = page.selectbox(key="convergence_layer").value
    pairs = printed(made, "cut", "convergence", "Agreement of every two organisms: ").filter(layer=layer)
    assert_same(shown(page, "Agreement of every pair"), pairs, ["a", "b", "cosine", "draws"], ["a", "b"])
    means = printed(made, "cut", "convergence", "Agreement of organisms, means over pairs: ").filter(layer=layer)
    columns = ["group", "cosine", "pairs", "draws"]
    assert_same(shown(page, "Agreement by kind of direction"), means, columns, ["group"])
