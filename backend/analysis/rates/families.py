"""Many differences at once: which of them stand once it counts how many were asked about.

Of 51 cells without any effect two or three are clear alone. The correction is Benjamini and Hochberg's (1995) over the
family of a table: of the cells that stand, one in twenty at most is expected to be no difference. It is the one place
where a family is corrected. It refuses to know what a cell is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from backend.analysis.rates.intervals import LEVEL

CORRECTED = "Benjamini–Hochberg, 5 %"


def q_values(p_values: ArrayLike) -> NDArray[np.float64]:
    """The share of false ones among all whose p-value is as small, at most; NaN is left out and stays NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    found = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    found[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return found


def with_family(table: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """The table (with p_value) and q_value, family (how many there are), stands (clear after the correction).

    A family are the rows of one value of `by`, or all; rows without a p-value are in none, and their columns null.
    """
    known = table.with_columns(pl.col("p_value").cast(pl.Float64).fill_nan(None))

    def within(rows: pl.Series) -> pl.Series:
        values = rows.to_numpy() if rows.null_count() == 0 else rows.fill_null(np.nan).to_numpy()
        return pl.Series(q_values(values), dtype=pl.Float64).fill_nan(None)

    q = pl.col("p_value").map_batches(within, return_dtype=pl.Float64)
    size = pl.when(pl.col("p_value").is_not_null()).then(pl.col("p_value").count()).cast(pl.Int64)
    over = list(by) or pl.lit(1)
    found = known.with_columns(q_value=q.over(over), family=size.over(over))
    return found.with_columns(stands=pl.col("q_value") < 1 - LEVEL)


def of_family(table: pl.DataFrame, what: str) -> str:
    """How many of a table's rows are clear alone, and how many stand, in words; `what` names the rows ("cells")."""
    known = table.drop_nulls("p_value")
    if not known.height:
        return ""
    alone = known.filter(pl.col("p_value") < 1 - LEVEL).height
    if known.height == 1:
        return f"The one of these {what} is {'' if alone else 'not '}clear."
    stand = known.filter("stands").height
    return f"Of {known.height} {what}, {alone} {_are(alone)} clear alone, {stand} after correction ({CORRECTED})."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
