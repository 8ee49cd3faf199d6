"""Robustness: what a rate or a difference hangs on: cuts, judges, unscored answers, single questions, draws."""

from __future__ import annotations

import polars as pl
import streamlit as st

from backend.analysis.rates.rates import em_rates
from backend.analysis.rates.robustness import (
    CLOSE,
    at_least_once,
    close_to_cuts,
    cuts,
    differences_over_cuts,
    rates_over_cuts,
    turns,
    with_unscored,
    without_each_question,
)
from backend.charts.robustness import at_least_once_chart, cuts_chart, without_chart
from backend.outcomes import Outcome
from backend.records import BASE, BASELINE, InputError
from backend.study import Study
from backend.tables.rates import with_scores_of
from panels.asked import choose_linked
from panels.corrected_rates import tell_corrected
from panels.figures import show_chart
from panels.frame import (
    choose_judge,
    choose_outcome,
    current_study,
    explained,
    per_study,
    plain,
    responses_of,
    scored_by,
)
from panels.opening import opening

NOTHING = "no comparison"


@per_study
def _side(study: Study, judge: str, organism: str, condition: str) -> pl.DataFrame:
    """The answers of one organism under one condition."""
    rows = with_scores_of(study, responses_of(study, judge))
    return rows.filter(pl.col("organism") == organism, pl.col("condition") == condition)


@per_study
def _over_cuts(
    study: Study, judge: str, outcome: Outcome, side: tuple[str, str], other: tuple[str, str] | None
) -> pl.DataFrame:
    rows = _side(study, judge, *side)
    return (
        rates_over_cuts(rows, outcome)
        if other is None
        else differences_over_cuts(rows, _side(study, judge, *other), outcome)
    )


@per_study
def _without(study: Study, judge: str, outcome: Outcome, side: tuple[str, str]) -> pl.DataFrame:
    return without_each_question(_side(study, judge, *side), outcome)


def sides(study: Study, judge: str) -> dict[str, tuple[str, str]]:
    """Organisms and conditions with answers, by the words they are chosen by; unedited ones first."""
    rows = with_scores_of(study, responses_of(study, judge))
    found = rows.select("organism", "condition").unique(maintain_order=True).rows()
    ordered = sorted(found, key=lambda side: (side[1] != BASELINE, side[0] == BASE))
    return {f"{organism} · {condition}": (organism, condition) for organism, condition in ordered}


def choose_sides(known: dict[str, tuple[str, str]]) -> tuple[str, str | None]:
    """The rate that is looked at, and what it is compared with."""
    left, right = st.columns(2)
    side = choose_linked(left.selectbox, "Rate of", list(known), key="robust_of", what="rate")
    others = [NOTHING, *(name for name in known if name != side)]
    usual = f"{BASE} · {BASELINE}"
    start = others.index(usual) if usual in others else 0
    other = choose_linked(right.selectbox, "Compared with", others, index=start, key="robust_with", what="rate")
    return side, None if other == NOTHING else other


def _range(values: pl.Series) -> tuple[float | None, float | None]:
    """The least and the largest that there is."""
    known = [float(value) for value in values if value is not None]
    return (min(known), max(known)) if known else (None, None)


def percent(share: float | None) -> str:
    """A share in words."""
    return "no rate" if share is None else f"{share:.1%}"


def show_cuts(
    study: Study, judge: str, outcome: Outcome, side: tuple[str, str], other: tuple[str, str] | None, title: str
) -> None:
    """The rate or difference over the cuts, and whether its conclusion turns."""
    (metric, _), gates = cuts(outcome)
    table = _over_cuts(study, judge, outcome, side, other)
    own = table.filter(pl.col("own")).row(0, named=True)
    pairs = f"{table.height} pairs of cuts"
    if other is None:
        least, most = (percent(end) for end in _range(table["value"]))
        st.markdown(
            f"**{plain(title)}: {percent(own['value'])}** ({own['hits']} of {own['n']:,}) at the outcome's own cuts; "
            f"from **{least}** to **{most}** over the {pairs} drawn."
        )
    else:
        up, down, untold = turns(table)
        same = {"clearly more often": up, "clearly less often": down, "not told from zero": untold}
        more, less, neither = same
        said = neither if not own["clear"] else more if own["value"] > 0 else less
        value, low, high = (f"{own[name] * 100:+.1f}" for name in ("value", "low", "high"))
        st.markdown(f"**{plain(title)}: {value} points** ({low} to {high}), {said}.")
        if same[said] == table.height:
            st.markdown(f"It is so at all {pairs} drawn.")
        else:
            others = "; ".join(f"{words} at {n}" for words, n in same.items() if n and words != said)
            st.warning(
                f"This conclusion turns within the range: of {pairs} it holds at {same[said]}; {others}.",
                icon=":material/swap_vert:",
            )
    axis = "share of answers" if other is None else "difference"
    chart = cuts_chart(table, title=axis, metric=metric, gate=None if gates is None else gates[0])
    show_chart(st, chart, key="robust_cuts", alt=f"{title} over the cuts")
    gate = "" if gates is None else f", one line a cut on {plain(gates[0])}"
    st.caption(
        f"By the cut on {plain(metric)}{gate}. Ringed: {plain(outcome)}. The band is the 95 % interval of its line."
    )


