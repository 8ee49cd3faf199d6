"""Answers under an edit beside the same organism's answers without it, to the same question and with the same seed.

It refuses to know what the edit was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from backend.outcomes import EM, Outcome
from backend.records import BASELINE

BEFORE, AFTER = "_before", "_after"


@dataclass(frozen=True, eq=False)
class Pairs:
    """Every answer under a condition with its partner without the edit.

    `table` has the columns question_id, question, topic, seed, and with _before and with _after: response, text and
    each metric. Those with _before are null where an answer has no partner.
    """

    table: pl.DataFrame
    seeded: bool  # partners have one seed; else no seed is shared, and they have one rank among a question's answers

    @property
    def complete(self) -> int:
        """How many answers have a partner."""
        return self.table.height - self.table[f"response{BEFORE}"].null_count()

    def turned(self, outcome: Outcome = EM) -> tuple[int, int, int, int]:
        """Of the pairs that were scored on both sides: a hit in both, only after, only before, in neither."""
        needs = [f"{metric}{side}" for metric in outcome.needs for side in (BEFORE, AFTER)]
        if not set(needs) <= set(self.table.columns):
            return 0, 0, 0, 0
        before, after = (outcome.hits(side) for side in (BEFORE, AFTER))
        cells = (before & after, ~before & after, before & ~after, ~before & ~after)
        found = self.table.drop_nulls(needs).select(cell.sum().alias(str(at)) for at, cell in enumerate(cells)).row(0)
        return int(found[0]), int(found[1]), int(found[2]), int(found[3])


def pairs(
    frame: pl.DataFrame, organism: str, condition: str, metrics: Sequence[str], *, by: str = "condition"
) -> Pairs:
    """The answers of an organism under a condition beside its baseline answers.

    `frame` is a table of responses with scores, `by` its column that names conditions ("condition" or "cell"). Answers
    are partners where question and seed are equal; where the two sides share no seed on any question, where their rank
    by seed within the question is.
    """
    own = frame.filter(pl.col("organism") == organism)
    sides = [own.filter(pl.col(by) == name) for name in (condition, BASELINE)]
    key, seeded = ["question_id", "seed"], True
    if sides[0].join(sides[1], on=key, how="semi").is_empty():
        key, seeded = ["question_id", "rank"], False
        sides = [side.with_columns(rank=pl.col("seed").rank("ordinal").over("question_id")) for side in sides]
    columns = ["response", "text", *metrics]
    about = ["question_id", "question", "topic", "seed"]
    after = sides[0].select(list(dict.fromkeys([*about, *key, *columns])))
    after = after.rename({name: f"{name}{AFTER}" for name in columns})
    before = sides[1].select(*key, *columns).rename({name: f"{name}{BEFORE}" for name in columns})
    table = after.join(before.unique(key, keep="first", maintain_order=True), on=key, how="left", maintain_order="left")
    return Pairs(table.drop("rank", strict=False), seeded)
