import polars as pl

from backend.charts.tells_and_causes import MOST_INTERVALS, effect_chart, interaction_chart, map_chart, rank_chart
from backend.charts.write_vectors import push_chart, vector_cosine_chart


def drawn(chart, key):
    """Every data row that has a key."""
    return [row for rows in chart.to_dict()["datasets"].values() for row in rows if key in row]


def placed(count):
    rows = {"adapter": [f"a{i}" for i in range(count)], "label": [f"L{i}" for i in range(count)]}
    ends = {
        f"{axis}{end}": [0.6] * count
        for axis in ("topic", "valence")
        for end in ("", "_low", "_high", "_shuffled", "_q")
    }
    more = {"layer": list(range(count)), "module": ["m"] * count, "lean": ["neither"] * count, "size": [1.0] * count}
    return pl.DataFrame(rows | ends | more)


def marks(chart):
    return [layer["mark"]["type"] for layer in chart.to_dict()["layer"]]


def test_intervals_are_drawn_for_as_many_adapters_as_can_be_told_apart():
    few, many = (map_chart(placed(count), topic="t", valence="v") for count in (9, MOST_INTERVALS + 1))
    assert marks(few).count("rule") == marks(many).count("rule") + 2
    assert "text" in marks(few)
    assert "text" not in marks(many)


def test_both_ranks_of_every_module_are_joined():
    table = pl.DataFrame(
        {
            "label": ["L1", "L2"],
            "probe_rank": [1, 2],
            "cause_rank": [2, 1],
            "verdict": ["", "x"],
            "conflict": [False, True],
        }
    )
    rows = drawn(rank_chart(table, left="probe", right="cause"), "rank")
    assert {(row["label"], row["side"]): row["rank"] for row in rows} == {
        ("L1", "probe"): 1,
        ("L2", "probe"): 2,
        ("L1", "cause"): 2,
        ("L2", "cause"): 1,
    }


def test_an_effect_is_coloured_where_it_stands():
    table = pl.DataFrame(
        {
            "label": ["a", "b"],
            "change": [-0.2, 0.1],
            "change_low": [-0.3, -0.1],
            "change_high": [-0.1, 0.2],
            "n": [5, 5],
            "p_value": [0.01, 0.03],
            "q_value": [0.02, 0.06],
            "stands": [True, False],
        }
    )
    assert [row["stands"] for row in drawn(effect_chart(table, title="t"), "stands")] == [True, False]


def test_a_pair_without_an_interval_does_not_stand():
    ends = {"low": [None, 0.1], "high": [None, 0.3], "p_value": [None, 0.01], "q_value": [None, 0.01]}
    ends |= {"stands": [None, True]}
    table = pl.DataFrame(
        {
            "a": ["x", "x"],
            "b": ["y", "z"],
            "value": [0.1] * 2,
            "expected": [0.1] * 2,
            "interaction": [0.0, 0.2],
            "n": [9] * 2,
        }
        | ends
    )
    rows = drawn(interaction_chart(table, labels=["x", "y", "z"]), "stands")
    assert [row["stands"] for row in rows] == [False, True]


def test_spaces_of_tokens_are_seen():
    lens = pl.DataFrame({"side": ["top", "bottom"], "rank": [1, 1], "token": [" a\n", "b"], "value": [5.0, -4.0]})
    assert [row["word"].strip(" ") for row in drawn(push_chart(lens), "word")] == ["␣a↵", "b"]


def test_cosines_keep_their_order():
    table = pl.DataFrame({"name": ["x", "y"], "cosine": [0.2, -0.4], "what": ["", ""]})
    assert [row["name"] for row in drawn(vector_cosine_chart(table, chance=0.1), "name")] == ["x", "y"]
