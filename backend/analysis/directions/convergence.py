"""Do directions agree? Norms and cosines of several, layer by layer, and those of organisms beside what controls reach.

The paper compares directions of topics and of fine-tunes (section 3.3 and appendix C): one direction of each kind per
layer, compared at equal layers. Directions of one kind are those whose names differ in the organism alone. Controls are
the directions of an organism trained on good advice, what two random vectors reach by chance, and the same pairs with
labels shuffled on both sides: where these are shuffled within questions, they keep what the mix of questions brings
(docs/directions.md). Two estimates of one direction do not reach a cosine of 1 either: the ceiling is what their
stability allows. It refuses to know where directions come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.conditions.controls import GOOD, ITSELF, SHUFFLES, Role, kind_of
from backend.analysis.directions.cosines import comparable, cosine_matrix, row_cosines
from backend.analysis.estimates import one_more_draw
from backend.records import Direction

Stacks = Mapping[str, Sequence[Direction]]  # name -> the direction at its layers

PAIRS, CEILING = "two organisms", "ceiling"
FEWEST_DRAWS = 5  # shuffles of either side, below which they give no range
_BY_LAYER = {
    "name": pl.String,
    "layer": pl.Int64,
    "norm": pl.Float64,
    "share": pl.Float64,
    "cosine": pl.Float64,
}
_RANGES = {
    "a": pl.String,
    "b": pl.String,
    "layers": pl.Int64,
    "min": pl.Float64,
    "at_min": pl.Int64,
    "median": pl.Float64,
    "max": pl.Float64,
    "at_max": pl.Int64,
}
_SHUFFLED = {
    "layer": pl.Int64,
    "a": pl.String,
    "b": pl.String,
    "group": pl.String,
    "control": pl.String,
    "draw": pl.Int64,
    "cosine": pl.Float64,
}
_BESIDE = {
    "cosine": pl.Float64,
    "pairs": pl.Int64,
    "control": pl.String,
    "draws": pl.Int64,
    "chance": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "above": pl.Boolean,
}
_MADE_OF = {
    "name": pl.String,
    "kind": pl.String,
    "balance": pl.String,
    "n_positive": pl.Int64,
    "n_negative": pl.Int64,
    "questions": pl.Int64,
    "questions_with_both": pl.Int64,
    "control": pl.String,
    "shuffles": pl.Int64,
}
_AGREEMENT = {"layer": pl.Int64, "a": pl.String, "b": pl.String, "group": pl.String, "cosine": pl.Float64}


def against(stacks: Stacks, reference: str) -> pl.DataFrame:
    """[name, layer, norm, share, cosine] of every direction at every layer it has.

    `share` is its norm over the mean activation norm (null where that is unknown), `cosine` is with `reference` at the
    same layer (null where the reference has none there, or is of another width or base model).
    """
    there = {each.layer: each for each in stacks[reference]}
    rows = []
    for name, stack in stacks.items():
        for each in stack:
            other = there.get(each.layer)
            fits = other is not None and comparable(each, other)
            cosine = float(cosine_matrix([each, other])[0, 1]) if other is not None and fits else None
            rows.append((name, each.layer, each.norm, each.relative(1.0), cosine))
    return pl.DataFrame(rows, schema=_BY_LAYER, orient="row")


def cosine_ranges(stacks: Stacks) -> pl.DataFrame:
    """[a, b, layers, min, at_min, median, max, at_max]: cosines of every two directions over the layers both have."""
    at: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for layer in sorted({each.layer for stack in stacks.values() for each in stack}):
        by_width: dict[int, list[tuple[str, Direction]]] = {}
        for name, stack in stacks.items():
            for each in stack:
                if each.layer == layer:
                    by_width.setdefault(each.vector.size, []).append((name, each))
        for there in by_width.values():
            cosines = cosine_matrix([each for _, each in there])
            for (i, (a, one)), (j, (b, other)) in combinations(enumerate(there), 2):
                if comparable(one, other):
                    at.setdefault((a, b), []).append((layer, float(cosines[i, j])))
    return pl.DataFrame([_range(a, b, cosines) for (a, b), cosines in at.items()], schema=_RANGES, orient="row")


def _range(a: str, b: str, cosines: list[tuple[int, float]]) -> tuple[Any, ...]:
    low, high = min(cosines, key=lambda pair: pair[1]), max(cosines, key=lambda pair: pair[1])
    median = float(np.median([value for _, value in cosines]))
    return (a, b, len(cosines), low[1], low[0], median, high[1], high[0])


# --- organisms beside controls ----------------------------------------------------------------------------------------


def kinds(roles: Mapping[str, Role]) -> dict[str, list[str]]:
    """The names of every kind of direction that two or more organisms have, those of most organisms first."""
    found: dict[str, list[str]] = {}
    for name, role in roles.items():
        if role.kind in (ITSELF, GOOD) and role.owner is not None:
            found.setdefault(kind_of(name, role.owner), []).append(name)
    shared = {kind: names for kind, names in found.items() if len({roles[name].owner for name in names}) > 1}
    return dict(sorted(shared.items(), key=lambda item: -len(item[1])))


def agreement(stacks: Stacks, roles: Mapping[str, Role], names: Sequence[str]) -> pl.DataFrame:
    """[layer, a, b, group, cosine] of every two of the directions `names`, at the layers that both have.

    `group` is PAIRS for two organisms, GOOD where one of them was trained on good advice. Directions of different width
    or base model are not compared.
    """
    rows = [
        (layer, a, b, _group(roles, a, b), cosine)
        for a, b in combinations(names, 2)
        for layer, cosine in _cosines(stacks[a], stacks[b])
    ]
    return pl.DataFrame(rows, schema=_AGREEMENT, orient="row")


def shuffled_agreement(stacks: Stacks, roles: Mapping[str, Role], names: Sequence[str]) -> pl.DataFrame:
    """[layer, a, b, group, control, draw, cosine]: the pairs of `agreement` with labels shuffled on both sides.

    Draw k sets the k-th shuffle of one beside the k-th of the other, so draws are independent. `control` is the
    strictest of SHUFFLES that both have; pairs without any are left out.
    """
    own = {name: shuffles_of(roles, name, stacks) for name in names}
    rows = []
    for a, b in combinations(names, 2):
        control = next((kind for kind in SHUFFLES if own[a][kind] and own[b][kind]), None)
        if control is not None:
            for draw, (one, other) in enumerate(zip(own[a][control], own[b][control], strict=False)):
                cosines = _cosines(stacks[one], stacks[other])
                rows += [(layer, a, b, _group(roles, a, b), control, draw, cosine) for layer, cosine in cosines]
    return pl.DataFrame(rows, schema=_SHUFFLED, orient="row")


def shuffles_of(roles: Mapping[str, Role], name: str, stacks: Stacks) -> dict[str, list[str]]:
    """The controls of shuffled labels of a direction, by what they shuffle within."""
    return {
        kind: [other for other, role in roles.items() if other in stacks and (role.kind, role.like) == (kind, name)]
        for kind in SHUFFLES
    }


def _group(roles: Mapping[str, Role], a: str, b: str) -> str:
    return GOOD if GOOD in (roles[a].kind, roles[b].kind) else PAIRS


def _cosines(one: Sequence[Direction], other: Sequence[Direction]) -> list[tuple[int, float]]:
    """Layer and cosine of two directions, where both have the layer and can be compared there."""
    there = {each.layer: each for each in other}
    widths: dict[int, list[tuple[Direction, Direction]]] = {}  # of a study of figures alone, each layer has its own
    for each in one:
        if each.layer in there and comparable(each, there[each.layer]):
            widths.setdefault(each.vector.size, []).append((each, there[each.layer]))
    found: list[tuple[int, float]] = []
    for both in widths.values():
        left, right = (np.stack([pair[side].vector for pair in both]) for side in (0, 1))
        found += zip((each.layer for each, _ in both), row_cosines(left, right).tolist(), strict=True)
    return sorted(found)


def beside_shuffles(real: pl.DataFrame, shuffled: pl.DataFrame) -> pl.DataFrame:
    """[layer, group, a, b, cosine, pairs, control, draws, chance, low, high, above], a row for each of `agreement`.

    `chance` is the mean over draws of `shuffled_agreement`, `low` and `high` hold 95 % of further draws
    (`one_more_draw`), `above` says whether the cosine is larger: under labels that tell nothing within a question, that
    is so in 2.5 % of cases. With fewer than FEWEST_DRAWS draws they are null.
    """
    return _beside(real, shuffled, ["layer", "group", "a", "b"])


def mean_beside_shuffles(real: pl.DataFrame, shuffled: pl.DataFrame) -> pl.DataFrame:
    """The columns of `beside_shuffles` but a and b, for the mean cosine over all pairs of a group.

    Of pairs with the strictest control alone, where one has it, and of as many draws as all of them have: the mean of
    shuffled pairs is then of the same pairs.
    """
    if shuffled.height:
        strictest = next(kind for kind in SHUFFLES if (shuffled["control"] == kind).any())
        shuffled = shuffled.filter(pl.col("control") == strictest)
        place = ["layer", "group", "a", "b"]
        real = real.join(shuffled.select(place).unique(), on=place, how="semi")
        fewest = int(shuffled.group_by(place).len()["len"].min())  # type: ignore[arg-type]
        shuffled = shuffled.filter(pl.col("draw") < fewest)
    return _beside(real, shuffled, ["layer", "group"])


def _beside(real: pl.DataFrame, shuffled: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    means = real.group_by(by, maintain_order=True).agg(pl.col("cosine").mean(), pairs=pl.len())
    of_draw = shuffled.group_by(*by, "control", "draw", maintain_order=True).agg(pl.col("cosine").mean())
    drawn = {tuple(key): part for key, part in of_draw.partition_by(by, as_dict=True).items()}
    rows = []
    for row in means.iter_rows(named=True):
        part = drawn.get(tuple(row[name] for name in by))
        control, values = (None, np.zeros(0)) if part is None else (part["control"][0], part["cosine"].to_numpy())
        chance = one_more_draw(values)
        known = len(values) >= FEWEST_DRAWS
        rows.append(
            (
                *(row[name] for name in by),
                row["cosine"],
                row["pairs"],
                control,
                len(values),
                chance.value if len(values) else None,
                *((chance.low, chance.high, row["cosine"] > chance.high) if known else (None, None, None)),
            )
        )
    return pl.DataFrame(rows, schema={**{name: _AGREEMENT[name] for name in by}, **_BESIDE}, orient="row")


def made_of(stacks: Stacks, roles: Mapping[str, Role], names: Sequence[str]) -> pl.DataFrame:
    """What directions are made of, null where their provenance does not say it.

    [name, kind, balance, n_positive, n_negative, questions, questions_with_both, control, shuffles]
    """
    rows = []
    for name in names:
        how, own = stacks[name][0].provenance, shuffles_of(roles, name, stacks)
        control = next((kind for kind in SHUFFLES if own[kind]), None)
        counts = [how.get(key) for key in ("n_positive", "n_negative", "questions", "questions_with_both")]
        rows.append((name, how.get("kind"), how.get("balance"), *counts, control, len(own[control]) if control else 0))
    return pl.DataFrame(rows, schema=_MADE_OF, orient="row")


def whole_from_half(half: float) -> float:
    """How well a direction would repeat itself on as much data, from the cosine of its halves (Spearman-Brown)."""
    return 2 * half / (1 + half) if half > 0 else 0.0


def ceilings(halves: Mapping[str, Mapping[int, float]], names: Sequence[str]) -> pl.DataFrame:
    """[layer, a, b, group, cosine]: the cosine two estimates of one direction would have, for every two of `names`.

    `halves` has the cosine between halves of the data behind a direction, by its name and layer; names it lacks have
    no ceiling. Noise in either estimate lowers their cosine by the root of its reliability.
    """
    rows = []
    for a, b in combinations([name for name in names if name in halves], 2):
        for layer in sorted(halves[a].keys() & halves[b].keys()):
            both = whole_from_half(halves[a][layer]) * whole_from_half(halves[b][layer])
            rows.append((layer, a, b, CEILING, float(np.sqrt(both))))
    return pl.DataFrame(rows, schema=_AGREEMENT, orient="row")


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """[group, pairs, low, median, high]: the range of cosines of every group over its pairs and layers."""
    return table.group_by("group", maintain_order=True).agg(
        pairs=pl.struct("a", "b").n_unique(),
        low=pl.col("cosine").min(),
        median=pl.col("cosine").median(),
        high=pl.col("cosine").max(),
    )
