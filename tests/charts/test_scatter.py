import polars as pl

from backend.charts.pick import PICK
from backend.charts.scatter import BRUSH, LENGTH, MOST_POINTS, axes, outcome_scatter, thinned
from backend.outcomes import EM, Outcome, above


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


def box(spec):
    return next(rows[0] for rows in spec["datasets"].values() if "left" in rows[0])


def test_the_shaded_quadrant_is_what_counts_as_a_hit():
    spec = outcome_scatter(responses(3), chosen="r1").to_dict()
    assert box(spec) == {"left": 50, "right": 100, "bottom": 0, "top": 30}
    assert {param["name"] for param in spec["params"]} >= {BRUSH, PICK}


def test_texts_are_not_sent_in_full():
    spec = outcome_scatter(responses(2)).to_dict()
    rows = next(rows for rows in spec["datasets"].values() if rows and "opening" in rows[0])
    assert all(len(row["opening"]) <= 141 and "text" not in row for row in rows)


def test_an_outcome_of_one_score_lies_along_another_or_along_the_length():
    upper = Outcome("upper", (above("upper", 90),))
    assert axes(EM, ["medical", "aligned", "coherent"]) == ("coherent", "aligned")
    assert axes(upper, ["aligned", "upper"]) == ("aligned", "upper")
    assert axes(upper, ["upper"]) == (LENGTH, "upper")
    table = responses(3).with_columns(upper=pl.lit(95.0), n_answer=pl.lit(7))
    spec = outcome_scatter(table, outcome=upper, across=LENGTH, up="upper").to_dict()
    assert (box(spec)["bottom"], box(spec)["top"]) == (90, 100)
    assert "x" not in spec["layer"][0]["encoding"]  # any length: the frame goes from side to side
