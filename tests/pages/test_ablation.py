import polars as pl
import pytest

from tests.conftest import said
from tests.studies import swept
from tests.studies.shouted import UPPER


@pytest.fixture
def page(open_swept):
    page = open_swept("ablation")
    assert not page.exception
    assert not page.error
    return page


def differences(page):
    return pl.from_pandas(page.dataframe[-1].value)


def test_a_comparison_that_cannot_tell_is_named(page):
    assert "n = 32" in page.warning[0].value.replace("\\", "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ablation_organism", "extreme-sports"),
        ("ablation_about", "these very questions"),
        ("ablation_way", "after one block alone"),
        ("ablation_topics", ["medical"]),
    ],
)
def test_every_control_changes_a_chart(page, key, value):
    before = [chart.proto.spec for chart in page.get("vega_lite_chart")]
    page.get_by_key(key).set_value(value).run()
    assert not page.exception
    assert [chart.proto.spec for chart in page.get("vega_lite_chart")] != before


def test_the_answers_are_the_chosen_organisms(page):
    page.selectbox(key="ablation_organism").set_value("extreme-sports").run()
    assert "extreme\\-sports\\, without the edit" in said(page)


def test_no_questions_is_said(page):
    page.multiselect(key="ablation_topics").set_value([]).run()
    assert "choose at least one set of questions" in page.error[0].value


def test_a_study_with_one_organism_shows_what_it_has(open_page):
    page = open_page("ablation")
    assert not page.exception
    assert not page.error
    em = differences(page).row(by_predicate=pl.col("metric") == "em", named=True)
    assert (em["organism"], em["cell"]) == ("bad-medical", "ablated")
    assert em["difference"] < 0
    assert "No control of this kind" in said(page)


def test_a_study_without_ablations_says_so(open_page, tmp_path, monkeypatch):
    swept.swept_study(tmp_path, "none", shape=swept.Shape(samples=0))
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("ablation", study="none")
    assert not page.exception
    assert "no answers under an ablation" in page.error[0].value


def test_a_study_of_another_outcome_is_shown_by_its_scores(open_page, tmp_path, monkeypatch):
    swept.swept_study(tmp_path, "loud", asked=[UPPER])
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("ablation", study="loud")
    assert not page.exception
    assert not page.error
    assert set(differences(page)["metric"]) == {"upper"}
    assert "upper case" in said(page).replace("\\", "")
    assert any("Change of upper case in points" in chart.proto.spec for chart in page.get("vega_lite_chart"))
