import polars as pl

from backend.charts.separation import distribution_chart, separation_chart


def test_a_chart_has_a_lane_for_every_adapter_in_the_given_order():
    table = pl.DataFrame(
        {"label": ["L9", "L2"], "adapter": ["b", "a"], "value": [0.9, 0.5], "low": [0.8, 0.4], "high": [0.95, 0.6]}
    ).with_columns(p_value=0.01, q_value=0.02, stands=pl.Series([True, None]), shuffled=0.55)
    spec = separation_chart(table, chosen="a").to_dict()
    lanes = [layer["encoding"]["y"]["sort"] for layer in spec["layer"] if "y" in layer["encoding"]]
    assert lanes
    assert all(lane == ["L9", "L2"] for lane in lanes)


def test_classes_are_vermillion_and_blue_whatever_their_names():
    table = pl.DataFrame(
        {"side": ["m", "a"], "low": [0.0, 0.0], "high": [1.0, 1.0], "n": [3, 4], "density": [1.0, 1.0]}
    )
    scale = distribution_chart(table, positive="m", negative="a", title="L1").to_dict()["encoding"]["color"]["scale"]
    assert scale == {"domain": ["m", "a"], "range": ["#D55E00", "#0072B2"]}
