"""Rates beside their corrections by labels: whose labels, how many, what they leave open, and what to label next.

A raw rate and a corrected one never stand under one name. Where none of a page's answers is labelled, nothing is
corrected, and a sentence says so and how to have labels. It refuses to compute a rate.
"""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.analysis.rates.corrected import corrected_difference, corrected_rate, rogan_gladen
from backend.analysis.rates.judge_agreement import FEWEST
from backend.analysis.rates.next_labels import allocation, labels_for
from backend.charts.verdicts import judged_rate_chart
from backend.outcomes import EM, Outcome
from backend.records import BASELINE, InputError
from backend.study import Study
from backend.tables.corrected import (
    Labels,
    agreement,
    corrected_beside,
    corrected_gaps,
    labelled_among,
    labels_of,
    weighed,
)
from backend.tables.rates import Side, drawn_by, families_told, with_scores_of
from panels.figures import show_chart
from panels.frame import explained, per_study, plain, responses_of
from panels.given_labels import given_here

HALF_WIDTHS = (0.1, 0.05, 0.03, 0.02, 0.01)
MORE = 50  # labels that are spread
HOW_TO_LABEL = "Label some on the page Judges, or draw some with `python -m backend labels draw FILE --by-score"
MOST_NAMED = 6  # rates without a correction that are named
_SHARE = st.column_config.NumberColumn(format="percent")


def labels_known(study: Study, judge: str, outcome: Outcome) -> list[Labels] | None:
    """The labels that can correct `judge`, those of the study first.

    None where nothing is to be said: the judge is a reader itself, or a rule measures what no reader gives.
    """
    known = [*labels_of(study, outcome), *given_here(study, outcome)]
    read = known or set(EM.needs) & set(outcome.needs)
    return None if not read or judge in {labels.by for labels in known} else known


@per_study
def _beside(
    study: Study, judge: str, outcome: Outcome, key: tuple[object, ...], _labels: Labels, _among: pl.DataFrame | None
) -> pl.DataFrame:
    return corrected_beside(study, judge, _labels, outcome, among=_among)


@per_study
def _gaps(
    study: Study, judge: str, outcome: Outcome, key: tuple[object, ...], _labels: Labels, _among: pl.DataFrame | None
) -> pl.DataFrame:
    return corrected_gaps(study, judge, _labels, outcome, among=_among)


def _key(labels: Labels, outcome: Outcome, among: pl.DataFrame | None = None) -> tuple[object, ...]:
    """What tells these labels from others of the same reader, and these answers from others."""
    said = labels.scores.filter(outcome.scored()).select("response", *outcome.needs)
    counted = () if among is None else int(among.select("response", "organism", "condition").hash_rows().sum())
    return labels.by, labels.drawn, int(said.hash_rows().sum()), counted


def show_with_correction(study: Study, judge: str, outcome: Outcome, among: pl.DataFrame, *, key: str) -> None:
    """The judge's rates of some answers beside what labels make of them, or how to have labels of them.

    `among`: rows of study.responses(judge), each under the organism and condition that it is counted under.
    """
    found = _labels_among(study, judge, outcome, among)
    if not found:
        return
    with explained():
        labels = _choose(found, key)
        known = _key(labels, outcome, among)
        every = _beside(study, judge, outcome, known, labels, among)
        table = every.filter(pl.col("labels") > 0)
        if table["value"].null_count() == table.height:
            st.caption(
                f"These rates are {plain(judge)}'s. {plain(labels.by)} labelled too few of these answers to correct "
                f"one: {plain(table['reason'][0])}."
            )
            return
        st.markdown("**Corrected by labels: what the reader would have said of all**")
        _chart(table, judge, labels, outcome, key)
        gaps = _gaps(study, judge, outcome, known, labels, among)
        _told(every, judge, labels, gaps)
        _tell_readers(study, labels, outcome)
        with st.expander("Raw and corrected rates as a table"):
            show_rates(table, judge, labels)
            if gaps.height:
                _show_gaps(gaps)


def table_with_correction(study: Study, judge: str | None, outcome: Outcome, *, key: str) -> None:
    """Every organism's unedited rate, raw and corrected, as a table alone, closed; nothing where no judge has rates."""
    if judge is None or not set(outcome.needs) <= set(study.metrics(judge)):
        return
    if labels_known(study, judge, outcome) is None:
        return
    with st.expander(f"How often, unedited: {plain(outcome.title)}, raw and corrected"):
        among = unedited_of(study, judge)
        found = _labels_among(study, judge, outcome, among)
        if not found:
            return
        with explained():
            labels = _choose(found, key)
            table = _beside(study, judge, outcome, _key(labels, outcome, among), labels, among)
            show_rates(table, judge, labels)
            _told(table, judge, labels)


