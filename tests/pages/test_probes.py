import re

import polars as pl
import pytest

from backend.analysis.probes.saved import save_probe
from backend.records import InputError
from backend.study import Draft
from tests.conftest import said


@pytest.fixture
def trained(open_page):
    """The page after a click on Train, with whatever was chosen before."""

    def train(**query):
        page = open_page("probes", **query)
        assert not page.exception
        return finished(page.button(key="probes_train").click().run(timeout=60))

    return train


def finished(page):
    """The page once its probe is trained to the end."""
    if "fitted_probe" in page.session_state:
        page.session_state["fitted_probe"].training.wait(120, to_the_end=True)
        page.run(timeout=60)
    return page


def report(page):
    return page.session_state["fitted_probe"].report


def test_nothing_is_trained_before_the_click(open_page):
    page = open_page("probes")
    assert not page.exception
    assert not page.error
    assert "Ready to train on 37 misaligned and 43 aligned responses" in said(page)


def test_the_planted_adapters_are_found_and_named_beside_chance(trained):
    page = trained()
    assert not page.exception
    assert report(page).metrics["auc"].value > 0.9
    assert report(page).shuffled["auc"].value == pytest.approx(0.5, abs=0.25)
    largest = report(page).coefficients.sort(pl.col("coefficient").abs(), descending=True)["feature"].head(4)
    assert {name.split(".")[1] for name in largest} == {"1", "2", "8", "9"}
    assert "clear of chance" in said(page)
    assert "Judge distilled" in said(page)
    assert len(page.get("vega_lite_chart")) == 4
    assert report(page).p_value == 0.01
    assert report(page).bootstraps == 100


@pytest.mark.parametrize("features", ["Scalars of each response", "Mean residual of each response"])
def test_rows_may_be_responses(trained, features):
    page = trained(probes_features=features)
    assert not page.exception
    assert report(page).n_rows in (79, 80)  # one answer is empty


def test_a_filter_of_layers_leaves_their_adapters(trained):
    page = trained(probes_layers=["1", "5"])
    assert [name.split(".")[1] for name in report(page).coefficients["feature"]] == ["1", "5"]


def test_the_split_of_the_paper_warns_that_it_leaks(open_page):
    page = open_page("probes", probes_split="token")
    assert "recognises responses" in page.warning[0].value


def test_l1_and_a_strong_penalty_drop_features(trained):
    page = trained(probes_penalty="L1", probes_c="0.001")
    assert (report(page).coefficients["coefficient"] == 0).any()


def test_a_result_stays_and_says_when_the_controls_have_moved_on(trained):
    page = trained()
    before = report(page)
    page.number_input(key="probes_seed").set_value(5).run()
    assert report(page) is before
    assert "controls have changed" in said(page)


def test_the_weights_of_a_residual_probe_can_be_sent_to_the_live_page(trained):
    page = trained(probes_features="Mean residual of each response")
    assert page.button(key="probes_send")
    with pytest.raises(KeyError):
        trained().button(key="probes_send")


def protocols(page):
    tables = [pl.from_pandas(frame.value) for frame in page.dataframe]
    return next((table for table in tables if "the paper's protocol" in table.columns), None)


def test_the_papers_protocol_stands_beside_the_probe(trained):
    page = trained()
    table = protocols(page)
    assert table.columns[1:4] == ["this probe, by question", "its shuffled labels", "the paper's protocol"]
    assert table["metric"].to_list() == ["AUC", "accuracy", "precision", "recall", "F1", "n"]
    real = report(page).metrics["auc"]
    assert table.item(0, 1) == f"{real.value:.2f} ({real.low:.2f}–{real.high:.2f})"
    assert float(table.item(0, 3)[:4]) > float(table.item(0, 4)[:4])
    page.toggle(key="probes_paper").set_value(False).run()
    assert protocols(page) is None


def test_the_papers_protocol_needs_tokens(trained):
    page = trained(probes_features="Scalars of each response")
    assert page.toggle(key="probes_paper").disabled
    assert protocols(page) is None


def test_tokens_of_high_significance_alone(trained):
    few, every = (report(trained(**query)).n_rows for query in ({"probes_tokens": "high significance"}, {}))
    assert 0 < few < every


def test_without_significance_no_token_is_singled_out(open_page, monkeypatch):
    monkeypatch.setattr("backend.study.Study._significant", refuse)
    page = open_page("probes")
    assert not page.error
    assert "high significance" not in page.segmented_control(key="probes_tokens").options
    assert "holds no token significance" in said(page)


def refuse(*_):
    raise InputError("no significance")


