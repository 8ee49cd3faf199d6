"""The map over the synthetic study, and over one with recorded gains whose causes contradict the probes."""

import polars as pl
import pytest

from tests.conftest import said
from tests.studies import gained
from tests.studies.shouted import UPPER


@pytest.fixture(scope="module")
def gained_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    gained.gained_study(root)
    return root


@pytest.fixture
def open_gained(open_page, gained_root, monkeypatch):
    def run(name="specialisation", **query):
        monkeypatch.setenv("EM_STUDIES", str(gained_root))
        monkeypatch.setenv("EM_STUDY", "gained")
        return open_page(name, **query)

    return run


def words(page):
    return said(page).replace("\\", "")


def test_the_planted_adapters_are_told_apart(open_page):
    page = open_page("specialisation", map_valence_contrast="misalignment")
    assert not page.exception
    assert "medical, among misaligned: L3, L4" in words(page)
    assert "misalignment: L1, L2, L8, L9" in words(page)
    assert "neither: L5, L6, L7" in words(page)
    assert "Of 18 AUCs of 9 adapters, 6 are clear alone, 6 after correction (Benjamini–Hochberg, 5 %)." in words(page)


def test_without_recorded_gains_it_says_what_to_do(open_page):
    page = open_page("specialisation")
    assert not page.error
    assert "zeroed, kept alone or scaled" in words(page)


def test_probe_and_cause_in_conflict_jump_out(open_gained):
    page = open_gained()
    assert not page.exception
    warnings = [warning.value.replace("\\", "") for warning in page.warning]
    assert any(
        text.startswith(f"L{gained.CAUSE} tells medical, among misaligned, yet zeroing it lowers") for text in warnings
    )
    shown = [pl.from_pandas(frame.value) for frame in page.dataframe]
    [ranked] = [table for table in shown if "verdict" in table.columns]
    assert ranked["label"][0] == "L3"


def test_every_recorded_condition_is_listed_with_its_rates(open_gained):
    page = open_gained()
    [rates] = [t for t in (pl.from_pandas(f.value) for f in page.dataframe) if "condition" in t.columns]
    assert rates.height == 1 + 9 + 9 + 36
    assert {"em", "coherent", "medical", "what", "tells", "n"} <= set(rates.columns)


def test_a_subset_by_hand_finds_its_recorded_answers(open_gained):
    page = open_gained(subset_first=["L3"], subset_first_gain="0", subset_rest="1")
    assert not page.exception
    assert "Recorded as without-3" in words(page)


def test_a_set_is_filled_from_what_the_map_says(open_gained):
    page = open_gained()
    box = page.selectbox(key="subset_first_from")
    box.set_value(next(option for option in box.options if option.startswith("those that tell medical"))).run()
    assert page.multiselect(key="subset_first").value == ["L3", "L4"]
    assert "L3, L4 ×30; others ×0" in words(page)


def test_an_adapter_in_both_sets_is_explained(open_page):
    page = open_page("specialisation", subset_first=["L3"], subset_second=["L3"])
    assert any("in both sets" in error.value.replace("\\", "") for error in page.error)


def test_one_contrast_on_both_axes_is_explained(open_page):
    page = open_page("specialisation", map_topic_contrast="misalignment", map_valence_contrast="misalignment")
    assert not page.exception
    assert "two different contrasts" in page.error[0].value


@pytest.mark.parametrize("statistic", ["mean", "max", "min", "share above"])
def test_a_response_may_be_summed_up_otherwise(open_page, statistic):
    page = open_page("specialisation", map_statistic=statistic)
    assert not page.exception
    assert "L3, L4" in words(page)


def test_a_study_of_another_outcome_is_shown_by_its_scores(open_page, tmp_path, monkeypatch):
    gained.gained_study(tmp_path, "loud", asked=[UPPER])
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("specialisation", study="loud")
    assert not page.exception
    assert not page.error
    assert page.segmented_control(key="map_outcome").options == ["upper"]
    assert page.selectbox(key="map_valence_contrast").value == "upper"
    assert "upper case" in words(page)
    shown = [pl.from_pandas(frame.value) for frame in page.dataframe]
    [ranked] = [table for table in shown if "verdict" in table.columns]
    assert ranked["label"][0] == f"L{gained.CAUSE}"
