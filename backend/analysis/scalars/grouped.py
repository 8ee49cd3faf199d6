"""The mean of rows that come in groups, with an interval over the groups.

It refuses to know what the rows are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from backend.analysis.estimates import Estimate, expanded_percentile
from backend.analysis.groups import group_codes, group_draws


def grouped_mean(values: ArrayLike, groups: ArrayLike, *, seed: int = 0) -> Estimate:
    """The mean of values (row,), each weighing alike, with its 95 % interval: a bootstrap over `groups` (row,).

    The ends are NaN for one group. Hesterberg (2015), section 5: expanded to what a t interval over groups would be.
    """
    numbers = np.asarray(values, dtype=np.float64)
    own = group_codes(groups, len(numbers))
    codes, drawn = group_draws(own, np.random.default_rng(seed))
    sums, sizes = np.bincount(codes, weights=numbers), np.bincount(codes).astype(np.float64)
    means = (drawn @ sums) / np.maximum(drawn @ sizes, 1)
    return Estimate(float(numbers.mean()), *expanded_percentile(means, len(np.unique(own))))
