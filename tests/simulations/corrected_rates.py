"""Rates and differences with the judge's error in them: what intervals cover, beside the judge's own and others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import polars as pl
from scipy.special import ndtri
from scipy.stats import t as student

from backend.analysis.rates.corrected import FEWEST_LABELS, STRATA, corrected_difference, corrected_rate
from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, Floats, difference_interval, rate_interval
from backend.records import InputError
from tests.simulations.counting import Counted, Table
from tests.simulations.truths import TRUTHS, beta

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


def of_a_corrected_difference(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Coverage (mean width), and how many are clear, of the difference on questions like these."""
    names = ["corrected", "the judge's own", "cluster-robust"]
    table = Table("rate · labels a side", [*(f"{name}: covers" for name in names), *(f"{n}: clear" for n in names)])
    for rate, how, (truth, area, leans, words) in product((0.005, 0.02, 0.1, 0.4), LABELS, PAIRS):
        counted, left = [Counted() for _ in names], 0
        rates_a, rates_b, gap = TRUTHS[truth](rng, (max(runs // 2, 1), QUESTIONS), rate, CORRELATION)
        for shares in zip(rates_a, rates_b, strict=True):
            taste = rng.normal(size=QUESTIONS)
            sides = [study(rng, own, rate, area, lean, how, taste) for own, lean in zip(shares, leans, strict=True)]
            (a, hits_a, n_a), (b, hits_b, n_b) = sides
            try:
                found = corrected_difference(a, b)
            except InputError:
                left += 1
                continue
            own = difference_interval(hits_a, n_a, hits_b, n_b, SIMILAR_QUESTIONS)
            ends = (found.low, found.high), own[1:3], robust_difference(a, b)
            for each, interval in zip(counted, ends, strict=True):
                each.add(interval, gap)
        untold = f" ({left} without enough labels)" if left else ""
        cells = [f"{each.coverage:.0f} ({each.points:.0f})" for each in counted]
        table.add(f"{rate:.1%} · {how} · {words}{untold}", [*cells, *(f"{each.clears:.0f}" for each in counted)])
    yield (
        f"### A difference corrected by labels\n\n{max(runs // 2, 1)} studies a setting: {QUESTIONS} questions of "
        f"{ANSWERS} answers a side, correlation {CORRELATION:g}, the same labels on each side; coverage of the "
        "difference on questions like these in per cent (width in points, mean), and how many are clear. *None*: both "
        "sides have the same question rates, so that clear is false; *a tenth*: the second side has a tenth of them. "
        f"The judge's taste for a question is the same on both sides.\n\n{table}"
    )


LABELS = ("100 at random", "100 by score", "300 by score")
PAIRS = (  # the truth, the judge's AUC, how far its cut is off on either side, in words
    ("same", 0.95, (0.0, 0.0), "none, AUC 0.95"),
    ("same", 0.8, (-0.7, -0.7), "none, AUC 0.8, calls too many"),
    ("same", 0.8, (-0.7, 0.0), "none, AUC 0.8, calls too many of the first"),
    ("tenth", 0.95, (0.0, 0.0), "a tenth, AUC 0.95"),
    ("tenth", 0.8, (0.0, -0.7), "a tenth, AUC 0.8, calls too many of the second"),
)


def study(
    rng: np.random.Generator,
    shares: Floats,
    rate: float,
    area: float,
    lean: float,
    how: str,
    taste: Floats | None = None,
) -> tuple[pl.DataFrame, Floats, Floats]:
    """The rows of `side_by_side`, and the judge's hits and answers by question.

    Its score is normal, further up on true hits as its AUC says, and moves with the question, by `taste` in standard
    scores (drawn where it is not given); it is cut where its rate would be `rate`, and `lean` above that.
    """
    question = np.repeat(np.arange(QUESTIONS), ANSWERS)
    truth = rng.random(len(question)) < shares[question]
    apart = np.sqrt(2) * float(ndtri(area))
    noise = rng.normal(size=len(question))
    noise += (rng.normal(size=QUESTIONS) if taste is None else taste)[question] * OF_A_QUESTION
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
    return _over_questions(*_linearised(both))


def robust_difference(a: pl.DataFrame, b: pl.DataFrame) -> tuple[float, float]:
    """The same of a difference, paired by question."""
    (one, parts), (other, others) = _linearised(a), _linearised(b)
    return _over_questions(one - other, parts - others)


def _over_questions(value: float, parts: Floats) -> tuple[float, float]:
    reach = float(student.ppf(0.975, QUESTIONS - 1) * np.sqrt(QUESTIONS / (QUESTIONS - 1) * (parts**2).sum()))
    return value - reach, value + reach


def _linearised(both: pl.DataFrame) -> tuple[float, Floats]:
    """The post-stratified rate, and how far each question moves it."""
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
    return value, each
