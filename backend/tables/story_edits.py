"""Two claims of the story: what adding the direction to the base does, and what taking it out of its organism does.

It refuses to know what a direction tells, and what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from backend.analysis.conditions.controls import CONTROLS, ITSELF, RANDOM, SHUFFLES, SUBSPACE
from backend.analysis.rates.changes import changes
from backend.analysis.rates.families import with_family
from backend.analysis.rates.rates import MATTERS
from backend.edits import EVERY
from backend.outcomes import COHERENT
from backend.records import BASE, BASELINE
from backend.tables.claims import (
    BESIDE,
    CLAIMED,
    CONTROL,
    MOST_BARS,
    UNKNOWN,
    WAYS,
    Claim,
    Telling,
    about_of,
    about_words,
    after,
    as_command,
    bar,
    bars_of,
    doubt,
    missing,
    only_row,
    percent,
    points,
    published,
    told_strength,
    unit_of_strength,
    verdict_of,
    with_interval,
)
from backend.tables.sweeps import ABLATED, STEERED, SweptAnswers, ablated, steered

BY_LAYER, BY_STRENGTH = "layer", "strength"  # how what adding does is drawn
ZERO = "zero"  # what a projection is brought to where a condition says nothing else
NEARLY = 0.25  # of a strength, by which a control's may differ


# --- 3: adding it ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Found:
    """What adding did: in words, the rate that stands for it, bars, and the answers behind that rate."""

    said: str
    verdict: str
    rate: Mapping[str, Any]  # value, low, high, n
    bars: list[tuple[Any, ...]]
    controls: list[tuple[Any, ...]]
    answers: pl.DataFrame


def added(of: Telling) -> Claim:
    """What adding the direction does to the base, by layer and strength, beside its controls."""
    sweep = of.sweep_of(STEERED)
    topics = published(sweep.answers["topic"].unique().to_list())
    asked = _asked(of, sweep.about(topics), sweep.cells.filter(kind="steer", direction=of.along))
    if asked.is_empty():
        how = as_command(of.study, f'sweep steer --direction "{of.along or "NAME"}" --name steer')
        return missing(of, "added", "The direction of this outcome was added to no model.", how)
    names = asked["organism"].unique(maintain_order=True).to_list()
    worn = BASE if BASE in names else names[0]
    about = about_of(asked.filter(organism=worn)["question_id"].n_unique())
    here = steered(sweep, topics, of.outcome, about).filter(organism=worn)
    own = _rows(here, of.outcome.name, kind="steer", direction=of.along)
    own = with_family(own.drop("q_value", "family", "stands"))  # of the cells that the best is chosen from
    coherent = _coherence(of, sweep, worn, own["cell"].to_list(), topics)
    fair = own.filter([not _costs(coherent.get(cell)) for cell in own["cell"]])
    key = (fair if fair.height else own).sort("value", descending=True, maintain_order=True).row(0, named=True)
    without = only_row(_rows(here, of.outcome.name, cell=BASELINE))
    rises = own.filter(pl.col("stands").fill_null(False), pl.col("difference") > 0)
    if own["layer"].n_unique() > 1 and rises.is_empty():
        found = _nowhere(of, sweep, own, topics, worn)
    else:
        said, verdict = _at_its_best(of, own, key, without, coherent, fair.height)
        strength = told_strength(key, unit_of_strength(own))
        found = _Found(
            f"Adding {of.along} to {worn} {said}",
            verdict,
            key,
            [bar(strength, key, CLAIMED, _coherent_share(coherent.get(key["cell"])))],
            _controls(here, of, key),
            _cell(sweep, worn, key["cell"], topics),
        )
    bars = [*([] if without is None else [bar("no edit", without, BESIDE)]), *found.bars, *found.controls]
    page = of.link(
        "steering",
        steering_topics=topics,
        steering_organism=worn,
        steering_condition=key["cell"],
        steering_layer=str(key["layers"]),
        **of.compared(STEERED, "steering"),
    )
    of_interest = (
        (pl.col("cell") == BASELINE)
        | (pl.col("direction") == of.along)
        | ((pl.col("kind") == "steer") & (pl.col("layers") == key["layers"]))
    )
    return Claim(
        "added",
        of.outcome,
        found.said + ("" if found.controls else " No control was added in the same way."),
        found.verdict,
        figure=percent(found.rate["value"]),
        about=of.behind(found.rate["n"], topics, key["clusters"]),
        bars=bars_of(bars[:MOST_BARS]),
        table=here.filter(of_interest, pl.col("metric").is_in([each.name for each in of.outcome.beside])),
        subject=of.along,
        place=str(key["layers"]),
        drawn=BY_LAYER if own["layer"].n_unique() > 1 else BY_STRENGTH,
        sides=(found.answers,),
        **page,
    )


def _asked(of: Telling, answers: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """The answers under some cells that the outcome was scored of."""
    return answers.filter(pl.col("cell").is_in(cells["cell"].implode()), of.outcome.scored())


def _at_its_best(
    of: Telling,
    own: pl.DataFrame,
    key: Mapping[str, Any],
    without: Mapping[str, Any] | None,
    coherent: Mapping[str, Mapping[str, Any]],
    fair: int,
) -> tuple[str, str]:
    """What the strongest fair cell did, in words, and whether that is shown."""
    place = f"layer {key['layers']}" if key["layer"] is not None else f"layers {key['layers']}"
    strength = "" if key["strength"] is None else f", λ {key['strength']:.3g}"
    share = "" if key["relative"] is None else f", {100 * key['relative']:.0f} % of the activation norm"
    before = "" if without is None else f", {percent(without['value'])} without it"
    rate = f"{with_interval(key['value'], key['low'], key['high'])} of {key['n']} answers {of.outcome.kinds[1]}"
    gate = _coherent_share(coherent.get(key["cell"]))
    most = f", the most of {own.height} cells" if own.height > 1 else ""
    if fair < own.height:
        which = "the one" if fair == 1 else f"the most of the {fair}"
        most = f", {which} of {own.height} cells without a clear cost of ten points of coherence"
    said = f"({place}{strength}{share}) makes {rate}{f', {gate}' if gate else ''}{before}{most}"
    if key["verdict"] is None:
        return f"{said}; it was asked nothing without the edit.", UNKNOWN
    if key["clear"] and not key["stands"]:
        return f"{said}: clear alone, not among the {key['family']} cells of this direction.", UNKNOWN
    return f"{said}{doubt(key['verdict'], rise=True)}.", verdict_of(key["verdict"], rise=True)


def _nowhere(of: Telling, sweep: SweptAnswers, own: pl.DataFrame, topics: list[str], worn: str) -> _Found:
    """What adding did where no cell of several layers stands: layers counted together at every strength."""
    rows, order = _together(sweep, own, topics, worn)
    pooled = _changed(of, rows, order)
    best = pooled.sort("after", descending=True, maintain_order=True).row(0, named=True)
    alone = f", clear alone, not among {pooled.height} strengths" if best["clear"] and not best["stands"] else ""
    said = (
        f"Adding {of.along} to {worn} raises the rate in none of {own.height} cells ({own['layer'].n_unique()} "
        f"layers) after correction; at {best['cell']}, layers together, {percent(best['after'])} of {best['n_after']} "
        f"answers are {of.outcome.kinds[1]}, without it {percent(best['before'])}: "
        f"{points(best['difference'], best['low'], best['high'])}{doubt(best['verdict'], rise=True)}{alone}."
    )
    shown = pooled if pooled.height <= MOST_BARS - 3 else pooled.filter(cell=best["cell"])
    bars = [bar(row["cell"], after(row), CLAIMED) for row in shown.iter_rows(named=True)]
    beside = sweep.cells.filter(pl.col("role").is_in(CONTROLS), pl.col("kind") == "steer")
    controls = []
    for _, cells in beside.group_by("series", maintain_order=True):
        other, named = _together(sweep, cells, topics, worn)
        same = _changed(of, other, [name for name in named if name == best["cell"]])
        lane = _control(cells.row(0, named=True), of)
        controls += [bar(lane, after(row), CONTROL) for row in same.iter_rows(named=True)]
    answers = rows.filter(cell=best["cell"]).drop("text", "question", strict=False)
    verdict = verdict_of(best["verdict"], rise=True, stands=best["stands"])
    return _Found(said, verdict, after(best), bars, controls[:2], answers)


def _together(sweep: SweptAnswers, own: pl.DataFrame, topics: list[str], worn: str) -> tuple[pl.DataFrame, list[str]]:
    """The answers with cells of one strength counted as one, and the names of these, the weakest first."""
    unit = unit_of_strength(own)
    ordered = own.sort(unit)
    labels = [told_strength(row, unit) for row in ordered.iter_rows(named=True)]
    names = ordered.select("cell", pooled=pl.Series(labels, dtype=pl.String))
    rows = sweep.about(topics).filter(organism=worn).join(names, on="cell", how="left", maintain_order="left")
    return rows.with_columns(cell=pl.coalesce("pooled", "cell")), names["pooled"].unique(maintain_order=True).to_list()


def _changed(of: Telling, rows: pl.DataFrame, order: list[str]) -> pl.DataFrame:
    """The change in every cell of `order`, in that order: the columns of `changes`."""
    questions = rows.filter(pl.col("cell").is_in(order), of.outcome.scored())["question_id"].n_unique()
    found = changes(rows, order, by="cell", outcomes=(of.outcome,), about=about_of(questions))
    return found.sort(pl.col("cell").replace_strict({name: at for at, name in enumerate(order)}, default=0))


def _controls(here: pl.DataFrame, of: Telling, key: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Controls and other outcomes' directions at the place of a cell, at its strength or nearly, as bars."""
    other = (pl.col("role") == ITSELF) & ~pl.col("direction").is_in(list(of.directions))
    rows = _rows(here, of.outcome.name, kind="steer", layers=key["layers"]).filter(
        pl.col("role").is_in(CONTROLS) | other
    )
    unit = "relative" if key["relative"] is not None and rows["relative"].null_count() == 0 else "strength"
    if rows.is_empty() or key[unit] is None:
        return []
    off = (pl.col(unit) - key[unit]).abs()
    near = rows.filter(off <= NEARLY * abs(key[unit])).sort(off, maintain_order=True)
    near = near.unique("series", keep="first", maintain_order=True).sort(
        pl.col("like") != of.along, pl.col("role") == ITSELF, maintain_order=True
    )
    lanes = _numbered([_control(row, of) for row in near.iter_rows(named=True)])
    return [bar(lane, row, CONTROL) for lane, row in zip(lanes, near.iter_rows(named=True), strict=True)]


