"""Adapters disturbed: noise on their matrices, and scalars patched from another prompt, as parts of a page.

It refuses to know how answers were sampled.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import streamlit as st

from backend.analysis.rates.families import of_family
from backend.charts.noise import noise_chart
from backend.charts.patching import patch_chart
from backend.outcomes import EM
from backend.study import Study
from backend.tables.experiments import said
from backend.tables.noise import noise_changes, noisy
from backend.tables.patching import patched
from panels.asked import choose_linked
from panels.corrected_rates import show_with_correction
from panels.experiments import asked_words, from_on, hits, nothing, rates_of, told, told_change
from panels.figures import show_chart
from panels.frame import per_study, plain, responses_of

OTHER_NOISE = "1"  # the run in which a noise of 1 leaves EM as it was


@per_study
def _noisy(study: Study, judge: str) -> pl.DataFrame:
    return noisy(study, responses_of(study, judge))


@per_study
def _changed(study: Study, judge: str) -> pl.DataFrame:
    return noise_changes(study, responses_of(study, judge))


@per_study
def _patched(study: Study, judge: str) -> pl.DataFrame:
    return patched(study, responses_of(study, judge))


def _by_most(study: Study, table: Callable[[Study, str], pl.DataFrame]) -> tuple[str, pl.DataFrame]:
    """The judge with most rows of a table of EM and coherence, and the table; empty where nobody scored both."""
    able = [judge for judge in study.judges() if set(EM.needs) <= set(study.metrics(judge))]
    tables = {judge: table(study, judge) for judge in able}
    judge = max(tables, key=lambda name: tables[name].height, default="")
    return judge, tables.get(judge, pl.DataFrame())


def show_noise(study: Study) -> None:
    """How the rates fall with noise on A or B, one run at a time."""
    st.subheader("How much noise do the adapters bear?")
    judge, table = _by_most(study, _noisy)
    if table.is_empty():
        nothing(study, "no answers under noise on the adapters' matrices")
        return
    runs = table.select("organism", "run").unique(maintain_order=True).rows()
    names = {f"{organism}, run {run}": (organism, run) for organism, run in runs}
    sizes = [table.filter(organism=organism, run=run).height for organism, run in names.values()]
    start = sizes.index(max(sizes))
    chosen = choose_linked(st.selectbox, "Run", list(names), index=start, key="noise_run", what="run")
    organism, run = names[chosen]
    own = table.filter(organism=organism, run=run)
    changed = _changed(study, judge)
    changed = changed.filter(organism=organism, run=run, metric=EM.name) if changed.height else changed
    st.markdown(noise_in_words(rates_of(own, EM.name), changed, organism))
    for place, each in zip(st.columns(2), EM.beside, strict=True):
        chart = noise_chart(rates_of(own, each.name), title=hits(each))
        show_chart(place, chart, key=f"noise_{each.name}", alt=f"{each.title} by noise on A and on B")
    asked = max(own["clusters"])
    fewer = own.filter(pl.col("metric") == EM.name, pl.col("clusters") < asked).height
    hollow = f" Hollow: {fewer} points over fewer questions; over one or two, of these very ones." if fewer else ""
    other = (
        f" In run {run} a noise of 1 leaves the rate as it was, so that it was another." if run == OTHER_NOISE else ""
    )
    st.caption(
        f"Judge {plain(judge)}; {asked_words(asked)}. One matrix of every adapter is turned: x′ = √(1 − ε²) x + ε y, "
        f"with y at random, orthogonal to x and of its norm. ε = 0: unedited answers to these questions.{hollow}"
        f"{other} {_of_changes(changed)}"
    )
    _correct(study, judge, "noise", run, organism)


def _of_changes(changed: pl.DataFrame) -> str:
    """What a fall is said by, and how many are clear and stand; nothing without a change."""
    if changed.is_empty():
        return ""
    about = " or ".join(changed["about"].unique(maintain_order=True))
    return f"A fall is said paired by question, for {about}. {of_family(changed, 'sizes of noise')}"


def noise_in_words(rows: pl.DataFrame, found: pl.DataFrame, organism: str) -> str:
    """The rate without noise, and for each matrix from where on it is at half and at none.

    `rows` are rates of `noisy`, `found` is of `noise_changes`: a fall is said of the questions of both sides, where it
    stands among all sizes.
    """
    none = rows.filter(pl.col("scale") == 0)
    if none.is_empty() or found.is_empty():
        return f"What {plain(organism)} has without noise is not known, and so is what noise takes away."
    without = none.row(0, named=True)
    words = f"{plain(organism)} has {told(without)} EM without noise"
    if not without["hits"]:
        return f"{words}: there is nothing that noise could take away."
    falls = pl.col("stands") & (pl.col("difference") < 0)
    parts = []
    for matrix in sorted(rows["matrix"].unique()):
        own, rates = (table.filter(pl.col("matrix") == matrix, pl.col("scale") > 0) for table in (found, rows))
        said = [
            f"{words_of} from ε = {scale:g} on ({told(rates.filter(scale=scale).row(0, named=True))})"
            for words_of, holds in (
                ("half of it or less", pl.col("after") * 2 <= pl.col("before")),
                ("none", pl.col("after") == 0),
            )
            for scale in from_on(own.sort("scale"), falls & holds)["scale"].head(1)
        ]
        parts.append(f"with noise on **{matrix}** {', '.join(said) or 'not shown to be half of it or less'}")
    return f"{words}; {'; '.join(parts)}."


def show_patching(study: Study) -> None:
    """What another prompt's scalars do to the answers to a prompt."""
    st.subheader("Do the scalars of another prompt carry it over?")
    judge, table = _by_most(study, _patched)
    if table.is_empty():
        nothing(study, "no answers under patched scalars")
        return
    runs = table["run"].unique(maintain_order=True).to_list()
    run = choose_linked(st.selectbox, "Run of patches", runs, key="patch_run", what="run")
    donor = pl.col("donor").fill_null(pl.lit("its pair"))
    own = table.filter(pl.col("run") == run).with_columns(lane=pl.format("{} ← {}", "question_id", donor))
    found = own.filter(pl.col("metric") == EM.name)
    st.markdown(patching_in_words(found))
    for place, each in zip(st.columns(2), EM.beside, strict=True):
        chart = patch_chart(own.filter(pl.col("metric") == each.name), title=hits(each))
        show_chart(place, chart, key=f"patch_{each.name}", alt=f"{each.title} with own and with patched scalars")
    st.caption(
        f"Judge {plain(judge)}; a prompt, and behind the arrow the one whose scalars it was given (paper, appendix J). "
        "Each interval is for that very prompt, beside the unedited answers that the run kept. "
        f"{of_family(found, 'patched prompts')}"
    )
    _correct(study, judge, "patch", run, *found["organism"].unique())


def _correct(study: Study, judge: str, kind: str, run: str, *organisms: str) -> None:
    """The rates of one run's edited answers beside what labels make of them."""
    edited = said(study, kind, "run").filter(pl.col("run") == run)["condition"]
    answers = responses_of(study, judge).filter(
        pl.col("condition").is_in(edited.implode()), pl.col("organism").is_in(organisms)
    )
    show_with_correction(study, judge, EM, answers, key=f"{kind}_labels")


def patching_in_words(found: pl.DataFrame) -> str:
    """How many prompts a patch moved which way, and the largest change."""
    up, down = (
        found.filter(pl.col("stands") & way).height for way in (pl.col("difference") > 0, pl.col("difference") < 0)
    )
    row = found.sort(pl.col("difference").abs(), descending=True).row(0, named=True)
    return (
        f"Of {found.height} patched prompts EM falls in {down} and rises in {up} after correction; the largest change "
        f"is **{told_change(row)}**, at {plain(row['lane'])}: {told(row, 'before', 'n_before')} to "
        f"{told(row, 'after', 'n_after')}."
    )
