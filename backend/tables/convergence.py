"""Convergence: for every kind of direction that several organisms have, how far they agree beside shuffled labels.

It refuses to know what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from backend.analysis.conditions.controls import Role, role
from backend.analysis.directions.convergence import (
    Stacks,
    agreement,
    beside_shuffles,
    kinds,
    made_of,
    mean_beside_shuffles,
    shuffled_agreement,
)
from backend.records import Direction
from backend.study import Study
from backend.study.origins import controls, origins


@dataclass(frozen=True, eq=False)
class Agreement:
    """Directions of one kind, one of each organism, and how far they agree."""

    kind: str
    names: tuple[str, ...]
    pairs: pl.DataFrame  # the columns of `beside_shuffles`
    means: pl.DataFrame  # the columns of `mean_beside_shuffles`
    made: pl.DataFrame  # the columns of `made_of`


def stacks_of(study: Study) -> dict[str, list[Direction]]:
    """The study's directions by name."""
    return {name: study.direction_stack(name) for name in study.directions()["name"].unique(maintain_order=True)}


def roles_of(study: Study, stacks: Stacks) -> dict[str, Role]:
    """What every one of the directions stands for, by name."""
    known, declared = origins(study), controls(study)
    return {name: role(name, known, declared) for name in stacks}


def agreements(study: Study, stacks: Stacks) -> dict[str, Agreement]:
    """Every kind of direction that two or more organisms have, by kind, those of most organisms first."""
    roles = roles_of(study, stacks)
    found = {}
    for kind, names in kinds(roles).items():
        real, shuffled = agreement(stacks, roles, names), shuffled_agreement(stacks, roles, names)
        found[kind] = Agreement(
            kind,
            tuple(names),
            beside_shuffles(real, shuffled),
            mean_beside_shuffles(real, shuffled),
            made_of(stacks, roles, names),
        )
    return found


def agreement_by_kind(found: dict[str, Agreement], layer: int) -> pl.DataFrame:
    """A row for every kind of direction and group of pairs at a layer, with means over its pairs.

    [directions, balance, group, pairs, cosine, labels, shuffled, low, high, draws, above, layers above, both]: `labels`
    says what they are shuffled within, `both` the least and the most questions with both classes behind a direction.
    """
    parts = []
    for each in found.values():
        above = each.means.group_by("group").agg(
            pl.format("{} of {}", pl.col("above").sum(), pl.col("above").count()).alias("layers above")
        )
        here = each.means.filter(pl.col("layer") == layer).join(above, on="group", how="left", maintain_order="left")
        parts.append(
            here.select(
                pl.lit(each.kind).alias("directions"),
                pl.lit(_one(each.made["balance"]), pl.String).alias("balance"),
                "group",
                "pairs",
                "cosine",
                pl.col("control").alias("labels"),
                pl.col("chance").alias("shuffled"),
                "low",
                "high",
                "draws",
                "above",
                pl.when(pl.col("draws") > 1).then("layers above").alias("layers above"),
                pl.lit(span(each.made["questions_with_both"]), pl.String).alias("both"),
            )
        )
    return pl.concat(parts)


def span(column: pl.Series) -> str | None:
    """Least and greatest of a column, in words; None where a value is missing."""
    if column.null_count() or not len(column):
        return None
    numbers = sorted(column)
    low, high = numbers[0], numbers[-1]
    return f"{low}" if low == high else f"{low} to {high}"


def _one(column: pl.Series) -> str | None:
    return ", ".join(map(str, column.drop_nulls().unique().sort())) or None
