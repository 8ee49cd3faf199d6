import polars as pl

from backend.charts.four_cells import cell_chart, sensitivity_chart
from backend.charts.pick import PICK
from backend.charts.tradeoffs import heat_chart, series_legend, strength_chart, tradeoff_chart

POINTS = pl.DataFrame(
    {
        "cell": ["a x2", "a x4", "b x2"],
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


def test_a_point_of_a_sweep_can_be_picked_by_its_cell():
    spec = strength_chart(POINTS, title="share", x="strength", baseline=0.1).to_dict()
    (pick,) = (param for param in spec["params"] if param["name"] == PICK)
    assert pick["select"]["fields"] == ["cell"]
    assert any(layer["mark"].get("strokeDash") for layer in spec["layer"])  # the rate without an edit


def test_a_strength_whose_share_is_unknown_is_not_drawn_as_a_share():
    drawn = values(strength_chart(POINTS, title="share", x="relative", baseline=None))
    assert [row["cell"] for row in drawn] == ["a x2", "a x4"]


HEAT = POINTS.with_columns(layer=pl.Series([3, 3, 4]), mark=pl.Series(["▲", "", ""]))


def test_a_heat_map_draws_known_cells_and_outlines_the_chosen_one():
    spec = heat_chart(HEAT, metric="em", x="relative", title="t", most=0.5, chosen="a x4").to_dict()
    drawn = max(spec["datasets"].values(), key=len)
    assert [row["cell"] for row in drawn] == ["a x2", "a x4"]
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == [0, 0.5]
    assert any("a x4" in str(layer.get("transform", "")) for layer in spec["layer"])
    (pick,) = (param for param in spec["params"] if param["name"] == PICK)
    assert pick["select"]["fields"] == ["cell"]


def test_strengths_that_differ_at_every_layer_are_dots_on_a_scale():
    many = pl.concat([HEAT.with_columns(strength=pl.lit(float(at)), layer=pl.lit(at)) for at in range(1, 30)])
    assert heat_chart(many, metric="em", x="strength", title="t").to_dict()["layer"][0]["mark"]["type"] == "square"
    assert heat_chart(HEAT, metric="em", x="strength", title="t").to_dict()["layer"][0]["mark"]["type"] == "rect"


def test_controls_are_dashed_and_named_in_the_legend():
    text = series_legend(["v", "<b> of good"], {"v": "direction", "<b> of good": "good advice"})
    assert text.count("dashed") == 1
    assert "&lt;b&gt; of good (good advice)" in text


def test_the_trade_off_has_a_dot_a_cell_and_the_baseline():
    ends = {f"{metric}_{end}": [0.1, 0.2] for metric in ("hit", "gate") for end in ("low", "high")}
    points = {"cell": ["a", "b"], "series": ["v", "v"], "layers": ["3", "3"], "strength": [1.0, 2.0]}
    table = pl.DataFrame(points | ends | {"hit": [0.1, 0.3], "gate": [0.9, 0.62], "hit_n": [9, 9]})
    names, without = ("upper", "coherent"), {"hit": 0.0, "gate": 0.95}
    chart = tradeoff_chart(
        table, names=names, title="in upper case", baseline=without, roles={"v": "direction"}, chosen="b"
    )
    spec = chart.to_dict()
    assert {**without, "label": "no edit"} in [row for r in spec["datasets"].values() for row in r]
    assert spec["layer"][0]["encoding"]["x"]["scale"]["domain"] == [0.5, 1]


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
