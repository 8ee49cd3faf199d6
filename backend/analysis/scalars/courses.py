"""A number along many sequences: the mean of each at its places, once, and over classes as often as classes change.

It refuses to know what the numbers and the sequences are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from backend.records import FloatArray, InputError

FIRST, BINS = 10, 20


@dataclass(frozen=True, eq=False)
class Course:
    """The number at the first places of every sequence, and its mean over equal shares; NaN where there is none."""

    token: FloatArray  # (sequence, place)
    share: FloatArray  # (sequence, share)

    def by_class(self, classes: ArrayLike, names: Sequence[str]) -> pl.DataFrame:
        """[label, part, place, mean, low, high, n]: means over the sequences of each class, with 95 % t intervals.

        `classes` (sequence,) is the index of a sequence's class among `names`, negative for none. `part` is "token",
        where `place` counts from 0, or "share", where it is the middle of the share, 0 to 1. n counts sequences, each
        of which weighs alike; low and high are null for one alone.
        """
        codes = np.asarray(classes)
        if codes.shape != (len(self.token),):
            raise InputError(f"{len(self.token)} sequences need a class each, not an array of shape {codes.shape}")
        shares = (np.arange(self.share.shape[1]) + 0.5) / self.share.shape[1]
        parts = (("token", self.token, np.arange(self.token.shape[1])), ("share", self.share, shares))
        tables = [
            _over_rows(values[codes == at]).select(
                pl.lit(name).alias("label"),
                pl.lit(part).alias("part"),
                pl.Series("place", places, dtype=pl.Float64),
                pl.all(),
            )
            for at, name in enumerate(names)
            for part, values, places in parts
        ]
        return pl.concat(tables).filter(pl.col("n") > 0)


def course(
    values: NDArray[Any], sequence: NDArray[Any], place: NDArray[Any], lengths: NDArray[Any], *, bins: int = BINS
) -> Course:
    """Of values (row,) at places (row,) from 0 of sequences (row,), which are as long as `lengths` (sequence,) says."""
    token = np.full((len(lengths), FIRST), np.nan, dtype=np.float32)
    early = place < FIRST
    token[sequence[early], place[early]] = values[early]
    cells = sequence * np.int64(bins) + np.minimum(
        place * np.int32(bins) // lengths.astype(np.int32)[sequence], bins - 1
    )
    counts = np.bincount(cells, minlength=len(lengths) * bins)
    sums = np.bincount(cells, weights=values, minlength=len(lengths) * bins)
    share = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return Course(token, share.astype(np.float32).reshape(-1, bins))


def _over_rows(values: FloatArray) -> pl.DataFrame:
    """[mean, low, high, n] of every column, of what is a number."""
    known = np.isfinite(values)
    n = known.sum(axis=0)
    mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / np.maximum(n, 1)
    off = np.where(known, values - mean, 0)
    error = np.sqrt((off**2).sum(axis=0) / np.maximum(n - 1, 1) / np.maximum(n, 1))
    reach = np.where(n > 1, stdtrit(np.maximum(n - 1, 1), 0.975) * error, np.nan)
    ends = pl.DataFrame({"mean": mean, "low": mean - reach, "high": mean + reach, "n": n})
    return ends.with_columns(pl.col("low", "high").fill_nan(None))
