import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from backend.analysis.conditions.describe import (
    describe,
    describe_stored,
    relative_strengths,
    sweep_rates,
)
from backend.edits import PLAIN, Ablate, AblateWrite, Add, Condition, Gain, Level, edits_to_json
from backend.records import BASELINE, Direction
from tests.analysis.conditions.answers import answers

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
        ((), ("baseline", None, None, None, None)),
        ((Gain("med", 1.0),), ("baseline", None, None, None, None)),
    ],
)
def test_edits_are_described(edits, row):
    assert describe([Condition("c", edits)]).drop("where", "to").row(0) == ("c", *row)


def test_tokens_and_targets_are_described_where_all_edits_share_them():
    level = Level((1.0,), "base")
    wise = tuple(Ablate(V, (layer,), PLAIN, to=level) for layer in range(6))
    both = (Add(V, 1.0), Add(W, 1.0, where=PLAIN))
    named = {"wise": wise, "both": both, "zero": (Ablate(V),), "gain": (Gain("med", 2.0),), BASELINE: ()}
    table = describe([Condition(name, edits) for name, edits in named.items()])
    assert table.select("where", "to").rows() == [
        ("every token but the sink", "the mean of base"),
        (None, None),
        ("every token", "zero"),
        (None, None),
        (None, None),
    ]


def test_what_a_study_says_goes_before_the_edits():
    says: dict[str, dict[str, Any]] = {
        "c": {"kind": "steer", "direction": "v", "layers": [24], "scale": 4.0},
        "s": {"kind": "selected"},
    }
    table = describe([Condition("c"), Condition("s"), Condition(BASELINE)], says)
    assert table.drop("where", "to").rows() == [
        ("c", "steer", "v", "24", 24, 4.0),
        ("s", "selected", None, None, None, None),
        (BASELINE, "baseline", None, None, None, None),
    ]


def test_rates_come_in_order_of_strength_without_chosen_answers():
    conditions = [Condition(f"x{s}", (Add(V, float(s)),)) for s in (10, 4)] + [Condition("s"), Condition(BASELINE)]
    described = describe(conditions, {"s": {"kind": "selected"}})
    frame = pl.concat([answers("x10", 10), answers("x4", 4), answers("s", 20), answers(BASELINE, 0)])
    table = sweep_rates(frame, described)
    em = table.filter(pl.col("metric") == "em")
    assert em.select("condition", "value").rows() == [(BASELINE, 0.0), ("x4", 0.2), ("x10", 0.5)]
    corrected = table.filter(pl.col("metric") == "self-corrected")["value"].to_list()
    assert corrected == [1.0, 0.8, 0.5]


def test_rates_of_cells_count_their_conditions_together():
    conditions = [Condition(f"x{s}", (Add(V, float(s)),)) for s in (10, 4)]
    cells = describe(conditions).with_columns(cell=pl.lit("x")).unique("cell").drop("condition")
    frame = pl.concat([answers("x4", 4), answers("x10", 10)]).with_columns(cell=pl.lit("x"))
    [em] = sweep_rates(frame, cells, by="cell").filter(pl.col("metric") == "em").iter_rows(named=True)
    assert (em["cell"], em["hits"], em["n"]) == ("x", 14, 40)


def test_ablated_write_vectors_are_a_kind_of_their_own():
    table = describe([Condition("b", (Gain("med", 1.0), AblateWrite(V, "med")))])
    assert table.drop("where", "to").row(0) == ("b", "ablate_write", "v", "B", 3, None)


# --- how strongly --------------------------------------------------------------------------------------------------

U = Direction("v", 3, np.array([3, 4], dtype=np.float32), activation_norm=20.0)
UNKNOWN = Direction("u", 3, np.array([3, 4], dtype=np.float32))
STORED = {"name": ["v", "u"], "layer": [3, 3], "norm": [5.0, 5.0], "activation_norm": [50.0, None]}


def shares(edits, says=None, stored=STORED):
    conditions = pl.DataFrame({"name": ["c"], "edits": [json.dumps(edits_to_json(edits))]})
    schema = {"name": pl.String, "layer": pl.Int64, "norm": pl.Float64, "activation_norm": pl.Float64}
    described = describe_stored(conditions, says)
    return relative_strengths(conditions, pl.DataFrame(stored, schema=schema), described)["relative"].to_list()


def test_the_share_is_that_of_the_vector_that_was_added():
    assert shares([Add(U, 2.0)]) == [pytest.approx(2 * 5 / 20)]  # not of the one the study keeps


def test_a_condition_known_by_name_alone_takes_the_stored_norms():
    says = {"c": {"kind": "steer", "direction": "v", "layers": [3], "scale": 4.0}}
    assert shares([], says) == [pytest.approx(4 * 5 / 50)]


def test_unknown_norms_have_no_share():
    assert shares([Add(UNKNOWN, 2.0)]) == [None]
    assert shares([], {"c": {"kind": "steer", "direction": "w", "layers": [3], "scale": 4.0}}) == [None]


def test_what_is_not_steered_is_left_out():
    assert shares([Ablate(U)]) == []


def test_a_step_and_an_amount_of_noise_are_strengths_too():
    said = {
        "step 50": {"kind": "checkpoint", "scale": 50},
        "noise": {"kind": "noise", "organism": "o", "scale": 0.3},
        "cut": {"kind": "ablate", "direction": "d", "layers": [1, 2], "scale": -1.0},
    }
    table = describe([Condition(name) for name in said], said)
    assert table.select("kind", "strength").rows() == [("checkpoint", 50.0), ("noise", 0.3), ("ablate", None)]
