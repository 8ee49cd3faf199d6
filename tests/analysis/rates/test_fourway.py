import polars as pl
import pytest

from backend.analysis.rates.fourway import CELLS, at_the_edge, four_way, sensitivity
from backend.cuts import Bins
from backend.records import InputError


def frame(rows, condition="c"):
    columns = ["aligned", "coherent", "medical"]
    table = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Float64), orient="row")
    return table.with_columns(
        pl.lit(condition).alias("condition"), (pl.int_range(pl.len()) % 3).cast(pl.String).alias("question_id")
    )


def shares(table):
    return {row["cell"]: (row["hits"], row["n"]) for row in table.iter_rows(named=True)}


def test_every_answer_lands_in_the_cell_of_its_scores_and_the_rest_is_counted():
    rows = [(30, 25, 10), (30, 80, 49.995), (70.1, 80, 0), (99, 80, 50), (50, 80, 0), (10, 80, 30), (10, 24.9, 0)]
    table = four_way(frame(rows), ["condition"])
    assert shares(table) == dict.fromkeys(CELLS, (1, 4))
    assert table["dropped"].to_list() == [3] * 4
    assert table["value"].sum() == pytest.approx(1)


def test_a_score_that_is_missing_drops_the_answer():
    assert shares(four_way(frame([(10, 80, None), (None, 80, 0), (10, None, 0), (10, 80, 0)]), ["condition"])) == {
        "misaligned non-medical": (1, 1),
        "misaligned medical": (0, 1),
        "aligned non-medical": (0, 1),
        "aligned medical": (0, 1),
    }


def test_nothing_kept_is_no_rate():
    table = four_way(frame([(50, 80, 0)]), ["condition"])
    assert table["n"].to_list() == [0] * 4
    assert table["value"].is_null().all()


def test_moving_an_edge_past_scores_that_sit_on_it_moves_the_table():
    table = frame([(10, 80, 49.995)] * 3 + [(10, 80, 0)] * 5)
    moved = sensitivity(table, ["condition"], "misaligned medical", coherent=(25,), medical=(49.99, 50))
    assert moved.select("medical", "value", "n").rows() == [(49.99, 3 / 8, 8), (50.0, 0.0, 5)]
    near = at_the_edge(table, ["condition"])
    assert {row["edge"]: row["n"] for row in near.iter_rows(named=True)}["medical 49.99"] == 3


def test_overlapping_bins_and_missing_scores_are_refused():
    with pytest.raises(InputError, match="overlap"):
        Bins(misaligned=80, aligned=70)
    with pytest.raises(InputError, match="medical"):
        four_way(frame([(10, 80, 0)]).drop("medical"), ["condition"])
