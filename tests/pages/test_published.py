"""The pages of interventions and convergence, over the synthetic study and over a small release."""

import pytest

from backend.pipeline.import_published import import_published
from tests.conftest import said
from tests.published.sample import write_release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    import_published([write_release(tmp_path_factory.mktemp("release"))], root=root)
    return root


@pytest.fixture
def open_release(open_page, release, monkeypatch):
    def run(name, **query):
        monkeypatch.setenv("EM_STUDIES", str(release))
        monkeypatch.setenv("EM_STUDY", "published")
        return open_page(name, **query)

    return run


PAGES = (
    "overview",
    "responses",
    "adapters",
    "probes",
    "directions",
    "convergence",
    "steering",
    "ablation",
    "scaled_adapters",
    "live",
)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_over_a_release(open_release, name):
    page = open_release(name)
    assert not page.exception
    assert page.title[0].value


def test_moving_the_medical_edge_moves_the_table(open_release):
    page = open_release("scaled_adapters")
    before = page.dataframe[0].value
    page.number_input(key="scaling_medical").set_value(50.0).run()
    after = page.dataframe[0].value
    assert before["n"].max() == 6  # every answer of the sample has 49.995
    assert after["n"].max() == 0
    assert not page.exception


def test_overlapping_bins_are_explained(open_release):
    page = open_release("scaled_adapters", scaling_aligned="20")
    assert "overlap" in page.error[0].value


def test_a_study_without_scaled_adapters_says_so(open_page):
    assert "scaled adapters" in said(open_page("scaled_adapters")).replace("\\", "")


def test_directions_are_compared_with_the_chosen_one(open_release):
    page = open_release("convergence", convergence_reference="bad_med_R8 general data-diff")
    assert not page.error
    [pairs] = [each.value for each in page.dataframe if each.proto.alt == "Cosines of every pair"]
    assert {"min", "at_min", "max"} <= set(pairs.columns)
    page.multiselect(key="convergence_names").set_value([]).run()
    assert page.error


def test_a_probe_starts_with_the_responses_that_were_read(open_release):
    page = open_release("probes")
    assert not page.error
    assert page.multiselect(key="probes_condition").value == ["probing set (chosen by score)"]
    assert page.multiselect(key="probes_organism").value == [page.selectbox(key="probes_reader").value]


def test_directions_without_residuals_are_shown_as_stored(open_release):
    page = open_release("directions")
    assert not page.error
    assert "It is shown as stored" in said(page)
    assert len(page.get("vega_lite_chart")) >= 4  # norm, share, cosines between layers, cosines with others
    assert "holds no residual means" in page.info[-1].value


def test_answers_that_were_chosen_by_score_have_no_rate(open_release):
    page = open_release("overview")
    assert not page.exception
    assert "probing set (chosen by score)" not in page.selectbox(key="overview_condition").options
    assert "its answers were chosen by their scores" in said(page)
