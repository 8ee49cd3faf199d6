"""What adapters cause: the rates under conditions that zero, keep or scale some of them.

A condition of gains is read into what it did to each module (a rank-1 adapter, or all components of one): left one out,
kept one alone, left a pair out, scaled a group. An effect is a difference of rates with its interval; a pair's
interaction is what zeroing both does beyond the sum of zeroing either. It refuses to know what an adapter encodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.rates.families import with_family
from backend.analysis.rates.interactions import interaction_interval
from backend.analysis.rates.rates import (
    ALIKE,
    HIGHER,
    LOWER,
    NOT_LOWER,
    SIMILAR_QUESTIONS,
    Estimand,
    difference_of_counts,
    em_rates,
    question_counts,
)
from backend.edits import Gain, edits_from_json
from backend.outcomes import EM, Outcome, topic_outcomes
from backend.records import BASE, BASELINE, InputError

INTACT, NONE = "intact", "none"
WITHOUT_ONE, WITHOUT_TWO, WITHOUT_SOME = "without one", "without two", "without a group"
ONLY_ONE, ONLY_TWO, ONLY_SOME = "only one", "only two", "only a group"
SCALED, ALL_SCALED, MIXED = "some scaled", "all scaled", "several gains"

_CONDITIONS: dict[str, Any] = {
    "organism": pl.String,
    "condition": pl.String,
    "arrangement": pl.String,
    "units": pl.List(pl.String),  # those that were zeroed, kept or scaled
    "gain": pl.Float64,  # of those, where they have one
    "rest": pl.Float64,  # gain of the others, where they have one
    "levels": pl.List(pl.Float64),  # the gain of every unit, in the order of the adapters
    "what": pl.String,  # in words
}
_EFFECTS = (
    {"unit": pl.String}
    | dict.fromkeys(("value", "low", "high"), pl.Float64)
    | {"n": pl.Int64}
    | dict.fromkeys(("against", "change", "change_low", "change_high", "p_value"), pl.Float64)
    | {"clear": pl.Boolean, "verdict": pl.String}
)
_PAIRS = dict.fromkeys(("a", "b"), pl.String) | (
    dict.fromkeys(("value", "expected", "interaction", "low", "high", "p_value"), pl.Float64)
    | {"n": pl.Int64, "questions": pl.Int64}
)


def unit_of(adapter: str) -> str:
    """The module of an adapter: what is zeroed or scaled as one."""
    return adapter.partition("#")[0]


def units_of(adapters: Sequence[str]) -> list[str]:
    """The modules of adapters, in their order."""
    return list(dict.fromkeys(map(unit_of, adapters)))


def short_names(units: Sequence[str]) -> dict[str, str]:
    """`L15` where every layer has one module, `L15 mlp.down_proj` where a layer has several."""
    parts = {unit: unit.removeprefix("layers.").partition(".") for unit in units}
    layers = [layer for layer, _, _ in parts.values()]
    alone = len(set(layers)) == len(layers)
    return {unit: f"L{layer}" if alone or not rest else f"L{layer} {rest}" for unit, (layer, _, rest) in parts.items()}


def gain_conditions(
    conditions: pl.DataFrame,
    adapters: Mapping[str, Sequence[str]],
    says: Mapping[str, Mapping[str, Any]] | None = None,
) -> pl.DataFrame:
    """What each condition of gains alone did to the modules of an organism, one row a condition and organism.

    `conditions` is [name, edits (JSON)] as a study lists them, `adapters` the adapter names of every organism, `says`
    the study's record about conditions, read where the edits are unknown (a released table of gains by layer).
    Returns [organism, condition, arrangement, units, gain, rest, levels, what]. Every organism's baseline is "intact".
    """
    rows: list[tuple[Any, ...] | None] = []
    worn = {organism: names for organism, names in adapters.items() if names}
    for name, edits in conditions.select("name", "edits").iter_rows():
        for organism, names in worn.items():
            if name == BASELINE:
                rows.append(_row(organism, name, names, dict.fromkeys(names, 1.0)))
            elif (levels := _levels(organism, names, edits, (says or {}).get(name, {}))) is not None:
                rows.append(_row(organism, name, names, levels))
    return pl.DataFrame([row for row in rows if row], _CONDITIONS, orient="row")


def gain_rates(
    frame: pl.DataFrame,
    gains: pl.DataFrame,
    outcomes: Sequence[Outcome] = EM.beside,
    *,
    about: Estimand = SIMILAR_QUESTIONS,
) -> pl.DataFrame:
    """Rates of `outcomes` and of every judged topic under each condition of `gains`, with what it did.

    `frame` are scored responses with the column cell, as `own_baselines` gives them, here and below: the cell of edited
    answers is their condition, that of unedited ones the baseline, whatever their length.
    [*columns of gains, metric, value, low, high, hits, n, dropped, clusters, too_small].
    """
    keys = ["organism", "cell"]
    did = gains.with_columns(cell="condition")
    answered = frame.join(did.select(keys), on=keys, how="semi", maintain_order="left")
    every = [*outcomes, *(each for each in topic_outcomes(frame.columns) if each not in outcomes)]
    judged = [outcome for outcome in every if _judged(frame, outcome)]
    if not judged:
        raise InputError("these responses have no scores, so there are no rates: choose a judge")
    rates = em_rates(answered, keys, outcomes=judged, about=about)
    return did.join(rates, on=keys, how="inner", maintain_order="left_right").drop("cell")


def single_effects(
    frame: pl.DataFrame,
    gains: pl.DataFrame,
    organism: str,
    arrangement: str,
    *,
    outcome: Outcome = EM,
    about: Estimand = SIMILAR_QUESTIONS,
) -> pl.DataFrame:
    """The rate without each module (WITHOUT_ONE) or with it alone (ONLY_ONE), and what that changed.

    [unit, value, low, high, n, against, change, change_low, change_high, p_value, clear, verdict, q_value, family,
    stands]: `change` is the rate less that of the intact organism, or, for a module alone, less that of the base;
    paired by question, null where that was not sampled. The modules are a family (families.py).
    """
    rows: list[tuple[Any, ...]] = []
    reference = answers_of(frame, gains, organism, INTACT if arrangement == WITHOUT_ONE else NONE)
    counted = question_counts(reference, [], outcome)
    for units, condition in _of(gains, organism, arrangement).select("units", "condition").iter_rows():
        edited = _under(frame, organism, condition)
        [rate] = em_rates(edited, outcomes=[outcome], about=about).iter_rows(named=True) if edited.height else [None]
        if rate is None or not rate["n"]:
            continue
        own = (units[0], rate["value"], rate["low"], rate["high"], rate["n"])
        try:
            found = difference_of_counts(question_counts(edited, [], outcome), counted, about=about)
        except InputError:  # no reference, or none to the same questions
            rows.append((*own, *[None] * 7))
            continue
        change = (found.b.value, found.value, found.low, found.high, found.p_value, found.clear, found.verdict)
        rows.append((*own, *change))
    return with_family(pl.DataFrame(rows, _EFFECTS, orient="row"))


def pair_interactions(
    frame: pl.DataFrame, gains: pl.DataFrame, organism: str, *, outcome: Outcome = EM, seed: int = 0
) -> pl.DataFrame:
    """What zeroing two modules does beyond the sum of zeroing either.

    [a, b, value, expected, interaction, low, high, p_value, n, questions, q_value, family, stands]: `value` is the rate
    without both, `expected` the intact rate plus both single changes (cut to 0 and 1), and `interaction` the rate
    without both less the uncut sum: above 0 the two do the same work, below 0 each stands in for the other. All over
    the questions that each of the four was asked, as `interaction_interval` weighs them; the pairs are a family.
    """
    intact = _counts(answers_of(frame, gains, organism, INTACT), outcome)
    singles = {
        row["units"][0]: _counts(_under(frame, organism, row["condition"]), outcome)
        for row in _of(gains, organism, WITHOUT_ONE).iter_rows(named=True)
    }
    rng, rows = np.random.default_rng(seed), []
    for row in _of(gains, organism, WITHOUT_TWO).iter_rows(named=True):
        a, b = row["units"]
        if a not in singles or b not in singles:
            continue
        four = [_counts(_under(frame, organism, row["condition"]), outcome), singles[a], singles[b], intact]
        if found := _interaction(four, rng):
            rows.append((a, b, *found))
    return with_family(pl.DataFrame(rows, _PAIRS, orient="row"))


def answers_of(frame: pl.DataFrame, gains: pl.DataFrame, organism: str, arrangement: str) -> pl.DataFrame:
    """The responses of an organism under one arrangement; with no adapter it is the base, whoever is named."""
    own = [_under(frame, organism, condition) for condition in _of(gains, organism, arrangement)["condition"]]
    if arrangement == NONE:
        own.append(_under(frame, BASE, BASELINE))
    return pl.concat([frame.clear(), *own])


# --- what probes say beside what zeroing does ------------------------------------------------------------------------


@dataclass(frozen=True)
class ProbeClaim:
    """What a probe says that one module encodes, and how well it tells it (AUC, folded to 0.5 and above)."""

    unit: str
    lean: str  # the axis that it tells, "both" or "neither"
    topic: float
    valence: float


def against_cause(claims: Sequence[ProbeClaim], effects: pl.DataFrame, *, topic: str, valence: str) -> pl.DataFrame:
    """Probe and cause side by side: [unit, lean, topic, valence, change, ..., probe_rank, cause_rank, verdict, ...].

    Ranks count from 1: the module that best tells `valence`, and the one whose zeroing lowers the rate most. A conflict
    is a module that tells `topic` and whose zeroing lowers the rate, among all modules, or one that tells `valence` and
    whose zeroing does not: where the rate was high enough to fall by ten points, and the interval leaves that out.
    """
    told = pl.DataFrame(
        [(claim.unit, claim.lean, claim.topic, claim.valence) for claim in claims],
        {"unit": pl.String, "lean": pl.String, "topic": pl.Float64, "valence": pl.Float64},
        orient="row",
    )
    both = told.join(effects, on="unit", how="inner", maintain_order="left").drop_nulls("change")
    ranked = both.with_columns(
        probe_rank=pl.col("valence").rank("ordinal", descending=True).cast(pl.Int64),
        cause_rank=pl.col("change").rank("ordinal").cast(pl.Int64),
    )
    verdicts = [_verdict(row, topic, valence) for row in ranked.iter_rows(named=True)]
    columns = {"verdict": pl.String, "conflict": pl.Boolean}
    return ranked.drop("verdict").hstack(pl.DataFrame(verdicts, columns, orient="row")).sort("cause_rank")


def _verdict(row: Mapping[str, Any], topic: str, valence: str) -> tuple[str, bool]:
    lowers = row["stands"] and row["verdict"] == LOWER
    if row["lean"] == topic and lowers:
        return f"tells {topic}, yet zeroing it lowers the rate", True
    if row["lean"] == valence and row["verdict"] in (NOT_LOWER, ALIKE, HIGHER):
        return f"tells {valence}, yet zeroing it does not lower the rate", True
    if row["lean"] == "neither" and lowers:
        return "tells neither, yet zeroing it lowers the rate", True
    if lowers:
        return "told by the probe, and zeroing it lowers the rate", False
    if row["verdict"] == LOWER:
        return f"cannot tell: lower alone, not among {row['family']}", False
    return (
        "zeroing it does not lower the rate" if row["verdict"] in (NOT_LOWER, ALIKE, HIGHER) else "cannot tell"
    ), False


# --- reading gains ---------------------------------------------------------------------------------------------------


def _levels(organism: str, names: Sequence[str], edits: str, said: Mapping[str, Any]) -> dict[str, float] | None:
    """The gain of every adapter; None where the condition is not one of gains of this organism alone."""
    found = edits_from_json(json.loads(edits))
    if not found and said.get("kind") == "scale" and said.get("organism") == organism:
        by_layer = {int(layer): float(gain) for layer, gain in said.get("gains", {}).items()}
        return {name: by_layer.get(int(name.split(".")[1]), float(said.get("others", 1.0))) for name in names}
    levels = dict.fromkeys(names, 1.0)
    for edit in found:
        if not isinstance(edit, Gain) or edit.organism != organism:
            return None
        for name in names if edit.adapters is None else edit.adapters:
            if name not in levels:
                return None
            levels[name] *= edit.factor
    return levels if found else None


def _row(organism: str, condition: str, names: Sequence[str], levels: Mapping[str, float]) -> tuple[Any, ...] | None:
    """None where the components of a module have different gains."""
    units = units_of(names)
    by_unit = {unit: {levels[name] for name in names if unit_of(name) == unit} for unit in units}
    if any(len(found) > 1 for found in by_unit.values()):
        return None
    gains = {unit: next(iter(found)) for unit, found in by_unit.items()}
    arrangement, chosen, gain, rest = _arranged(gains)
    what = _in_words(arrangement, chosen, gains, short_names(units))
    return (organism, condition, arrangement, chosen, gain, rest, list(gains.values()), what)


def _arranged(gains: Mapping[str, float]) -> tuple[str, list[str], float | None, float | None]:
    """Arrangement, the units it is about, their gain and that of the others."""
    values = set(gains.values())
    off = [unit for unit, gain in gains.items() if gain == 0]
    on = [unit for unit, gain in gains.items() if gain == 1]
    if len(values) == 1:
        [value] = values
        named = {1.0: INTACT, 0.0: NONE}.get(value, ALL_SCALED)
        return named, list(gains) if named == ALL_SCALED else [], value, None
    if values == {0.0, 1.0}:
        if len(off) <= len(on) or len(off) == 1:
            return {1: WITHOUT_ONE, 2: WITHOUT_TWO}.get(len(off), WITHOUT_SOME), off, 0.0, 1.0
        return {1: ONLY_ONE, 2: ONLY_TWO}.get(len(on), ONLY_SOME), on, 1.0, 0.0
    rest = 0.0 if off else 1.0
    scaled = [unit for unit, gain in gains.items() if gain != rest]
    factors = {gains[unit] for unit in scaled}
    left = rest if len(scaled) < len(gains) else None
    return (SCALED, scaled, factors.pop(), left) if len(factors) == 1 else (MIXED, scaled, None, left)


def _in_words(arrangement: str, chosen: Sequence[str], gains: Mapping[str, float], names: Mapping[str, str]) -> str:
    listed = ", ".join(names[unit] for unit in chosen)
    if arrangement in (WITHOUT_ONE, WITHOUT_TWO, WITHOUT_SOME):
        return f"without {listed}"
    if arrangement in (ONLY_ONE, ONLY_TWO, ONLY_SOME):
        return f"only {listed}"
    if arrangement == ALL_SCALED:
        return f"all ×{next(iter(gains.values())):g}"
    if not chosen:
        return {INTACT: "intact", NONE: "no adapter"}[arrangement]
    by_gain: dict[float, list[str]] = {}
    for unit in chosen:
        by_gain.setdefault(gains[unit], []).append(names[unit])
    parts = [f"{', '.join(some)} ×{gain:g}" for gain, some in sorted(by_gain.items(), reverse=True)]
    others = {gain for unit, gain in gains.items() if unit not in chosen}
    return "; ".join(parts) + (f"; others ×{others.pop():g}" if others else "")


# --- responses and counts --------------------------------------------------------------------------------------------


def _of(gains: pl.DataFrame, organism: str, arrangement: str) -> pl.DataFrame:
    return gains.filter(pl.col("organism") == organism, pl.col("arrangement") == arrangement)


def _under(frame: pl.DataFrame, organism: str, cell: str) -> pl.DataFrame:
    return frame.filter(pl.col("organism") == organism, pl.col("cell") == cell)


def _judged(frame: pl.DataFrame, outcome: Outcome) -> bool:
    return set(outcome.needs) <= set(frame.columns)


def _counts(frame: pl.DataFrame, outcome: Outcome) -> dict[str, tuple[float, float]]:
    """Hits and scored responses of every question."""
    if not _judged(frame, outcome):
        raise InputError(f"the rate {outcome.name!r} needs {', '.join(outcome.needs)}: choose a judge that scored them")
    table = question_counts(frame, [], outcome)
    return {question: (float(hits), float(n)) for question, hits, n in table.iter_rows()}


def _interaction(four: Sequence[Mapping[str, tuple[float, float]]], rng: np.random.Generator) -> tuple[Any, ...] | None:
    """value, expected, interaction, low, high, p, n, questions of (both, one, other, neither zeroed)."""
    shared = sorted(set.intersection(*(set(counts) for counts in four)))
    if not shared:
        return None
    hits, n = np.array([[counts[question] for question in shared] for counts in four]).transpose(2, 0, 1)
    both, one, other, neither = hits.sum(axis=1) / n.sum(axis=1)
    expected = float(np.clip(one + other - neither, 0, 1))
    return float(both), expected, *interaction_interval(hits, n, rng), int(n[0].sum()), len(shared)
