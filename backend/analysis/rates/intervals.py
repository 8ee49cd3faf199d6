"""How sure one can be of a rate, or of the difference of two, from counts of hits by question.

Questions differ wildly (46 % emergent misalignment on one, 0 % on another), so there are two things to estimate, and
every function here takes the one it should be about:

SIMILAR_QUESTIONS: the rate on questions like these. The questions asked are a random sample of all that could have
    been; eight of them pin the rate down loosely, however many answers each was given. The distribution of a rate is
    the posterior of a beta-binomial model: question rates follow a Beta, with priors Beta(1/2, 1/2) on its mean and
    Beta(1/2, 1) on the correlation of answers to one question. With one question: of that question alone.
THESE_QUESTIONS: the rate on exactly these questions. Only the sampling of answers is random; strata are the questions.
    Use it to ask whether a re-run of the same evaluation would give the same figure. Wilson's score limits at every
    level, at the effective sample size of the stratified design.

The distribution of a difference comes from those of its two rates, joined by a normal copula whose correlation is the
one between the questions' shares, as uncertain as so few questions leave it. Interval and p-value are read from that
one distribution, so they agree.

Simulated, 95 % intervals on similar questions cover 93-97 % with 16 questions, and mostly with 8. They cover more,
and are wide, with fewer questions, with a handful of hits, and where questions hardly differ. They cover 91-93 % where
questions differ far more than the paper's and two conditions do so independently, or where an edit works on some
questions alone; and they are wrong where questions come in two kinds, never and often, with nothing between.
docs/statistics.md has the numbers, and what was tried beside this. It refuses to know what a hit is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtri

Floats = NDArray[np.float64]

LEVEL = 0.95


class Estimand(Protocol):
    """What a rate is about. Arrays are (question,), hits and counts, every count above 0."""

    def rates(self, hits: Floats, n: Floats, scores: Floats) -> Floats:
        """The rate's distribution at standard normal scores: its 2.5 % point at -1.96, its median at 0."""

    def correlation(self, shares_a: Floats, shares_b: Floats) -> tuple[float, float]:
        """How the errors of two rates on the same questions go together: atanh of the correlation, mean and sd."""

    def moved(self, value: float, pooled: float) -> float:
        """How far a difference is from that of the two rates, where `value` and `pooled` are their estimates."""


class _SimilarQuestions:
    def rates(self, hits: Floats, n: Floats, scores: Floats) -> Floats:
        if len(n) == 1:
            return _score_limits(hits[0], n[0], scores)
        known, means = _posterior(tuple(hits), tuple(n))
        return np.asarray(np.interp(scores, known, means))

    def correlation(self, shares_a: Floats, shares_b: Floats) -> tuple[float, float]:
        """Fisher's normal approximation, atanh(r) with variance 1 / (questions - 3), under the prior Normal(0, 1)."""
        known = max(len(shares_a) - 3, 0)
        constant = not np.ptp(shares_a) or not np.ptp(shares_b)
        found = 0.0 if constant or not known else float(np.corrcoef(shares_a, shares_b)[0, 1])
        at = np.arctanh(np.clip(found, -_SURELY, _SURELY))
        return float(known * at / (known + 1)), (known + 1) ** -0.5

    def moved(self, value: float, pooled: float) -> float:
        """Not at all: the model makes up for unequal numbers of answers, and better than either estimate does."""
        return 0.0


class _TheseQuestions:
    def rates(self, hits: Floats, n: Floats, scores: Floats) -> Floats:
        total, value = n.sum(), hits.sum() / n.sum()
        simple = value * (1 - value) / total
        stratified = float(((n / total) ** 2 * _sampling_variance(hits, n)).sum())
        effect = min(1.0, stratified / simple) if simple else 1.0
        return _score_limits(hits.sum() / effect, total / effect, scores)

    def correlation(self, shares_a: Floats, shares_b: Floats) -> tuple[float, float]:
        """None: given the question, answers are drawn independently."""
        return 0.0, 0.0

    def moved(self, value: float, pooled: float) -> float:
        """By what unequal numbers of answers to each question change."""
        return value - pooled


