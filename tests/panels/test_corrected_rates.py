"""On every page that states an organism's unedited rate, its correction stands beside it, or how to have labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from backend.records import Score
from backend.study import open_study, with_scores
from backend.tables.corrected import corrected_beside, labels_of
from tests.conftest import said
from tests.studies.synthetic import JUDGE, synthetic_study

READER = "hand-somebody"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The synthetic study; a reader of half its answers, whose scores are the judge's, less sure."""
    study = open_study("synthetic", synthetic_study(tmp_path).parent.parent)
    rows = study.responses(JUDGE).drop_nulls(["aligned", "coherent"])[::2]
    scores = [
        Score(row["response"], READER, metric, 0.0 if row[metric] < 30 + 10 * (at % 3) else 100.0)
        for at, row in enumerate(rows.to_dicts())
        for metric in ("aligned", "coherent")
    ]
    with_scores(study, scores)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    return tmp_path


def test_the_overview_has_both_rates_and_says_whose_labels_and_how_many(
    open_page: Callable[..., AppTest], root: Path
) -> None:
    page = open_page("overview", study="synthetic", judge=JUDGE)
    assert not page.exception
    study = open_study("synthetic", root)
    expected = corrected_beside(study, JUDGE, labels_of(study)[0], unedited=True)
    [table] = [each.value for each in page.dataframe if each.proto.alt == "Rates by the judge and corrected"]
    assert table["value"].to_list() == pytest.approx(expected["value"].to_list())
    assert table["raw"].to_list() == pytest.approx(expected["raw"].to_list())
    words = said(page).replace("\\", "")
    assert f"{expected['labels'].sum()} labels of {READER}, drawn without regard to scores" in words
    [gaps] = [each.value for each in page.dataframe if each.proto.alt == "Corrected differences"]
    assert gaps["stands"].to_list() == gaps["clear"].to_list()  # one is its own family
    told = "is clear" if gaps["clear"][0] else "is not clear"
    assert f"Corrected differences between these rates: The one of these organisms beside the base {told}." in words


def test_without_labels_nothing_is_corrected_and_the_page_says_how_to_have_them(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_study(tmp_path)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    for name in ("overview", "responses", "robustness"):
        page = open_page(name, study="synthetic")
        assert not page.exception
        assert "python -m backend labels draw" in said(page)
        assert not [each for each in page.dataframe if each.proto.alt == "Rates by the judge and corrected"]


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
