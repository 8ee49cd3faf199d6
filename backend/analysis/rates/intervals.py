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

Of a difference, chance.py says how often chance alone would set the two as far apart: by the draw of answers, which
must always be ruled out, and, for questions like these, by the draw of questions too. How large it can be comes, for
these questions, from Newcombe's interval; for questions like these from the distributions of the two rates, joined by a
normal copula whose correlation is the one between the questions' shares, as uncertain as the questions with hits leave
it. Interval and p-value agree about zero at every level (`agreeing`). docs/statistics.md says how often both hold, and
what was tried beside this. It refuses to know what a hit is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtri

from backend.analysis.rates.chance import dealt_anew, excess, signs_flipped

Floats = NDArray[np.float64]
Counts = tuple[Floats, Floats]  # hits and answers, (question,) each

LEVEL = 0.95


class Estimand(Protocol):
    """What a rate is about. Arrays are (question,), hits and counts, every count above 0."""

    def rates(self, hits: Floats, n: Floats, scores: Floats) -> Floats:
        """The rate's distribution at standard normal scores: its 2.5 % point at -1.96, its median at 0."""

    def apart(self, a: Counts, b: Counts, value: float, level: float) -> tuple[float, float, float]:
        """Both ends of the interval of the difference, found to be `value`, and the p-value of none.

        `a` and `b` are hits and counts of either side.
        """

    def gaps(self, a: Counts, b: Counts, draws: int, rng: np.random.Generator) -> Floats:
        """Draws from the distribution of rate a minus rate b, (draw,), without what chance.py tests."""


class _TheseQuestions:
    def rates(self, hits: Floats, n: Floats, scores: Floats) -> Floats:
        total, value = n.sum(), hits.sum() / n.sum()
        simple = value * (1 - value) / total
        stratified = float(((n / total) ** 2 * _sampling_variance(hits, n)).sum())
        effect = min(1.0, stratified / simple) if simple else 1.0
        return _score_limits(hits.sum() / effect, total / effect, scores)

    def apart(self, a: Counts, b: Counts, value: float, level: float) -> tuple[float, float, float]:
        """Newcombe's interval (1998, method 10): given the question, answers are drawn independently."""
        below, above = (self._reach(*side, level) for side in (a, b))
        low, high = value - np.hypot(below[0], above[1]), value + np.hypot(below[1], above[0])
        return float(low), float(high), dealt_anew(*a, *b)

    def gaps(self, a: Counts, b: Counts, draws: int, rng: np.random.Generator) -> Floats:
        one, other = rng.standard_normal((2, draws))
        return np.asarray(self.rates(*a, one) - self.rates(*b, other))

    def _reach(self, hits: Floats, n: Floats, level: float) -> Floats:
        """How far the interval of a rate reaches below and above it."""
        return np.asarray(np.abs(self.rates(hits, n, _scores(level)) - hits.sum() / n.sum()))


class _SimilarQuestions:
    def rates(self, hits: Floats, n: Floats, scores: Floats) -> Floats:
        if len(n) == 1:
            return _score_limits(hits[0], n[0], scores)
        known, means = _posterior(tuple(hits), tuple(n))
        return np.asarray(np.interp(scores, known, means))

    def apart(self, a: Counts, b: Counts, value: float, level: float) -> tuple[float, float, float]:
        """Both draws have to be ruled out: what the draw of answers alone leaves open is inside.

        Of the draw of questions either test is enough: the flipped signs, or the distributions of the two rates joined
        by a copula, of which every tail counts twice for that.
        """
        low, high, dealt = THESE_QUESTIONS.apart(a, b, value, level)
        if len(a[0]) == 1:
            return low, high, dealt
        one, other, mass = _scores_of_two(*_together(a, b))
        points = self.rates(*a, one) - self.rates(*b, other)
        lower, upper = map(float, _quantiles(points, mass, np.array([(1 - level) / 4, (3 + level) / 4])))
        beyond = float(mass[points * np.sign(value) <= 0].sum())  # all of it where the value is zero
        model = min(max(4 * beyond, _SMALLEST_P), 1.0)
        return min(low, lower), max(high, upper), max(dealt, min(signs_flipped(excess(*a, *b)), model))

    def gaps(self, a: Counts, b: Counts, draws: int, rng: np.random.Generator) -> Floats:
        """Joined by the same copula, its correlation drawn as unsure as it is."""
        if len(a[0]) == 1:
            return THESE_QUESTIONS.gaps(a, b, draws, rng)
        centre, spread = _together(a, b)
        one, other, third = rng.standard_normal((3, draws))
        together = np.tanh(centre + spread * third)
        other = together * one + np.sqrt(1 - together**2) * other
        return np.asarray(self.rates(*a, one) - self.rates(*b, other))


