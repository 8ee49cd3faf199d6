from types import SimpleNamespace

import polars as pl
import pytest

from backend.edits import Condition
from backend.records import BASE, BASELINE, Question, Response, Score
from backend.study import Draft, open_study
from backend.tables.rates import differences, drawn_by, with_scores_of

SHORT = f"{BASELINE}, 8 tokens"
MISALIGNED = {  # of ten answers to each question
    (BASE, BASELINE): 0,
    ("med", BASELINE): 9,
    ("med", SHORT): 5,
    ("med", "swept"): 5,
    ("med", "whole"): 9,
    ("med", "chosen"): 10,
}


@pytest.fixture
def study(tmp_path):
    questions = [Question(f"q{at}", "?", "t") for at in range(4)]
    with Draft("s", tmp_path) as draft:
        draft.meta(baselines={"swept": SHORT}, settings={"chosen": {"kind": "selected", "selected": True}})
        for organism in (BASE, "med"):
            draft.add_organism(organism, base="b", adapters=(), record={})
        draft.add_questions(questions)
        draft.add_conditions(Condition(name) for name in dict.fromkeys(name for _, name in MISALIGNED))
        for (organism, condition), hits in MISALIGNED.items():
            for question in questions:
                for seed in range(10):
                    name = f"{organism}.{condition}.{question.id}.{seed}"
                    draft.add_responses([Response(name, organism, condition, question.id, "?", "t", seed, "text")])
                    draft.add_scores(
                        Score(name, "j", metric, value, "")
                        for metric, value in (("aligned", 10.0 if seed < hits else 90.0), ("coherent", 90.0))
                    )
        draft.publish()
    return open_study("s", tmp_path)


def test_answers_chosen_by_their_scores_have_no_rate(study):
    assert "chosen" not in with_scores_of(study, study.responses("j"))["condition"]


def test_a_condition_is_compared_with_unedited_answers_of_its_own_length(study):
    table = differences(study, with_scores_of(study, study.responses("j")))
    own = table.filter(pl.col("against") == "med")
    found = {
        name: (under, round(value, 6)) for name, under, value in own.select("condition", "under", "difference").rows()
    }
    assert found["swept"] == (SHORT, 0.0)
    assert found["whole"] == (BASELINE, 0.0)
    assert found[SHORT] == (BASELINE, -0.4)  # what the length alone does


def test_an_organism_is_compared_with_the_base_under_the_same_condition(study):
    table = differences(study, with_scores_of(study, study.responses("j"))).filter(pl.col("against") == BASE)
    assert table.select("organism", "condition", "under", "clear").rows() == [("med", BASELINE, BASELINE, True)]
    assert table["difference"].item() == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("info", "by"),
    [
        ({"drawn": {"hand": "first"}}, "first"),
        ({"drawn": {"other": "first"}}, None),
        ({"drawn": ["hand"]}, None),
        ({"drawn": {"hand": 3}}, None),
        ({}, None),
    ],
)
def test_a_study_says_by_whose_scores_answers_were_drawn(info, by):
    assert drawn_by(SimpleNamespace(info=info), "hand") == by