def by_cells(answers: pl.DataFrame) -> pl.DataFrame:
    """Answers with a column cell, counted under it."""
    return answers.with_columns(condition="cell")


def unedited_of(study: Study, judge: str) -> pl.DataFrame:
    """The answers of every organism without an edit that rates are of, as one judge scored them."""
    return with_scores_of(study, responses_of(study, judge)).filter(pl.col("condition") == BASELINE)


def _labels_among(study: Study, judge: str, outcome: Outcome, among: pl.DataFrame) -> list[Labels]:
    """The labels of some answers that can correct `judge`; where there are none, the page says so."""
    known = labels_known(study, judge, outcome)
    counts = [(labelled_among(labels, among, outcome), labels) for labels in known or ()]
    found = [labels for n, labels in sorted(counts, key=lambda each: -each[0]) if n]
    if known is not None and not found:
        n, edited = among.filter(outcome.scored()).height, (among["condition"] != BASELINE).any()
        st.caption(
            f"These rates are {plain(judge)}'s own, raw, and no interval holds its errors: of these {n:,} answers none "
            f"is labelled. {HOW_TO_LABEL}{' --conditions NAMES`' if edited else '`'}."
        )
    return found


def tell_corrected(study: Study, judge: str, outcome: Outcome, side: Side, other: Side | None) -> None:
    """One line beside a raw rate, or beside the difference of two: corrected, or why it is not."""
    known = labels_known(study, judge, outcome)
    if known is None:
        return
    if not known:
        st.caption(f"The judge's errors are in no interval, and no answer is labelled. {HOW_TO_LABEL}`.")
        return
    labels, reasons = known[0], list[str]()
    for labels in known:
        try:
            st.markdown(_corrected_line(study, judge, labels, outcome, side, other))
        except InputError as error:
            reasons.append(f"by {labels.by}: {error}")
        else:
            return
    st.caption(f"Not corrected: {plain(reasons[0])}.")


def _corrected_line(study: Study, judge: str, labels: Labels, outcome: Outcome, side: Side, other: Side | None) -> str:
    both = weighed(study, judge, labels, outcome)
    a, b = (both.filter(organism=at[0], condition=at[1]) if at else None for at in (side, other))
    assert a is not None
    if b is None:
        one = corrected_rate(a)
        said = f"{one.value:.1%}** ({one.low:.1%} to {one.high:.1%})"
        count = f"{sum(one.labels)}"
    else:
        gap = corrected_difference(a, b)
        value, low, high = (f"{100 * end:+.1f}" for end in (gap.value, gap.low, gap.high))
        said = f"{value} points** ({low} to {high}), {'clear alone' if gap.clear else 'not told from zero'}"
        count = " and ".join(map(str, gap.labels))
    return f"**Corrected: {said}, by {count} {plain(labels.told)}."


def _choose(known: list[Labels], key: str) -> Labels:
    """Whose labels correct, where there are several."""
    names = [labels.by for labels in known]
    if len(known) == 1:
        return known[0]
    chosen = st.selectbox("Corrected by", names, key=key, bind="query-params")
    return known[names.index(str(chosen))]


def _chart(table: pl.DataFrame, judge: str, labels: Labels, outcome: Outcome, key: str) -> None:
    rows = table.filter(pl.col("value").is_not_null())
    sides = [f"raw, by {judge}", f"corrected, by {labels.by}"]
    by = ["organism", "condition"]
    raw = rows.select(
        *by, "hits", "n", value="raw", low="raw_low", high="raw_high", judge=pl.lit(sides[0]), text=_percent("raw")
    )
    corrected = rows.select(
        *by,
        hits="label_hits",
        n="labels",
        value="value",
        low="low",
        high="high",
        judge=pl.lit(sides[1]),
        text=pl.format("{} (by {} labels)", _percent("value"), "labels"),
    )
    chart = judged_rate_chart(
        pl.concat([raw, corrected.select(raw.columns)]), title=f"share of answers ({outcome.title})", judges=sides
    )
    show_chart(st, chart, key=f"{key}_chart", alt=f"{outcome.title}, raw and corrected")


def _percent(column: str) -> pl.Expr:
    return pl.format("{}%", (pl.col(column) * 100).round(1))


def _told(table: pl.DataFrame, judge: str, labels: Labels, gaps: pl.DataFrame | None = None) -> None:
    """Whose labels, how many, which rates have none, and how many corrected differences are clear and stand."""
    alike = table["condition"].n_unique() == 1
    lane = pl.col("organism") if alike else pl.format("{} · {}", "organism", "condition")
    without = table.filter(pl.col("value").is_null()).select(lane).to_series().to_list()
    more = f" and {len(without) - MOST_NAMED} more" if len(without) > MOST_NAMED else ""
    none = f" Not corrected: {plain('; '.join(without[:MOST_NAMED]))}{more}." if without else ""
    st.caption(
        f"Corrected by {int(table['labels'].sum())} {plain(labels.told)}; each kind of answer that "
        f"{plain(labels.drawn or judge)} tells apart is weighed by how often it occurs. Lines are 95 % intervals: "
        f"corrected ones hold the judge's errors, the few labels and the questions, raw ones the questions alone.{none}"
    )
    if gaps is not None and (families := families_told(gaps)):
        st.caption(f"Corrected differences between these rates: {' '.join(families)}")


