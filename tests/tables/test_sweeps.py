import polars as pl
import pytest

from backend.analysis.rates.rates import THESE_QUESTIONS
from backend.records import BASELINE
from backend.study import open_study
from backend.tables.sweeps import (
    ABLATED,
    ALONE,
    EVERYWHERE,
    STEERED,
    WISE,
    ablated,
    described,
    paired,
    steered,
    swept,
)
from tests.studies.swept import BAD, JUDGE, SEEDS, STRENGTHS, Shape, named, swept_study

CUT = Shape(cut=40, layers=6)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    swept_study(root, shape=CUT)
    return open_study("swept", root)


@pytest.fixture(scope="module")
def ablations(study):
    return swept(study, study.responses(JUDGE), ABLATED)


@pytest.fixture(scope="module")
def additions(study):
    return swept(study, study.responses(JUDGE), STEERED)


def test_edited_answers_stand_beside_unedited_ones_of_their_length(ablations):
    unedited = ablations.answers.filter(pl.col("cell") == BASELINE)
    assert unedited["condition"].unique().to_list() == [CUT.beside]  # and keep the name they were sampled under
    assert ablations.cut == (CUT.beside,)
    assert ablations.other_lengths == 0


def test_answers_cut_at_another_length_are_left_out_and_counted(tmp_path, monkeypatch):
    swept_study(tmp_path, shape=CUT)
    study = open_study("swept", tmp_path)
    of_another = f"ablate {named(BAD[0])} everywhere"
    lengths = {name: length for name, length in study.info["baselines"].items() if name != of_another}
    monkeypatch.setattr(study, "info", study.info | {"baselines": lengths})
    found = swept(study, study.responses(JUDGE), ABLATED)
    assert of_another not in found.answers["condition"]
    assert found.other_lengths == study.responses().filter(pl.col("condition") == of_another).height


def test_the_seeds_of_a_control_are_one_cell_of_several_conditions(study, additions):
    table = described(study)
    sizes = table.filter(pl.col("role") == "random").group_by("cell").len()
    assert sizes["len"].unique().to_list() == [len(SEEDS)]
    steered_cells = additions.cells.filter(pl.col("role") == "random", pl.col("kind") == "steer")
    assert steered_cells.height == CUT.layers * len(STRENGTHS)
    assert "condition" not in additions.cells.columns


def test_rates_of_a_sweep_have_the_change_from_no_edit_in_em_alone(additions):
    table = steered(additions)
    em = table.filter(pl.col("metric") == "em", pl.col("kind") == "steer")
    before = table.filter(pl.col("metric") == "em", pl.col("cell") == BASELINE)["value"].item()
    assert (em["value"] - before - em["difference"]).abs().max() < 1e-9  # every question was asked equally often
    assert table.filter(pl.col("metric") != "em")["difference"].is_null().all()


def test_topics_choose_the_questions_that_are_counted(additions):
    every, some = steered(additions), steered(additions, ["medical"])
    assert (some["n"] * 2 == every["n"]).all()


def test_the_planted_direction_lowers_misalignment_in_every_bad_organism_and_random_ones_do_not(study, ablations):
    table = ablated(study, ablations).filter(pl.col("metric") == "em")
    for organism in BAD:
        own = table.filter(pl.col("organism") == organism)
        everywhere = own.filter(pl.col("cell").is_in([f"ablate {named(name)} everywhere" for name in BAD]))
        assert everywhere.height == len(BAD)
        assert everywhere["difference"].max() < -0.1
        assert own.filter(pl.col("role") != "direction")["difference"].abs().max() < 0.2
        assert own.filter(pl.col("own"))["series"].unique().to_list() == [named(organism)]


def test_each_way_to_ablate_is_told_apart(study, ablations):
    ways = dict(ablated(study, ablations).select("cell", "way").iter_rows())
    name = named(BAD[0])
    assert ways[f"ablate {name} everywhere"] == EVERYWHERE
    assert ways[f"ablate {name} layer-wise"] == WISE
    assert ways[f"ablate {name} L{CUT.middle} alone"] == ALONE


def test_intervals_for_these_very_questions_are_narrower(study, ablations):
    wide, narrow = ablated(study, ablations), ablated(study, ablations, about=THESE_QUESTIONS)
    assert (narrow["high"] - narrow["low"]).mean() < (wide["high"] - wide["low"]).mean()


def test_pairs_are_of_one_question_and_seed_across_the_seeds_of_a_control(additions):
    cell = additions.cells.filter(pl.col("role") == "random", pl.col("kind") == "steer")["cell"][0]
    found = paired(additions, "base", cell)
    answers = len(SEEDS) * CUT.samples * additions.answers["question_id"].n_unique()
    assert (found.table.height, found.complete) == (answers, answers)
