"""What pages say of experiments: a rate with all that it hangs on in a few words, and what a study lacks.

It refuses to know which experiments there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
import streamlit as st

from backend.analysis.rates.rates import FEWEST_QUESTIONS, THESE_QUESTIONS, about_of
from backend.outcomes import EM, Outcome
from backend.study import Study
from backend.tables.experiments import FEWEST_OF_A_RATE
from panels.frame import plain


def percent(share: float | None) -> str:
    """A share in words."""
    return "no rate" if share is None else f"{100 * share:.1f} %"


def told(row: Mapping[str, Any], name: str = "value", n: str = "n") -> str:
    """A rate with its interval and n: 12.0 % (7.0–19.8, n = 100). `name` is the column; its ends have _low, _high."""
    low, high = (row[end if name == "value" else f"{name}_{end}"] for end in ("low", "high"))
    ends = None if low is None or high is None else ends_told(100 * low, 100 * high, ".1f")
    return f"{percent(row[name])} ({f'{ends}, ' if ends else ''}n = {row[n]:,})"


def from_on(rows: pl.DataFrame, holds: pl.Expr) -> pl.DataFrame:
    """The last rows, for which it holds without a gap; null is no."""
    marks = rows.select(holds.fill_null(False).alias("holds"))["holds"].to_list()
    start = next((at + 1 for at in range(len(marks) - 1, -1, -1) if not marks[at]), 0)
    return rows.slice(start)


def ends_told(low: float | None, high: float | None, form: str = ".2f") -> str | None:
    """Both ends of an interval in words; None where there is none, which is null or not finite."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    return f"{low:{form}}–{high:{form}}"


def told_change(row: Mapping[str, Any]) -> str:
    """A change in points with its interval: −28.0 points (−38.5 to −16.5)."""
    value, low, high = (f"{100 * row[name]:+.1f}".replace("-", "−") for name in ("difference", "low", "high"))
    return f"{value} points ({low} to {high})"


def hits(outcome: Outcome) -> str:
    """What a rate of the outcome counts, in few words."""
    return "EM" if outcome == EM else plain(outcome.title)


def asked_words(questions: int, *, change: bool = False) -> str:
    """How many questions intervals are over, and what that makes those of rates, or of a change, about."""
    if about_of(questions, FEWEST_QUESTIONS if change else FEWEST_OF_A_RATE) is THESE_QUESTIONS:
        which = "one question" if questions == 1 else f"{questions} questions"
        return (
            f"{which}, so intervals are for {'this very question' if questions == 1 else 'these very questions'} alone"
        )
    return f"{questions} questions; intervals are for questions like these"


def rates_of(table: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The rows of one rate that have answers."""
    return table.filter(pl.col("metric") == metric, pl.col("n") > 0)


def nothing(study: Study, what: str, *, how: str = "") -> None:
    """Say that a study has no such answers and how there can be some: its own remedy, or `how`."""
    remedy = " ; ".join(study.info.get("remedy", ()))
    more = f" The authors' repositories may have more than was read: {plain(remedy)}" if remedy else how and f" {how}"
    st.info(f"Study {plain(study.name)} has {what}.{more}", icon=":material/info:")