def show_judges(study: Study, outcome: Outcome, side: tuple[str, str], other: tuple[str, str] | None) -> None:
    """The same under every judge that scored these answers."""
    rows = []
    for judge in study.judges():
        if not set(outcome.needs) <= set(study.metrics(judge)):
            continue
        try:
            table = _over_cuts(study, judge, outcome, side, other)
        except InputError:  # it scored none of one side
            continue
        own = table.filter(pl.col("own")).row(0, named=True)
        if own["value"] is not None:
            scored = _side(study, judge, *side).filter(outcome.scored())
            rows.append((judge, own["value"], own["low"], own["high"], scored.height, scored["question_id"].n_unique()))
    columns = ["judge", "value", "low", "high", "n", "questions"]
    share = st.column_config.NumberColumn(format="percent")
    st.subheader("Under each judge")
    st.dataframe(
        pl.DataFrame(rows, columns, orient="row"),
        hide_index=True,
        column_config=dict.fromkeys(("value", "low", "high"), share),
        alt="The same under each judge",
    )
    st.caption(
        "Each over the answers it scored, so n differs. Labels by hand may have been drawn by another judge's scores: "
        "their share is then no rate. Judges has the rates corrected by such labels."
    )


def show_questions(study: Study, judge: str, outcome: Outcome, side: tuple[str, str]) -> None:
    """The rate without each question."""
    table = _without(study, judge, outcome, side)
    whole = em_rates(_side(study, judge, *side), outcomes=[outcome]).row(0, named=True)
    first, last = table.row(0, named=True), table.row(-1, named=True)
    st.subheader("Without each question")
    st.markdown(
        f"{table.height} questions are {table.height} data points. Without {plain(first['question_id'])} the rate is "
        f"{percent(first['value'])}, without {plain(last['question_id'])} {percent(last['value'])}; over all "
        f"{percent(whole['value'])}."
    )
    chart = without_chart(table, title=f"share without the question ({outcome.name})", whole=whole["value"])
    show_chart(st, chart, key="robust_without", alt="The rate without each question")


def show_scores(rows: pl.DataFrame, outcome: Outcome) -> None:
    """What was not scored, and what is close to a cut."""
    missing, left, low, high = with_unscored(rows, outcome)
    st.subheader("Not scored, or close to a cut")
    if missing:
        st.markdown(
            f"{missing} of {rows.height:,} answers have no score and are left out: {percent(left.value)}. Were none of "
            f"them a hit, {percent(low.value)}; were all, {percent(high.value)}."
        )
    else:
        st.markdown(f"All {rows.height:,} answers have the scores that it needs.")
    close = close_to_cuts(rows, outcome)
    said = "; ".join(
        f"{n} of {scored:,} within {CLOSE:g} points of the cut of {plain(cut)}" for cut, n, scored in close.rows()
    )
    st.markdown(f"{said}.")


def show_draws(rows: pl.DataFrame, outcome: Outcome) -> None:
    """How often one of k answers is a hit."""
    table = at_least_once(rows, outcome)
    st.subheader("How often one asks")
    if table.height < 2:
        st.info("With one answer to a question there is nothing to draw again.")
        return
    one, most = table.row(0, named=True), table.row(-1, named=True)
    st.markdown(
        f"One answer to a question is a hit in {percent(one['value'])}; of {most['k']} answers at least one in "
        f"{percent(most['value'])} of the {most['questions']} questions that have so many."
    )
    chart = at_least_once_chart(table, title="at least one hit")
    show_chart(st, chart, key="robust_draws", alt="How often at least one of k answers is a hit")


study = current_study()
opening(
    "Robustness",
    "What does a rate hang on: where scores are cut, who judged, what was not scored, single questions, how often one "
    "asks?",
    study,
)
with explained():
    outcome = choose_outcome(study)
    judge = scored_by(study, choose_judge(study), outcome)
    known = sides(study, judge)
    if not known:
        raise InputError(f"Study {study.name} holds no responses, so it has no rates.")
    of, against = choose_sides(known)
    title = f"{outcome.title} of {of}" + ("" if against is None else f" less that of {against}")
    side, other = known[of], None if against is None else known[against]
    show_cuts(study, judge, outcome, side, other, title)
    tell_corrected(study, judge, outcome, side, other)
    show_judges(study, outcome, side, other)
    with explained():
        show_questions(study, judge, outcome, side)
    show_scores(_side(study, judge, *side), outcome)
    show_draws(_side(study, judge, *side), outcome)
