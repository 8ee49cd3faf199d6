import numpy as np
import polars as pl
import pytest

from backend.analysis.rates.rates import THESE_QUESTIONS
from backend.edits import PLAIN, Ablate, Condition, Level
from backend.records import BASELINE, RANDOM, Direction, InputError, Origin
from backend.study import Draft, open_study
from backend.tables.sweeps import (
    ABLATED,
    ALONE,
    EVERYWHERE,
    STEERED,
    WISE,
    ablated,
    described,
    paired,
    starting_topics,
    steered,
    swept,
    swept_at_each_length,
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


def test_the_length_that_is_compared_can_be_chosen(tmp_path, monkeypatch):
    swept_study(tmp_path, shape=CUT)
    study = open_study("swept", tmp_path)
    whole = f"ablate {named(BAD[0])} everywhere"  # an answer of full length: beside whole unedited ones
    lengths = {name: length for name, length in study.info["baselines"].items() if name != whole}
    monkeypatch.setattr(study, "info", study.info | {"baselines": lengths})
    responses = study.responses(JUDGE)
    usual = swept(study, responses, ABLATED)
    assert usual.baselines == (CUT.beside, BASELINE)
    found = swept(study, responses, ABLATED, BASELINE)
    edited = found.answers.filter(pl.col("cell").is_in(found.edited))
    both = usual.answers.filter(pl.col("cell").is_in(usual.edited))["organism"].unique()
    worn = responses.filter(condition=whole)["organism"].unique()
    assert edited.filter(pl.col("organism").is_in(worn.implode()))["condition"].unique().to_list() == [whole]
    assert set(edited["organism"]) == set(both)  # organisms without that length stay at theirs
    unedited = found.answers.filter(pl.col("organism").is_in(worn.implode()), cell=BASELINE)
    assert unedited["condition"].unique().to_list() == [BASELINE]
    again = swept_at_each_length(study, responses, ABLATED)
    assert [name for name, _ in again] == ["", BASELINE]
    assert set(again[1][1].answers["organism"]) == set(worn)
    with pytest.raises(InputError, match="no edited answers are compared with 'baseline, 7 tokens': choose one of"):
        swept(study, responses, ABLATED, "baseline, 7 tokens")


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


def test_a_sweep_starts_on_the_questions_that_it_was_published_for(study, additions, monkeypatch):
    every = starting_topics(study, additions)
    assert len(every) > 1
    monkeypatch.setitem(study.info, "published_questions", [every[1], "questions of another sweep"])
    assert starting_topics(study, additions) == every[1:2]
    monkeypatch.setitem(study.info, "published_questions", ["questions of another sweep"])
    assert starting_topics(study, additions) == every


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


def test_what_differs_in_tokens_or_target_is_no_one_cell_and_no_one_series(tmp_path):
    v = Direction("v", 1, np.ones(4, np.float32), 10.0)
    random = [Direction(f"random {s} like v", 1, v.vector, 10.0, Origin(RANDOM, "v", s).provenance) for s in (0, 1)]
    mean = Level((1.0,), "base")
    ways = {"paper": {}, "plain": {"where": PLAIN}, "mean": {"where": PLAIN, "to": mean}}
    made = {f"{d.name}, {way}": Ablate(d, **how) for way, how in ways.items() for d in (v, *random)}
    with Draft("s", tmp_path) as draft:
        draft.add_organism("base", base="b", adapters=(), record={})
        draft.add_conditions([Condition("baseline"), *(Condition(name, (edit,)) for name, edit in made.items())])
        draft.add_directions([v])
        draft.publish()
    table = described(open_study("s", tmp_path)).filter(pl.col("kind") == "ablate")
    cells = table.group_by("cell", maintain_order=True).agg("condition", pl.col("series").first())
    assert sorted(map(len, cells["condition"].to_list())) == [1, 1, 1, 2, 2, 2], (
        "controls of one way are counted together"
    )
    assert set(table.filter(pl.col("role") == "direction")["series"]) == {
        "v",
        "v at every token but the sink",
        "v to the mean of base at every token but the sink",
    }
    alike = described(open_study("s", tmp_path)).filter(pl.col("where") == "every token")
    assert alike["cell"].str.contains("sink").sum() == 0
