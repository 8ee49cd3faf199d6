"""Shares of responses, differences between them, and how sure one can be of either.

Tables of scored responses in, rates with their intervals out. A rate is about questions like these (SIMILAR_QUESTIONS,
the default) or about exactly these (THESE_QUESTIONS); what the two mean, where the intervals come from and what they
cover is in backend/analysis/rates/intervals.py and docs/statistics.md.

What counts as a hit, and among which responses, an Outcome says (backend/outcomes.py). It refuses to know where
responses come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from backend.analysis.rates.intervals import SIMILAR_QUESTIONS as SIMILAR_QUESTIONS
from backend.analysis.rates.intervals import THESE_QUESTIONS as THESE_QUESTIONS
from backend.analysis.rates.intervals import Estimand as Estimand
from backend.analysis.rates.intervals import Floats, difference_interval, rate_interval, wilson
from backend.outcomes import EM, Outcome
from backend.records import InputError

ABOUT: dict[str, Estimand] = {"questions like these": SIMILAR_QUESTIONS, "these very questions": THESE_QUESTIONS}
FEWEST_QUESTIONS = 6  # of k questions no sign-flip test is below 2 ** (1 - k): five cannot show a change on others
TOO_WIDE = 0.3  # a rate whose binomial interval is wider than this cannot be told from most other rates
MATTERS = 0.1  # a difference of rates below which two conditions count as alike
HIGHER, LOWER, NOT_LOWER, NOT_HIGHER, ALIKE, CANNOT_TELL = VERDICTS = (
    "higher",
    "lower",
    "not lower",  # by MATTERS, which the rate b could have been
    "not higher",
    "alike",  # neither
    "cannot tell",
)


FALL_KNOWN = (HIGHER, LOWER, NOT_LOWER, ALIKE)  # the verdicts that say whether there is a fall


@dataclass(frozen=True)
class Rate:
    """A share of responses with its 95 % interval; value and ends are NaN where n is 0."""

    hits: int
    n: int
    value: float
    low: float
    high: float
    clusters: int  # questions behind it; 0 where none were named

    @property
    def too_small(self) -> bool:
        """Too few responses to tell: even if all were independent, the Wilson interval would span over 30 points."""
        if not self.n:
            return True
        low, high = wilson(self.hits, self.n)
        return high - low > TOO_WIDE


@dataclass(frozen=True)
class Difference:
    """Rate a minus rate b on the questions that both were asked, with its 95 % interval and two-sided p-value.

    `a` and `b` are the two rates on those questions. `value` weighs each question by n_a n_b / (n_a + n_b), so that
    unequal numbers of answers do not make a difference; with equal numbers it is a.value - b.value. `unshared` counts
    the questions left out because one side has no scored answer to them.
    """

    value: float
    low: float
    high: float
    p_value: float
    a: Rate
    b: Rate
    unshared: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero, as it does where the p-value is below 5 %."""
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """What a against b may be called, one of VERDICTS.

        That a is not lower takes two things: the interval leaves out a fall of ten points, and b was at ten points at
        least, so that such a fall was possible. So for a rise, from the other side. One of 32 answers cannot fall.
        """
        if self.clear:
            return HIGHER if self.low > 0 else LOWER
        not_lower = self.low > -MATTERS and self.b.value >= MATTERS
        not_higher = self.high < MATTERS and self.b.value <= 1 - MATTERS
        if not_lower and not_higher:
            return ALIKE
        return NOT_LOWER if not_lower else NOT_HIGHER if not_higher else CANNOT_TELL


def about_words(questions: int, fewest: int = FEWEST_QUESTIONS) -> str:
    """What intervals over so many questions are about, one of ABOUT: `fewest` can speak for others.

    The default is for every change: of fewer, no result whatever could show one on questions like these.
    """
    return list(ABOUT)[questions < fewest]


def about_of(questions: int, fewest: int = FEWEST_QUESTIONS) -> Estimand:
    """The same as `about_words` says."""
    return ABOUT[about_words(questions, fewest)]


def rate(hits: ArrayLike, clusters: ArrayLike | None = None, *, about: Estimand = SIMILAR_QUESTIONS) -> Rate:
    """The share of hits (response,), True, False or NaN for no judgement, with its 95 % interval.

    `clusters` (response,) names the question of each. Without clusters, or with one, it is the Wilson interval: of
    independent responses, or of that question alone.
    """
    flat = np.asarray(hits, dtype=np.float64)
    kept = np.isfinite(flat)
    if clusters is None:
        found, n = np.array([flat[kept].sum()]), np.array([float(kept.sum())])
        return _rate(found, n, about, clusters=0)
    codes = np.unique(np.asarray(clusters)[kept], return_inverse=True)[1]
    found, n = (np.bincount(codes, weights=weights).astype(np.float64) for weights in (flat[kept], None))
    return _rate(found, n, about)