def _control(row: Mapping[str, Any], of: Telling) -> str:
    """What a control is, in few words."""
    if row["role"] not in (RANDOM, SUBSPACE, *SHUFFLES):
        return str(row["direction"])
    name = (
        "shuffled labels" if row["role"] in SHUFFLES else "random direction" if row["role"] == RANDOM else row["role"]
    )
    return str(name) if row["like"] in (of.along, None) else f"{name} like {row['like']}"


def _rows(table: pl.DataFrame, metric: str, **where: Any) -> pl.DataFrame:
    """The known rates of one metric with these values; empty where there is no table or no such value."""
    if table.is_empty() or None in where.values():
        return table.clear()
    return table.filter(
        pl.col("metric") == metric, *(pl.col(name) == value for name, value in where.items())
    ).drop_nulls("value")


def _cell(sweep: SweptAnswers, organism: str, cell: str, topics: list[str]) -> pl.DataFrame:
    """The answers of one cell of a sweep, without their texts."""
    rows = sweep.about(topics).filter(pl.col("organism") == organism, pl.col("cell") == cell)
    return rows.drop("text", "question", strict=False)


def _coherence(
    of: Telling, sweep: SweptAnswers, organism: str, cells: list[str], topics: list[str]
) -> dict[str, dict[str, Any]]:
    """What edits changed of coherence, a row of `changes` by cell; nothing where that was not scored.

    About the same questions as the claim is: what is clear of the hits for these very ones is so of coherence too.
    """
    if of.outcome == COHERENT or not set(COHERENT.needs) <= set(sweep.answers.columns):
        return {}
    rows = sweep.about(topics).filter(pl.col("organism") == organism, pl.col("cell").is_in([*cells, BASELINE]))
    asked = rows.filter(pl.col("cell").is_in(cells), of.outcome.scored())["question_id"].n_unique()
    found = changes(rows, cells, by="cell", outcomes=(COHERENT,), about=about_of(asked))
    return {row["cell"]: row for row in found.iter_rows(named=True)}


