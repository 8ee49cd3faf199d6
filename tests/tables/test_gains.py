import polars as pl
import pytest

from backend.analysis.conditions.causal import INTACT, ONLY_ONE, WITHOUT_ONE
from backend.cuts import Bins
from backend.pipeline.import_published import import_published
from backend.records import BASE, BASELINE
from backend.study import open_study
from backend.tables import gains
from tests.published.sample import write_release
from tests.studies.gained import JUDGE, LAYERS, ORGANISM, gained_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    gained_study(root)
    return open_study("gained", root)


def test_what_was_recorded_of_gains(study):
    table = gains.recorded(study)
    sizes = dict(table.group_by("arrangement").len().iter_rows())
    assert sizes[INTACT] == 1
    assert sizes[WITHOUT_ONE] == sizes[ONLY_ONE] == len(LAYERS)


def test_answers_under_gains_stand_beside_unedited_ones_of_their_length(study, monkeypatch):
    table, responses = gains.recorded(study), study.responses(JUDGE)
    assert set(gains.answered(study, responses, table, ORGANISM)["organism"]) == {ORGANISM, BASE}
    short = f"{BASELINE}, 8 tokens"
    edited = table.filter(pl.col("condition") != BASELINE)["condition"].to_list()
    monkeypatch.setattr(study, "info", study.info | {"baselines": dict.fromkeys(edited, short)})
    cut = responses.filter(pl.col("condition") == BASELINE).with_columns(condition=pl.lit(short))
    answers = gains.answered(study, pl.concat([responses, cut]), table, ORGANISM)
    assert answers.filter(pl.col("cell") == BASELINE)["condition"].unique().to_list() == [short]


def test_the_judge_of_gains_is_the_one_that_scored_them(study):
    responses, table = {JUDGE: study.responses(JUDGE)}, gains.recorded(study)
    assert gains.judge_of_gains(study, responses, table, ORGANISM) == JUDGE
    assert gains.judge_of_gains(study, responses, table.clear(), ORGANISM) is None
    assert gains.judge_of_gains(study, {}, table, ORGANISM) is None


def test_outcomes_are_those_whose_scores_are_there():
    assert list(gains.outcomes(["aligned", "coherent", "medical"])) == ["em", "coherent", "medical"]
    assert list(gains.outcomes(["medical"])) == ["medical"]


def test_scaled_answers_and_the_shares_at_moved_edges(tmp_path):
    import_published([write_release(tmp_path / "release")], root=tmp_path)
    study = open_study("published", tmp_path)
    judge = study.judges()[0]
    edited = gains.scaled_answers(study, study.responses(judge))
    assert edited.height
    assert edited["condition"].str.starts_with("scale").all()
    bins = Bins(coherent=60)
    table = gains.moved(edited, "misaligned medical", bins)
    assert set(table["coherent"]) == {0.0, 25.0, 50.0, bins.coherent}
    assert (table["medical"] == bins.medical).any()
    assert (table.sort("coherent").group_by("condition", "medical").agg(pl.col("n").diff().max())["n"] <= 0).all()
    assert set(gains.intact(study, study.responses(judge)).columns) == set(edited.columns)
