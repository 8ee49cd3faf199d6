"""Histograms of many columns that are put into bins once, and counted by class as often as classes change.

It refuses to know what the columns are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from backend.analysis.groups import Floats
from backend.records import InputError

BINS = 60
_NOWHERE = 255  # the code of what is not a number


@dataclass(frozen=True, eq=False)
class Binned:
    """Columns in equal bins between the smallest and the largest value of each."""

    codes: NDArray[np.uint8]  # (column, row), the bin; 255 where there is no number
    first: Floats  # (column,), lower end of the first bin
    width: Floats  # (column,)
    bins: int

    def by_class(self, classes: ArrayLike, names: tuple[str, ...], columns: tuple[str, ...]) -> pl.DataFrame:
        """[column, side, low, high, n, density]: how each class's rows spread over the bins of every column.

        `classes` (row,) is the index of a row's class among `names`, negative for none; the densities of one column and
        class integrate to 1.
        """
        codes = np.asarray(classes)
        if codes.shape != self.codes.shape[1:]:
            raise InputError(f"{self.codes.shape[1]} rows need a class each, not an array of shape {codes.shape}")
        kept = np.flatnonzero(codes >= 0)
        offset = codes[kept].astype(np.uint16) * np.uint16(256)
        size = 256 * len(names)
        counted = [np.bincount(offset + column[kept], minlength=size).reshape(-1, 256) for column in self.codes]
        counts = np.stack(counted)[:, :, : self.bins]  # (column, class, bin)
        total = np.maximum(counts.sum(axis=2, keepdims=True), 1)
        low = self.first[:, None] + np.arange(self.bins) * self.width[:, None]
        each, shape = len(names) * self.bins, counts.shape
        return pl.DataFrame(
            {
                "column": np.repeat(np.array(columns, dtype=object), each),
                "side": np.tile(np.repeat(np.array(names, dtype=object), self.bins), len(columns)),
                "low": np.broadcast_to(low[:, None], shape).ravel(),
                "high": np.broadcast_to((low + self.width[:, None])[:, None], shape).ravel(),
                "n": counts.ravel(),
                "density": (counts / (total * self.width[:, None, None])).ravel(),
            },
            schema_overrides={"column": pl.String, "side": pl.String, "n": pl.Int64},
        )


def binned(values: NDArray[Any], bins: int = BINS) -> Binned:
    """Values (row, column) in bins; a column without two different numbers gets bins of width one around its value."""
    if not 1 <= bins < _NOWHERE:
        raise InputError(f"{bins} bins: use 1 to {_NOWHERE - 1}")
    columns = [np.asarray(column) for column in values.T]
    codes = np.full((len(columns), len(values)), _NOWHERE, dtype=np.uint8)
    first, width = np.zeros(len(columns)), np.full(len(columns), 1 / bins)
    for at, column in enumerate(columns):
        finite = np.isfinite(column)
        known = column if finite.all() else column[finite]
        if not len(known):
            continue
        low, high = float(known.min()), float(known.max())
        first[at], width[at] = (low, (high - low) / bins) if high > low else (low - 0.5, 1 / bins)
        places = ((known - np.float32(first[at])) * np.float32(1 / width[at])).astype(np.int16)
        codes[at, finite] = np.clip(places, 0, bins - 1)
    return Binned(codes, first, width, bins)
