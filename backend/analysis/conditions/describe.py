"""What a condition did, as a row: steered, ablated or scaled, along which direction, where and how strongly.

Read from the condition's edits, or from what a study's record says of a condition whose edits are unknown. The rates
of a sweep are a table over those rows. Tells no edit from another: each has its row. It refuses to know where responses
come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from backend.analysis.conditions.baselines import is_baseline
from backend.analysis.rates.rates import SIMILAR_QUESTIONS, Estimand, em_rates
from backend.edits import Condition, edits_from_json
from backend.outcomes import EM, Outcome, topic_outcomes

_SCHEMA = {
    "condition": pl.String,
    "kind": pl.String,  # baseline, mixed, selected, or an edit's word: steer, ablate, ablate_write, scale
    "direction": pl.String,
    "layers": pl.String,
    "layer": pl.Int64,  # the layer where there is one
    "strength": pl.Float64,
    "where": pl.String,  # at which tokens, in words; null where that is unknown, or nothing is edited by tokens
    "to": pl.String,  # what projections are brought to, in words
}


def describe(conditions: Iterable[Condition], says: Mapping[str, Mapping[str, Any]] | None = None) -> pl.DataFrame:
    """[condition, kind, direction, layers, layer, strength, where, to], one row a condition.

    `says` is the record of a study about its conditions by name (kind, direction, layers, scale); it goes before the
    edits. A condition of several kinds of edits is "mixed"; what its edits do not share is null.
    """
    says = says or {}
    rows = [_said(c.name, says[c.name]) if "kind" in says.get(c.name, {}) else _edited(c) for c in conditions]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def describe_stored(conditions: pl.DataFrame, says: Mapping[str, Mapping[str, Any]] | None = None) -> pl.DataFrame:
    """`describe` of conditions as a study lists them, [name, edits (JSON)]; what `says` knows is not parsed at all."""
    rows = conditions.select("name", "edits").iter_rows()
    known = {name: said for name, said in (says or {}).items() if "kind" in said}
    return describe(
        (Condition(name, () if name in known else edits_from_json(json.loads(edits))) for name, edits in rows), known
    )


def relative_strengths(conditions: pl.DataFrame, directions: pl.DataFrame, described: pl.DataFrame) -> pl.DataFrame:
    """[condition, relative] of the conditions that add one direction at one strength; null where no norm is known.

    The share of the activation norm at the layer it is added to. `conditions` is [name, edits (JSON)] and `directions`
    [name, layer, norm, activation_norm] as a study lists them, `described` says what each condition did. The edits know
    the norms; where a study keeps none, its directions do.
    """
    steered = described.filter(pl.col("kind") == "steer")
    edits = dict(conditions.select("name", "edits").iter_rows())
    known = {
        (name, layer): norm / activation
        for name, layer, norm, activation in directions.select("name", "layer", "norm", "activation_norm").iter_rows()
        if activation
    }
    rows = []
    for name, direction, layer, strength in steered.select("condition", "direction", "layer", "strength").iter_rows():
        own = [edit.relative for edit in edits_from_json(json.loads(edits[name])) if edit.changes]
        relative, share = own[0] if len(own) == 1 else None, known.get((direction, layer))
        if relative is None and share is not None and strength is not None:
            relative = strength * share
        rows.append((name, relative))
    return pl.DataFrame(rows, schema={"condition": pl.String, "relative": pl.Float64}, orient="row")


def sweep_rates(
    frame: pl.DataFrame,
    described: pl.DataFrame,
    outcomes: Sequence[Outcome] = EM.beside,
    *,
    by: str = "condition",
    about: Estimand = SIMILAR_QUESTIONS,
) -> pl.DataFrame:
    """Rates by organism and condition with what the condition did, in order of direction and strength.

    Of `outcomes`, and of each topic that the frame has scores of. `by` is the column of both tables that a rate is of:
    "condition", or "cell" where conditions are counted together. Responses that were chosen by their scores tell no
    rate and are left out.
    """
    known = described.filter(pl.col("kind") != "selected")
    chosen = frame.join(known.select(by), on=by, how="semi", maintain_order="left")
    every = [*outcomes, *(each for each in topic_outcomes(frame.columns) if each not in outcomes)]
    rates = em_rates(chosen, ["organism", by], outcomes=every, about=about).filter(pl.col("n") > 0)
    return rates.join(known, on=by, how="left", maintain_order="left").sort(
        "kind", "direction", "layers", "strength", maintain_order=True, nulls_last=False
    )


def _said(name: str, said: Mapping[str, Any]) -> tuple[Any, ...]:
    layers = [int(layer) for layer in said.get("layers") or said.get("gains") or ()]
    strength = said.get("scale") if said["kind"] not in ("ablate", "scale") else None  # a step, an amount of noise
    direction = said.get("direction") or said.get("organism")
    return (name, said["kind"], direction, *_place(layers), None if strength is None else float(strength), None, None)


def _edited(condition: Condition) -> tuple[Any, ...]:
    """A row from the edits; those that only say which organism is worn do not count."""
    if is_baseline(condition):
        return (condition.name, "baseline", *[None] * 6)
    rows = [edit.row for edit in condition.edits if edit.changes]
    if len({row.kind for row in rows}) > 1:
        return (condition.name, "mixed", *[None] * 6)
    layers = [] if any(not row.layers for row in rows) else [layer for row in rows for layer in row.layers]
    text, layer = _place(layers)
    place = next((row.place for row in rows if row.place), text)
    return (
        condition.name,
        rows[0].kind,
        _only({row.about for row in rows}),
        place,
        layer,
        _only({row.strength for row in rows}),
        _only({row.where for row in rows}) or None,
        _only({row.to for row in rows}) or None,
    )


def _only(values: set[Any]) -> Any:
    """The one value, None where there are several."""
    return values.pop() if len(values) == 1 else None


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