THESE_QUESTIONS: Estimand = _TheseQuestions()
SIMILAR_QUESTIONS: Estimand = _SimilarQuestions()


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
    """Rate a minus rate b on the same questions: value, both ends of its interval, two-sided p-value.

    `value` weighs each question by n_a n_b / (n_a + n_b), so that unequal numbers of answers do not make a difference,
    and is inside the interval, which leaves out zero just where the p-value is below 1 - level. Arrays as in Estimand,
    in one order of questions.
    """
    weights = n_a * n_b / (n_a + n_b)
    value = float(excess(hits_a, n_a, hits_b, n_b).sum() / weights.sum())
    low, high, p_value = about.apart((hits_a, n_a), (hits_b, n_b), value, level)
    return value, *agreeing(value, max(low, -1.0), min(high, 1.0), p_value, level), p_value


def agreeing(value: float, low: float, high: float, p_value: float, level: float = LEVEL) -> tuple[float, float]:
    """The ends of an interval, moved where a better test of "it is zero" says otherwise than the interval.

    The value is inside. Zero is, unless the test rules it out at this level. Where it does and the interval does not,
    the end towards zero is the test-based one, value * (1 - z / z_p) (Miettinen 1976): z is the normal score of the
    level, z_p that of the p-value. So it is zero where p is 1 - level, and moves away from it as p falls.
    """
    low, high = min(low, value), max(high, value)
    if p_value >= 1 - level or not value:
        return min(low, 0.0), max(high, 0.0)
    near = value * (1 - float(ndtri((1 + level) / 2) / -ndtri(p_value / 2)))
    if value > 0:
        return (low if low > 0 else near), high
    return low, (high if high < 0 else near)


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


def _together(a: Counts, b: Counts) -> tuple[float, float]:
    """How the errors of two rates on the same questions go together: atanh of the correlation, mean and sd.

    Fisher's normal approximation, atanh(r) with variance 1 / (known - 3), under the prior Normal(0, 1). Known are the
    questions with a hit on either side, or those with a miss if these are fewer: two rates that both come from one
    question go together by construction, which says nothing of other questions.
    """
    hits, n = a[0] + b[0], a[1] + b[1]
    known = max(min(int(np.count_nonzero(hits)), int(np.count_nonzero(n - hits))) - 3, 0)
    shares = a[0] / a[1], b[0] / b[1]
    constant = not np.ptp(shares[0]) or not np.ptp(shares[1])
    found = 0.0 if constant or not known else float(np.corrcoef(*shares)[0, 1])
    at = np.arctanh(np.clip(found, -_SURELY, _SURELY))
    return float(known * at / (known + 1)), (known + 1) ** -0.5


_POINTS = 2048  # of which there are four, in both signs of both
_STRETCH = 1.6  # points are drawn this many standard deviations wide, so that they reach into the tails
_BINS = 2048
_SMALLEST_P = 1e-5
_SURELY = 0.999


def _quantiles(points: Floats, mass: Floats, tails: Floats) -> Floats:
    """Where the distribution function of weighted points has these values, from a fine histogram: no sorting."""
    first, last = points.min(), points.max()
    scale = _BINS / max(last - first, 1e-12)
    held = np.bincount(((points - first) * scale).astype(np.intp), weights=mass, minlength=_BINS + 1)
    below = np.concatenate([[0.0], np.cumsum(held)])
    return np.asarray(np.interp(tails, below / below[-1], first + np.arange(_BINS + 2) / scale))


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