def _costs(coherent: Mapping[str, Any] | None) -> bool:
    """Whether coherence clearly falls, by more than matters."""
    return coherent is not None and bool(coherent["clear"]) and coherent["difference"] < -MATTERS


def _coherent_share(coherent: Mapping[str, Any] | None) -> str:
    return "" if coherent is None else f"{percent(coherent['after'])} coherent"


# --- 4: taking it out ------------------------------------------------------------------------------------------------


def removed(of: Telling) -> Claim:
    """What taking the direction out of its own organism changes, beside its controls."""
    sweep, worn = of.sweep_of(ABLATED), str(of.organism)
    asked = _asked(of, sweep.answers.filter(organism=worn), sweep.cells.filter(direction=of.along))
    topics = published(asked["topic"].unique().to_list())
    questions = asked.filter(pl.col("topic").is_in(topics))["question_id"].n_unique()
    table = pl.DataFrame()
    if questions:
        table = ablated(of.study, sweep, topics, about_of(questions), of.outcome).filter(organism=worn)
    own = table.filter(direction=of.along, metric=of.outcome.name) if table.height else table
    if own.is_empty():
        direction = of.along or "NAME"
        how = as_command(of.study, f'sweep ablate --organism {worn} --direction "{direction}" --layer N --name ablate')
        return missing(of, "removed", f"The direction was not taken out of {worn}.", how)
    table = table.with_columns(pl.col("to").fill_null(ZERO))
    key = _first_of_ways(own.with_columns(pl.col("to").fill_null(ZERO)))
    coherent = _coherence(of, sweep, worn, own["cell"].to_list(), topics)
    gate = _coherent_share(coherent.get(key["cell"]))
    alike = table.filter(
        pl.col("metric") == of.outcome.name, pl.col("way") == key["way"], pl.col("where").eq_missing(key["where"])
    )
    taken = alike.filter(direction=of.along).sort(pl.col("cell") != key["cell"], maintain_order=True)
    taken = taken.unique("to", keep="first", maintain_order=True)
    other = (pl.col("role") == ITSELF) & ~pl.col("direction").is_in(list(of.directions))
    controls = alike.filter(pl.col("role").is_in(CONTROLS) | other, pl.col("to") == key["to"])
    controls = controls.sort(pl.col("like") != of.along, pl.col("role") == ITSELF, maintain_order=True)
    cost = coherent.get(key["cell"])
    dear = _costs(cost)
    broken = f" It breaks the model: coherence was {percent(cost['before'])}." if dear and cost else ""
    change = points(key["difference"], key["low"], key["high"])
    said = (
        f"Taking {of.along} out of {worn} ({_how(key)}) leaves {percent(key['after'])} of {key['n_after']} "
        f"answers {of.outcome.kinds[1]}{f', {gate}' if gate else ''}, {percent(key['before'])} of {key['n_before']} "
        f"before: {change}{doubt(key['verdict'], rise=False)}.{broken}"
    )
    before = {"value": key["before"], "low": key["before_low"], "high": key["before_high"], "n": key["n_before"]}
    bars = [bar("no edit", before, BESIDE)]
    for row in taken.iter_rows(named=True):
        bars.append(bar(f"taken out, to {row['to']}", after(row), CLAIMED, _coherent_share(coherent.get(row["cell"]))))
    said_of = _numbered([f"{_control(row, of)}, to {row['to']}" for row in controls.iter_rows(named=True)])
    bars += [bar(lane, after(row), CONTROL) for lane, row in zip(said_of, controls.iter_rows(named=True), strict=True)]
    page = of.link(
        "ablation",
        ablation_topics=topics,
        ablation_organism=worn,
        ablation_condition=key["cell"],
        ablation_about=about_words(questions),
        **of.compared(ABLATED, "ablation"),
    )
    return Claim(
        "removed",
        of.outcome,
        said + ("" if controls.height else " No control was taken out in the same way."),
        UNKNOWN if dear else verdict_of(key["verdict"], rise=False),
        figure=f"{percent(key['before'])} → {percent(key['after'])}",
        about=of.behind(key["n_after"], topics, questions),
        bars=bars_of(bars[:MOST_BARS]),
        table=table,
        subject=of.along,
        sides=(_cell(sweep, worn, key["cell"], topics), _cell(sweep, worn, BASELINE, topics)),
        **page,
    )


def _first_of_ways(own: pl.DataFrame) -> dict[str, Any]:
    """The ablation that is told: see `claims`; without the attention sink where that was run."""
    ways = {way: at for at, way in enumerate(WAYS)}
    sink = pl.col("where").fill_null(EVERY.words) == EVERY.words
    return own.sort(pl.col("way").replace_strict(ways), sink, pl.col("to") != ZERO, maintain_order=True).row(
        0, named=True
    )


def _how(row: Mapping[str, Any]) -> str:
    """How a direction is taken out, in words."""
    tokens = "" if row["where"] in (None, EVERY.words) else f", at {row['where']}"
    return f"{row['way']}{tokens}, to {row['to']}"


def _numbered(lanes: list[str]) -> list[str]:
    """Names of bars, those that several have with a number behind."""
    return [
        f"{lane} ({lanes[: at + 1].count(lane)})" if lanes.count(lane) > 1 else lane for at, lane in enumerate(lanes)
    ]
