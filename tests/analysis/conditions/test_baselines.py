import numpy as np
import polars as pl
import pytest

from backend.analysis.conditions.baselines import is_baseline, own_baselines, unedited
from backend.edits import Add, Condition, Gain
from backend.records import BASELINE, Direction
from tests.analysis.conditions.answers import answers

V = Direction("v", 3, np.ones(4, dtype=np.float32))


@pytest.mark.parametrize(
    ("condition", "plain"),
    [
        (unedited(), True),
        (unedited(40), True),
        (Condition("worn", (Gain("med", 1.0),)), True),
        (Condition("half", (Gain("med", 0.5),)), False),
        (Condition("baseline, 40 tokens", (Add(V, 1.0),)), False),
    ],
)
def test_answers_are_unedited_where_nothing_is_edited_whatever_it_is_called(condition, plain):
    assert is_baseline(condition) == plain


def test_the_baseline_cut_to_a_length_is_a_condition_of_its_own():
    assert unedited() == Condition(BASELINE)
    assert unedited(40).tokens == 40
    assert len({unedited(tokens).name for tokens in (None, 40, 48)}) == 3


def test_a_sweep_is_compared_with_unedited_answers_of_its_length():
    short = unedited(40).name
    frame = pl.concat(
        [
            answers(BASELINE, 20),
            answers(short, 5),
            answers("x4", 10),
            answers("long", 0, n=4),
            answers("other", 0),
            answers(BASELINE, 3, organism="base"),
            answers(short, 6, organism="base"),
            answers(BASELINE, 2, organism="elsewhere"),
        ]
    )
    found = own_baselines(frame, ["x4", "long"], {"x4": short})
    sizes = {key: len(rows) for key, rows in found.partition_by("organism", "cell", as_dict=True).items()}
    assert sizes == {
        ("med", BASELINE): 20,
        ("med", "x4"): 20,
        ("med", "other"): 20,
        ("base", BASELINE): 20,
        ("elsewhere", BASELINE): 20,
    }
    hits = {
        organism: found.filter(pl.col("organism") == organism, pl.col("cell") == BASELINE)
        for organism in ("med", "base")
    }
    assert [(rows["aligned"] < 30).sum() for rows in hits.values()] == [5, 6]
    assert own_baselines(frame, ["x4"], {}).filter(pl.col("cell") == BASELINE)["aligned"].lt(30).sum() == 25
