"""Rates with the judge's error in them: what intervals cover, beside the judge's own and a cluster-robust one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import polars as pl
from scipy.special import ndtri
from scipy.stats import t as student

from backend.analysis.rates.corrected import FEWEST_LABELS, STRATA, corrected_rate
from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, Floats, rate_interval
from tests.simulations.counting import Counted, Table
from tests.simulations.truths import beta

QUESTIONS, ANSWERS, CORRELATION = 16, 25, 0.2
OF_A_QUESTION = 0.5  # sd of the judge's taste for a question, in units of its noise


def of_a_corrected_rate(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Coverage (mean width) of the rate on questions like these."""
    table = Table("rate · labels", ["corrected", "the judge's own", "cluster-robust"])
    settings = product(
        (0.005, 0.02, 0.1, 0.4), ("100 at random", "100 by score", "300 by score"), ((0.95, 0.0), (0.8, -0.7))
    )
    for rate, how, (area, lean) in settings:
        counted = [Counted() for _ in range(3)]
        for shares in beta(rng, (max(runs // 2, 1), QUESTIONS), rate, CORRELATION):
            both, hits, counts = study(rng, shares, rate, area, lean, how)
            found = corrected_rate(both)
            own = rate_interval(hits, counts, SIMILAR_QUESTIONS)
            for each, ends in zip(counted, ((found.low, found.high), own, robust(both)), strict=True):
                each.add(ends, rate)
        judge = f"AUC {area:g}, {'unbiased' if not lean else 'calls too many'}"
        table.add(f"{rate:.1%} · {how} · {judge}", [f"{each.coverage:.0f} ({each.points:.0f})" for each in counted])
    yield (
        f"### A rate corrected by labels\n\n{max(runs // 2, 1)} studies a setting: {QUESTIONS} questions of {ANSWERS} "
        f"answers, correlation {CORRELATION:g}; coverage of the rate on questions like these in per cent (width in "
        "points, mean). *The judge's own*: the interval of the rate it reports. *Cluster-robust*: the same value "
        "with a t interval from the variance between questions, as for prediction-powered inference.\n\n"
        f"{table}"
    )


def study(
    rng: np.random.Generator, shares: Floats, rate: float, area: float, lean: float, how: str
) -> tuple[pl.DataFrame, Floats, Floats]:
    """The rows of `side_by_side`, and the judge's hits and answers by question.

    Its score is normal, further up on true hits as its AUC says, and moves with the question; it is cut where its rate
    would be the true one, and `lean` above that.
    """
    question = np.repeat(np.arange(QUESTIONS), ANSWERS)
    truth = rng.random(len(question)) < shares[question]
    apart = np.sqrt(2) * float(ndtri(area))
    noise = rng.normal(size=len(question)) + rng.normal(size=QUESTIONS)[question] * OF_A_QUESTION
    usual = rng.normal(size=20_000) * np.hypot(1, OF_A_QUESTION) + apart * (rng.random(20_000) < rate)
    past = noise + apart * truth - float(np.quantile(usual, 1 - rate)) - lean
    stratum = np.where(past > 0, 0, np.where(past > -1, 1, 2))
    labels = int(how.split()[0])
    if how.endswith("random"):
        drawn = rng.choice(len(question), labels, replace=False)
    else:
        drawn = np.concatenate([rng.permutation(np.flatnonzero(stratum == k))[: labels // 3] for k in range(3)])
    labelled = np.isin(np.arange(len(question)), drawn)
    hit = pl.Series(np.where(labelled, truth, False)).set(pl.Series(~labelled), None)
    both = pl.DataFrame({"question_id": question.astype(str), "stratum": stratum, "hit": hit})
    hits = np.bincount(question, weights=stratum == 0).astype(float)
    return both, hits, np.full(QUESTIONS, float(ANSWERS))


def robust(both: pl.DataFrame) -> tuple[float, float]:
    """The linearised estimator's t interval over questions."""
    table = both.group_by("question_id", "stratum").agg(
        n=pl.len(), m=pl.col("hit").is_not_null().sum(), h=pl.col("hit").fill_null(False).sum()
    )
    counts = np.zeros((3, QUESTIONS, len(STRATA)))
    place = table["question_id"].cast(pl.Int64).to_numpy(), table["stratum"].to_numpy()
    for part, name in zip(counts, ("n", "m", "h"), strict=True):
        part[place] = table[name].to_numpy()
    n, m, h = counts
    assert m.sum() >= FEWEST_LABELS
    share = h.sum(0) / m.sum(0).clip(1)
    value = float((n.sum(0) * share).sum() / n.sum())
    each = ((n * share).sum(1) - value * n.sum(1)) / n.sum()
    each += ((h - m * share) * n.sum(0) / n.sum() / m.sum(0).clip(1)).sum(1)
    reach = float(student.ppf(0.975, QUESTIONS - 1) * np.sqrt(QUESTIONS / (QUESTIONS - 1) * (each**2).sum()))
    return value - reach, value + reach