def _tell_readers(study: Study, labels: Labels, outcome: Outcome) -> None:
    """How far other readers of the same answers agree."""
    for other in labels_of(study, outcome):
        value, shared = agreement(labels, other, outcome)
        if other.by != labels.by and shared >= FEWEST:
            st.caption(
                f"{plain(other.by)} read {shared} of the same answers: Krippendorff's alpha of their verdicts "
                f"{value:.2f}."
            )


def show_rates(table: pl.DataFrame, judge: str, labels: Labels) -> None:
    """The table of raw and corrected rates."""
    told = table["reason"].null_count() == table.height
    st.dataframe(
        table.drop("labels_by", "drawn_by", *(["reason"] if told else [])),
        hide_index=True,
        column_config={
            **dict.fromkeys(("raw", "raw_low", "raw_high", "value", "low", "high"), _SHARE),
            "raw": st.column_config.NumberColumn(f"raw, by {judge}", format="percent"),
            "value": st.column_config.NumberColumn("corrected", format="percent"),
            "labels": st.column_config.NumberColumn("labels", help=f"answers with a verdict of {labels.by}"),
            "label_hits": st.column_config.NumberColumn("hits among them"),
            "reason": st.column_config.TextColumn("not corrected, because", width=320),
        },
        alt="Rates by the judge and corrected",
    )


def _show_gaps(gaps: pl.DataFrame) -> None:
    st.dataframe(
        gaps,
        hide_index=True,
        column_config=dict.fromkeys(("difference", "low", "high"), _SHARE),
        alt="Corrected differences",
    )
    st.caption(
        "Differences of corrected rates, clustered by question; clear: the interval leaves out zero, of it alone; "
        "stands: after the correction of its family."
    )


def show_corrected(study: Study, labels_frame: pl.DataFrame, judge: str, reference: str, outcome: Outcome) -> None:
    """Raw and corrected rates of every condition with labels, their differences, and what to label next.

    `labels_frame` is every answer with the reference's scores.
    """
    st.subheader("What would the reference have said of all?")
    if judge not in study.judges():
        st.info(f"{plain(judge)} read some answers alone: choose it as what another judge is measured against.")
        return
    drawn = next((one.drawn for one in given_here(study, outcome) if one.by == reference), None)
    labels = Labels(reference, labels_frame, drawn or drawn_by(study, reference))
    with explained():
        both = weighed(study, judge, labels, outcome)
        known = _key(labels, outcome)
        table = _beside(study, judge, outcome, known, labels, None).filter(pl.col("labels") > 0)
        if table["value"].null_count() < table.height:
            _chart(table, judge, labels, outcome, "judges_corrected")
        show_rates(table, judge, labels)
        _told(table, judge, labels)
        _tell_readers(study, labels, outcome)
        gaps = _gaps(study, judge, outcome, known, labels, None)
        if gaps.height:
            _show_gaps(gaps)
        _show_next(both, labels)


def _show_next(both: pl.DataFrame, labels: Labels) -> None:
    with st.expander("What to label next"):
        groups = both.select("organism", "condition").unique(maintain_order=True).rows()
        groups.sort(key=lambda side: side[1] != BASELINE)
        chosen = st.selectbox("Rate of", groups, format_func=" · ".join, key="judges_next")
        rows = both.filter(pl.col("organism") == chosen[0], pl.col("condition") == chosen[1])
        st.dataframe(
            allocation(rows, MORE),
            hide_index=True,
            column_config={
                "stratum": st.column_config.TextColumn("the judge's"),
                "share": st.column_config.NumberColumn("hits, smoothed", format="percent"),
                "wanted": st.column_config.NumberColumn(f"of {MORE} more"),
            },
            alt="How to spread more labels",
        )
        needed = ", ".join(f"±{half:.0%}: {labels_for(rows, half):,}" for half in HALF_WIDTHS)
        odds = rogan_gladen(rows)
        st.caption(
            f"Labels by {plain(labels.by)} that bring the judge's part of the interval to {needed}; what the "
            "questions leave open comes on top. For comparison, by sensitivity and specificity (Rogan and Gladen): "
            f"{'none, too little is told' if odds != odds else f'{odds:.1%}'}, which is right only where labels were "
            "drawn from all answers alike. Such labels are given under *Label answers*, or drawn into a file with "
            "`python -m backend labels draw FILE --by-score`."
        )
