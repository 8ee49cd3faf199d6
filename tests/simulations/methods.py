"""What is simulated: ours, and what was tried beside it. Each takes hits and answers of both sides, (question,).

A method of a difference gives both ends of its 95 % interval; it is clear where that leaves out zero. Tests without an
interval give (p, 1), or (-1, 1) where they are not clear.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from scipy.stats import t as student

from backend.analysis.rates import intervals
from backend.analysis.rates.chance import dealt_anew, excess, signs_flipped
from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, difference_interval, rate_interval
from tests.simulations.truths import Floats

Ends = tuple[float, float]
Method = Callable[[Floats, Floats, Floats, Floats], Ends]


def ours(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """As the app has it."""
    return difference_interval(hits_a, n_a, hits_b, n_b, SIMILAR_QUESTIONS)[1:3]


def tested(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """As ours, where only zero is asked about: what the draw of answers makes up needs no interval."""
    sides = hits_a, n_a, hits_b, n_b
    return (-1.0, 1.0) if dealt_anew(*sides) >= 0.05 else ours(*sides)


def flips(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Signs of questions flipped, alone: a test."""
    return _tested(signs_flipped(excess(hits_a, n_a, hits_b, n_b)))


def deals(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Answers dealt anew within questions, alone: a test."""
    return _tested(dealt_anew(hits_a, n_a, hits_b, n_b))


def copula(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Both posteriors, joined by the correlation over all questions, even where few have a hit: as it was before."""
    known = max(len(n_a) - 3, 0)
    together = _found(hits_a / n_a, hits_b / n_b) if known else 0.0
    at = np.arctanh(np.clip(together, -0.999, 0.999)) * known / (known + 1)
    return _joined(hits_a, n_a, hits_b, n_b, float(at), (known + 1) ** -0.5)


def independent(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Both posteriors as if of different questions."""
    return _joined(hits_a, n_a, hits_b, n_b, 0.0, 0.0)


def once(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """As ours, but either test about questions is enough at its own 5 %: a test."""
    sides = (hits_a, n_a), (hits_b, n_b)
    excesses = excess(hits_a, n_a, hits_b, n_b)
    low, high = _joined(hits_a, n_a, hits_b, n_b, *intervals._together(*sides))
    apart = low > 0 or high < 0 or signs_flipped(excesses) < 0.05
    return _tested(dealt_anew(hits_a, n_a, hits_b, n_b)) if apart else (-1.0, 1.0)


def mover(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Zou and Donner (2008) from the same two intervals and the correlation of the shares as it was found."""
    shares = hits_a / n_a, hits_b / n_b
    together = _found(*shares) if len(n_a) >= 5 else 0.0
    sides = []
    for hits, n in ((hits_a, n_a), (hits_b, n_b)):
        value, (low, high) = hits.sum() / n.sum(), rate_interval(hits, n, SIMILAR_QUESTIONS)
        sides.append((value, value - low, high - value))
    (a, down_a, up_a), (b, down_b, up_b) = sides
    below, above = (np.sqrt(max(x * x + y * y - 2 * together * x * y, 0)) for x, y in ((down_a, up_b), (up_a, down_b)))
    return a - b - below, a - b + above


def paired_t(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Over questions; with equal numbers of answers the CR2 variance with Satterthwaite's degrees of freedom."""
    return over_questions(hits_a / n_a - hits_b / n_b)


def wild(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Wild cluster bootstrap-t, Rademacher signs with the null imposed (every sign of up to ten questions)."""
    gaps = hits_a / n_a - hits_b / n_b
    questions = len(gaps)
    if questions <= 10:
        signs = np.array(list(product((-1.0, 1.0), repeat=questions)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (999, questions))
    centred = gaps - gaps.mean()
    moved = signs @ centred / questions
    spread = np.sqrt(np.maximum((centred**2).mean() - moved**2, 0) / (questions - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.quantile(np.nan_to_num(np.abs(moved) / spread, nan=0.0, posinf=np.inf), 0.95, method="higher")
    error = gaps.std(ddof=1) / np.sqrt(questions)
    reach = size * error if error else 0.0
    return float(gaps.mean() - reach), float(gaps.mean() + reach)


DIFFERENCES: dict[str, Method] = {
    "ours": ours,
    "signs flipped alone": flips,
    "answers dealt anew alone": deals,
    "copula of two posteriors, correlation over all questions": copula,
    "two posteriors, independent": independent,
    "ours, tails of the copula counted once": once,
    "MOVER": mover,
    "paired t over questions": paired_t,
    "wild cluster bootstrap-t": wild,
}
TESTS = ("signs flipped alone", "answers dealt anew alone", "ours, tails of the copula counted once")  # no interval


def over_questions(values: Floats) -> Ends:
    """Student's t interval of a mean over questions."""
    reach = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def effective(hits: Floats, n: Floats) -> Ends:
    """A rate: Wilson at the effective sample size, with Student's quantile (Dean and Pagano 2015)."""
    shares, value = hits / n, hits.sum() / n.sum()
    variance, square = shares.var(ddof=1) / len(n), student.ppf(0.975, len(n) - 1) ** 2
    size = value * (1 - value) / variance if variance else n.sum()
    centre, spread = value + square / (2 * size), np.sqrt(square * (value * (1 - value) + square / (4 * size)) / size)
    return (centre - spread) / (1 + square / size), (centre + spread) / (1 + square / size)


def _tested(p_value: float) -> Ends:
    return (p_value, 1.0) if 0 < p_value < 0.05 else (-1.0, 1.0)


def _found(shares_a: Floats, shares_b: Floats) -> float:
    return float(np.corrcoef(shares_a, shares_b)[0, 1]) if np.ptp(shares_a) and np.ptp(shares_b) else 0.0


def _joined(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats, at: float, spread: float) -> Ends:
    one, other, mass = intervals._scores_of_two(at, spread)
    points = SIMILAR_QUESTIONS.rates(hits_a, n_a, one) - SIMILAR_QUESTIONS.rates(hits_b, n_b, other)
    low, high = intervals._quantiles(points, mass, np.array([0.025, 0.975]))
    value = float(excess(hits_a, n_a, hits_b, n_b).sum() / (n_a * n_b / (n_a + n_b)).sum())
    return min(float(low), value), max(float(high), value)
