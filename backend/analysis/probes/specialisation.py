"""What each adapter specialises in: how well its scalar alone tells two topics apart, and two valences.

An adapter is a point of two AUCs, each with its interval over groups (questions). The sign of a scalar is arbitrary, so
an AUC is folded to one half and above: 0.2 tells as much as 0.8. Folding lifts pure noise a little above one half, and
among many adapters some interval leaves out one half by chance: an adapter is said to tell an axis only where its AUC
stays clear of one half at 95 % for all adapters and both axes together (Bonferroni, t on the bootstrap's standard
error). It refuses to know what the two axes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import stdtrit
from scipy.stats import spearmanr

from backend.analysis.estimates import LEVEL, expanded_percentile
from backend.analysis.groups import Bools, Floats, Ints, group_codes, groups_with
from backend.records import InputError

BOTH, NEITHER = "both", "neither"
DRAWS = 1000
MOST_GROUPS = 128  # more are merged at random, which keeps the variance
MOST = 1000  # adapters placed at once


@dataclass(frozen=True, eq=False)
class Axis:
    """One question asked of every adapter: scalars of responses of two classes."""

    name: str
    values: Floats  # (response, adapter), NaN where not measured
    labels: Bools  # (response,)
    groups: ArrayLike  # (response,), the question of each


def place(adapters: Sequence[str], topic: Axis, valence: Axis, *, seed: int = 0) -> pl.DataFrame:
    """Every adapter on both axes.

    [adapter, topic, topic_low, topic_high, topic_up, valence, valence_low, valence_high, valence_up, lean]: folded AUCs
    with their ends (null where a class comes from a single group); `_up` says that the scalar is larger in the positive
    class; `lean` is the name of the axis that it tells, "both" or "neither". Raises InputError
    where an axis has no responses of a class, or there are more adapters than can be placed at once.
    """
    if len(adapters) > MOST:
        raise InputError(f"{len(adapters):,} adapters are too many for one map: choose at most {MOST:,} by the filters")
    if topic.name == valence.name:
        raise InputError(f"both axes ask for {topic.name!r}: choose two different contrasts")
    table = pl.DataFrame({"adapter": list(adapters)})
    for column, axis in (("topic", topic), ("valence", valence)):
        signed = auc_table(axis.values, axis.labels, axis.groups, seed=seed)
        table = table.hstack(_folded(signed, column, comparisons=2 * len(adapters)))
    clear = [pl.col(f"{column}_clear") for column in ("topic", "valence")]
    lean = (
        pl.when(clear[0] & clear[1])
        .then(pl.lit(BOTH))
        .when(clear[0])
        .then(pl.lit(topic.name))
        .when(clear[1])
        .then(pl.lit(valence.name))
        .otherwise(pl.lit(NEITHER))
    )
    return table.with_columns(lean=lean).drop("topic_clear", "valence_clear")


def auc_table(values: ArrayLike, labels: ArrayLike, groups: ArrayLike, *, seed: int = 0) -> pl.DataFrame:
    """AUC of every column of values (row, column): [value, low, high, error, groups].

    The interval is the expanded percentile bootstrap over `groups` (row,), exact in ties, `error` its standard error;
    null where a class comes from a single group. Rows that are not finite are left out column by column. Raises
    InputError where a class is empty.
    """
    table, truth = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=bool)
    if table.ndim != 2 or truth.shape != (len(table),):
        raise InputError(f"values (row, column) and labels (row,) do not fit: {table.shape} and {truth.shape}")
    if truth.all() or not truth.any():
        raise InputError("an AUC needs responses of both classes, and all of these are of one: loosen the bands")
    rng = np.random.default_rng(seed)
    codes = group_codes(groups, len(table))
    codes, size = _merged(codes, rng)
    draws = rng.multinomial(size, np.full(size, 1 / size), size=DRAWS).astype(np.float64)
    rows = [_auc_of(column, truth, codes, draws) for column in table.T]
    schema = dict.fromkeys(("value", "low", "high", "error", "groups"), pl.Float64)
    return pl.DataFrame(rows, schema, orient="row")


def rank_agreement(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Spearman's correlation of two rankings and its permutation p-value; NaN for fewer than three."""
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(first) < 3 or not np.ptp(first) or not np.ptp(second):
        return np.nan, np.nan
    value = float(spearmanr(first, second).statistic)
    rng = np.random.default_rng(0)
    ranks = [np.argsort(np.argsort(side)).astype(float) for side in (first, second)]
    scores = [(side - side.mean()) / np.linalg.norm(side - side.mean()) for side in ranks]
    drawn = np.stack([rng.permutation(scores[0]) for _ in range(999)]) @ scores[1]
    return value, float((1 + (np.abs(drawn) >= abs(value) - 1e-9).sum()) / 1000)


