"""A trained probe as charts: how well it does beside shuffled labels, its ROC curve, its coefficients by adapter.

Takes tables and draws them. It refuses to know how a probe is trained and where its rows come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import mean

import altair as alt
import polars as pl

from backend.analysis.estimates import Estimate
from backend.analysis.probes.probe import ProbeReport
from backend.charts.narrow import lane_axis
from backend.charts.palette import INK, NEUTRAL, POSITIVE, class_scale

METRIC_NAMES = {"auc": "AUC", "accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"}
REAL, SHUFFLED = "real labels", "shuffled labels"
ROW = 24  # pixels of height a feature gets
FURNITURE = 120  # pixels of height that legend and axis take; Streamlit counts them into the height of a chart


def metric_table(report: ProbeReport) -> pl.DataFrame:
    """What `metric_chart` draws: metric, labels, value, low, high."""
    rows = [
        (METRIC_NAMES[metric], labels, estimate.value, estimate.low, estimate.high)
        for metric in METRIC_NAMES
        for labels, found in ((REAL, report.metrics), (SHUFFLED, report.shuffled))
        if (estimate := found.get(metric)) is not None
    ]
    schema = {"metric": pl.String, "labels": pl.String, **dict.fromkeys(("value", "low", "high"), pl.Float64)}
    return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None)


def protocol_table(
    report: ProbeReport, paper: ProbeReport, chance: Sequence[ProbeReport], *, split: str
) -> pl.DataFrame:
    """A probe beside the paper's protocol on the same rows, as text: metrics with their ends, chance, and n.

    `chance` is the paper's protocol under shuffled labels, one report a shuffle: shown as their mean and range.
    """
    columns = (f"this probe, by {split}", "its shuffled labels", "the paper's protocol", "under shuffled labels")
    rows = []
    for metric, name in METRIC_NAMES.items():
        found = (report.metrics.get(metric), report.shuffled.get(metric), paper.metrics.get(metric))
        texts = [_with_interval({"value": e.value, "low": e.low, "high": e.high}) if e else "" for e in found]
        rows.append((name, *texts, _with_range([once.metrics[metric].value for once in chance])))
    size = 2 * min(paper.n_per_class)
    counts = (f"{report.n_rows:,} in {report.n_questions:,} questions", "")
    rows.append(("n", *counts, f"{size:,} a split ({size - round(0.8 * size):,} tested)", ""))
    return pl.DataFrame(rows, schema=dict.fromkeys(("metric", *columns), pl.String), orient="row")


def metric_chart(table: pl.DataFrame) -> alt.LayerChart:
    """Held-out metrics with intervals, real labels beside shuffled ones.

    `table` has the columns metric, labels (REAL or SHUFFLED), value, low, high; rows keep their order.
    """
    order = table["metric"].unique(maintain_order=True).to_list()
    ends = table.select(pl.col("value", "low", "high").fill_nan(None)).to_dicts()
    rows = table.with_columns(text=pl.Series([_with_interval(row) for row in ends], dtype=pl.String))
    base = alt.Chart(rows).encode(
        y=alt.Y("metric:N", sort=order, title=None, axis=alt.Axis(ticks=False, domain=False, labelPadding=8)),
        yOffset=alt.YOffset("labels:N", sort=[REAL, SHUFFLED]),
        color=alt.Color(
            "labels:N",
            scale=alt.Scale(domain=[REAL, SHUFFLED], range=[POSITIVE, NEUTRAL]),
            legend=alt.Legend(title=None, orient="top"),
        ),
        tooltip=[
            "metric:N",
            "labels:N",
            *[alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")],
        ],
    )
    x = alt.X(
        "value:Q", title="held-out folds", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".1f", tickCount=6)
    )
    return alt.layer(
        alt.Chart(pl.DataFrame({"value": [0.5]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3]).encode(x="value:Q"),
        base.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q", title="held-out folds", axis=alt.Axis(format=".1f", tickCount=6)), x2="high:Q"
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x),
        base.mark_text(align="left", fontSize=11, dx=8).encode(x=alt.datum(1.03), text="text:N", color=alt.value(INK)),
    ).properties(height=34 * len(order) + FURNITURE)


def roc_chart(table: pl.DataFrame) -> alt.LayerChart:
    """The ROC curve over held-out rows; `table` has the columns false_positive, true_positive."""
    unit = alt.Scale(domain=[0, 1])
    curve = (
        alt.Chart(table)
        .mark_line(color=POSITIVE, strokeWidth=2, interpolate="step-after")
        .encode(
            x=alt.X("false_positive:Q", scale=unit, title="false positive rate"),
            y=alt.Y("true_positive:Q", scale=unit, title="true positive rate"),
            order="order:Q",
        )
        .transform_window(order="row_number()")
    )
    chance = alt.Chart(pl.DataFrame({"false_positive": [0.0, 1.0], "true_positive": [0.0, 1.0]})).mark_line(
        color=NEUTRAL, strokeDash=[3, 3], strokeWidth=1
    )
    return alt.layer(chance.encode(x="false_positive:Q", y="true_positive:Q"), curve).properties(
        height=34 * 5 + FURNITURE
    )


def calibration_chart(table: pl.DataFrame) -> alt.LayerChart:
    """Share of positive rows over the mean predicted probability, in bins; on the diagonal a probe means what it says.

    `table` has the columns predicted, observed, low, high (null: no interval), n.
    """
    unit = alt.Scale(domain=[0, 1])
    numbers = [alt.Tooltip(f"{name}:Q", format=".2f") for name in ("predicted", "observed", "low", "high")]
    base = alt.Chart(table).encode(
        x=alt.X("predicted:Q", scale=unit, title="predicted probability"), tooltip=[*numbers, "n:Q"]
    )
    y = "share that is positive"
    ideal = alt.Chart(pl.DataFrame({"predicted": [0.0, 1.0], "observed": [0.0, 1.0]})).mark_line(
        color=NEUTRAL, strokeDash=[3, 3], strokeWidth=1
    )
    return alt.layer(
        ideal.encode(x="predicted:Q", y="observed:Q"),
        base.mark_rule(color=POSITIVE, strokeWidth=2, opacity=0.6).encode(y=alt.Y("low:Q", title=y), y2="high:Q"),
        base.mark_point(color=POSITIVE, filled=True, size=60, opacity=1).encode(
            y=alt.Y("observed:Q", scale=unit, title=y)
        ),
    ).properties(height=34 * 5 + FURNITURE)


def rival_table(report: ProbeReport, rivals: Mapping[str, ProbeReport | str]) -> pl.DataFrame:
    """The probe beside poorer ones on the same rows and folds, as text: probe, AUC, accuracy, what stands against it.

    A rival is its report, or why it could not be trained.
    """
    rows: list[tuple[str, ...]] = [("this probe", *_two(report), "")]
    if report.shuffled:
        texts = [_with_interval(_ends(report.shuffled[metric])) for metric in ("auc", "accuracy")]
        rows.append((f"the same on shuffled labels ({report.shuffles})", *texts, ""))
    rows += [
        (name, "", "", rival) if isinstance(rival, str) else (name, *_two(rival), "") for name, rival in rivals.items()
    ]
    return pl.DataFrame(rows, ["probe", "AUC", "accuracy", "note"], orient="row")


def _two(report: ProbeReport) -> tuple[str, str]:
    auc, accuracy = (_with_interval(_ends(report.metrics[metric])) for metric in ("auc", "accuracy"))
    return auc, accuracy


def _ends(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def coefficient_chart(table: pl.DataFrame, *, positive: str, negative: str, largest: int = 60) -> alt.LayerChart:
    """Coefficients with intervals, one row a feature in the order given; past `largest` rows, the largest are kept.

    `table` has the columns feature, coefficient, low, high, p_value, q_value, stands. A hollow dot is a coefficient
    that does not stand among all of them, as one that an L1 penalty dropped.
    """
    rows = table.with_columns(
        toward=pl.when(pl.col("coefficient") > 0).then(pl.lit(positive)).otherwise(pl.lit(negative)),
        stands=pl.col("stands").fill_null(False),
    )
    if rows.height > largest:
        kept = pl.col("coefficient").abs().rank("ordinal", descending=True) <= largest
        rows = rows.filter(kept)
    base = alt.Chart(rows).encode(
        y=alt.Y(
            "feature:N",
            sort=None,
            title=None,
            axis=lane_axis(rows["feature"], labelOverlap=False),
        ),
        color=alt.Color(
            "toward:N",
            scale=class_scale(positive, negative),
            legend=alt.Legend(title="pushes towards", orient="top", symbolType="circle"),
        ),
        tooltip=[
            "feature:N",
            *[alt.Tooltip(f"{name}:Q", format=".3f") for name in ("coefficient", "low", "high")],
            *[alt.Tooltip(f"{name}:Q", format=".2g") for name in ("p_value", "q_value")],
        ]
        + ([alt.Tooltip("selected:Q", format=".0%", title="kept in refits")] if "selected" in rows.columns else []),
    )
    zero = alt.Chart(pl.DataFrame({"x": [0.0]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3]).encode(x="x:Q")
    spread = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="coefficient (z-scored features)"), x2="high:Q"
    )
    dots = base.encode(x="coefficient:Q")
    hollow = dots.mark_point(size=60, strokeWidth=2, opacity=1).transform_filter("!datum.stands")
    solid = dots.mark_point(size=80, filled=True, opacity=1).transform_filter("datum.stands")
    return alt.layer(zero, spread, hollow, solid).properties(height=ROW * rows.height + FURNITURE)


def _with_interval(row: dict[str, float | None]) -> str:
    value, low, high = (_number(number) for number in row.values())
    return value if low == high == "?" else f"{value} ({low}–{high})"


def _with_range(values: Sequence[float]) -> str:
    known = [value for value in values if isfinite(value)]
    if not known:
        return ""
    return f"{_number(mean(known))} ({_number(min(known))}–{_number(max(known))})"


def _number(value: float | None) -> str:
    return "?" if value is None or not isfinite(value) else f"{value:.2f}"
