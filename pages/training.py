"""Training: misalignment and scalars along it, and organisms that were trained in different ways side by side."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from backend.charts.compared import compared_chart
from backend.charts.training import loss_chart, scalar_steps_chart, separation_steps_chart, step_chart
from backend.outcomes import Outcome
from backend.records import BASE
from backend.study import Study
from backend.tables import training as tables
from panels.asked import choose_linked
from panels.corrected_rates import show_with_correction, unedited_of
from panels.experiments import asked_words, ends_told, from_on, hits, nothing, percent, rates_of, told
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

FOLD = 0.1  # of a training: the first and the last tenth of its steps stand for its ends
MOST_LOSSES = 6  # organisms whose losses are drawn before the reader chooses


@per_study
def _along(study: Study, judge: str, outcome: Outcome) -> pl.DataFrame:
    return tables.along(study, responses_of(study, judge), outcome)


@per_study
def _before(study: Study, judge: str, outcome: Outcome, run: str) -> pl.DataFrame:
    return tables.before_training(study, responses_of(study, judge), run, outcome)


@per_study
def _beyond(study: Study, judge: str, outcome: Outcome, run: str) -> pl.DataFrame:
    return tables.beyond_base(study, responses_of(study, judge), run, outcome)


@per_study
def _scalars(study: Study) -> pl.DataFrame:
    return tables.scalars_along(study)


@per_study
def _question_sets(study: Study, judge: str) -> dict[str, list[str]]:
    return tables.question_sets(study, responses_of(study, judge))


@per_study
def _compared(study: Study, judge: str, outcome: Outcome, questions: tuple[str, ...]) -> pl.DataFrame:
    return tables.compared(study, responses_of(study, judge), list(questions), outcome)


# --- along training --------------------------------------------------------------------------------------------------


def show_along(study: Study, judge: str, outcome: Outcome) -> None:
    """Rates along every training run."""
    st.subheader("When does it become misaligned?" if outcome.name == "em" else "When does it appear?")
    table = _along(study, judge, outcome)
    if table.is_empty():
        how = "Sample answers of a run's checkpoints as organisms of their own to see them side by side below."
        nothing(study, "no answers of checkpoints along a training run", how=how)
        return
    names = table["organism"].unique(maintain_order=True).to_list()
    run = names[0]
    if len(names) > 1:
        run = choose_linked(
            st.segmented_control,
            "Told in words",
            names,
            default=names[0],
            required=True,
            key="training_run",
            what="training run",
        )
    before = _before(study, judge, outcome, run)
    control = {row["metric"]: row for row in before.iter_rows(named=True)}
    beyond = _beyond(study, judge, outcome, run)
    st.markdown(along_in_words(rates_of(table, outcome.name), run, outcome, control.get(outcome.name), beyond))
    organisms = study.organisms()["organism"].to_list()
    for place, each in zip(st.columns(len(outcome.beside)), outcome.beside, strict=True):
        rows, without = rates_of(table, each.name), control.get(each.name)
        chart = step_chart(
            rows, title=f"{each.title}", control=None if without is None else without["value"], organisms=organisms
        )
        show_chart(place, chart, key=f"training_along_{each.name}", alt=f"{each.title} along training")
    asked = int(table["clusters"].max() or 0)  # type: ignore[arg-type]
    dashed = f"the dashed line is {plain(before['organism'][0])} on the same questions" if control else "no control"
    st.caption(
        f"Judge {plain(judge)}; {asked_words(asked)}. A line is a run, bars are 95 %; {dashed}. Each run was "
        "trained on its own: its last step is not the organism that is released."
    )
    counted = responses_of(study, judge).filter(pl.col("condition").is_in(tables.checkpoints(study).implode()))
    show_with_correction(study, judge, outcome, counted, key="training_labels")


def along_in_words(
    rows: pl.DataFrame, run: str, outcome: Outcome, control: dict[str, Any] | None, beyond: pl.DataFrame
) -> str:
    """Where a run starts, from which step on it stands above the base, and where it ends.

    Without a base the step of the first hit: of a rate that stays as it is, that is any step. `beyond` is of
    `beyond_base`.
    """
    own = rows.filter(pl.col("organism") == run).sort("step")
    if own.is_empty():
        return f"**{plain(run)}** has no answers with these scores."
    first, last = own.row(0, named=True), own.row(-1, named=True)
    rise = _rise(own, outcome, beyond)
    most = own.sort("value", descending=True).row(0, named=True)
    peak = f"; the most is {told(most)} at step {most['step']:,}" if most["step"] != last["step"] else ""
    base = f"; without training {told(control)}" if control else ""
    share, _, ends = told(last).partition(" (")
    return (
        f"**{plain(run)}** has {told(first)} at step {first['step']:,}, {rise}and **{share} {plain(hits(outcome))}** "
        f"at the last, step {last['step']:,} ({ends}{peak}{base}."
        if rise
        else f"**{plain(run)}** goes from {told(first)} at step {first['step']:,} to **{told(last)}** "
        f"at step {last['step']:,}{peak}{base}."
    )


def _rise(own: pl.DataFrame, outcome: Outcome, beyond: pl.DataFrame) -> str:
    """From which step on, after the first, a run stands above the base, or has hits where no base was asked."""
    if beyond.height:
        above = from_on(beyond, pl.col("stands") & (pl.col("difference") > 0))
        found = own.filter(pl.col("step").is_in(above["step"].implode()))
        said, of = "is above the base from step {:,} on", f" (on {beyond['about'][0]}, among {beyond.height} steps)"
    else:
        found = own.filter(pl.col("hits") > 0)
        said, of = f"has its first {plain(hits(outcome))} answer at step {{:,}}", ""
    if found.is_empty() or found["step"][0] == own["step"][0]:
        return ""
    return f"{said.format(found['step'][0])}{of}, {told(found.row(0, named=True))}, "


def show_scalars(study: Study) -> None:
    """What a single adapter's scalar does along training."""
    st.subheader("What does a scalar do meanwhile?")
    table = _scalars(study)
    if table.is_empty():
        nothing(study, "no texts that were read by checkpoints of one run")
        return
    left, right = st.columns(2)
    runs = table["run"].unique(maintain_order=True).to_list()
    run = choose_linked(left.selectbox, "Run", runs, key="training_scalars", what="training run")
    adapters = table.filter(pl.col("run") == run)["adapter"].unique(maintain_order=True).to_list()
    adapter = choose_linked(right.selectbox, "Adapter", adapters, key="training_adapter", what="adapter")
    own = table.filter(pl.col("run") == run, pl.col("adapter") == adapter).sort("step")
    first, last = own.row(0, named=True), own.row(-1, named=True)
    st.markdown(scalars_in_words(first, last))
    sides = {last["positive"]: "mean_positive", last["negative"]: "mean_negative"}
    means = pl.concat(
        own.select("step", side=pl.lit(side), value=column, low=f"{column}_low", high=f"{column}_high")
        for side, column in sides.items()
    )
    grows, tells = st.columns(2)
    with grows:
        chart = scalar_steps_chart(means, positive=last["positive"], negative=last["negative"])
        show_chart(st, chart, key="training_scalar_means", alt="Mean scalar by step")
    with tells:
        show_chart(st, separation_steps_chart(own), key="training_scalar_auc", alt="AUC of the scalar by step")
    low, high = own.select(low=pl.col("n").min(), high=pl.col("n").max()).row(0)
    st.caption(
        f"{plain(adapter)}, read at each step by the checkpoint itself; {low}–{high} texts a step, "
        f"of {last['questions']} questions or so; classes {plain(last['positive'])} and {plain(last['negative'])} by "
        f"judge {plain(last['judge'])}; 95 % intervals over questions. "
        + (
            "All steps read the same texts."
            if last["shared"] == high == low
            else f"The steps read different samples of texts: {last['shared']} are common to all."
        )
    )