def _merged(codes: Ints, rng: np.random.Generator) -> tuple[Ints, int]:
    size = int(codes.max()) + 1
    if size <= MOST_GROUPS:
        return codes, size
    return (rng.permutation(size) % MOST_GROUPS)[codes].astype(np.intp), MOST_GROUPS


def _auc_of(column: Floats, labels: Bools, codes: Ints, draws: Floats) -> tuple[float | None, ...]:
    kept = np.isfinite(column)
    column, labels, codes = column[kept], labels[kept], codes[kept]
    if labels.all() or not labels.any():
        return None, None, None, None, None
    wins, pairs = _wins(column, labels, codes, draws.shape[1])
    value = float(wins.sum() / pairs.sum())
    if min(groups_with(codes, labels)) < 2:
        return value, None, None, None, None
    drawn = np.full(len(draws), np.nan)
    possible = ((draws @ pairs) * draws).sum(axis=1)
    np.divide(((draws @ wins) * draws).sum(axis=1), possible, out=drawn, where=possible > 0)
    groups = len(np.unique(codes))
    return value, *expanded_percentile(drawn, groups), float(np.nanstd(drawn)), float(groups)


def _wins(column: Floats, labels: Bools, codes: Ints, size: int) -> tuple[Floats, Floats]:
    """Of the positive rows of one group against the negative rows of another: wins (ties count half) and pairs."""
    order = np.argsort(column)
    column, labels, codes = column[order], labels[order], codes[order]
    first = np.flatnonzero(np.append(True, column[1:] != column[:-1]))  # of the rows with one value
    until = np.append(first[1:], len(column))
    value = np.repeat(np.arange(len(first)), until - first)[labels]
    winner = codes[labels]
    wins = np.zeros((size, size))
    for group in np.unique(codes[~labels]):
        below = np.append(0, np.cumsum(~labels & (codes == group)))  # its rows among the first so many
        wins[:, group] = np.bincount(winner, weights=(below[first] + below[until])[value] / 2, minlength=size)
    counts = [np.bincount(codes[side], minlength=size).astype(np.float64) for side in (labels, ~labels)]
    return wins, np.outer(*counts)


def _folded(signed: pl.DataFrame, name: str, *, comparisons: int) -> pl.DataFrame:
    """[name, name_low, name_high, name_up, name_clear] of AUCs, on the side of one half where they lie."""
    up = pl.col("value") >= 0.5
    reach = stdtrit(signed["groups"].to_numpy() - 1, 1 - (1 - LEVEL) / 2 / comparisons)
    clear = (signed["value"].to_numpy() - 0.5) ** 2 > (reach * signed["error"].to_numpy()) ** 2
    return signed.select(
        pl.when(up).then("value").otherwise(1 - pl.col("value")).alias(name),
        pl.when(up).then("low").otherwise(1 - pl.col("high")).alias(f"{name}_low"),
        pl.when(up).then("high").otherwise(1 - pl.col("low")).alias(f"{name}_high"),
        up.alias(f"{name}_up"),
        pl.Series(f"{name}_clear", clear & signed["low"].is_not_null().to_numpy()),
    )
