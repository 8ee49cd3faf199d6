"""Any two sides in one picture: this study beside another, or two organisms or conditions of one, with the difference.

The choice is in the link (`beside`, `beside_this`, `beside_other`, `beside_judge`). It refuses to compare anything
without saying what else differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import streamlit as st

from backend.charts.story import beside_chart
from backend.charts.tradeoffs import series_legend, strength_chart
from backend.outcomes import Outcome
from backend.records import BASE, BASELINE, InputError
from backend.study import Study
from backend.tables.beside import Beside, beside, caveats, same_questions
from backend.tables.claims import MISSING, STEPS, Claim
from backend.tables.rates import drawn_by, with_scores_of
from panels.asked import choose_linked
from panels.figures import show_chart
from panels.frame import per_study, plain, responses_of, studies, study_named
from panels.story import claims_of

NOTHING = "nothing"
COMPARED = ("organism", "added", "removed")  # the steps of the story whose figure is one rate


@dataclass(frozen=True)
class Side:
    """Whose answers, under what, by which judge."""

    study: Study
    judge: str
    organism: str
    condition: str

    @property
    def words(self) -> str:
        """Organism and condition."""
        return f"{self.organism} · {self.condition}"


@per_study
def _answers(study: Study, judge: str, organism: str, condition: str) -> pl.DataFrame:
    rows = with_scores_of(study, responses_of(study, judge))
    found = rows.filter(pl.col("organism") == organism, pl.col("condition") == condition)
    return found.drop("text", "question")


@per_study
def _sides(study: Study, judge: str) -> list[str]:
    """Organisms and conditions with answers, unedited ones first."""
    rows = with_scores_of(study, responses_of(study, judge)).select("organism", "condition").unique(maintain_order=True)
    ordered = sorted(rows.rows(), key=lambda row: (row[1] != BASELINE, row[0] == BASE))
    return [f"{organism} · {condition}" for organism, condition in ordered]


@per_study
def _both(study: Study, other: Study, outcome: Outcome, sides: tuple[str, ...]) -> Beside:
    judge, organism, condition, other_judge, other_organism, other_condition = sides
    mine = _answers(study, judge, organism, condition)
    theirs = _answers(other, other_judge, other_organism, other_condition)
    return beside(mine, theirs, outcome, same_questions(study, other))


def _choose_side(study: Study, judge: str, label: str, key: str, first: str | None) -> Side:
    known = _sides(study, judge)
    if not known:
        raise InputError(f"{study.name} has no answers to set beside others.")
    start = known.index(first) if first in known else 0
    chosen = choose_linked(st.selectbox, label, known, index=start, key=key, what="side")
    organism, _, condition = str(chosen).partition(" · ")
    return Side(study, judge, organism, condition)


def _choose_judge(other: Study, judge: str, outcome: Outcome) -> str:
    able = [name for name in other.judges() if set(outcome.needs) <= set(other.metrics(name))]
    if not able:
        needed = " and ".join(outcome.needs)
        raise InputError(
            f"No judge of {other.name} scored {needed}, which {outcome.title} needs: choose another study."
        )
    start = able.index(judge) if judge in able else 0
    return str(choose_linked(st.selectbox, "Judge there", able, index=start, key="beside_judge", what="judge"))


def show_beside(study: Study, judge: str, outcome: Outcome) -> None:
    """Choose what stands beside, and see both with the difference and its interval. Raises InputError as choices do."""
    with st.container(border=True):
        places = st.columns([2, 3, 3, 2], vertical_alignment="bottom")
        options = [NOTHING, *dict.fromkeys([*(name for name in studies() if name != study.name), study.name])]
        chosen = choose_linked(
            places[0].selectbox,
            "Beside",
            options,
            key="beside",
            what="study",
            help="Another study, or this one for two of its organisms or conditions.",
        )
        if chosen == NOTHING:
            return
        other = study if chosen == study.name else study_named(str(chosen))
        with places[3]:
            there = _choose_judge(other, judge, outcome)
        own, their = claims_of(study, judge, outcome), claims_of(other, there, outcome)
        with places[1]:
            mine = _choose_side(study, judge, f"Of {study.name}", "beside_this", _first(own))
        with places[2]:
            first = f"{BASE} · {BASELINE}" if other is study else _first(their)
            theirs = _choose_side(other, there, f"Of {other.name}", "beside_other", first)
        _show_rates(mine, theirs, outcome)
        if other is not study:
            _show_story(study, other, outcome, own, their)


def _first(claims: list[Claim]) -> str | None:
    return f"{claims[0].subject} · {BASELINE}" if claims else None


def _named(mine: Side, theirs: Side) -> tuple[str, str]:
    """What the sides are called: their study too, where there are two."""
    if mine.study is theirs.study:
        return mine.words, theirs.words
    return f"{mine.study.name}: {mine.words}", f"{theirs.study.name}: {theirs.words}"


def _show_rates(mine: Side, theirs: Side, outcome: Outcome) -> None:
    names = _named(mine, theirs)
    if names[0] == names[1] and mine.judge == theirs.judge:
        raise InputError("Both sides are the same: choose two different ones.")
    chosen = (mine.judge, mine.organism, mine.condition, theirs.judge, theirs.organism, theirs.condition)
    found = {each.title: _both(mine.study, theirs.study, each, chosen) for each in outcome.beside}
    [first, *_] = found.values()
    st.markdown(plain(first.said(names, outcome)))
    sides = [_answers(each.study, each.judge, each.organism, each.condition) for each in (mine, theirs)]
    topics = [rows["topic"].unique(maintain_order=True).to_list() for rows in sides]
    warned = [*caveats((mine.judge, theirs.judge), (topics[0], topics[1]))]
    warned += [
        f"The answers that {each.judge} scored were drawn by the scores of {by}, so their share of hits is no rate."
        for each in (mine, theirs)
        if (by := drawn_by(each.study, each.judge))
    ]
    if warned:
        st.warning(plain(" ".join(warned)), icon=":material/difference:")
    chart = beside_chart(_lanes(found, names), title="share of answers", sides=names)
    show_chart(st, chart, key="beside_rates", alt=first.said(names, outcome))


def _show_strengths(names: tuple[str, str], outcome: Outcome, told: tuple[list[Claim], list[Claim]]) -> None:
    """Rates by strength of either study's direction, at the layer its claim is of, on one axis."""
    tables = [
        claim.table.filter(
            pl.col("metric") == outcome.name,
            pl.col("direction") == claim.subject,
            pl.col("layers") == claim.place,
        ).with_columns(series=pl.lit(f"{name}: {claim.subject}, layer {claim.place}"))
        for name, claims in zip(names, told, strict=True)
        for claim in claims
        if claim.step == "added"
    ]
    rows = pl.concat(tables, how="diagonal").drop_nulls(["relative", "value"])
    if rows["series"].n_unique() < 2:
        return
    series = rows["series"].unique(maintain_order=True).to_list()
    st.html(series_legend(series, {}))
    chart = strength_chart(rows, title=f"{outcome.kinds[1]}, by what is added", x="relative", baseline=None, height=240)
    show_chart(st, chart, key="beside_strengths", alt=f"Rates by strength in {names[0]} and {names[1]}")
    st.caption("Either at the layer of its highest rate, by the share of the activation norm that was added.")


