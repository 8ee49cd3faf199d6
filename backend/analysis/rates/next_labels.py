"""Which answers to label next, so that labels tell most of a rate: how many of each kind, and which.

Strata are those of corrected.py: what the judge takes an answer for. Within one, every answer that has no label yet is
as likely to be drawn as any other, so that a corrected rate holds whatever the numbers; and a draw is spread over the
questions as the answers are. It refuses to know who labels.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.special import ndtri

from backend.analysis.rates.corrected import STRATA
from backend.records import InputError

USUAL = (0.5, 0.2, 0.02, 0.05)  # shares of hits in STRATA where nobody has labelled, below those of docs/judge.md
WORTH = 10  # labels that such a share counts for


def allocation(both: pl.DataFrame, n: int) -> pl.DataFrame:
    """[stratum, answers, labels, share, wanted]: how to spread n more labels over the rows of `side_by_side`.

    Neyman's allocation (1934): a stratum gets labels by its size times the standard deviation of the verdict in it, as
    the labels so far have it with WORTH labels added that are hits as often as USUAL. No stratum gets more than it has
    left, and each that has none gets one. `share` is that of hits, so smoothed.
    """
    table = _strata(both)
    weight = (table["answers"] * (table["share"] * (1 - table["share"])).sqrt()).to_numpy()
    left = (table["answers"] - table["labels"]).to_numpy()
    have = table["labels"].to_numpy()
    wanted = np.minimum((have == 0).astype(int), left)
    for _ in range(max(0, min(n, int(left.sum())) - int(wanted.sum()))):
        # the stratum in which one more label takes most off the variance
        gain = np.where(wanted < left, weight**2 / ((have + wanted) * (have + wanted + 1)).clip(1), -1.0)
        wanted[int(gain.argmax())] += 1
    return table.with_columns(wanted=pl.Series(wanted, dtype=pl.Int64))


def labels_for(both: pl.DataFrame, half_width: float) -> int:
    """How many labels in all, at Neyman's allocation, leave the judge's error a 95 % interval of +- half_width.

    What the questions leave open comes on top, and more labels do not lessen it. Raises InputError where the width is
    not above 0.
    """
    if not half_width > 0:
        raise InputError(f"a half-width of {half_width} cannot be reached: give one above 0")
    table = _strata(both)
    spread = float((table["answers"] * (table["share"] * (1 - table["share"])).sqrt()).sum()) / float(both.height)
    return int(min(np.ceil((ndtri(0.975) * spread / half_width) ** 2), both.height))


def drawn_next(both: pl.DataFrame, n: int, seed: int = 0) -> pl.DataFrame:
    """About n rows of `side_by_side` to label next, [*both, probability], in random order.

    As many of every organism and condition, by the allocation within each. `probability` is that with which a row
    without a label was drawn: the same within a stratum of an organism and condition. The draw is systematic over a
    stratum's questions, each in random order. Raises InputError where everything is labelled.
    """
    rng = np.random.default_rng(seed)
    groups = both.partition_by("organism", "condition", maintain_order=True)
    left = [group["hit"].null_count() for group in groups]
    if not sum(left):
        raise InputError("every answer that the judge scored has a label: there is none left to draw")
    parts = []
    for group, lot in zip(groups, _lots(left, n), strict=True):
        wanted = dict(allocation(group, lot).select("stratum", "wanted").iter_rows()) if lot else {}
        for k, name in enumerate(STRATA):
            pool = group.filter(pl.col("stratum") == k, pl.col("hit").is_null())
            if take := min(wanted.get(name, 0), pool.height):
                rows = _systematic(pool["question_id"].to_list(), take, rng)
                parts.append(pool[rows].with_columns(probability=pl.lit(take / pool.height)))
    drawn = pl.concat(parts)
    return drawn[rng.permutation(drawn.height)]


def _lots(left: list[int], n: int) -> list[int]:
    """n dealt evenly over groups, none of which gets more than it has left."""
    lots = [0] * len(left)
    for _ in range(min(n, sum(left))):
        open_ = [i for i, has in enumerate(left) if lots[i] < has]
        lots[min(open_, key=lambda i: lots[i])] += 1
    return lots


def _systematic(questions: list[str], take: int, rng: np.random.Generator) -> list[int]:
    """Places of `take` rows at equal steps from a random start, rows of one question beside each other."""
    order = sorted(rng.permutation(len(questions)).tolist(), key=lambda i: questions[i])
    step = len(order) / take
    start = rng.random() * step
    return [order[min(int(start + i * step), len(order) - 1)] for i in range(take)]


def _strata(both: pl.DataFrame) -> pl.DataFrame:
    """[stratum, answers, labels, share] of every stratum with answers, in order of STRATA."""
    labelled, hits = pl.col("hit").is_not_null().sum(), pl.col("hit").fill_null(False).sum()
    counted = both.group_by("stratum").agg(answers=pl.len(), labels=labelled, hits=hits).sort("stratum")
    usual = pl.col("stratum").replace_strict(dict(enumerate(USUAL)), return_dtype=pl.Float64)
    return counted.select(
        stratum=pl.col("stratum").replace_strict(dict(enumerate(STRATA)), return_dtype=pl.String),
        answers=pl.col("answers").cast(pl.Int64),
        labels=pl.col("labels").cast(pl.Int64),
        share=(pl.col("hits") + WORTH * usual) / (pl.col("labels") + WORTH),
    )
