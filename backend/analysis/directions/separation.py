"""What directions tell apart: projections of answers, held out or plain, and how far apart two classes lie along them.

A mean difference sets any two classes apart on the answers it was made from once there are as many dimensions as
answers; `HeldOut` is what to judge it by. It refuses to know where directions come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from backend.analysis.aucs import auc, auc_estimate, too_few_groups
from backend.analysis.directions.answers import Answers, Balance, Pooling
from backend.analysis.estimates import Estimate, one_more_draw, without_each
from backend.analysis.groups import Bools, Floats, Ints, deal_folds, group_codes, groups_with
from backend.records import Direction, FloatArray, InputError

SHUFFLES_DRAWN = 10  # of labels, behind what a separation is by chance


@dataclass(frozen=True)
class Separation:
    """How far apart two classes lie along a direction: AUC, and d' = difference of means / pooled sd."""

    auc: Estimate
    d_prime: Estimate
    why: str | None  # there are no intervals, where there are none


def project(means: ArrayLike, direction: Direction) -> FloatArray:
    """Projection of activations (n, d_model) on the unit direction, (n,), in residual units."""
    rows = np.asarray(means, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != len(direction.vector):
        raise InputError(
            f"direction {direction.name!r} has {len(direction.vector)} dimensions, the activations have shape "
            f"{rows.shape}: they come from different models"
        )
    return np.asarray(rows @ direction.unit)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Each answer along the unit mean difference of the other folds: folds are dealt once, used at any layer.

    Folds hold whole groups (questions).
    """

    answers: Answers
    read: Ints  # (read,), the rows that have tokens
    fold: Ints  # (read,)
    weights: FloatArray  # (fold and side, read): rows of other folds, which sum to 1; the negative side first

    @classmethod
    def of(
        cls,
        answers: Answers,
        *,
        pooling: Pooling = "response",
        balance: Balance = "weights",
        folds: int = 5,
        seed: int = 0,
    ) -> HeldOut:
        """Raises InputError where a class comes from fewer than two groups, or fewer than two can be matched."""
        read = np.flatnonzero(answers.counts > 0)
        codes, truth = group_codes(answers.codes[read], len(read)), answers.labels[read]
        folds = min(folds, *groups_with(codes, truth))
        if folds < 2:
            raise InputError(
                "held-out projections need responses of each class from at least two groups: "
                "add questions, or group by response"
            )
        fold = deal_folds(codes, truth, folds, np.random.default_rng(seed))
        trained = fold != np.arange(folds)[:, None]
        weights = np.stack([trained & ~truth, trained & truth], axis=1).reshape(2 * folds, -1)
        weights = weights * answers.weights(pooling, balance)[read]
        if not weights.any(axis=1).all():
            raise InputError(
                "held-out projections of matched classes need at least two questions with responses of both classes: "
                "add questions, or do not match"
            )
        weights /= weights.sum(axis=1, keepdims=True)
        return cls(answers, read, fold, weights.astype(np.float32))

    def project(self, layer: int) -> Floats:
        """Projections at one layer from the midpoint of the two classes, (answer,), in residual units.

        Positive is towards the positive class; NaN for answers without tokens.
        """
        size = len(self.answers.labels)
        means = self.answers.means
        at = means.at(layer) if len(self.read) == size else means.rows(self.read).at(layer)
        of_class = (self.weights @ at).astype(np.float64).reshape(-1, 2, at.shape[1])
        negative, positive = of_class[:, 0], of_class[:, 1]
        unit = positive - negative
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-30)
        middle = ((positive + negative) / 2 * unit).sum(axis=1)
        along = at @ unit.T.astype(np.float32)  # (read, fold)
        projections = np.full(size, np.nan)
        projections[self.read] = along[np.arange(len(at)), self.fold] - middle[self.fold]
        return projections


def separation(projections: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None) -> Separation:
    """AUC and d' of projections (n,) between True and False labels, with intervals over `groups` (n,).

    Non-finite projections are left out. On the responses a direction was made from this flatters it: give it those of
    `HeldOut`. Ends are NaN where `why` says so. Raises InputError where a class is empty.
    """
    scores, sides = np.asarray(projections, dtype=np.float64), np.asarray(labels, dtype=bool)
    kept = np.isfinite(scores)
    codes = group_codes(None if groups is None else np.asarray(groups)[kept], int(kept.sum()))
    scores, sides = scores[kept], sides[kept]
    if sides.all() or not sides.any():
        raise InputError("separation needs responses of both classes, and all of these are of one: loosen the bands")
    why, size = too_few_groups(codes, sides), int(codes.max()) + 1
    value = float(_d_prime(_sums(scores, sides, codes, size).sum(axis=1, keepdims=True))[0])
    area = auc_estimate(scores, sides, codes)
    if why is not None:
        return Separation(area, Estimate(value, np.nan, np.nan), why)
    by_group = _sums(scores, sides, codes, size)
    left = _d_prime(by_group.sum(axis=1, keepdims=True) - by_group)
    return Separation(area, without_each(value, left, min(groups_with(codes, sides))), None)


def shuffled_aucs(
    answers: Answers,
    *,
    pooling: Pooling = "response",
    balance: Balance = "weights",
    shuffles: int = SHUFFLES_DRAWN,
    seed: int = 0,
) -> dict[int, Estimate]:
    """What the AUC of `HeldOut` is by chance, by layer: of labels shuffled within groups, and judged by them.

    It is not 0.5 where groups differ in how often they have each class: what tells groups apart tells those apart, too.
    Ends hold 95 % of further shuffles. Raises InputError where labels cannot be shuffled within groups.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[int, list[float]] = {layer: [] for layer in answers.means.by_layer}
    for _ in range(shuffles):
        dealt = answers.shuffled(rng)
        held_out = HeldOut.of(dealt, pooling=pooling, balance=balance)
        for layer, found in drawn.items():
            found.append(auc(held_out.project(layer)[held_out.read], dealt.labels[held_out.read]))
    return {layer: one_more_draw(np.array(found)) for layer, found in drawn.items()}


def _sums(scores: Floats, labels: Bools, codes: Ints, size: int) -> Floats:
    """Count, sum and sum of squares of the rows of each class, (class and power, group); the positive class first."""
    centred = scores - scores.mean()
    powers = [centred**power * side for side in (labels, ~labels) for power in (0, 1, 2)]
    return np.stack([np.bincount(codes, of, minlength=size) for of in powers])


def _d_prime(sums: Floats) -> Floats:
    """(column,) difference of class means over the root of the mean of their variances; NaN where both are constant."""
    n, first, second = np.where(sums.reshape(2, 3, -1)[:, :1] > 0, sums.reshape(2, 3, -1), np.nan).transpose(1, 0, 2)
    means = first / n
    pooled = np.sqrt(np.maximum((second / n - means**2).mean(axis=0), 0))
    gap: Floats = means[0] - means[1]
    values = np.full(gap.shape, np.nan)
    np.divide(gap, pooled, out=values, where=pooled > 1e-12)
    return values
