"""What each adapter specialises in: how well its scalar alone tells two topics apart, and two valences.

An adapter is a point of two AUCs, each with its interval over groups (questions). The sign of a scalar is arbitrary, so
an AUC is folded to one half and above: 0.2 tells as much as 0.8. Folding lifts pure noise a little above one half, and
among many adapters some AUC is clear of one half by chance: an adapter is said to tell an axis only where it stands
among all adapters and both axes together (`rates/families.py`). It refuses to know what the two axes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from backend.analysis.aucs import auc_table
from backend.analysis.groups import Bools, Floats
from backend.analysis.rates.families import with_family
from backend.records import InputError

BOTH, NEITHER = "both", "neither"
MOST = 1000  # adapters placed at once


@dataclass(frozen=True, eq=False)
class Axis:
    """One question asked of every adapter: scalars of responses of two classes."""

    name: str
    values: Floats  # (response, adapter), NaN where not measured
    labels: Bools  # (response,)
    groups: ArrayLike  # (response,), the question of each


def place(adapters: Sequence[str], topic: Axis, valence: Axis) -> pl.DataFrame:
    """Every adapter on both axes.

    [adapter, lean] and, of topic and valence, [topic, _low, _high, _up, _p, _q, _stands, _shuffled, _groups, _why]:
    folded AUCs with their ends (null where `_why`), p- and q-values; `_up` says that the scalar is larger in the
    positive class, `_shuffled` what labels shuffled within groups reach on the same side; `lean` is the name of the
    axis that it tells, "both" or "neither". Raises InputError where an axis has no responses of a class, or there are
    more adapters than can be placed at once.
    """
    if len(adapters) > MOST:
        raise InputError(f"{len(adapters):,} adapters are too many for one map: choose at most {MOST:,} by the filters")
    if topic.name == valence.name:
        raise InputError(f"both axes ask for {topic.name!r}: choose two different contrasts")
    signed = with_family(pl.concat(auc_table(axis.values, axis.labels, axis.groups) for axis in (topic, valence)))
    table, count = pl.DataFrame({"adapter": list(adapters)}), len(adapters)
    table = table.hstack(_folded(signed.head(count), "topic")).hstack(_folded(signed.tail(count), "valence"))
    clear = [pl.col(f"{column}_stands") for column in ("topic", "valence")]
    lean = (
        pl.when(clear[0] & clear[1])
        .then(pl.lit(BOTH))
        .when(clear[0])
        .then(pl.lit(topic.name))
        .when(clear[1])
        .then(pl.lit(valence.name))
        .otherwise(pl.lit(NEITHER))
    )
    return table.with_columns(lean=lean)


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


def _folded(signed: pl.DataFrame, name: str) -> pl.DataFrame:
    """What `place` says of one axis: AUCs folded at one half, and what belongs to them.

    `signed` are AUCs as in `auc_table` with their q-values.
    """
    up = pl.col("value") >= 0.5
    return signed.select(
        pl.when(up).then("value").otherwise(1 - pl.col("value")).alias(name),
        pl.when(up).then("low").otherwise(1 - pl.col("high")).alias(f"{name}_low"),
        pl.when(up).then("high").otherwise(1 - pl.col("low")).alias(f"{name}_high"),
        up.alias(f"{name}_up"),
        pl.col("p_value").alias(f"{name}_p"),
        pl.col("q_value").alias(f"{name}_q"),
        pl.col("stands").fill_null(False).alias(f"{name}_stands"),
        pl.when(up).then("shuffled").otherwise(1 - pl.col("shuffled")).alias(f"{name}_shuffled"),
        pl.col("groups").alias(f"{name}_groups"),
        pl.col("why").alias(f"{name}_why"),
    )
