import polars as pl

from backend.charts.convergence import layer_lines
from backend.charts.fourway import cell_chart, sensitivity_chart
from backend.charts.sweeps import PICK, before_after_chart, strength_chart

POINTS = pl.DataFrame(
    {
        "condition": ["a x2", "a x4", "b x2"],
        "series": ["a", "a", "b"],
        "strength": [2.0, 4.0, 2.0],
        "relative": [0.5, 1.0, None],
        "value": [0.1, 0.6, 0.2],
        "low": [0.05, 0.4, 0.1],
        "high": [0.2, 0.8, 0.3],
        "hits": [4, 24, 8],
        "n": [40, 40, 40],
        "dropped": [0, 3, 0],
    }
)


def values(chart) -> list[dict]:
    return max(chart.to_dict()["datasets"].values(), key=len)


def test_a_point_of_a_sweep_can_be_picked_by_its_condition():
    spec = strength_chart(POINTS, title="share", x="strength", baseline=0.1).to_dict()
    (pick,) = (param for param in spec["params"] if param["name"] == PICK)
    assert pick["select"]["fields"] == ["condition"]
    assert any(layer["mark"].get("strokeDash") for layer in spec["layer"])  # the rate without an edit


def test_a_strength_whose_share_is_unknown_is_not_drawn_as_a_share():
    drawn = values(strength_chart(POINTS, title="share", x="relative", baseline=None))
    assert [row["condition"] for row in drawn] == ["a x2", "a x4"]


def test_before_and_after_keep_the_order_of_the_rows():
    ends = {f"{side}{end}": [0.1, 0.2] for side in ("before", "after") for end in ("", "_low", "_high")}
    table = pl.DataFrame({"lane": ["z", "a"], **ends, "n_before": [9, 9], "n_after": [9, 9]})
    spec = before_after_chart(table, title="share").to_dict()
    assert spec["layer"][0]["encoding"]["y"]["sort"] == ["z", "a"]


def test_every_cell_says_its_share_and_count_and_an_empty_one_says_so():
    cells = {"condition": ["c"] * 2, "cell": ["misaligned medical", "aligned medical"], "value": [0.25, None]}
    ends = {"low": [0.1, None], "high": [0.4, None], "hits": [1, 0], "n": [4, 0]}
    drawn = values(cell_chart(pl.DataFrame(cells | ends)))
    assert [row["text"] for row in drawn] == ["25.0% (1/4)", "nothing kept"]


def test_sensitivity_has_a_line_a_cut_off():
    table = pl.DataFrame({"medical": [49.0, 50.0] * 2, "coherent": [25.0] * 2 + [50.0] * 2, "value": [0.1] * 4})
    table = table.with_columns(low=pl.lit(0.0), high=pl.lit(0.3), n=pl.lit(9))
    spec = sensitivity_chart(table, title="share", edge=49.99).to_dict()
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["coherent ≥ 25", "coherent ≥ 50"]


def test_layer_lines_draw_the_chosen_directions_only():
    table = pl.DataFrame({"name": ["a", "b"], "layer": [3, 3], "cosine": [1.0, 0.5]})
    spec = layer_lines(table, column="cosine", title="cosine", names=["b"]).to_dict()
    assert [row["name"] for rows in spec["datasets"].values() for row in rows if "name" in row] == ["b"]
