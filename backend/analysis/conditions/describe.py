"""What a condition did, as a row: steered, ablated or scaled, along which direction, where and how strongly.

Read from the condition's edits, or from what a study's record says of a condition whose edits are unknown. The rates
of a sweep and what an ablation changed are tables over those rows. It refuses to know where responses come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from backend.analysis.rates.rates import SIMILAR_QUESTIONS, Estimand, difference, em_rates
from backend.outcomes import EM, Outcome, topic_outcomes
from backend.records import BASELINE, Ablate, AblateWrite, Add, Condition, Gain, InputError, edits_from_json

_SCHEMA = {
    "condition": pl.String,
    "kind": pl.String,  # baseline, steer, ablate, ablate_write, scale, mixed, unknown, selected
    "direction": pl.String,
    "layers": pl.String,
    "layer": pl.Int64,  # the layer where there is one
    "strength": pl.Float64,
}
_CHANGES = (
    dict.fromkeys(("organism", "condition", "metric"), pl.String)
    | dict.fromkeys(("before", "before_low", "before_high"), pl.Float64)
    | {"n_before": pl.Int64}
    | dict.fromkeys(("after", "after_low", "after_high"), pl.Float64)
    | {"n_after": pl.Int64}
    | dict.fromkeys(("difference", "low", "high", "p_value"), pl.Float64)
)


def describe(conditions: Iterable[Condition], says: Mapping[str, Mapping[str, Any]] | None = None) -> pl.DataFrame:
    """[condition, kind, direction, layers, layer, strength], one row a condition.

    `says` is the record of a study about its conditions by name (kind, direction, layers, scale); it goes before the
    edits. A condition of several directions or strengths is "mixed".
    """
    says = says or {}
    rows = [_said(c.name, says[c.name]) if "kind" in says.get(c.name, {}) else _edited(c) for c in conditions]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def describe_stored(conditions: pl.DataFrame, says: Mapping[str, Mapping[str, Any]] | None = None) -> pl.DataFrame:
    """`describe` of conditions as a study lists them, [name, edits (JSON)]; what `says` knows is not parsed at all."""
    rows = conditions.select("name", "edits").iter_rows()
    known = says or {}
    return describe(
        (Condition(name, () if name in known else edits_from_json(json.loads(edits))) for name, edits in rows), known
    )


def is_baseline(condition: str) -> bool:
    """Whether answers under this condition are unedited: the baseline, or the baseline cut to a sweep's length."""
    return condition == BASELINE or condition.startswith(f"{BASELINE}, ")


def own_baselines(frame: pl.DataFrame, edited: Sequence[str], baselines: Mapping[str, str]) -> pl.DataFrame:
    """The responses with each organism's baseline in the place of `BASELINE` that its edited answers belong to.

    A sweep's answers are cut short, so they are compared with unedited ones of the same length: `baselines` (a study's
    info) maps its conditions to theirs. An organism whose `edited` conditions have several lengths keeps those of the
    most answers; other edited answers of it, and all other unedited ones, are left out. An organism without edited
    answers is shown at the others' length where it has answers of that.
    """
    unedited = pl.col("condition").str.starts_with(f"{BASELINE}, ") | (pl.col("condition") == BASELINE)
    is_edited = pl.col("condition").is_in(list(edited))
    beside = pl.col("condition").replace_strict(dict(baselines), default=BASELINE) if baselines else pl.lit(BASELINE)
    lengths = (
        frame.filter(is_edited)
        .group_by("organism", beside.alias("beside"))
        .len()
        .sort("organism", "len", "beside", descending=[False, True, False])
        .unique("organism", keep="first", maintain_order=True)
    )
    usual = lengths.group_by("beside").agg(pl.sum("len")).sort("len", "beside", descending=[True, False])["beside"]
    known = frame.filter(pl.col("condition") == (usual[0] if len(usual) else BASELINE))["organism"].unique()
    places = {
        **dict.fromkeys(known, usual[0] if len(usual) else BASELINE),
        **dict(lengths.select("organism", "beside").iter_rows()),
    }
    chosen = pl.col("organism").replace_strict(places, default=BASELINE) if places else pl.lit(BASELINE)
    kept = pl.when(unedited).then(pl.col("condition") == chosen).when(is_edited).then(beside == chosen).otherwise(True)
    return frame.filter(kept).with_columns(
        condition=pl.when(unedited).then(pl.lit(BASELINE)).otherwise(pl.col("condition"))
    )


