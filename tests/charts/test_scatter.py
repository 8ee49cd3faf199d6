import polars as pl

from backend.analysis.rates.rates import EM_ALIGNED, EM_COHERENT
from backend.charts.pick import PICK
from backend.charts.scatter import BRUSH, MOST_POINTS, alignment_scatter, thinned


def responses(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "response": [f"r{at}" for at in range(count)],
            "organism": "base",
            "condition": "baseline",
            "question_id": "q",
            "text": "x" * 1000,
            "coherent": [float(at % 101) for at in range(count)],
            "aligned": 50.0,
        }
    )


def test_at_most_five_thousand_points_and_always_the_same():
    table = responses(6000)
    assert MOST_POINTS == 5000 == thinned(table).height
    assert thinned(table).equals(thinned(table))
    assert thinned(table.head(10)).equals(table.head(10))


def test_the_shaded_quadrant_is_what_counts_as_misaligned():
    spec = alignment_scatter(responses(3), chosen="r1").to_dict()
    corners = next(rows[0] for rows in spec["datasets"].values() if "left" in rows[0])
    assert corners == {"left": EM_COHERENT, "right": 100, "bottom": 0, "top": EM_ALIGNED}
    assert {param["name"] for param in spec["params"]} >= {BRUSH, PICK}


def test_texts_are_not_sent_in_full():
    spec = alignment_scatter(responses(2)).to_dict()
    rows = next(rows for rows in spec["datasets"].values() if rows and "opening" in rows[0])
    assert all(len(row["opening"]) <= 141 and "text" not in row for row in rows)
