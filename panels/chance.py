"""A mean in words: with its interval, and where it lies by what controls give.

It refuses to know what is measured.
"""

from __future__ import annotations

from math import isfinite
from typing import Any


def told(row: dict[str, Any], form: str = ".2f") -> str:
    """A mean with its interval."""
    if row["low"] is None:
        return f"**{row['value']:{form}}**".replace("-", "−") + " (one question, so no interval)"
    value, low, high = (f"{row[name]:{form}}".replace("-", "−") for name in ("value", "low", "high"))
    return f"**{value}** ({low} to {high})"


def beside(value: float, low: float | None, high: float | None, what: str, form: str = ".2f") -> str:
    """Where a mean lies by what one more control would give, where enough were drawn to say."""
    if low is None or high is None or not (isfinite(low) and isfinite(high)):
        return f", with too few controls to say {what}"
    ends = f"{low:{form}} to {high:{form}}".replace("-", "−")
    return f", {'within' if low <= value <= high else 'outside'} {what} ({ends})"
