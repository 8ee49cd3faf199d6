"""The page of the studies themselves: what is here, and what can be done with each."""

import json
import shutil

import duckdb
import pytest

from backend.study import list_studies
from tests.conftest import said


@pytest.fixture
def page_of(open_page, studies, tmp_path, monkeypatch):
    shutil.copytree(studies / "synthetic", tmp_path / "synthetic")
    shutil.copytree(studies / "synthetic", tmp_path / "another")
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    return lambda **query: open_page("studies", **query)


def button(page, label):
    return next(each for each in page.button if each.label == label)


def test_every_study_is_listed_with_what_it_holds(page_of):
    page = page_of()
    assert not page.exception
    table = page.dataframe[0].value
    assert table["study"].to_list() == ["another", "synthetic"]
    assert (table["responses"] > 0).all()
    assert "2 studies are kept" in said(page)
    assert page.subheader[0].value == "synthetic"  # the one of the sidebar


def test_a_study_is_renamed_and_stays_the_one_that_is_shown(page_of, tmp_path):
    page = page_of(study="synthetic")
    page.text_input(key="studies_name_synthetic").set_value("mine")
    button(page, "Rename").click().run()
    assert not page.exception
    assert list_studies(tmp_path) == ["another", "mine"]
    assert page.selectbox(key="study").value == "mine"
    assert "synthetic is mine now" in page.success[0].value
    page.text_input(key="studies_name_mine").set_value("another")
    button(page, "Rename").click().run()
    assert "already" in page.error[0].value
    assert list_studies(tmp_path) == ["another", "mine"]


def test_a_study_is_removed_after_its_name_was_typed(page_of, tmp_path):
    page = page_of(study="another")
    button(page, "Remove …").click().run()
    assert button(page, "Remove").disabled
    page.text_input(key="studies_sure").set_value("another").run()
    assert list_studies(tmp_path) == ["another", "synthetic"]


def test_without_a_study_the_page_says_so_and_still_takes_one_in(open_page, tmp_path, monkeypatch):
    monkeypatch.setenv("EM_STUDIES", str(tmp_path / "none"))
    monkeypatch.delenv("EM_STUDY", raising=False)
    page = open_page("studies")
    assert not page.exception
    assert "There is no study" in page.error[0].value
    assert "Take in a study" in [each.value for each in page.subheader]


def test_a_damaged_study_is_listed_and_can_be_removed(page_of, tmp_path):
    next((tmp_path / "another").glob("*.duckdb")).write_bytes(b"broken")
    page = page_of(study="synthetic")
    assert not page.exception
    assert "cannot be opened" in page.dataframe[0].value["title"][0]


def test_a_study_that_was_chosen_stays_chosen_under_its_name_alone(page_of):
    page = page_of(study="synthetic")
    page.session_state["studies_chosen"] = "another"
    page.run()
    assert page.subheader[0].value == "another"
    page.text_input(key="studies_name_another").set_value("zebra")  # it moves behind the other
    button(page, "Rename").click().run()
    assert page.dataframe[0].value["study"].to_list() == ["synthetic", "zebra"]
    assert page.subheader[0].value == "zebra"


def test_what_a_stranger_wrote_is_shown_and_not_obeyed(page_of, tmp_path):
    file = max((tmp_path / "another").glob("*.duckdb"))
    with duckdb.connect(file) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'info.folder'")
        connection.execute("INSERT INTO meta VALUES ('info.folder', ?)", [json.dumps("a` ![p](http://evil/x.png) `")])
    page = page_of(study="another")
    assert not page.exception
    [told] = [each.value for each in page.markdown if "Built from" in each.value]
    assert "![p](" not in told
    assert "`" not in told.replace("\\`", "")