def _lanes(found: dict[str, Beside], names: tuple[str, str]) -> pl.DataFrame:
    """A row a lane and side, as `beside_chart` takes them."""
    rows = [
        (lane, side, each.value, each.low, each.high, each.n)
        for lane, both in found.items()
        for side, each in zip(names, (both.a, both.b), strict=True)
    ]
    schema = {"lane": pl.String, "side": pl.String, **dict.fromkeys(("value", "low", "high"), pl.Float64)}
    return pl.DataFrame(rows, {**schema, "n": pl.Int64}, orient="row")


def _cells(claim: Claim, outcome: Outcome) -> int:
    """Of how many cells of its direction the one of a claim is the most."""
    known = claim.table.drop_nulls("value")
    return known.filter(metric=outcome.name, direction=claim.subject, kind="steer").height


def _show_story(study: Study, other: Study, outcome: Outcome, own: list[Claim], their: list[Claim]) -> None:
    """The steps that are one rate in both studies, each with the difference."""
    st.markdown(f"**The story's steps in {plain(study.name)} and {plain(other.name)}**")
    theirs = {claim.step: claim for claim in their}
    found, most, lacking = {}, dict[str, tuple[int, int]](), []
    for claim in own:
        if claim.step not in COMPARED:
            continue
        beside_it = theirs.get(claim.step)
        if MISSING in (claim.verdict, beside_it.verdict if beside_it else MISSING) or beside_it is None:
            lacking.append(STEPS[claim.step])
            continue
        title = f"{list(STEPS).index(claim.step) + 1}. {STEPS[claim.step]}"
        found[title] = beside(claim.sides[0], beside_it.sides[0], outcome, same_questions(study, other))
        if claim.step == "added":
            most[title] = _cells(claim, outcome), _cells(beside_it, outcome)
    if found:
        names = study.name, other.name
        for title, both in found.items():
            st.markdown(f"{plain(title)}: {plain(both.said(names, outcome, most.get(title)))}")
        chart = beside_chart(_lanes(found, names), title=f"share of answers: {outcome.kinds[1]}", sides=names)
        show_chart(st, chart, key="beside_story", alt=f"The steps of the story in {names[0]} and {names[1]}")
    if "3. Adding it" in found:
        _show_strengths((study.name, other.name), outcome, (own, their))
    if lacking:
        st.caption(f"In one of them without data: {plain(', '.join(lacking))}.")