def sweep_rates(frame: pl.DataFrame, described: pl.DataFrame, outcomes: Sequence[Outcome] = EM.beside) -> pl.DataFrame:
    """Rates by organism and condition with what the condition did, in order of direction and strength.

    Of `outcomes`, and of each topic that the frame has scores of. Responses that were chosen by their scores tell no
    rate and are left out.
    """
    known = described.filter(pl.col("kind") != "selected")
    chosen = frame.join(known.select("condition"), on="condition", how="semi", maintain_order="left")
    every = [*outcomes, *(each for each in topic_outcomes(frame.columns) if each not in outcomes)]
    rates = em_rates(chosen, ["organism", "condition"], outcomes=every).filter(pl.col("n") > 0)
    return rates.join(known, on="condition", how="left", maintain_order="left").sort(
        "kind", "direction", "layers", "strength", maintain_order=True, nulls_last=False
    )


def before_after(
    frame: pl.DataFrame, described: pl.DataFrame, kind: str = "ablate", *, about: Estimand = SIMILAR_QUESTIONS
) -> pl.DataFrame:
    """What each condition of a kind changed against the same organism's baseline, paired by question.

    [organism, condition, metric, before, before_low, before_high, n_before, after, after_low, after_high, n_after,
    difference, low, high, p_value]; pairs without a baseline or a shared question are left out.
    """
    names = described.filter(pl.col("kind") == kind)["condition"].to_list()
    rows = []
    for organism in frame["organism"].unique(maintain_order=True):
        own = frame.filter(pl.col("organism") == organism)
        baseline = own.filter(pl.col("condition") == BASELINE)
        for name in names:
            edited = own.filter(pl.col("condition") == name)
            if baseline.is_empty() or edited.is_empty():
                continue
            for outcome in EM.beside:
                try:
                    change = difference(edited, baseline, outcome=outcome, about=about)
                except InputError:
                    continue  # no shared question was scored on both sides
                sides = [part for side in (change.b, change.a) for part in (side.value, side.low, side.high, side.n)]
                ends = (change.value, change.low, change.high, change.p_value)
                rows.append((organism, name, outcome.name, *sides, *ends))
    return pl.DataFrame(rows, schema=_CHANGES, orient="row")


def _said(name: str, said: Mapping[str, Any]) -> tuple[Any, ...]:
    layers = [int(layer) for layer in said.get("layers") or said.get("gains") or ()]
    strength = said.get("scale") if said["kind"] == "steer" else None
    direction = said.get("direction") or said.get("organism")
    return (name, said["kind"], direction, *_place(layers), None if strength is None else float(strength))


def _edited(condition: Condition) -> tuple[Any, ...]:
    """A row from the edits; those that only say which organism is worn (gain 1 of all its adapters) do not count."""
    edits = [e for e in condition.edits if not (isinstance(e, Gain) and e.factor == 1 and e.adapters is None)]
    kinds = {type(edit) for edit in edits}
    if not edits:
        return (condition.name, "baseline" if is_baseline(condition.name) else "unknown", None, None, None, None)
    if kinds == {Add}:
        added = [edit for edit in edits if isinstance(edit, Add)]
        return _one_of_a_kind(
            condition.name,
            "steer",
            {e.direction.name for e in added},
            {e.strength for e in added},
            [layer for e in added for layer in e.layers],
        )
    if kinds == {Ablate}:
        ablated = [edit for edit in edits if isinstance(edit, Ablate)]
        everywhere = any(edit.layers is None for edit in ablated)
        layers = [] if everywhere else [layer for e in ablated for layer in e.layers or ()]
        row = _one_of_a_kind(condition.name, "ablate", {e.direction.name for e in ablated}, {None}, layers)
        return (*row[:3], "all", *row[4:]) if everywhere else row
    if kinds == {AblateWrite}:
        written = [edit for edit in edits if isinstance(edit, AblateWrite)]
        from_layer = [edit.direction.layer for edit in written]
        row = _one_of_a_kind(condition.name, "ablate_write", {e.direction.name for e in written}, {None}, from_layer)
        return (*row[:3], "B", *row[4:])
    if kinds == {Gain}:
        gains = [edit for edit in edits if isinstance(edit, Gain)]
        factors = {edit.factor for edit in gains}
        return _one_of_a_kind(condition.name, "scale", {edit.organism for edit in gains}, factors, [])
    return (condition.name, "mixed", None, None, None, None)


def _one_of_a_kind(
    name: str, kind: str, directions: set[str], strengths: set[Any], layers: list[int]
) -> tuple[Any, ...]:
    direction = directions.pop() if len(directions) == 1 else None
    strength = strengths.pop() if len(strengths) == 1 else None
    return (name, kind, direction, *_place(layers), strength)


def _place(layers: Sequence[int]) -> tuple[str | None, int | None]:
    """Layers as text, runs joined ("0-47", "15-17, 21"), and the layer where there is one."""
    if not layers:
        return None, None
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    text = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
    return text, layers[0] if len(set(layers)) == 1 else None
