import pytest

from tests.conftest import said
from tests.studies import swept
from tests.studies.shouted import UPPER


@pytest.fixture
def page(open_swept):
    page = open_swept("steering")
    assert not page.exception
    assert not page.error
    return page


def charts(page):
    return page.get("vega_lite_chart")


def test_the_planted_direction_is_the_point_to_read_and_its_controls_stay_at_the_baseline(page):
    assert page.selectbox(key="steering_condition").value.startswith(f"steer {swept.named(swept.BAD[0])} L")
    words = said(page)
    assert "of its random controls, 0 are above the baseline alone, 0 after correction" in words
    assert f"Judge {swept.JUDGE}" in words
    assert "n = 128" in words  # of the baseline's rate


def test_answers_stand_beside_those_of_the_same_question_and_seed(page):
    table = page.dataframe[0].value
    assert len(table) == 32
    assert "32 with a partner of equal question and seed" in said(page)
    page.selectbox(key="steering_condition").set_value(next(o for o in options(page) if "2 directions" in o)).run()
    assert "64 answers" in said(page)  # those of both random directions


def options(page):
    return page.selectbox(key="steering_condition").options


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steering_unit", "relative"),
        ("steering_layer", "2"),
        ("steering_series", f"random like {swept.named(swept.BAD[0])}"),
        ("steering_topics", ["medical"]),
    ],
)
def test_every_control_changes_a_chart(page, key, value):
    before = [chart.proto.spec for chart in charts(page)]
    page.get_by_key(key).set_value(value).run()
    assert not page.exception
    assert [chart.proto.spec for chart in charts(page)] != before


@pytest.mark.parametrize("unit", ["relative", "λ"])
def test_the_unit_is_in_the_link(open_swept, unit):
    page = open_swept("steering", steering_unit=unit)
    assert page.segmented_control(key="steering_unit").value == unit


def test_the_point_is_in_the_link(open_swept):
    name = f"steer {swept.named(swept.GOOD)} L6 ×4"
    page = open_swept("steering", steering_condition=name)
    assert page.selectbox(key="steering_condition").value == name


def test_a_point_that_the_chosen_questions_do_not_have_is_left(open_swept):
    page = open_swept("steering", steering_condition="no such point")
    assert not page.exception
    assert page.selectbox(key="steering_condition").value in options(page)


def test_no_questions_is_said(page):
    page.multiselect(key="steering_topics").set_value([]).run()
    assert "choose at least one set of questions" in page.error[0].value


def test_answers_that_nobody_scored_are_counted_and_left_out(open_page, tmp_path, monkeypatch):
    swept.swept_study(tmp_path, "partly", judged=0.5)
    page = open_partly(open_page, tmp_path, monkeypatch, "steering")
    assert not page.exception
    assert not page.error
    assert "without a score and left out" in said(page)


def open_partly(open_page, root, monkeypatch, name):
    monkeypatch.setenv("EM_STUDIES", str(root))
    return open_page(name, study="partly")


def test_a_study_without_sweeps_says_how_to_make_one(open_page, tmp_path, monkeypatch):
    swept.swept_study(tmp_path, "partly", shape=swept.Shape(samples=0))
    page = open_partly(open_page, tmp_path, monkeypatch, "steering")
    assert not page.exception
    assert "no answers under an added direction" in page.error[0].value


def test_a_study_of_another_outcome_is_shown_by_its_scores(open_page, tmp_path, monkeypatch):
    swept.swept_study(tmp_path, "loud", asked=[UPPER])
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("steering", study="loud")
    assert not page.exception
    assert not page.error
    words = said(page).replace("\\", "")
    assert "more upper case than without the edit" in words
    assert "of base's answers are upper case" in words
    assert "most upper first" in words
    assert "of its random controls, 0 are above the baseline alone, 0 after correction" in words
    assert "coherence" not in words
    assert page.selectbox(key="steering_condition").value.startswith(f"steer {swept.named(swept.BAD[0])} L")
    assert page.dataframe[0].value["upper_after"].is_monotonic_decreasing
