import numpy as np
import polars as pl

from backend.analysis.conditions.controls import SHUFFLED
from backend.charts.cosines import agreement_chart, layer_lines, pair_cosine_chart
from tests.charts.test_probing import rows_of

TABLE = pl.DataFrame(
    {
        "layer": [0, 1, 0, 1],
        "a": ["x"] * 4,
        "b": ["y", "y", "g", "g"],
        "group": ["two organisms"] * 2 + ["good advice"] * 2,
        "cosine": [0.8, 0.9, 0.1, -0.4],
    }
)


def test_every_group_has_a_colour_and_chance_is_shaded():
    spec = agreement_chart(TABLE, chance=0.08, chosen=1).to_dict()
    color = next(layer["encoding"]["color"] for layer in spec["layer"] if "color" in layer["encoding"])
    assert color["scale"]["domain"] == ["two organisms", "good advice"]
    bands = [row for rows in spec["datasets"].values() for row in rows if "high" in row]
    assert {(row["low"], row["high"], row["layer"]) for row in bands} == {(-0.08, 0.08, 0), (-0.08, 0.08, 1)}


def test_the_mean_over_pairs_has_the_band_of_its_shuffles():
    mean = pl.DataFrame(
        {"layer": [0, 1], "cosine": [0.8, 0.9], "low": [-0.3, None], "high": [0.4, None], "control": [SHUFFLED] * 2}
    )
    chart = agreement_chart(TABLE, chance=None, mean=mean)
    spec = chart.to_dict()
    assert spec["layer"][0]["mark"]["type"] == "area"
    assert [(row["low"], row["high"]) for row in rows_of(chart) if "high" in row and row["low"] is not None]
    domains = {
        tuple(layer["encoding"]["color"]["scale"]["domain"]) for layer in spec["layer"] if "color" in layer["encoding"]
    }
    assert domains == {("two organisms", "good advice", SHUFFLED)}, "one scale: a colour means one thing"
    bare = agreement_chart(TABLE, chance=None, mean=mean.with_columns(low=None, high=None)).to_dict()
    assert bare["layer"][0]["mark"]["type"] == "line"
    assert len(bare["layer"]) == 3


def test_a_negative_cosine_is_on_the_axis():
    spec = agreement_chart(TABLE, chance=None).to_dict()
    assert spec["layer"][0]["encoding"]["y"]["scale"]["domain"] == [-0.4, 1]


def test_every_pair_has_its_cosine_and_what_is_none_is_not_drawn():
    matrix = np.array([[1, 0.5], [np.nan, 1]])
    rows = {(row["a"], row["b"]): row["cosine"] for row in rows_of(pair_cosine_chart(matrix, ["x", "y"]))}
    assert rows == {("x", "x"): 1, ("x", "y"): 0.5, ("y", "y"): 1}


def test_layer_lines_draw_the_chosen_directions_only():
    table = pl.DataFrame({"name": ["a", "b"], "layer": [3, 3], "cosine": [1.0, 0.5]})
    chart = layer_lines(table, column="cosine", title="cosine", names=["b"])
    assert [row["name"] for row in rows_of(chart) if "name" in row] == ["b"]