SIMILAR_QUESTIONS: Estimand = _SimilarQuestions()
THESE_QUESTIONS: Estimand = _TheseQuestions()


def wilson(hits: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The Wilson score interval of `hits` among `n` independent responses."""
    low, high = _score_limits(hits, n, _scores(level))
    return (0.0 if not hits else float(low)), (1.0 if hits == n else float(high))


def rate_interval(hits: Floats, n: Floats, about: Estimand, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the interval of a rate; it reaches 0 without hits, and 1 without misses. Arrays as in Estimand."""
    low, high = about.rates(hits, n, _scores(level))
    return (0.0 if not hits.any() else float(low)), (1.0 if (hits == n).all() else float(high))


def difference_interval(
    hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats, about: Estimand, level: float = LEVEL
) -> tuple[float, float, float, float]:
    """Rate a minus rate b on the same questions: value, both ends of its interval, two-sided p-value (1e-5 at least).

    `value` weighs each question by n_a n_b / (n_a + n_b), so that unequal numbers of answers do not make a difference,
    and is inside the interval. Arrays as in Estimand, in one order of questions.
    """
    shares_a, shares_b = hits_a / n_a, hits_b / n_b
    weights = n_a * n_b / (n_a + n_b)
    value = float(weights @ (shares_a - shares_b) / weights.sum())
    moved = about.moved(value, float(hits_a.sum() / n_a.sum() - hits_b.sum() / n_b.sum()))
    one, other, mass = _scores_of_two(*about.correlation(shares_a, shares_b))
    points = about.rates(hits_a, n_a, one) - about.rates(hits_b, n_b, other) + moved
    order = np.argsort(points)
    points, mass = points[order], mass[order]
    low, high = np.interp([(1 - level) / 2, (1 + level) / 2], np.cumsum(mass) - mass / 2, points)
    tail = min(mass[points <= 0].sum(), mass[points >= 0].sum())
    p_value = float(np.clip(2 * tail, _SMALLEST_P, 1.0))
    return value, max(min(float(low), value), -1.0), min(max(float(high), value), 1.0), p_value


def _scores(level: float) -> Floats:
    return np.asarray(ndtri([(1 - level) / 2, (1 + level) / 2]))


def _score_limits(hits: float, n: float, scores: Floats) -> Floats:
    """The share whose score test against `hits` among `n` gives each standard normal score (Wilson 1927)."""
    share, square = hits / n, scores**2 / n
    spread = np.sqrt(share * (1 - share) / n + square / (4 * n))
    return np.asarray((share + square / 2 + scores * spread) / (1 + square))


def _sampling_variance(hits: Floats, n: Floats) -> Floats:
    """Variance of each question's share given the question, (question,), with shares drawn towards the pooled one.

    One pseudo-answer at the pooled share (itself with a hit and a miss added) keeps a question with no hits, or with
    every one, from looking certain; the divisor makes up for the variance that the pseudo-share loses.
    """
    pooled = (hits.sum() + 1) / (n.sum() + 2)
    share: Floats = (hits + pooled) / (n + 1)
    return np.asarray(share * (1 - share) / (1 - n / (n + 1) ** 2) / n)


# --- two rates together ----------------------------------------------------------------------------------------------

_POINTS = 2048  # of which there are four, in both signs of both
_STRETCH = 1.6  # points are drawn this many standard deviations wide, so that they reach into the tails
_SMALLEST_P = 1e-5
_SURELY = 0.999


@lru_cache(maxsize=1)
def _plane() -> tuple[Floats, Floats, Floats, Floats]:
    """Sum and difference of two standard normals, a third of its own, and the mass of each point; (point,).

    A low-discrepancy sequence (Roberts' R3, powers of the root of x**4 = x + 1). In both signs of both, so that to
    exchange the rates, or hits with misses, only mirrors the result.
    """
    root = 1.22074408460575947536
    spread = (0.5 + np.arange(1, _POINTS + 1)[:, None] / root ** np.arange(1, 4)) % 1
    total, gap, third = ndtri(spread).T
    mass = np.exp((total**2 + gap**2) * (1 - _STRETCH**2) / 2)
    signed = np.concatenate([_STRETCH * np.stack([i * total, j * gap]) for i in (1, -1) for j in (1, -1)], axis=1)
    return signed[0], signed[1], np.tile(third, 4), np.tile(mass / (4 * mass.sum()), 4)


def _scores_of_two(centre: float, spread: float) -> tuple[Floats, Floats, Floats]:
    """Standard normal scores of both rates and the mass of each pair, (point,), atanh(correlation) being normal."""
    total, gap, third, mass = _plane()
    together = np.tanh(centre + spread * third)
    total, gap = np.sqrt((1 + together) / 2) * total, np.sqrt((1 - together) / 2) * gap
    return total + gap, total - gap, mass


# --- the beta-binomial model of questions ----------------------------------------------------------------------------

_MEANS, _CORRELATIONS = 256, 16
_NEVER = 1e-15


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats, Floats, Floats]:
    """Alpha, beta and log B(alpha, beta) of question rates, (mean, correlation), and the upper ends of means (mean,).

    Every point is equally likely a priori: the angles of the means are equally spaced (Jeffreys' prior), and the
    correlations of answers to one question are at equal steps of the distribution function of Beta(1/2, 1). The paper's
    eight questions have a correlation of about 0.2; less weight on large ones covers too little where they are larger.
    """
    means = _middles()
    correlation = ((np.arange(_CORRELATIONS) + 0.5) / _CORRELATIONS) ** 2  # the quantile of Beta(1/2, 1)
    size = (1 - correlation) / correlation
    alpha, beta = means * size, (1 - means) * size
    ends = (1 - np.cos(np.pi * np.arange(1, _MEANS + 1) / _MEANS)) / 2
    return alpha, beta, gammaln(alpha) + gammaln(beta) - gammaln(alpha + beta), ends