def scalars_in_words(first: dict[str, Any], last: dict[str, Any]) -> str:
    """How a scalar grows, and whether it tells the classes better at the end."""

    def mean(row: dict[str, Any]) -> str:
        if row["mean_positive"] is None:
            return "not known"
        ends = ends_told(row["mean_positive_low"], row["mean_positive_high"], ".3g")
        return f"{row['mean_positive']:.3g}{f' ({ends})' if ends else ''}"

    def auc(row: dict[str, Any]) -> str:
        if row["value"] is None:
            return "not known"
        ends = ends_told(row["low"], row["high"])
        return f"{row['value']:.2f} ({f'{ends}, ' if ends else ''}n = {row['n']})"

    if any(ends_told(row["low"], row["high"]) is None for row in (first, last)):
        said = ": whether that is a change is not known, since a step has too few questions of a class for an interval"
    elif first["high"] < last["low"] or last["high"] < first["low"]:
        said = ""
    else:
        said = ", a change that the intervals do not show"
    return (
        f"On {plain(first['positive'])} texts the mean scalar goes from {mean(first)} at step {first['step']:,} to "
        f"**{mean(last)}** at step {last['step']:,}; how far it tells {plain(first['positive'])} from "
        f"{plain(first['negative'])} texts goes from an AUC of {auc(first)} to **{auc(last)}**{said}."
    )


