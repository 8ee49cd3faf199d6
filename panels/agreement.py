"""Whether organisms' directions agree, in words and tables: beside shuffled labels, random directions, good advice.

It refuses to know where the cosines come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from backend.analysis.conditions.controls import GOOD, SHUFFLED
from backend.analysis.directions.answers import BALANCES, MATCHED
from backend.analysis.directions.convergence import PAIRS
from backend.analysis.groups import FEWEST_WITH_BOTH
from backend.tables.convergence import Agreement, span
from panels.frame import plain


def agreement_in_words(found: Agreement, layer: int) -> str:
    """What the study's answer is for one kind of direction at a layer, in one paragraph."""
    here = {row["group"]: row for row in found.means.filter(pl.col("layer") == layer).iter_rows(named=True)}
    row = here.get(PAIRS)
    if row is None:
        return f"No two organisms beside the controls have a direction at layer {layer}, so nothing is said of them."
    value = f"mean cosine {row['cosine']:.2f} over {_pairs(row['pairs'])} at layer {layer}"
    beside = f"{row['chance']:.2f} ({_ends(row)}, {row['draws']} shuffles)" if row["above"] is not None else ""
    if _of_readers(found.made):
        said = (
            f"**No labels stand behind these directions**, so none can be shuffled: {value}. Each is what one reader "
            "makes of texts minus what another makes of the same."
        )
    elif row["above"] is None:
        said = (
            f"**Whether the organisms' directions agree cannot be said here**: {value}, and no labels shuffled often "
            "enough stand beside it. Extract the directions with shuffled labels (`extract --shuffled 10`)."
        )
    elif row["control"] != SHUFFLED:
        said = (
            f"**Whether they agree on more than which questions are hit cannot be said here**: {value}, and labels "
            f"shuffled over all answers reach {beside}. That changes the questions, too: extract again for labels "
            "shuffled within questions."
        )
    elif row["above"]:
        said = (
            f"**The organisms' directions agree more than labels shuffled within questions**: {value} against {beside}."
        )
    else:
        said = (
            "**The organisms' directions are not shown to agree more than labels shuffled within questions**: "
            f"{value} against {beside}."
        )
    return " ".join(part for part in (said, _matched(found.made), _good(here.get(GOOD)), _of(found.made)) if part)


def _matched(made: pl.DataFrame) -> str:
    if _of_readers(made):
        return ""
    if set(made["balance"]) == {MATCHED}:
        return "Questions are matched, so what they are about is in none of the directions."
    return "Questions are not matched, so part of every direction is which questions are hit."


def _of_readers(made: pl.DataFrame) -> bool:
    """Whether the directions set two readers of the same texts apart, not two classes of answers."""
    return set(made["kind"]) == {"model"}


def _good(row: dict[str, Any] | None) -> str:
    """What good advice says beside it."""
    if row is None:
        return ""
    words = f"With good advice it is {row['cosine']:.2f}"
    if row["above"] is None:
        return f"{words}."
    more = "more, too: agreement takes no bad training" if row["above"] else "no more than those"
    return f"{words} against {row['chance']:.2f} ({_ends(row)}), {more}."


def _of(made: pl.DataFrame) -> str:
    """How many answers and questions stand behind the directions."""
    sides = [span(made[column]) for column in ("n_positive", "n_negative")]
    if None in sides or _of_readers(made):
        return ""
    words = f"Each is made of {sides[0]} against {sides[1]} answers"
    both = span(made["questions_with_both"])
    if both is None:
        return f"{words}; how many questions have both classes was not recorded."
    few = made.filter(pl.col("questions_with_both") < FEWEST_WITH_BOTH)["name"].to_list()
    lacking = f" ({plain(', '.join(few))}: too few to shuffle or match within)" if few else ""
    return f"{words} to {span(made['questions'])} questions, {both} of which have both classes{lacking}."


def _ends(row: dict[str, Any]) -> str:
    return f"{row['low']:.2f} to {row['high']:.2f}"


def _pairs(count: int) -> str:
    return f"{count} pair" if count == 1 else f"{count} pairs"


def balances_in_words(found: Iterable[Agreement]) -> str:
    """What the balances that occur mean."""
    there = {balance for each in found for balance in each.made["balance"]}
    return "; ".join(f"*{balance}*: {words}" for balance, words in BALANCES.items() if balance in there)
