"""Answers to be read: in which order, and which answer stands beside which.

It refuses to know how they are shown.
"""

from __future__ import annotations

import polars as pl

from backend.outcomes import Outcome
from backend.records import InputError

HITS, SAMPLED, LONGEST, SHORTEST, BY_QUESTION = "hits", "sampled", "longest", "shortest", "question"
ORDERS = (HITS, SAMPLED, LONGEST, SHORTEST, BY_QUESTION)
KIND, NOT_SCORED = "kind", "not scored"


def with_kinds(rows: pl.DataFrame, outcome: Outcome) -> pl.DataFrame:
    """`rows` with the column `kind`: what each is to the outcome, one of its kinds or "not scored"."""
    if not set(outcome.needs) <= set(rows.columns):
        return rows.with_columns(pl.lit(NOT_SCORED).alias(KIND))
    told = pl.when(outcome.scored()).then(outcome.kind()).otherwise(pl.lit(NOT_SCORED))
    return rows.with_columns(told.alias(KIND))


def in_order(rows: pl.DataFrame, outcome: Outcome, order: str) -> pl.DataFrame:
    """`rows` of `with_kinds`, (response,), in one of ORDERS; rows that are alike stay as they were.

    "hits" begins with the outcome's hits, the furthest past their cut first, and ends with answers that are no case of
    it: for EM the worst come first. Raises InputError for an order that is not one.
    """
    if order not in ORDERS:
        raise InputError(f"the order {order!r} is not one of {', '.join(ORDERS)}")
    match order:
        case "hits":
            no, yes, *rest = outcome.kinds
            ranked = [yes, no, *rest, NOT_SCORED]
            rank = pl.col(KIND).replace_strict(ranked, range(len(ranked)), return_dtype=pl.Int32)
            keys, down = [rank], [False]
            for band in outcome.core:
                if band.metric in rows.columns:
                    keys.append(pl.col(band.metric).cast(pl.Float64))
                    down.append(band.low > float("-inf"))
            return rows.sort(*keys, descending=down, nulls_last=True, maintain_order=True)
        case "longest" | "shortest":
            return rows.sort("n_answer", descending=order == LONGEST, nulls_last=True, maintain_order=True)
        case "question":
            asked = rows["question_id"].unique(maintain_order=True)
            first = pl.col("question_id").replace_strict(asked, range(asked.len()), return_dtype=pl.Int64)
            return rows.sort(first, "seed", maintain_order=True)
        case _:
            return rows


def lanes(frame: pl.DataFrame) -> list[str]:
    """What answered, an organism under a condition, in the order of the study."""
    return frame.select(_lane())["lane"].unique(maintain_order=True).to_list()


def _lane() -> pl.Expr:
    return pl.concat_str("organism", pl.lit(" · "), "condition").alias("lane")


def counterpart(frame: pl.DataFrame, chosen: str, lane: str) -> str | None:
    """The answer of `lane` to the question of the answer `chosen`: of the same seed, or else of the nearest above.

    None where it has none. Raises InputError where `frame` lacks `chosen`.
    """
    ours = frame.row(by_predicate=pl.col("response") == chosen, named=True) if chosen in frame["response"] else None
    if ours is None:
        raise InputError(f"there is no response {chosen!r} in this study")
    same = pl.col("question_id") == ours["question_id"]
    others = frame.filter(same & (_lane() == lane) & (pl.col("response") != chosen))
    if not others.height:
        return None
    after = pl.col("seed") < ours["seed"]  # seeds below come last
    return str(others.sort(after, "seed", maintain_order=True)["response"][0])
