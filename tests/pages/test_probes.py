import polars as pl
import pytest

from backend.records import InputError
from backend.study import Draft
from tests.pages.conftest import said


@pytest.fixture
def trained(open_page):
    """The page after a click on Train, with whatever was chosen before."""

    def train(**query):
        page = open_page("probes", **query)
        assert not page.exception
        return page.button(key="probes_train").click().run(timeout=60)

    return train


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
    assert "above chance" in said(page)
    assert "Judge distilled" in said(page)
    assert len(page.get("vega_lite_chart")) == 3


@pytest.mark.parametrize("features", ["Mean scalars of each response", "Mean residual of each response"])
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


def test_the_papers_protocol_stands_beside_the_probe(trained):
    page = trained()
    table = pl.from_pandas(page.dataframe[0].value)
    assert table.columns[1:4] == ["this probe, by question", "its shuffled labels", "the paper's protocol"]
    assert table["metric"].to_list() == ["AUC", "accuracy", "precision", "recall", "F1", "n"]
    real = report(page).metrics["auc"]
    assert table.item(0, 1) == f"{real.value:.2f} ({real.low:.2f}–{real.high:.2f})"
    assert float(table.item(0, 3)[:4]) > float(table.item(0, 4)[:4])
    page.toggle(key="probes_paper").set_value(False).run()
    assert not page.dataframe


def test_the_papers_protocol_needs_tokens(trained):
    page = trained(probes_features="Mean scalars of each response")
    assert page.toggle(key="probes_paper").disabled
    assert not page.dataframe


def test_tokens_of_high_significance_alone(trained):
    few, every = (report(trained(**query)).n_rows for query in ({"probes_tokens": "high significance"}, {}))
    assert 0 < few < every


def test_without_significance_no_token_is_singled_out(open_page, monkeypatch):
    monkeypatch.setattr("backend.study.Study._significant", refuse)
    page = open_page("probes", probes_tokens="high significance")
    assert not page.error
    assert page.segmented_control(key="probes_tokens").disabled
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


def test_a_class_with_one_example_is_explained(open_page):
    page = open_page("probes")
    for high in range(1, 30):
        page.slider(key="probes_misalignment_pos_aligned").set_value((0.0, float(high))).run()
        if any("Ready to train on 1 misaligned" in caption.value for caption in page.caption):
            break
    page.button(key="probes_train").click().run()
    assert not page.exception
    assert "come from one group" in page.error[0].value


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
