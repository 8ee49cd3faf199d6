"""The difference of two rates over different questions.

Nothing is paired, so all that either rate may be off by counts: the ends are those of the two single intervals, squared
and added (MOVER, Newcombe 1998, method 10; Zou and Donner 2008). Simulated in tests. It refuses to know why the
questions differ.
"""

from __future__ import annotations

from math import isnan, sqrt

from backend.analysis.rates.rates import Rate


def unpaired_difference(a: Rate, b: Rate) -> tuple[float, float, float]:
    """Rate a minus rate b with its 95 % interval, (value, low, high); NaN where a rate has no answers."""
    value = a.value - b.value
    if isnan(value):
        return value, value, value
    low = value - sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2)
    high = value + sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2)
    return value, max(low, -1.0), min(high, 1.0)
