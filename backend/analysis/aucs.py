"""How well scores tell two classes of rows apart: AUCs for many columns of scores at once, on questions like these.

Rows that share a question are not independent, so the sample are the questions (groups). The variance of an AUC is that
of the jackknife which leaves out one whole group at a time (for clusters as Obuchowski 1997, doi 10.2307/2533958, but a
little wider with few of them), and not smaller than independent rows leave it. An interval holds every AUC that a t
test does not rule out, with the variance that AUC would have (as Newcombe 2006, doi 10.1002/sim.2324, method 5), so it
stays inside 0 and 1, and has a width where classes separate perfectly.

Two draws could have made an AUC: which questions were asked, and which rows of a question got which label. A p-value
has to rule out both, where both are there. It refuses to know what the scores are. docs/statistics.md says how often
all this holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtr, stdtrit
from scipy.stats import rankdata

from backend.analysis.estimates import LEVEL, Estimate
from backend.analysis.groups import Bools, Floats, Ints, group_codes, groups_with
from backend.records import InputError

FEWEST_GROUPS = 3  # that hold each class, below which an AUC has neither interval nor p-value
_HALVINGS = 40  # of [0, 1] in search of an end
_SCHEMA = {
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p_value": pl.Float64,
    "shuffled": pl.Float64,
    "groups": pl.Int64,
    "why": pl.String,
}


def auc(scores: NDArray[Any], labels: Bools) -> float:
    """The chance that a positive row scores above a negative one, ties counting half; NaN without both classes."""
    positive = int(labels.sum())
    pairs = positive * (len(labels) - positive)
    return float((rankdata(scores)[labels].sum() - positive * (positive + 1) / 2) / pairs) if pairs else np.nan


def auc_table(values: ArrayLike, labels: ArrayLike, groups: ArrayLike | None) -> pl.DataFrame:
    """AUC of every column of values (row, column): [value, low, high, p_value, shuffled, groups, why].

    `groups` (row,) are questions; None: every row by itself. `p_value` is of "the column says nothing of the label":
    the larger of two, that the AUC is one half on questions like these, and that it is what labels shuffled within
    groups reach. The mean of that is `shuffled` (exact; null where no group has both classes to shuffle).
    `groups` counts those that hold the class which fewer hold. Below FEWEST_GROUPS ends and p-value are null, and `why`
    says so. Rows that are not finite are left out column by column; a column without both classes is null. Raises
    InputError where a class is empty.
    """
    table, truth = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=bool)
    if table.ndim != 2 or truth.shape != (len(table),):
        raise InputError(f"values (row, column) and labels (row,) do not fit: {table.shape} and {truth.shape}")
    if truth.all() or not truth.any():
        raise InputError("an AUC needs responses of both classes, and all of these are of one: loosen the bands")
    codes = group_codes(groups, len(table))
    found: dict[str, NDArray[Any]] = {name: np.full(table.shape[1], np.nan) for name in _SCHEMA if name != "why"}
    why = np.full(table.shape[1], None, dtype=object)
    alike: dict[bytes, list[int]] = {}  # columns with values in the same rows
    for column, kept in enumerate(np.isfinite(table).T):
        alike.setdefault(kept.tobytes(), []).append(column)
    for alike_columns in alike.values():
        columns = np.array(alike_columns)
        kept = np.isfinite(table[:, columns[0]])
        if truth[kept].all() or not truth[kept].any():
            why[columns] = "one class alone has values"
            continue
        part = _Classed(truth[kept], codes[kept])
        for name, numbers in part.judged(table[np.ix_(kept, columns)]).items():
            found[name][columns] = numbers
        why[columns] = part.why
    frame = pl.DataFrame({**found, "why": pl.Series(why.tolist(), dtype=pl.String)})
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None)).cast(_SCHEMA)  # type: ignore[arg-type]


def auc_estimate(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike | None) -> Estimate:
    """The AUC of one column of scores (row,) with its interval, as in `auc_table`; NaN ends where there is none."""
    row = auc_table(np.asarray(scores, dtype=np.float64)[:, None], labels, groups).row(0, named=True)
    return Estimate(*(np.nan if row[name] is None else row[name] for name in ("value", "low", "high")))


def too_few_groups(codes: Ints, labels: Bools) -> str | None:
    """Why nothing can be said of other groups (questions), in words; None where it can."""
    sides = groups_with(codes, labels)
    if min(sides) >= FEWEST_GROUPS:
        return None
    return f"too few questions: {sides[0]} and {sides[1]} hold either class, {FEWEST_GROUPS} must hold each"


class _Classed:
    """Rows of both classes in groups, and what they say of scores, column by column."""

    def __init__(self, labels: Bools, codes: Ints) -> None:
        self.labels = labels
        self.codes = np.unique(codes, return_inverse=True)[1].astype(np.intp)
        self.positive, self.negative = (np.bincount(self.codes, side).astype(float) for side in (labels, ~labels))
        self.size = int(labels.sum()), int((~labels).sum())  # rows: positive, negative
        self.why = too_few_groups(self.codes, labels)

    def judged(self, scores: Floats) -> dict[str, NDArray[Any]]:
        """Every column of `auc_table` but `why`, (column,), of scores (row, column)."""
        wins, left, shuffled, dealt = (
            np.array(part) for part in zip(*(self._of(column) for column in scores.T), strict=True)
        )
        value, groups = wins / (self.size[0] * self.size[1]), min(groups_with(self.codes, self.labels))
        found = {"value": value, "shuffled": shuffled, "groups": np.full(len(value), groups)}
        if self.why is not None:
            return found
        effect, freedom = self._design_effect(value, left), self._freedom()
        low, high = _ends(value, effect, self.size, float(stdtrit(freedom, (1 + LEVEL) / 2)))
        off = np.abs(value - 0.5) / np.sqrt(effect * _independent(np.full_like(value, 0.5), *self.size))
        return found | {"low": low, "high": high, "p_value": np.fmax(2 * stdtr(freedom, -off), dealt)}

    def _of(self, scores: Floats) -> tuple[float, Floats, float, float]:
        """Of scores (row,): pairs that a positive row wins, the AUC without each group (group,), and `_dealt_anew`."""
        order = np.argsort(scores)
        sorted_scores, codes, positive = scores[order], self.codes[order], self.labels[order]
        changes = sorted_scores[1:] != sorted_scores[:-1]
        below, ranks = _negatives_below(~positive, changes)
        others_above = self.size[0] - (ranks - 0.5 - below)  # positive rows above, ties counting half
        by_group = np.argsort(codes.astype(np.int16) if len(self.positive) < 2**15 else codes, kind="stable")
        grouped, tied = codes[by_group], np.empty(len(codes), dtype=np.intp)
        tied[0], tied[1:] = 0, np.cumsum(changes)
        step = (np.diff(grouped) != 0) | (np.diff(tied[by_group]) != 0)
        inside = _negatives_below(~positive[by_group], step)[0] - (np.cumsum(self.negative) - self.negative)[grouped]
        size = len(self.positive)
        won = np.bincount(codes, np.where(positive, below, 0), size)
        lost = np.bincount(codes, np.where(positive, 0, others_above), size)
        within = np.bincount(grouped, np.where(positive[by_group], inside, 0), size)
        wins, pairs = float(won.sum()), (self.size[0] - self.positive) * (self.size[1] - self.negative)
        left = np.divide(wins - won - lost + within, pairs, out=np.full(size, np.nan), where=pairs > 0)
        return wins, left, *self._dealt_anew(wins, ranks, codes)

    def _freedom(self) -> float:
        """Degrees of freedom of the variance: Welch's for two classes of groups, of one less than all at most.

        A class counts by what it would bring to the variance if rows of a group were all alike. All are as many groups
        of one size as would leave a variance as unsure (Satterthwaite 1946): few large ones among small ones are few.
        """
        shares = [float((of**2).sum() / of.sum() ** 2) for of in (self.positive, self.negative)]
        rest = [share**2 / (held - 1) for share, held in zip(shares, groups_with(self.codes, self.labels), strict=True)]
        squares = (self.positive + self.negative) ** 2
        alike = float(squares.sum() ** 2 / (squares**2).sum())
        return min(sum(shares) ** 2 / sum(rest), max(alike, 2.0) - 1)

    def _design_effect(self, value: Floats, left: Floats) -> Floats:
        """By how much groups make the variance larger than that of independent rows, (column,), 1 at least.

        `left` (column, group) are AUCs without each. Where classes separate perfectly, nothing is seen of it: 1.
        """
        size = left.shape[1]
        variance = (size - 1) / size * ((left - value[:, None]) ** 2).sum(axis=1)
        alone = _independent(value, *self.size)
        return np.asarray(np.maximum(np.divide(variance, alone, out=np.ones_like(value), where=alone > 1e-12), 1.0))

    def _dealt_anew(self, wins: float, ranks: Floats, codes: Ints) -> tuple[float, float]:
        """The mean AUC of labels shuffled within groups, and the p-value of "it is no further off".

        Exact mean and variance: wins are linear in the ranks of positive rows, as in the stratified rank sum of van
        Elteren (1960). The p-value is 1 where the AUC is nearer to one half than shuffled ones. NaN where nothing can
        be shuffled.
        """
        if not (self.positive * self.negative).any():
            return np.nan, np.nan
        size = self.positive + self.negative
        means = np.bincount(codes, ranks) / size
        pairs, positive = self.size[0] * self.size[1], self.size[0]
        expected = float(self.positive @ means) - positive * (positive + 1) / 2
        spread = np.bincount(codes, (ranks - means[codes]) ** 2)
        variance = float((self.positive * self.negative / (size * np.maximum(size - 1, 1))) @ spread)
        further = (wins - expected) * (wins - pairs / 2) > 0 and variance > 1e-9
        off = (wins - expected) / np.sqrt(variance) if further else 0.0
        return expected / pairs, 2 * float(ndtr(-abs(off)))


def _negatives_below(negative: Bools, changes: Bools) -> tuple[Floats, Floats]:
    """How many negative rows lie below each, ties counting half, and average ranks; of rows in order (row,).

    `changes` (row - 1,) says where the next row is not tied with the one before.
    """
    starts = np.flatnonzero(np.append(True, changes))
    ends = np.append(starts[1:], len(negative))
    counted = np.append(0, np.cumsum(negative))
    each = ends - starts
    return np.repeat((counted[starts] + counted[ends]) / 2, each), np.repeat((starts + ends + 1) / 2, each)


def _independent(value: Floats, positive: int, negative: int) -> Floats:
    """The variance of an AUC (column,) of independent rows: Newcombe 2006, method 5.

    That of Hanley and McNeil 1982 with the mean size of the classes in place of both, so that it is the same for an AUC
    and its mirror image. At one half it is that of the rank sum test.
    """
    size = (positive + negative) / 2 - 1
    return np.asarray(
        value * (1 - value) * (1 + size * ((1 - value) / (2 - value) + value / (1 + value))) / (positive * negative)
    )


def _ends(value: Floats, effect: Floats, size: tuple[int, int], reach: float) -> tuple[Floats, Floats]:
    """The AUCs furthest from `value` (column,) that lie within `reach` of their own standard errors of it."""
    found = []
    for end in (0.0, 1.0):
        inside, outside = value.copy(), np.full_like(value, end)
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            near = np.abs(value - middle) <= reach * np.sqrt(effect * _independent(middle, *size))
            inside, outside = np.where(near, middle, inside), np.where(near, outside, middle)
        found.append(inside)
    return found[0], found[1]
