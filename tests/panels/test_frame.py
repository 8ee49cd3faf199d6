from dataclasses import replace

import pytest
import streamlit as st

from backend.outcomes import EM, Contrast, Is, IsNot, Outcome, above
from backend.records import InputError
from backend.study import Draft, open_study
from panels.frame import per_study, plain, scored_by
from tests.conftest import said
from tests.studies.shouted import RULE, UPPER, shouted_study

PAGES = ("overview", "responses", "adapters")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_runs_alone_and_names_the_study_and_the_missing_worker(open_page, name):
    page = open_page(name)
    assert not page.exception
    assert not page.error
    assert page.selectbox(key="study").value == "synthetic"
    assert "No worker" in said(page)


@pytest.mark.parametrize("name", PAGES)
def test_an_unknown_study_is_named_with_those_there_are(open_page, name):
    page = open_page(name, study="n0pe")
    assert not page.exception
    assert "n0pe" in page.error[0].value
    assert "synthetic" in page.error[0].value
    assert page.selectbox(key="study").select("synthetic").run().error == []


def test_no_study_at_all_says_how_to_build_one(open_page, tmp_path, monkeypatch):
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    monkeypatch.delenv("EM_STUDY")
    page = open_page("overview")
    assert not page.exception
    assert "backend build" in page.error[0].value.replace("\\", "")


def test_an_error_is_shown_as_it_is_and_never_read_as_markdown(open_page):
    page = open_page("overview", study="![x](http://example.com/a.png)")
    assert "![" not in page.error[0].value
    assert r"\!\[x\]" in page.error[0].value


def test_plain_text_loses_its_markdown_only():
    assert plain("a*b*_c_[d](e)<f>") == r"a\*b\*\_c\_\[d\]\(e\)\<f\>"
    assert plain("word 12 ↵") == "word 12 ↵"


@pytest.mark.parametrize(
    ("name", "missing"), [("overview", "responses"), ("responses", "responses"), ("adapters", "scalars")]
)
def test_a_study_without_a_part_says_what_is_missing(open_page, tmp_path, monkeypatch, name, missing):
    with Draft("bare", root=tmp_path) as draft:
        draft.meta(title="Bare", base="none")
        draft.publish()
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page(name, study="bare")
    assert not page.exception
    assert f"holds no {missing}" in page.error[-1].value


def test_a_study_of_em_alone_has_no_choice_of_outcome(open_page):
    assert "outcome" not in [box.key for box in open_page("responses").selectbox]


def test_outcomes_that_cannot_be_read_are_explained(open_page, tmp_path, monkeypatch):
    shouted_study(tmp_path, {**UPPER, "hit": [{"metric": "upper", "above": "much"}]})
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("responses", study="shouted")
    assert not page.exception
    assert "cuts at 'much'" in page.error[0].value.replace("\\", "")


def test_a_judge_that_did_not_score_an_outcome_is_named_with_one_that_did(studies, tmp_path):
    shouted_study(tmp_path)
    with pytest.raises(InputError, match=r"rule gives no score for aligned and coherent.*Score it"):
        scored_by(open_study("shouted", tmp_path), RULE, EM)
    with pytest.raises(InputError, match="No judge has scored"):
        scored_by(open_study("shouted", tmp_path), None, EM)
    study = open_study("synthetic", studies)
    assert scored_by(study, study.judges()[0], EM) == study.judges()[0]


@pytest.mark.parametrize(
    ("address", "host", "others", "refused"),
    [
        ("127.0.0.1", "evil.test:8501", "", True),
        ("127.0.0.1", "127.0.0.1.evil.test", "lab.example", True),
        ("::1", "evil.test", "", True),
        ("127.0.0.1", "", "", True),
        ("127.0.0.1", "localhost:8501", "", False),
        ("::1", "[::1]:8501", "", False),
        ("127.0.0.1", "Lab.example:8501", "other, lab.example", False),
        ("0.0.0.0", "evil.test:8501", "", False),
        ("0.0.0.0", "evil.test:8501", "lab.example", True),
        ("0.0.0.0", "lab.example", "lab.example", False),
    ],
)
def test_a_page_called_by_a_foreign_name_shows_nothing(open_page, monkeypatch, address, host, others, refused):
    monkeypatch.setattr(type(st.context), "headers", {"Host": host})
    monkeypatch.setattr(st, "get_option", {"server.address": address}.get)
    monkeypatch.setenv("EM_HOSTS", others)
    monkeypatch.setenv("EM_DOOR", "1")
    page = open_page("overview")
    assert not page.exception
    if refused:
        assert "EM_HOSTS" in page.error[0].value.replace("\\", "")
        assert not page.selectbox
        assert not page.title
    else:
        assert not page.error
        assert page.selectbox(key="study").value == "synthetic"


@pytest.mark.parametrize("address", ["0.0.0.0", "", "10.0.0.7"])
def test_what_others_reach_shows_nothing_without_a_door(open_page, monkeypatch, address):
    monkeypatch.setattr(type(st.context), "headers", {"Host": "lab.example"})
    monkeypatch.setattr(st, "get_option", {"server.address": address}.get)
    monkeypatch.delenv("EM_DOOR", raising=False)
    page = open_page("overview")
    assert "asks for no token" in page.error[0].value
    assert not page.selectbox
    assert not page.title


@pytest.mark.parametrize("fate", ["The worker ended: it is started again in 4 s", "The worker is given up"])
def test_what_the_launcher_says_of_the_worker_is_said_on_the_page(open_page, monkeypatch, tmp_path, fate):
    told = tmp_path / "worker"
    monkeypatch.setenv("EM_WORKER_KEPT", str(told))
    assert "No worker" in said(open_page("overview"))
    told.write_text(fate)
    page = open_page("overview")
    assert fate in said(page).replace("\\", "")
    assert "No worker" not in said(page)
    assert fate in open_page("live").warning[0].value.replace("\\", "")


def test_outcomes_that_differ_in_a_word_alone_are_two_in_the_cache():
    def outcome(kind):
        classes = Contrast("c", (kind("topic", "medical"),), (above("upper", 90),), "a", "b")
        return replace(EM, classes=classes)

    @per_study
    def kept(of: Outcome) -> str:
        return repr(of)

    on, off = outcome(Is), outcome(IsNot)
    assert kept(on) == repr(on)
    assert kept(off) == repr(off) != repr(on)