@lru_cache(maxsize=512)
def _log_likelihood(hits: float, n: float) -> Floats:
    """Of one question's count, up to a constant, (mean, correlation)."""
    alpha, beta, log_beta, _ = _grid()
    return np.asarray(gammaln(alpha + hits) + gammaln(beta + n - hits) - gammaln(alpha + beta + n) - log_beta)


@lru_cache(maxsize=256)
def _posterior(hits: tuple[float, ...], n: tuple[float, ...]) -> tuple[Floats, Floats]:
    """The distribution of the mean question rate: normal scores of its distribution function, and the means there."""
    log_posterior = sum((_log_likelihood(*count) for count in zip(hits, n, strict=True)), start=np.zeros(()))
    mass = np.exp(log_posterior - log_posterior.max()).sum(axis=1)
    below = np.append(0, np.cumsum(mass) / mass.sum())
    return ndtri(np.clip(below, _NEVER, 1 - _NEVER)), np.append(0, _grid()[3])


def question_rates(hits: Floats, n: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Draws from the joint distribution of every question's own rate, (draw, question); n may be 0.

    The same model with the neutral prior Beta(1/3, 1/3) on the mean (Kerman 2011, doi 10.1214/11-EJS648): it serves for
    shares that are summed over strata, where Jeffreys' prior of each would add up to a bias away from 0.
    """
    alpha, beta, _, _ = _grid()
    counted = (_log_likelihood(*count) for count in zip(hits, n, strict=True) if count[1])
    log_posterior = sum(counted, start=np.zeros(alpha.shape)) - _NEUTRAL * np.log(_middles() * (1 - _middles()))
    mass = np.exp(log_posterior - log_posterior.max())
    mean, correlation = np.divmod(rng.choice(mass.size, draws, p=(mass / mass.sum()).ravel()), _CORRELATIONS)
    one, other = alpha[mean, correlation][:, None] + hits, beta[mean, correlation][:, None] + n - hits
    return rng.beta(np.maximum(one, _NEVER), np.maximum(other, _NEVER))


_NEUTRAL = 1 / 2 - 1 / 3


def _middles() -> Floats:
    """The means of the grid, (mean, 1)."""
    return (1 - np.cos(np.pi * (np.arange(_MEANS) + 0.5) / _MEANS))[:, None] / 2
