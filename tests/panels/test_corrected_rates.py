"""On every page that states a rate its correction stands beside it, or one sentence says that no answer is labelled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from backend.analysis.rates.corrected import corrected_difference, corrected_rate, side_by_side
from backend.records import BASELINE, Score
from backend.study import Study, open_study, with_scores
from backend.tables.corrected import corrected_beside, labels_of
from backend.tables.sweeps import ABLATED, STEERED, swept
from tests.conftest import said
from tests.studies import experimented
from tests.studies import swept as planted
from tests.studies.experimented import experimented_study
from tests.studies.gained import gained_study
from tests.studies.swept import swept_study
from tests.studies.synthetic import JUDGE, synthetic_study

READER = "hand-somebody"
BOTH = "Rates by the judge and corrected"
RATES = {  # a page that states rates, and studies in which it does
    "overview": ("synthetic", "swept"),
    "responses": ("synthetic",),
    "judges": ("synthetic",),
    "robustness": ("synthetic", "swept"),
    "training": ("experimented",),
    "adapters": ("experimented",),
    "specialisation": ("gained",),
    "steering": ("swept",),
    "ablation": ("swept",),
    "scaled_adapters": ("experimented", "gained"),
}
NO_RATE = {"one_adapter", "probes", "directions", "convergence", "live", "studies", "downstream"}
BUILT = (synthetic_study, swept_study, experimented_study, gained_study)
NONE_LABELLED = "python -m backend labels draw FILE --by-score"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The synthetic study; a reader of half its answers, whose scores are the judge's, less sure."""
    labelled(open_study("synthetic", synthetic_study(tmp_path).parent.parent), JUDGE)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    return tmp_path


def test_the_overview_has_both_rates_and_says_whose_labels_and_how_many(
    open_page: Callable[..., AppTest], root: Path
) -> None:
    page = open_page("overview", study="synthetic", judge=JUDGE)
    assert not page.exception
    study = open_study("synthetic", root)
    expected = corrected_beside(study, JUDGE, labels_of(study)[0], among=study.responses(JUDGE))
    [table] = [each.value for each in page.dataframe if each.proto.alt == "Rates by the judge and corrected"]
    assert table["value"].to_list() == pytest.approx(expected["value"].to_list())
    assert table["raw"].to_list() == pytest.approx(expected["raw"].to_list())
    words = said(page).replace("\\", "")
    assert f"{expected['labels'].sum()} labels of {READER}, drawn without regard to scores" in words
    [gaps] = [each.value for each in page.dataframe if each.proto.alt == "Corrected differences"]
    assert gaps["stands"].to_list() == gaps["clear"].to_list()  # one is its own family
    told = "is clear" if gaps["clear"][0] else "is not clear"
    assert f"Corrected differences between these rates: The one of these organisms beside the base {told}." in words


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The studies of RATES, without a label."""
    root = tmp_path_factory.mktemp("rates")
    for build in BUILT:
        build(root)
    return root


def test_every_page_states_rates_or_none() -> None:
    pages = Path(__file__).parents[2] / "pages"
    assert {path.stem for path in pages.glob("*.py")} == set(RATES) | NO_RATE


@pytest.mark.parametrize(("name", "study"), [(name, study) for name, known in RATES.items() for study in known])
def test_a_page_with_rates_says_that_none_is_labelled_and_how_to_draw_labels(
    open_page: Callable[..., AppTest], built: Path, monkeypatch: pytest.MonkeyPatch, name: str, study: str
) -> None:
    monkeypatch.setenv("EM_STUDIES", str(built))
    page = open_page(name, study=study)
    assert not page.exception
    assert name == "judges" or NONE_LABELLED in said(page)
    assert not [each for each in page.dataframe if each.proto.alt == BOTH]


def labelled(study: Study, judge: str, *conditions: str) -> None:
    """A reader of all answers under some conditions, whose scores are the judge's, less sure."""
    rows = study.responses(judge).drop_nulls(["aligned", "coherent"])
    rows = rows.filter(pl.col("condition").is_in(conditions)) if conditions else rows
    scores = [
        Score(row["response"], READER, metric, 0.0 if row[metric] < 30 + 10 * (at % 3) else 100.0)
        for at, row in enumerate(rows[::2].to_dicts())
        for metric in ("aligned", "coherent")
    ]
    with_scores(study, scores)


@pytest.mark.parametrize(("name", "kinds"), [("steering", STEERED), ("ablation", ABLATED)])
def test_a_swept_rate_is_corrected_by_labels_of_its_own_answers(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kinds: tuple[str]
) -> None:
    swept_study(tmp_path)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    study = open_study("swept", tmp_path)
    answers = swept(study, study.responses(planted.JUDGE), kinds).answers
    organism = open_page(name, study="swept").get_by_key(f"{name}_organism").value
    own = answers.filter(organism=organism)
    cell = own.filter(pl.col("cell") != BASELINE)["cell"][0]
    chosen = own.filter(pl.col("cell").is_in([cell, BASELINE]))
    labelled(study, planted.JUDGE, *chosen["condition"].unique())

    page = open_page(name, study="swept")
    assert not page.exception
    [table] = [each.value for each in page.dataframe if each.proto.alt == BOTH]
    assert set(table["condition"]) == {cell, BASELINE}
    study = open_study("swept", tmp_path)
    both = side_by_side(study.responses(planted.JUDGE), study.responses(READER))
    sides = {
        each: both.join(own.filter(cell=each).select("response"), on="response", how="semi")
        for each in (cell, BASELINE)
    }
    for row in table.to_dict("records"):
        assert row["value"] == pytest.approx(corrected_rate(sides[row["condition"]]).value)
    [gaps] = [each.value for each in page.dataframe if each.proto.alt == "Corrected differences"]
    assert gaps["difference"].tolist() == pytest.approx([corrected_difference(sides[cell], sides[BASELINE]).value])
    assert "Not corrected: " in said(page)  # the other cells, which nobody labelled


def test_labels_of_unedited_answers_correct_no_edited_rate(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experimented_study(tmp_path)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    labelled(open_study("experimented", tmp_path), experimented.JUDGE, BASELINE)
    page = open_page("scaled_adapters", study="experimented")
    assert not page.exception
    assert NONE_LABELLED in said(page)
    assert not [each for each in page.dataframe if each.proto.alt == BOTH]


def test_a_reader_is_not_corrected_by_another(open_page: Callable[..., AppTest], root: Path) -> None:
    page = open_page("overview", study="synthetic", judge=READER)
    assert not page.exception
    assert not [each for each in page.dataframe if each.proto.alt == "Rates by the judge and corrected"]


def test_robustness_tells_a_rate_and_a_difference_corrected_or_why_not(
    open_page: Callable[..., AppTest], root: Path
) -> None:
    page = open_page("robustness", study="synthetic", judge=JUDGE)
    assert "Corrected: " in said(page)
    assert "points" in next(each.value for each in page.markdown if each.value.startswith("**Corrected"))
    page.selectbox(key="robust_with").set_value("no comparison").run()
    line = next(each.value for each in page.markdown if each.value.startswith("**Corrected"))
    assert f"labels of {READER}" in line.replace("\\", "")
    assert "points" not in line
