import polars as pl

from backend.charts.probing import REAL, SHUFFLED, coefficient_chart, metric_chart, roc_chart


def rows_of(chart):
    """Every data row that the chart draws."""
    return [row for rows in chart.to_dict()["datasets"].values() for row in rows]


def coefficients(values):
    names = [f"adapter {at}" for at in range(len(values))]
    table = pl.DataFrame({"feature": names, "coefficient": values}).with_columns(
        low=pl.col("coefficient") - 1, high=pl.col("coefficient") + 1, p_value=0.04, q_value=0.04
    )
    return table.with_columns(stands=pl.col("coefficient").abs() > 1)


def test_a_coefficient_is_filled_where_it_stands_among_all():
    rows = rows_of(coefficient_chart(coefficients([2.0, 0.5, -3.0]), positive="p", negative="n"))
    assert {row["feature"]: row["stands"] for row in rows if "feature" in row} == {
        "adapter 0": True,
        "adapter 1": False,
        "adapter 2": True,
    }
    assert {row["feature"]: row["toward"] for row in rows if "feature" in row}["adapter 2"] == "n"


def test_of_many_coefficients_the_largest_are_kept_in_their_order():
    rows = rows_of(coefficient_chart(coefficients([1.0, -5.0, 0.1, 4.0]), positive="p", negative="n", largest=2))
    assert [row["feature"] for row in rows if "feature" in row] == ["adapter 1", "adapter 3"]


def test_metrics_are_written_out_with_two_decimals():
    table = pl.DataFrame(
        {
            "metric": ["AUC", "AUC"],
            "labels": [REAL, SHUFFLED],
            "value": [0.9, None],
            "low": [0.8, None],
            "high": [1, None],
        },
        strict=False,
    )
    texts = [row["text"] for row in rows_of(metric_chart(table)) if "text" in row]
    assert texts == ["0.90 (0.80–1.00)", "?"]


def test_a_roc_curve_keeps_the_order_of_its_points():
    points = pl.DataFrame({"false_positive": [0.0, 0.5, 0.5, 1.0], "true_positive": [0.0, 0.2, 0.9, 1.0]})
    assert [row["true_positive"] for row in rows_of(roc_chart(points))][-4:] == [0.0, 0.2, 0.9, 1.0]
