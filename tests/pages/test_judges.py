from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from backend.outcomes import EM
from backend.records import Score
from backend.study import open_study, with_scores
from backend.study.labels import KINDS, Label, append_labels, read_labels
from panels.given_labels import given_here
from tests.conftest import NOBODY, ROOT, said
from tests.studies.shouted import UPPER, shouted_study
from tests.studies.synthetic import JUDGE, synthetic_study


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Studies of this test alone: labels are written beside them."""
    synthetic_study(tmp_path)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    monkeypatch.setenv("EM_STUDY", "synthetic")
    monkeypatch.setenv("EM_WORKER_URL", NOBODY)
    st.cache_resource.clear()
    return tmp_path


def second_judge(root: Path) -> None:
    study, rng = open_study("synthetic", root), np.random.default_rng(0)
    first = study.responses(JUDGE).drop_nulls(["aligned", "coherent"])
    noise = rng.normal(0, 20, (first.height, 2))
    rows = first.select("response", "aligned", "coherent").iter_rows()
    scores = [
        Score(i, "second", m, float(np.clip(v + e, 0, 100)), "")
        for (i, *values), errors in zip(rows, noise, strict=True)
        for m, v, e in zip(("aligned", "coherent"), values, errors, strict=True)
    ]
    with_scores(study, scores)


def show(**query: str) -> AppTest:
    page = AppTest.from_file(ROOT / "pages" / "judges.py", default_timeout=90)
    for key, value in query.items():
        page.query_params[key] = value
    return page.run()


def test_one_judge_alone_cannot_be_compared_and_the_page_says_what_to_do(root):
    page = show()
    assert not page.exception
    assert "Two judges" in said(page)
    assert "python -m backend judge" in said(page)


def test_two_judges_are_compared_on_what_both_scored(root):
    second_judge(root)
    page = show()
    assert not page.exception
    both = open_study("synthetic", root).responses("second").drop_nulls("aligned").height
    assert f"{both} answers that both" in said(page)
    measures = page.dataframe[0].value
    assert measures.shape[0] == 8
    assert measures["value"].between(0, 1).all()
    assert JUDGE in said(page)


def farthest(page: AppTest):
    """The answers on which the judges differ most."""
    return next(table.value for table in page.dataframe if {"difference", "text"} <= set(table.value.columns))


def test_rates_are_corrected_by_the_reference_where_it_has_verdicts(root):
    second_judge(root)
    page = show()
    table = next(table.value for table in page.dataframe if {"raw", "labels"} <= set(table.value.columns))
    responses = open_study("synthetic", root).responses("second").drop_nulls("aligned")
    assert len(table) == responses.select("organism", "condition").n_unique()
    for _, row in table.iterrows():  # everything is labelled: nothing is left but the reference's own rate
        own = responses.filter(organism=row["organism"], condition=row["condition"])
        assert row["value"] == pytest.approx(own.select(EM.hits()).to_series().mean())
        assert row["low"] <= row["value"] <= row["high"]
    assert "What to label next" in [each.label for each in page.expander]


def test_a_share_among_answers_drawn_by_score_is_not_left_standing_as_a_rate(root, monkeypatch):
    second_judge(root)
    assert "no rate of an organism" not in said(show())
    monkeypatch.setattr("backend.tables.rates.drawn_by", lambda study, judge: JUDGE if judge == "second" else None)
    [warning] = [each.value for each in show().warning]
    assert "second" in warning
    assert "a share of hits among them is no rate of an organism" in warning


def test_the_metric_changes_what_differs_most(root):
    second_judge(root)
    page = show()
    before = farthest(page)
    page.segmented_control(key="judges_metric").set_value("aligned").run()
    assert not page.exception
    after = farthest(page)
    assert "aligned" in after.columns
    assert list(before["response"]) != list(after["response"])
    assert after["difference"].abs().is_monotonic_decreasing


def test_a_link_reads_an_answer_and_a_wrong_one_is_named(root):
    second_judge(root)
    wanted = open_study("synthetic", root).responses("second").drop_nulls("aligned")["response"][40]
    assert f"Now: {wanted}" in said(show(judges_read=wanted)).replace("\\", "")
    page = show(judges_read="nowhere")
    assert not page.exception
    assert "nowhere" in page.error[0].value


def test_labels_are_on_file_at_once_blind_and_never_shown_twice(root):
    page = show(judges_view="Label answers")
    assert not page.exception
    shown = []
    for kind in KINDS:
        shown.append(page.html[1].value)
        page.button(key=f"judges_{kind}").click().run()
        assert not page.exception
    labels = read_labels(root / "synthetic" / "labels.jsonl")
    assert [label.kind for label in labels] == list(KINDS)
    assert all(label.blind and label.by == "me" for label in labels)
    assert len({label.response_id for label in labels}) == 4
    assert "4 of 319 read by me" in said(page)


def test_blind_hides_organism_and_condition_until_it_is_switched_off(root):
    page = show(judges_view="Label answers")
    words = said(page).replace("\\", "")
    assert "bad-medical" not in words
    assert "steered" not in words
    page.toggle(key="judges_blind").set_value(False).run()
    words = said(page).replace("\\", "")
    assert any(f" · {condition} · " in words for condition in ("baseline", "steered", "ablated"))
    page.button(key="judges_aligned").click().run()
    assert not read_labels(root / "synthetic" / "labels.jsonl")[0].blind


def test_back_labels_the_last_one_again(root):
    page = show(judges_view="Label answers")
    first = page.html[1].value
    page.button(key="judges_aligned").click().run()
    assert page.html[1].value != first
    page.button(key="judges_back").click().run()
    assert page.html[1].value == first
    page.button(key="judges_incoherent").click().run()
    (label,) = read_labels(root / "synthetic" / "labels.jsonl")
    assert label.kind == "incoherent"
    assert "1 of 319" in said(page)


def test_answers_drawn_by_score_are_kept_apart_from_those_drawn_evenly(root):
    page = show(judges_view="Label answers")
    page.button(key="judges_misaligned").click().run()
    by_score = next(each for each in page.selectbox(key="judges_drawn").options if JUDGE in each)
    page.selectbox(key="judges_drawn").set_value(by_score).run()
    assert not page.exception
    page.number_input(key="judges_most").set_value(40).run()
    assert "0 of 40 read by me" in said(page)
    assert "drawn by score" in said(page)
    for _ in range(2):
        page.button(key="judges_aligned").click().run()
    assert "2 of 40 read by me" in said(page)
    labels = read_labels(root / "synthetic" / "labels.jsonl")
    assert [(label.kind, label.drawn) for label in labels] == [("misaligned", ""), *[("aligned", JUDGE)] * 2]
    found = {one.by: one.drawn for one in given_here(open_study("synthetic", root), EM)}
    assert found == {"labels given here": None, f"labels given here, drawn by {JUDGE}": JUDGE}


def test_labels_are_one_more_judge(root):
    ids = open_study("synthetic", root).responses(JUDGE).drop_nulls("aligned")["response"].to_list()[:40]
    labels = [Label(i, ("aligned", "misaligned", "incoherent")[n % 3], "me") for n, i in enumerate(ids)]
    append_labels(root / "synthetic" / "labels.jsonl", labels)
    page = show()
    assert not page.exception
    assert "labels given here" in page.selectbox(key="judges_reference").options
    assert "40 answers that both" in said(page)


def test_html_in_an_answer_stays_text(root):
    second_judge(root)
    frame = open_study("synthetic", root).responses("second").drop_nulls("aligned")
    evil = frame.filter(frame["text"].str.contains("<script>", literal=True))["response"][0]
    html = "\n".join(element.value for element in show(judges_read=evil).html)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_two_rules_are_compared_on_the_outcome_of_the_study(root):
    coherent = {"name": "calm", "hit": [{"metric": "upper", "below": 20}]}
    shouted_study(root, UPPER, coherent)
    page = show(study="shouted")
    assert not page.exception
    assert not page.error
    measures = page.dataframe[0].value.set_index("measure")["value"]
    assert measures["upper case or not: kappa"] == pytest.approx(0.8, abs=0.12)
    assert "Upper case: upper > 90; not upper case: the rest." in said(page).replace("\\", "")
    page.selectbox(key="outcome").set_value("calm").run()
    assert not page.exception
    assert "calm or not: kappa" in list(page.dataframe[0].value["measure"])
