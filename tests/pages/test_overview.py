import polars as pl
import pytest

from backend.analysis.rates.rates import em_rates
from backend.edits import Condition
from backend.records import Question, Response, Score
from backend.study import Draft, open_study
from tests.conftest import said
from tests.studies.shouted import UPPER, shouted_study


def test_the_rates_on_the_page_are_those_of_the_analysis(open_page, studies):
    page = open_page("overview")
    expected = em_rates(open_study("synthetic", studies).responses("distilled"), ["organism", "condition"])
    shown = pl.from_pandas(page.dataframe[0].value)
    assert shown["hits"].to_list() == expected["hits"].to_list()
    assert shown["value"].fill_null(-1).to_list() == pytest.approx(expected["value"].fill_null(-1).to_list())
    assert "Judge distilled" in said(page)


def test_every_control_changes_the_questions_that_are_shown(open_page):
    page = open_page("overview")
    caption = [c.value for c in page.caption]
    page.selectbox(key="overview_condition").select_index(1).run()
    assert not page.exception
    page.segmented_control(key="overview_rate").set_value("coherent").run()
    assert not page.exception
    assert caption
    page.multiselect(key="overview_topics").set_value([]).run()
    assert "choose at least one topic" in said(page)


def test_a_study_without_responses_says_what_is_missing_and_keeps_its_provenance(open_page, tmp_path, monkeypatch):
    with Draft("bare", root=tmp_path) as draft:
        draft.meta(title="Bare *bones*", base="none")
        draft.publish()
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    monkeypatch.setenv("EM_STUDY", "bare")
    page = open_page("overview")
    assert not page.exception
    assert "holds no responses" in page.error[0].value
    assert page.title[0].value == r"Bare \*bones\*"
    assert page.expander


def test_the_story_stands_first_with_its_numbers_and_its_figures_follow(open_swept):
    page = open_swept("overview")
    assert not page.exception
    cards = page.html[0].value
    claims = ("1. The organism", "2. The direction", "3. Adding it", "4. Taking it out", "5. Single adapters")
    assert all(claim in cards for claim in claims)
    assert cards.count('role="listitem"') == 6
    assert "bad-medical (6 adapters) gives misaligned answers to" in cards
    assert "Make it with: python -m backend sweep gain --organism bad-medical" in cards  # no groups were zeroed
    headings = [each.value for each in page.subheader]
    assert headings[:6] == [*claims, "6. Subsets of adapters"]
    assert headings.index("How often is each organism misaligned?") > 5
    described = [chart.proto.alt for chart in page.get("vega_lite_chart")]
    assert any(alt.startswith("bad-medical (6 adapters) gives misaligned answers to") for alt in described)
    links = [each.value for each in page.html if "in this state</a>" in each.value]
    assert [link.partition('href="')[2].partition("?")[0] for link in links] == [
        "responses",
        "convergence",
        "steering",
        "ablation",
        "specialisation",
    ]


def test_two_organisms_of_one_study_beside_each_other(open_swept):
    page = open_swept("overview", beside="swept", beside_this="extreme-sports · baseline")
    assert not page.exception
    assert page.selectbox(key="beside_other").value == "base · baseline"
    text = said(page).replace("\\", "")
    assert "extreme-sports · baseline" in text
    assert "Paired by 8 shared questions" in text
    page.selectbox(key="beside_other").set_value("extreme-sports · baseline").run()
    assert "Both sides are the same" in page.error[0].value
    assert [each.value for each in page.subheader]  # the page goes on


def test_a_study_without_an_organism_has_no_story_and_says_so(open_page, tmp_path, monkeypatch):
    with Draft("alone", root=tmp_path) as draft:
        draft.meta(title="Alone", base="none")
        draft.add_organism("base", base="none", adapters=(), record={})
        draft.add_questions([Question("a", "How?", "x")])
        draft.add_conditions([Condition("baseline")])
        draft.add_responses([Response("r", "base", "baseline", "a", "How?", "x", 0, "So.")])
        draft.add_scores([Score("r", "one", metric, 50.0) for metric in ("aligned", "coherent")])
        draft.publish()
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("overview", study="alone")
    assert not page.exception
    assert "no organism beside the base, so there is no story" in said(page)


def test_a_study_of_another_outcome_is_shown_by_its_scores(open_page, tmp_path, monkeypatch):
    shouted_study(tmp_path)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("overview", study="shouted")
    assert not page.exception
    assert not page.error
    assert "Upper case: upper > 90. Out of the responses with its score" in said(page).replace("\\", "")
    rates = pl.from_pandas(page.dataframe[0].value)
    assert rates["metric"].unique().to_list() == ["upper"]
    assert page.segmented_control(key="overview_rate").options == ["Upper case"]


def test_another_outcome_can_be_chosen_and_a_judge_without_its_scores_is_named(open_page, tmp_path, monkeypatch):
    shouted_study(tmp_path, UPPER, "em", {**UPPER, "name": "loud", "title": "loudness"})
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("overview", study="shouted")
    page.selectbox(key="outcome").set_value("loud").run()
    assert not page.exception
    assert page.segmented_control(key="overview_rate").value == "loud"
    page.selectbox(key="outcome").set_value("em").run()
    assert not page.exception
    assert "no score for aligned and coherent" in page.error[0].value.replace("\\", "")


def test_the_report_is_a_button_and_made_when_it_is_asked_for(open_page, monkeypatch):
    monkeypatch.setattr("panels.report.report_html", lambda *_, **__: pytest.fail("made without being asked for"))
    page = open_page("overview")
    assert not page.exception
    assert [each.proto.label for each in page.get("download_button")] == ["Report"]
