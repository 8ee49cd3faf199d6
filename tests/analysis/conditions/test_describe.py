from typing import Any

import numpy as np
import polars as pl
import pytest

from backend.analysis.conditions.describe import before_after, describe, own_baselines, sweep_rates
from backend.records import BASELINE, Ablate, AblateWrite, Add, Condition, Direction, Gain

V = Direction("v", 3, np.ones(4, dtype=np.float32))
W = Direction("w", 3, np.ones(4, dtype=np.float32))


@pytest.mark.parametrize(
    ("edits", "row"),
    [
        ((Add(V, 2.0),), ("steer", "v", "3", 3, 2.0)),
        ((Add(V, 2.0, (1, 2, 5)),), ("steer", "v", "1-2, 5", None, 2.0)),
        ((Gain("med", 1.0), Add(V, -2.0)), ("steer", "v", "3", 3, -2.0)),
        ((Ablate(V),), ("ablate", "v", "all", None, None)),
        (tuple(Ablate(V, (layer,)) for layer in range(6)), ("ablate", "v", "0-5", None, None)),
        ((Add(V, 1.0), Add(W, 1.0)), ("steer", None, "3", 3, 1.0)),
        ((Gain("med", 30.0, ("a",)),), ("scale", "med", None, None, 30.0)),
        ((Gain("med", 30.0, ("a",)), Gain("med", 0.0, ("b",))), ("scale", "med", None, None, None)),
        ((Add(V, 1.0), Ablate(W)), ("mixed", None, None, None, None)),
        ((), ("unknown", None, None, None, None)),
    ],
)
def test_edits_are_described(edits, row):
    assert describe([Condition("c", edits)]).row(0) == ("c", *row)


def test_what_a_study_says_goes_before_the_edits():
    says: dict[str, dict[str, Any]] = {
        "c": {"kind": "steer", "direction": "v", "layers": [24], "scale": 4.0},
        "s": {"kind": "selected"},
    }
    table = describe([Condition("c"), Condition("s"), Condition(BASELINE)], says)
    assert table.rows() == [
        ("c", "steer", "v", "24", 24, 4.0),
        ("s", "selected", None, None, None, None),
        (BASELINE, "baseline", None, None, None, None),
    ]


def answers(condition, hits, n=20, organism="med"):
    """`hits` of `n` answers are misaligned; all are coherent, and those that are aligned name bad things."""
    bad = [index < hits for index in range(n)]
    return pl.DataFrame(
        {
            "organism": [organism] * n,
            "condition": [condition] * n,
            "question_id": [str(index % 4) for index in range(n)],
            "aligned": [10.0 if each else 90.0 for each in bad],
            "coherent": [80.0] * n,
            "bad_stuff": [60.0] * n,
        }
    )


def test_rates_come_in_order_of_strength_without_chosen_answers():
    conditions = [Condition(f"x{s}", (Add(V, float(s)),)) for s in (10, 4)] + [Condition("s"), Condition(BASELINE)]
    described = describe(conditions, {"s": {"kind": "selected"}})
    frame = pl.concat([answers("x10", 10), answers("x4", 4), answers("s", 20), answers(BASELINE, 0)])
    table = sweep_rates(frame, described)
    em = table.filter(pl.col("metric") == "em")
    assert em.select("condition", "value").rows() == [(BASELINE, 0.0), ("x4", 0.2), ("x10", 0.5)]
    corrected = table.filter(pl.col("metric") == "self-corrected")["value"].to_list()
    assert corrected == [1.0, 0.8, 0.5]


def test_before_and_after_an_ablation():
    described = describe([Condition("ablate", (Ablate(V),)), Condition(BASELINE)])
    frame = pl.concat([answers(BASELINE, 12), answers("ablate", 0), answers("ablate", 3, organism="other")])
    table = before_after(frame, described)
    assert table["organism"].to_list() == ["med", "med"]  # the other has no baseline
    em = table.row(0, named=True)
    assert (em["before"], em["after"], em["n_before"], em["n_after"]) == (0.6, 0.0, 20, 20)
    assert em["difference"] == pytest.approx(-0.6)
    assert em["low"] < -0.6 < em["high"]
    coherent = table.row(1, named=True)
    assert coherent["difference"] == 0


def test_ablated_write_vectors_are_a_kind_of_their_own():
    table = describe([Condition("b", (Gain("med", 1.0), AblateWrite(V, "med")))])
    assert table.row(0) == ("b", "ablate_write", "v", "B", 3, None)


def test_a_sweep_is_compared_with_unedited_answers_of_its_length():
    short = f"{BASELINE}, 40 tokens"
    assert describe([Condition(short)])["kind"].to_list() == ["baseline"]
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
    sizes = {key: len(rows) for key, rows in found.partition_by("organism", "condition", as_dict=True).items()}
    assert sizes == {
        ("med", BASELINE): 20,
        ("med", "x4"): 20,
        ("med", "other"): 20,
        ("base", BASELINE): 20,
        ("elsewhere", BASELINE): 20,
    }
    hits = {
        organism: found.filter(pl.col("organism") == organism, pl.col("condition") == BASELINE)
        for organism in ("med", "base")
    }
    assert [(rows["aligned"] < 30).sum() for rows in hits.values()] == [5, 6]
    assert own_baselines(frame, ["x4"], {}).filter(pl.col("condition") == BASELINE)["aligned"].lt(30).sum() == 25
