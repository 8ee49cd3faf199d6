"""Histograms of many numbers that are put into bins and counted by unit once, and added up as often as classes change.

It refuses to know what the numbers and the units are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from backend.records import InputError

BINS = 60


@dataclass(frozen=True, eq=False)
class Binned:
    """Numbers in equal bins between the smallest and the largest of them, counted by the unit that each belongs to."""

    counts: NDArray[np.unsignedinteger[Any]]  # (unit, bin)
    first: float  # lower end of the first bin
    width: float

    def by_class(self, classes: ArrayLike, names: Sequence[str]) -> pl.DataFrame:
        """[side, low, high, n, density]: how the numbers of each class of units spread over the bins.

        `classes` (unit,) is the index of a unit's class among `names`, negative for none; the densities of one class
        integrate to 1.
        """
        codes = np.asarray(classes)
        units, bins = self.counts.shape
        if codes.shape != (units,):
            raise InputError(f"{units} units need a class each, not an array of shape {codes.shape}")
        counts = np.stack([self.counts[codes == at].sum(axis=0, dtype=np.int64) for at in range(len(names))])
        low = self.first + np.arange(bins) * self.width
        total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return pl.DataFrame(
            {
                "side": np.repeat(np.array(names, dtype=object), bins),
                "low": np.tile(low, len(names)),
                "high": np.tile(low + self.width, len(names)),
                "n": counts.ravel(),
                "density": (counts / (total * self.width)).ravel(),
            },
            schema_overrides={"side": pl.String, "n": pl.Int64},
        )


def binned(values: NDArray[Any], units: NDArray[Any], size: int, bins: int = BINS) -> Binned:
    """Values (row,) in bins, of units (row,) from 0 to `size` - 1; what is not a finite number is in no bin.

    Without two different numbers the bins have width one in all, around the value.
    """
    if bins < 1:
        raise InputError(f"{bins} bins: use 1 or more")
    finite = np.isfinite(values)
    if not finite.all():
        values, units = values[finite], units[finite]
    if not len(values):
        return Binned(np.zeros((size, bins), dtype=np.uint8), 0.0, 1 / bins)
    low, high = float(values.min()), float(values.max())
    first, width = (low, (high - low) / bins) if high > low else (low - 0.5, 1 / bins)
    places = ((values - np.float32(first)) * np.float32(1 / width)).astype(np.int16)
    cells = units * np.int64(bins) + np.clip(places, 0, bins - 1)
    counts = np.bincount(cells, minlength=size * bins).reshape(size, bins)
    return Binned(counts.astype(np.min_scalar_type(counts.max())), first, width)
