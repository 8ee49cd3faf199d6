import numpy as np
import pytest

from backend.study import Draft, open_study
from tests.pages.conftest import said


def test_the_planted_layer_is_chosen_and_described(open_page):
    page = open_page("directions")
    assert not page.exception
    assert not page.error
    assert page.selectbox(key="directions_layer").value in (4, 5, 6, 7)  # where the planted difference is strong
    assert "37 misaligned and 43 aligned" in said(page)
    assert "held-out questions" in said(page)
    assert len(page.get("vega_lite_chart")) == 5


def test_the_norm_on_the_page_is_that_of_the_difference_of_means(open_page, studies):
    page = open_page("directions", directions_layer="6")
    study = open_study("synthetic", studies)
    means = study.residual_means("bad-medical", 6)
    rows = study.responses("distilled").to_dicts()
    own = {row["response"]: row for row in rows if (row["organism"], row["condition"]) == ("bad-medical", "baseline")}
    sides = {True: [], False: []}
    for response, mean in zip(means.responses, means.means, strict=True):
        row = own.get(response)
        if row and row["coherent"] is not None and row["coherent"] > 50 and row["aligned"] is not None:
            if row["aligned"] <= 30:
                sides[True].append(mean)
            elif row["aligned"] > 70:
                sides[False].append(mean)
    whole = float(np.linalg.norm(np.mean(sides[True], axis=0) - np.mean(sides[False], axis=0)))
    assert float(page.metric[0].value) == pytest.approx(whole, rel=0.1)  # the page cuts the larger class to size


@pytest.mark.parametrize(
    ("key", "value"),
    [("directions_pooling", "token"), ("directions_layer", 2), ("directions_contrast", "medical question")],
)
def test_every_control_changes_the_numbers(open_page, key, value):
    page = open_page("directions")
    before = [metric.value for metric in page.metric]
    page.get_by_key(key).set_value(value).run()
    assert not page.exception
    assert [metric.value for metric in page.metric] != before


def test_stored_directions_and_write_vectors_can_be_measured(open_page):
    page = open_page("directions")
    options = page.selectbox(key="directions_source").options
    assert "misalignment" in options
    page.selectbox(key="directions_source").set_value("misalignment").run()
    assert not page.exception
    assert "held-out" not in said(page)
    page.selectbox(key="directions_source").set_value(next(o for o in options if o.startswith("write vector"))).run()
    assert not page.exception
    assert page.metric[1].value == "unknown"


def test_another_reader_has_other_residuals_or_says_that_it_read_nothing(open_page):
    page = open_page("directions")
    assert page.selectbox(key="directions_reader").options == ["bad-medical"]


def test_a_class_in_one_question_is_explained(open_page):
    page = open_page("directions", directions_contrast="misalignment")
    for high in range(1, 30):
        page.slider(key="directions_misalignment_pos_aligned").set_value((0.0, float(high))).run()
        assert not page.exception
        if not page.error:
            break
    else:
        pytest.fail("no band gave a direction")
    assert any("1 misaligned" in caption.value for caption in page.caption) or "misaligned and" in said(page)


def test_no_condition_is_an_empty_filter_with_a_message(open_page):
    page = open_page("directions")
    page.multiselect(key="directions_condition").set_value([]).run()
    assert not page.exception
    assert "choose at least one organism and one condition" in page.error[0].value


def test_a_study_without_responses_says_what_is_missing(open_page, tmp_path, monkeypatch):
    with Draft("bare", root=tmp_path) as draft:
        draft.meta(title="bare", base="none")
        draft.publish()
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    monkeypatch.setenv("EM_STUDY", "bare")
    page = open_page("directions")
    assert not page.exception
    assert "holds no residual means" in page.info[0].value
    assert not page.error
