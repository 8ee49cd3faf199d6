import polars as pl

from backend.charts.pick import PICK
from backend.charts.transfer import before_after_chart, transfer_chart
from tests.charts.test_probing import rows_of

ENDS = {f"{side}{end}": [0.1, 0.2] for side in ("before", "after") for end in ("", "_low", "_high")}
CHANGE = {"difference": [-0.3, 0.02], "low": [-0.4, -0.1], "high": [-0.2, 0.1], "n_before": [9, 9], "n_after": [8, 7]}


def test_lanes_keep_their_order_and_have_a_bar_before_and_after():
    table = pl.DataFrame(
        {"lane": ["z", "a"], "cell": ["c", "d"], "role": ["direction", "random"], "note": ["n", "m"]} | ENDS | CHANGE
    )
    chart = before_after_chart(table, title="share")
    spec = chart.to_dict()
    assert spec["layer"][0]["encoding"]["y"]["sort"] == ["z", "a"]
    bars = [row for row in rows_of(chart) if "role" in row]
    assert [(row["side"], row["lane"], row["n"]) for row in bars] == [
        ("before", "z", 9),
        ("before", "a", 9),
        ("after", "z", 8),
        ("after", "a", 7),
    ]
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["before", "direction", "random"]


def test_a_cell_of_the_matrix_picks_its_organism_and_cell():
    cells = {"organism": ["a", "b"], "series": ["v", "v"], "cell": ["c", "c"], "own": [True, False]}
    table = pl.DataFrame(cells | ENDS | CHANGE | {"text": ["−30", "(+2)"], "below": ["", ""]})
    spec = transfer_chart(table, title="t", organisms=["b", "a"], directions=["v"], most=0.3).to_dict()
    (pick,) = (param for param in spec["params"] if param["name"] == PICK)
    assert pick["select"]["fields"] == ["cell", "organism"]
    assert spec["layer"][0]["encoding"]["x"]["sort"] == ["b", "a"]
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == [-0.3, 0, 0.3]