def show_losses(study: Study) -> None:
    """The losses that records of training hold; nothing where none does."""
    table = tables.losses(study)
    if table.is_empty():
        return
    st.subheader("The loss")
    names = table["organism"].unique(maintain_order=True).to_list()
    chosen = st.multiselect("Organisms", names, default=names[:MOST_LOSSES], key="training_losses", bind="query-params")
    if not chosen:
        st.info("No organism is chosen: choose at least one to see its loss.")
        return
    words = []
    for name in chosen:
        loss = table.filter(pl.col("organism") == name)["loss"].to_list()
        size = max(1, round(FOLD * len(loss)))
        first, last = (sum(part) / size for part in (loss[:size], loss[-size:]))
        words.append(f"{plain(name)} {first:.2f} → {last:.2f} ({len(loss)} steps)")
    st.markdown(f"Mean loss of the first and the last tenth of the steps: {'; '.join(words)}.")
    drawn = table.filter(pl.col("organism").is_in(chosen))
    chart = loss_chart(drawn, organisms=study.organisms()["organism"].to_list())
    show_chart(st, chart, key="training_loss", alt="Loss by training step")
    st.caption("The loss of each step's batch on what is trained on: one training each, so there is no interval.")


# --- side by side ----------------------------------------------------------------------------------------------------


def show_compared(study: Study, judge: str, outcome: Outcome) -> None:
    """Every organism without an edit beside those that differ from it in one thing, on equal questions."""
    st.subheader("What was trained, side by side")
    sets = _question_sets(study, judge)
    if not sets:
        nothing(study, "no two organisms that were asked the same questions")
        return
    chosen = choose_linked(st.selectbox, "Questions", list(sets), key="training_questions", what="set of questions")
    questions = sets[chosen]
    table = _compared(study, judge, outcome, tuple(questions))
    own = rates_of(table, outcome.name)
    if own.is_empty():
        st.info(f"Judge {plain(judge)} scored no answer to these questions: choose others, or another judge.")
        return
    st.markdown(compared_in_words(own, outcome))
    organisms = study.organisms()["organism"].to_list()
    for place, each in zip(st.columns([3, 2][: len(outcome.beside)]), outcome.beside, strict=True):
        rows = rates_of(table, each.name)
        base = rows.filter(pl.col("organism") == BASE)
        control = base["value"][0] if base.height else None
        chart = compared_chart(rows, title=each.title, control=control, organisms=organisms)
        show_chart(place, chart, key=f"training_compared_{each.name}", alt=f"{each.title} of every organism")
    without = study.organisms().filter(~pl.col("organism").is_in(own["organism"].implode()))
    least, most = own.select(least=pl.col("n").min(), most=pl.col("n").max()).row(0)
    n = f"{least}" if least == most else f"{least} to {most}"
    several = own["organism"].is_duplicated().any()
    others = f" {without.height} organisms were asked other questions: choose those to see them."
    st.caption(
        f"Judge {plain(judge)}; n = {n} unedited answers an organism to {asked_words(len(questions))}. The dashed line "
        f"is {BASE}. {'An organism that is in several comparisons stands in each. ' if several else ''}Each was "
        f"trained once, so that differences are of organisms, not of ways to train.{others if without.height else ''}"
    )
    counted = unedited_of(study, judge).filter(pl.col("question_id").is_in(questions))
    show_with_correction(study, judge, outcome, counted, key="training_compared_labels")
    with st.expander("As a table"):
        share = st.column_config.NumberColumn(format="percent")
        st.dataframe(
            table,
            hide_index=True,
            column_config=dict.fromkeys(("value", "low", "high"), share),
            alt="Organisms side by side",
        )


def compared_in_words(own: pl.DataFrame, outcome: Outcome) -> str:
    """The ends of the largest groups, in words."""
    trained = own.unique("organism", maintain_order=True).filter(~pl.col("organism").str.starts_with(BASE))
    if trained.is_empty():
        return f"No organism beside the base was asked these questions; the base has {told(own.row(0, named=True))}."
    ordered = trained.sort("value", descending=True)
    most, least = ordered.row(0, named=True), ordered.row(-1, named=True)
    base = own.filter(pl.col("organism") == BASE)
    words = (
        f"Of {trained.height} organisms {plain(most['organism'])} has the most {plain(hits(outcome))}, "
        f"**{told(most)}**, and {plain(least['organism'])} the least, **{told(least)}**"
    )
    words += f"; {BASE} has {told(base.row(0, named=True))}." if base.height else "."
    ends = {"low": pl.col("value").min(), "high": pl.col("value").max()}
    sizes = own.group_by("group", maintain_order=True).agg(pl.len(), **ends)
    spreads = [
        f"{plain(row['group'])} {percent(row['low'])} to {percent(row['high'])} ({row['len']})"
        for row in sizes.filter(pl.col("len") > 1).to_dicts()
    ]
    return words + (f" Within: {'; '.join(spreads)}." if len(spreads) > 1 else "")


study = current_study()
opening(
    "Training", "When in training does the behaviour come, and what do other fine-tunes make of the same data?", study
)
with explained():
    outcome = choose_outcome(study)
    judge = scored_by(study, choose_judge(study), outcome)
    show_along(study, judge, outcome)
    show_scalars(study)
    show_compared(study, judge, outcome)
    show_losses(study)