def test_no_organism_is_an_empty_filter_with_a_message(open_page):
    page = open_page("probes")
    page.multiselect(key="probes_organism").set_value([]).run()
    assert not page.exception
    assert "choose at least one organism" in page.error[0].value


def test_a_class_without_responses_is_explained(open_page):
    page = open_page("probes")
    page.slider(key="probes_misalignment_pos_aligned").set_value((0.0, 0.0)).run()
    assert not page.exception
    assert "no response is misaligned" in page.error[0].value


def test_too_few_responses_are_counted_and_nothing_is_trained_or_judged(open_page):
    page = open_page("probes")
    for high in range(1, 30):
        page.slider(key="probes_misalignment_pos_aligned").set_value((0.0, float(high))).run()
        if page.warning:
            break
    assert not page.exception
    assert "10 responses to 4 questions" in page.warning[0].value
    assert re.search(r"misaligned: \d responses to \d questions; aligned: 43", page.warning[0].value.replace("\\", ""))
    assert page.button(key="probes_train").disabled
    assert "Ready to train" not in said(page)


def test_classes_that_overlap_are_explained(open_page):
    page = open_page("probes")
    page.slider(key="probes_misalignment_pos_aligned").set_value((0.0, 100.0)).run()
    assert not page.exception
    assert "are on both sides" in page.error[0].value


def test_a_study_without_traces_says_what_is_missing(open_page, tmp_path, monkeypatch):
    with Draft("bare", root=tmp_path) as draft:
        draft.meta(title="bare", base="none")
        draft.publish()
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    monkeypatch.setenv("EM_STUDY", "bare")
    page = open_page("probes")
    assert not page.exception
    assert "holds no traces" in page.error[0].value


def test_tokens_of_some_positions_alone(trained):
    page = trained(probes_tokens="position", probes_from="1", probes_to="3")
    assert report(page).n_rows == 3 * 80  # the shortest answers have five tokens


@pytest.mark.parametrize("statistic", ["max", "min", "share above"])
def test_a_response_may_be_summed_up_otherwise(trained, statistic):
    page = trained(probes_features="Scalars of each response", probes_statistic=statistic)
    assert report(page).metrics["auc"].value > 0.9


def test_residuals_along_stored_directions(trained):
    page = trained(probes_features="Mean residual along directions", probes_layer="6")
    assert report(page).coefficients["feature"].to_list() == ["misalignment", "medical"]
    weights = dict(report(page).coefficients.select("feature", "coefficient").iter_rows())
    assert weights["misalignment"] > 3 * abs(weights["medical"])
    assert page.button(key="probes_send")


def test_an_elastic_net_and_a_chosen_c(trained):
    page = trained(probes_penalty="elastic net", probes_c="chosen")
    assert not page.exception
    assert len(report(page).C_by_fold) == 5
    assert "elastic net (50% L1) penalty, C chosen by cross-validation" in said(page).replace("\\", "")
    assert "C chosen:" in said(page)


def test_what_it_must_beat_stands_beside_it(trained):
    page = trained()
    [rivals] = [t for t in (pl.from_pandas(f.value) for f in page.dataframe) if "note" in t.columns]
    assert rivals["probe"].to_list() == [
        "this probe",
        "the same on shuffled labels (99)",
        "length only",
        "topic words only",
    ]
    assert float(rivals["AUC"][0][:4]) > float(rivals["AUC"][2][:4])


def test_a_saved_probe_comes_back_with_its_controls(trained, open_page):
    page = trained(probes_layers=["1", "5"], probes_c="0.3")
    fitted = page.session_state["fitted_probe"]
    text = save_probe(fitted.report, fitted.settings, fitted.made_of)
    other = open_page("probes")
    other.file_uploader(key="probes_load").upload("probe.json", text.encode(), "application/json").run()
    assert not other.exception
    assert "It reads 2 features" in other.error[0].value.replace("\\", "")
    other.button(key="probes_restore").click().run()
    assert not other.exception
    assert not other.error
    assert other.multiselect(key="probes_layers").value == [1, 5]
    [metrics] = [t for t in (pl.from_pandas(f.value) for f in other.dataframe) if "metric" in t.columns]
    assert metrics.row(by_predicate=pl.col("metric") == "auc")[1] > 0.9


def test_a_file_that_is_no_probe_is_explained(open_page):
    page = open_page("probes")
    page.file_uploader(key="probes_load").upload("probe.json", b"\x80\x04nonsense", "application/json").run()
    assert not page.exception
    assert "no saved probe" in page.error[0].value


def test_clear_coefficients_are_offered_where_subsets_are_chosen(trained):
    page = trained()
    offered = page.session_state["suggested_adapters"]["bad-medical"]
    assert {name.split(".")[1] for names in offered.values() for name in names} >= {"1", "2", "8", "9"}