def em_rates(
    frame: pl.DataFrame,
    by: Sequence[str] = (),
    *,
    outcomes: Sequence[Outcome] = EM.beside,
    about: Estimand = SIMILAR_QUESTIONS,
) -> pl.DataFrame:
    """Rates of every outcome in every group of `by`, in order of appearance, clustered by the column question_id.

    Returns [*by, metric, n, hits, value, low, high, dropped, clusters, too_small]: `metric` is the outcome's name,
    `dropped` the responses without the scores it needs; value and ends are null where n is 0. With question_id in
    `by` every interval is of that question alone. Raises InputError where a column is missing.
    """
    tables = [_outcome_rates(frame, list(by), outcome, about) for outcome in outcomes]
    table = pl.concat(tables)
    order = frame.select(by).unique(maintain_order=True) if by else None
    return (
        table if order is None else order.join(table, on=list(by), how="left", nulls_equal=True, maintain_order="left")
    )


def difference(
    a: pl.DataFrame, b: pl.DataFrame, *, outcome: Outcome = EM, about: Estimand = SIMILAR_QUESTIONS
) -> Difference:
    """The rate of `outcome` in `a` minus that in `b`, paired by the column question_id.

    Equal seeds need no pairing of their own: what they have in common is in the shares of each question. Under
    THESE_QUESTIONS answers count as independent given the question. The p-value is the level at which the interval
    just touches zero. Raises InputError where no question has scored answers on both sides.
    """
    return difference_of_counts(question_counts(a, [], outcome), question_counts(b, [], outcome), about=about)


def difference_of_counts(a: pl.DataFrame, b: pl.DataFrame, *, about: Estimand = SIMILAR_QUESTIONS) -> Difference:
    """`difference` of two tables that were counted already, [question_id, hits, n]."""
    shared = a.join(b, on="question_id", suffix="_b")
    if shared.is_empty():
        raise InputError(
            "the two sides share no question with scored answers, so they cannot be compared: "
            "choose conditions that were asked the same questions"
        )
    hits_a, n_a, hits_b, n_b = (shared[name].to_numpy().astype(float) for name in ("hits", "n", "hits_b", "n_b"))
    found = difference_interval(hits_a, n_a, hits_b, n_b, about)
    unshared = a.height + b.height - 2 * shared.height
    return Difference(*found, _rate(hits_a, n_a, about), _rate(hits_b, n_b, about), unshared)


def _rate(hits: Floats, n: Floats, about: Estimand, clusters: int | None = None) -> Rate:
    total = int(n.sum())
    clusters = len(n) if clusters is None else clusters
    if not total:
        return Rate(0, 0, np.nan, np.nan, np.nan, clusters)
    value = float(hits.sum() / total)
    low, high = rate_interval(hits, n, about)
    return Rate(int(hits.sum()), total, value, min(low, value), max(high, value), clusters)


def question_counts(frame: pl.DataFrame, by: Sequence[str], outcome: Outcome) -> pl.DataFrame:
    """[*by, question_id, hits, n] over the rows that have every score the outcome needs."""
    columns = dict.fromkeys([*by, "question_id"])
    missing = [name for name in (*columns, *outcome.needs) if name not in frame.columns]
    if missing:
        raise InputError(
            f"the rate {outcome.name!r} needs the column {missing[0]!r}; the table has {', '.join(frame.columns)}. "
            "Choose a judge that scored it"
        )
    hit = outcome.hits().cast(pl.Int64).sum().alias("hits")
    return frame.filter(outcome.scored()).group_by(list(columns), maintain_order=True).agg(hit, pl.len().alias("n"))


def _outcome_rates(frame: pl.DataFrame, by: list[str], outcome: Outcome, about: Estimand) -> pl.DataFrame:
    counts = question_counts(frame, by, outcome)
    asked = frame.group_by(by, maintain_order=True).len("asked") if by else pl.DataFrame({"asked": [frame.height]})
    columns = [pl.col("hits").cast(pl.Float64), pl.col("n").cast(pl.Float64)]
    if by:
        grouped = asked.join(
            counts.group_by(by).agg(columns), on=by, how="left", nulls_equal=True, maintain_order="left"
        )
    else:
        grouped = asked.hstack(counts.select(column.implode() for column in columns))
    rows = []
    for hits, n, asked_here in grouped.select("hits", "n", "asked").iter_rows():
        found = _rate(np.array(hits or [], dtype=float), np.array(n or [], dtype=float), about)
        rows.append(
            {
                "metric": outcome.name,
                "n": found.n,
                "hits": found.hits,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "dropped": asked_here - found.n,
                "clusters": found.clusters,
                "too_small": found.too_small,
            }
        )
    table = pl.DataFrame(rows, schema=_SCHEMA).with_columns(pl.col("value", "low", "high").fill_nan(None))
    return grouped.select(by).hstack(table) if by else table


_SCHEMA = {
    "metric": pl.String,
    "n": pl.Int64,
    "hits": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "dropped": pl.Int64,
    "clusters": pl.Int64,
    "too_small": pl.Boolean,
}
