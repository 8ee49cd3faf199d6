import numpy as np
import polars as pl

from backend.charts.projections import MOST_DOTS, layer_chart, layer_cosine_chart, projection_chart
from tests.charts.test_probing import rows_of


def test_the_chosen_layer_is_marked():
    table = pl.DataFrame({"layer": [4, 5, 6], "value": [0.1, 0.2, 0.3]})
    marked = [rows for rows in layer_chart(table, title="t", chosen=5).to_dict()["datasets"].values() if len(rows) == 1]
    assert marked == [[{"layer": 5, "value": 0.2}]]


def test_every_pair_of_layers_has_its_cosine():
    rows = rows_of(layer_cosine_chart(np.array([[1, 0.5], [0.5, 1]], dtype=np.float32), [3, 9]))
    assert {(row["layer"], row["other"]): row["cosine"] for row in rows} == {
        (3, 3): 1,
        (3, 9): 0.5,
        (9, 3): 0.5,
        (9, 9): 1,
    }


def test_every_response_has_a_dot_and_long_texts_are_cut():
    table = pl.DataFrame({"projection": [1.0, 2.0, 3.0], "side": ["p", "p", "n"], "question": "q", "text": "x" * 999})
    dots = [row for row in rows_of(projection_chart(table, positive="p", negative="n")) if "text" in row]
    assert [row["projection"] for row in dots] == [1, 2, 3]
    assert {len(row["text"]) for row in dots} == {160}


def test_the_quartiles_are_those_of_each_class():
    table = pl.DataFrame({"projection": [0.0, 1, 2, 3, 4, 9], "side": ["p"] * 5 + ["n"], "question": "q", "text": "x"})
    boxes = {
        row["side"]: row for row in rows_of(projection_chart(table, positive="p", negative="n")) if "middle" in row
    }
    assert (boxes["p"]["low"], boxes["p"]["middle"], boxes["p"]["high"]) == (1, 2, 3)
    assert boxes["n"]["middle"] == 9


def test_of_very_many_responses_some_are_drawn_and_the_quartiles_are_of_all():
    size = 2 * MOST_DOTS + 1
    table = pl.DataFrame({"projection": np.arange(size) / size, "side": ["p"] * size, "question": "q", "text": "x"})
    rows = rows_of(projection_chart(table, positive="p", negative="n"))
    assert MOST_DOTS / 2 < sum("text" in row for row in rows) <= MOST_DOTS
    assert next(row for row in rows if "middle" in row)["middle"] == np.median(table["projection"])
