"""A probe's figures as they grow: metrics beside chance, what it must beat, coefficients, and the paper's protocol."""

from __future__ import annotations

from math import isfinite

import polars as pl
import streamlit as st

from backend.analysis.probes.probe import ProbeReport
from backend.analysis.rates.families import of_family
from backend.charts.probing import (
    calibration_chart,
    coefficient_chart,
    metric_chart,
    metric_table,
    protocol_table,
    rival_table,
    roc_chart,
)
from panels.figures import show_chart
from panels.frame import explained, plain
from panels.probe_training import REPEATS, SHUFFLES, Fitted, Told, paper_of

EVERY = 0.7  # seconds between two drawings of a probe in progress


def _headline(fitted: Fitted, report: ProbeReport) -> str:
    """What the probe can do, in one sentence."""
    real = report.metrics["auc"]
    ends = f" ({real.low:.2f} to {real.high:.2f})" if isfinite(real.low) else ""
    text = f"**AUC {real.value:.2f}**{ends} on held-out {fitted.settings.split}s"
    if not report.shuffles:
        return f"{text}; shuffled labels are on their way."
    chance, above = report.shuffled["auc"], report.above_chance
    verdict = {True: "clear of chance", False: "not clear of chance", None: "no verdict"}[above]
    return (
        f"{text}; {chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f}) under shuffled labels: **{verdict}** "
        f"(permutation p = {report.p_value:.2g}, {report.shuffles} shuffles)."
    )


def _show_metrics(fitted: Fitted, told: Told) -> None:
    """The metrics beside chance, the ROC curve, calibration, and what they are of."""
    report, contrast = told.report, fitted.classes.contrast
    st.markdown(_headline(fitted, report))
    left, middle, right = st.columns([3, 2, 2])
    show_chart(left, metric_chart(metric_table(report)), key="probes_metrics", alt="Held-out metrics beside chance")
    show_chart(middle, roc_chart(report.roc), key="probes_roc", alt="ROC curve over held-out rows")
    chart = calibration_chart(report.calibration)
    show_chart(right, chart, key="probes_calibration", alt="Calibration over held-out rows")
    positive, negative = report.n_per_class
    unit = "question" if fitted.settings.split == "question" else "response"
    chosen = ""
    if fitted.settings.C is None:
        folds = ", ".join(f"{C:g}" for C in report.C_by_fold)
        chosen = f" C chosen: {report.C:g} on all rows; in the folds {folds}."
    st.caption(
        f"{report.n_rows:,} {fitted.features.unit} ({positive:,} {plain(contrast.positive_name)}, {negative:,} "
        f"{plain(contrast.negative_name)}) to {report.n_questions} questions, {report.folds} folds of whole {unit}s, "
        "classes weighted alike. Lines: 95 %, for questions like these; for shuffled labels the range that holds 95 % "
        "of shuffles. They are dealt to whole responses within questions, or to whole questions where each has one "
        "class. Clear of chance: the interval lies above one half and above the mean of shuffled labels, and 5 % of "
        "shuffles at most do as well."
        f"{chosen} {plain(fitted.recipe)}"
    )
    for note in report.notes:
        st.caption(f":orange[Note] {plain(note)}")
    st.markdown("**What it must beat**")
    table = rival_table(report, told.rivals)
    st.dataframe(table, hide_index=True, alt="The probe beside poorer ones", key="probes_rivals")
    st.caption(
        "On the same rows and folds: the length of the answer alone, and counts of the paper's topic words alone. A "
        "probe that does no better has found nothing that they have not."
    )


def _show_coefficients(fitted: Fitted, report: ProbeReport) -> None:
    """Which feature pushes which way."""
    contrast = fitted.classes.contrast
    st.subheader("Coefficients")
    chart = coefficient_chart(report.coefficients, positive=contrast.positive_name, negative=contrast.negative_name)
    show_chart(st, chart, key="probes_coefficients", alt="Coefficient of every feature with its interval")
    st.caption(
        f"Per standard deviation of the feature, on all rows; {plain(fitted.features.what)}, read by "
        f"{plain(fitted.reader)}. Lines: 95 % ({report.bootstraps} refits on {fitted.settings.split}s drawn anew). "
        f"{of_family(report.coefficients, 'coefficients')} Filled: clear after correction. Adapters that move together "
        "share their weight arbitrarily, so a single L1 pick is unstable: read how often the refits kept it. The sign "
        "of a scalar depends on the sign of its write vector."
    )
    if fitted.settings.penalty != "l2" and report.bootstraps:
        kept = report.coefficients.select("feature", "coefficient", "low", "high", pl.col("selected").round(2))
        with st.expander("How often the refits kept each feature"):
            st.dataframe(
                kept.sort("selected", descending=True),
                hide_index=True,
                alt="Selection frequency",
                key="probes_selected",
            )


def show_report(fitted: Fitted) -> None:
    """Everything that is known of the probe so far."""
    told = fitted.training.latest
    if told is None:
        st.caption("Training. The first figures take longer than usual; this page goes on by itself.")
        return
    report = told.report
    if not report.complete:
        done = report.bootstraps + report.shuffles
        asked = fitted.settings
        st.progress(
            done / (asked.bootstraps + asked.shuffles),
            f"{report.bootstraps} of {asked.bootstraps} refits, {report.shuffles} of {asked.shuffles} shuffles",
        )
    _show_metrics(fitted, told)
    _show_coefficients(fitted, report)


@st.fragment(run_every=EVERY)
def show_growing(fitted: Fitted) -> None:
    """The same while it is trained; draws the page again when that is over."""
    with explained():
        if fitted.training.done:
            st.rerun()
        show_report(fitted)


def show_paper(fitted: Fitted) -> None:
    """The paper's protocol beside this probe, as a table."""
    st.subheader("Beside the paper's protocol")
    running = paper_of(fitted)
    with st.spinner("The paper's protocol"):
        paper = running.wait(60)
    if paper is None:
        st.caption("The paper's protocol is still being computed: look again in a minute.")
        return
    table = protocol_table(fitted.report, paper.report, paper.chance, split=fitted.settings.split)
    st.dataframe(
        table, hide_index=True, alt="Metrics of this probe and of the paper's protocol", key="probes_protocols"
    )
    st.caption(
        f"Both on the same {plain(fitted.features.unit)} and features. The paper's protocol cuts the classes to one "
        "size, z-scores over all rows, splits 80/20 by token and fits L1 with C = 0.01, so tokens of one response are "
        f"in training and test. Its ends hold 95 % of {REPEATS} random splits and say nothing of new responses; those "
        f"under shuffled labels (dealt to whole responses, within questions) span {SHUFFLES} shuffles: where they lie "
        "above 0.5, that is the leak, or that questions differ. This probe's intervals are for questions like these."
    )
