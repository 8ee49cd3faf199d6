"""Mean-difference directions and what they tell apart.

Works on one mean activation per response with its token count, so that both the per-response mean and the paper's
token-pooled mean (s3.1: over all answer tokens) come out exactly. Directions keep their natural norm.
It refuses to know where activations come from. Source: paper s3.1; released code activation_steering, vector_util.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from backend.analysis.estimates import Estimate, auc, auc_draws, expanded_percentile
from backend.analysis.groups import Bools, Floats, Ints, deal_folds, group_codes, group_draws, groups_with
from backend.records import RANDOM, SUBSPACE, Direction, FloatArray, InputError, Origin

Pooling = Literal["response", "token"]


@dataclass(frozen=True)
class Separation:
    """How far apart two classes lie along a direction: AUC, and d' = difference of means / pooled sd."""

    auc: Estimate
    d_prime: Estimate


def truncate_larger_class(labels: ArrayLike, seed: int = 0) -> Ints:
    """Row numbers that keep the smaller class whole and as many random rows of the larger, sorted (paper's code)."""
    labels = np.asarray(labels, dtype=bool)
    sides = [np.flatnonzero(side) for side in (labels, ~labels)]
    size = min(map(len, sides))
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(side)[:size] for side in sides]))


def matched_weights(labels: ArrayLike, groups: ArrayLike) -> Floats:
    """Weights (row,) that give both classes the same mix of groups (questions).

    The difference of weighted means is then an average of differences within groups, so that what a question is about
    does not pass for what tells the classes apart. Group g weighs n+ n- / (n+ + n-), 0 where it has one class alone.
    Raises InputError where no group has both classes.
    """
    labels = np.asarray(labels, dtype=bool)
    codes = group_codes(groups, len(labels))
    of_class = np.stack([np.bincount(codes, weights=side) for side in (~labels, labels)])  # (class, group)
    share = of_class.prod(axis=0) / of_class.sum(axis=0)
    if not share.any():
        raise InputError("no question has responses of both classes, so they cannot be compared within questions")
    return np.asarray(share[codes] / of_class[labels.astype(np.intp), codes])


def mean_difference(
    means: ArrayLike,
    counts: ArrayLike,
    labels: ArrayLike,
    *,
    name: str,
    layer: int,
    pooling: Pooling = "response",
    balance: bool = True,
    weights: ArrayLike | None = None,
    seed: int = 0,
    activation_norm: float | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Direction:
    """Mean of the positive responses minus mean of the negative ones, at its natural norm.

    `means` (response, d_model) is the mean activation of each response over its `counts` (response,) answer tokens,
    `labels` (response,) is True for positive. Responses without tokens are left out. Pooling "response" weighs every
    response alike, "token" every token (the paper's). `balance` cuts the larger class at random to the size of the
    smaller (the paper's), which changes the mean only by chance; with `weights` (response,), such as `matched_weights`,
    nothing is cut. What was done is added to the provenance. Raises InputError where a class is empty.
    """
    rows, tokens, sides = _checked(means, counts, labels)
    difference = Difference.of(
        tokens, sides, name=name, pooling=pooling, balance=balance, weights=weights, seed=seed, provenance=provenance
    )
    return difference.at(rows, layer, activation_norm=activation_norm)


@dataclass(frozen=True, eq=False)
class Difference:
    """The responses behind a mean difference and how each weighs: chosen once, taken at any layer."""

    name: str
    weights: Floats  # (response,), they sum to 1 over the positive ones and to -1 over the negative ones
    provenance: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        counts: ArrayLike,
        labels: ArrayLike,
        *,
        name: str,
        pooling: Pooling = "response",
        balance: bool = True,
        weights: ArrayLike | None = None,
        seed: int = 0,
        provenance: Mapping[str, Any] | None = None,
    ) -> Difference:
        """As `mean_difference` says. Raises InputError where a class is empty."""
        tokens, sides = np.asarray(counts, dtype=np.float64), np.asarray(labels, dtype=bool)
        kept = np.flatnonzero(tokens > 0)
        for side, word in ((sides[kept], "positive"), (~sides[kept], "negative")):
            if not side.any():
                raise InputError(
                    f"direction {name!r} has no {word} response with answer tokens among {len(sides)}: "
                    "loosen the bands of the contrast or add responses"
                )
        if balance and weights is None:
            kept = kept[truncate_larger_class(sides[kept], seed)]
        weigh = np.zeros(len(sides))
        weigh[kept] = 1.0 if weights is None else np.asarray(weights, dtype=np.float64)[kept]
        if pooling == "token":
            weigh *= tokens
        done = {
            "method": "mean difference",
            "pooling": pooling,
            "balance": "weights" if weights is not None else "truncation" if balance else "none",
            "n_positive": int(sides[kept].sum()),
            "n_negative": int((~sides[kept]).sum()),
            "tokens": int(tokens[kept].sum()),
            **({"seed": seed} if balance and weights is None else {}),
        }
        return cls(name, _signed(weigh, sides), {**done, **(provenance or {})})

    def at(self, means: FloatArray, layer: int, *, activation_norm: float | None = None) -> Direction:
        """The direction at one layer, of means (response, d_model) there."""
        kept = np.flatnonzero(self.weights)
        vector = (self.weights[kept] @ means[kept].astype(np.float64)).astype(np.float32)
        return Direction(self.name, layer, vector, activation_norm, self.provenance)


def split_half_cosine(
    means: ArrayLike,
    counts: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    pooling: Pooling = "response",
    splits: int = 50,
    seed: int = 0,
) -> Estimate:
    """`stability` at one layer: `means` is (response, d_model)."""
    rows, *_ = _checked(means, counts, labels)
    return stability(rows[None], counts, labels, groups, pooling=pooling, splits=splits, seed=seed)[0]


def stability(
    means: FloatArray,
    counts: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    pooling: Pooling = "response",
    splits: int = 50,
    seed: int = 0,
) -> list[Estimate]:
    """How well mean differences repeat themselves: cosine between the directions of two random halves, a layer each.

    `means` is (layer, response, d_model). With `groups` (response,), say questions, whole groups go to one half. The
    value is the median over `splits` random halvings, the same for all layers; the ends hold 95 % of them. Halvings
    that leave a class empty in a half are drawn again; raises InputError where that does not succeed. A direction of
    all responses is more stable than the halves are.
    """
    _, tokens, sides = _checked(means[0], counts, labels)
    codes = group_codes(groups, len(sides))
    weigh = tokens if pooling == "token" else (tokens > 0).astype(np.float64)
    rng = np.random.default_rng(seed)
    size = int(codes.max(initial=0)) + 1
    halves: list[Floats] = []
    for _ in range(splits * 20):
        half = (rng.permutation(size) < size // 2)[codes]
        if all(weigh[part & side].any() for part in (half, ~half) for side in (sides, ~sides)):
            halves += [_signed(weigh * part, sides) for part in (half, ~half)]
        if len(halves) == 2 * splits:
            return [_spread(_cosines(pair[::2], pair[1::2])) for pair in _differences(np.stack(halves), means)]
    raise InputError(
        f"{len(sides)} responses in {size} groups do not fall into two halves that both hold both classes: "
        "add responses, or split by response"
    )


def bootstrap_cosine(
    means: FloatArray,
    counts: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    pooling: Pooling = "response",
    draws: int = 100,
    seed: int = 0,
) -> list[Estimate]:
    """Cosine between the direction of all responses and those of bootstrap samples of its groups, a layer each.

    Value and ends as in `stability`. Draws without one of the classes are left out; raises InputError where all are.
    """
    _, tokens, sides = _checked(means[0], counts, labels)
    codes = group_codes(groups, len(sides))
    weigh = tokens if pooling == "token" else (tokens > 0).astype(np.float64)
    codes, times = group_draws(codes, np.random.default_rng(seed), draws)
    drawn = times[:, codes] * weigh
    kept = [row for row in drawn if row[sides].any() and row[~sides].any()]
    if not kept:
        raise InputError("no bootstrap sample of the groups holds both classes: add responses or questions")
    weights = np.stack([_signed(weigh, sides), *(_signed(row, sides) for row in kept)])
    return [_spread(_cosines(vectors[:1], vectors[1:])) for vectors in _differences(weights, means)]


def _signed(weights: Floats, labels: Bools) -> Floats:
    """Weights (response,) that sum to 1 over positive rows and to -1 over negative ones: times means, a direction."""
    signed = np.zeros(len(weights))
    signed[labels] = weights[labels] / weights[labels].sum()
    signed[~labels] = -weights[~labels] / weights[~labels].sum()
    return signed


def _differences(weights: Floats, means: FloatArray) -> Iterator[FloatArray]:
    """Directions (row, d_model), one for each row of signed weights (row, response), layer by layer."""
    seen = weights.any(axis=0)
    light = weights[:, seen].astype(np.float32)
    for layer in means:
        yield light @ np.asarray(layer[seen], dtype=np.float32)


def _cosines(one: FloatArray, other: FloatArray) -> FloatArray:
    """Row by row, (row,); NaN where a row is zero."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = (one * other).sum(axis=1)
    cosines: FloatArray = np.full_like(products, np.nan)
    np.divide(products, norms, out=cosines, where=norms > 0)
    return cosines


def _spread(values: FloatArray) -> Estimate:
    low, value, high = np.nanquantile(values, [0.025, 0.5, 0.975]) if np.isfinite(values).any() else [np.nan] * 3
    return Estimate(float(value), float(low), float(high))


def held_out_projections(
    means: ArrayLike,
    counts: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    pooling: Pooling = "response",
    folds: int = 5,
    seed: int = 0,
) -> Floats:
    """Each response along the unit mean difference of the other folds, from the midpoint of their classes, (response,).

    In residual units; positive is towards the positive class. A mean difference sets any two classes apart on the
    responses it was made from once there are as many dimensions as responses; this is what to judge it by. Folds hold
    whole groups (questions); without groups, single responses. NaN for responses without tokens. Raises InputError
    where a class comes from fewer than two groups.
    """
    rows, tokens, sides = _checked(means, counts, labels)
    return HeldOut.of(tokens, sides, groups, pooling=pooling, folds=folds, seed=seed).project(rows)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The folds of `held_out_projections`: dealt once, used at any layer."""

    rows: int
    read: Ints  # (read,), the rows that have tokens
    fold: Ints  # (read,)
    weights: FloatArray  # (fold and side, read): rows of other folds, which sum to 1; the negative side first

    @classmethod
    def of(
        cls,
        counts: ArrayLike,
        labels: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        pooling: Pooling = "response",
        folds: int = 5,
        seed: int = 0,
    ) -> HeldOut:
        """Raises InputError where a class comes from fewer than two groups."""
        tokens, sides = np.asarray(counts, dtype=np.float64), np.asarray(labels, dtype=bool)
        read = np.flatnonzero(tokens > 0)
        codes = group_codes(group_codes(groups, len(sides))[read], len(read))
        truth = sides[read]
        folds = min(folds, *groups_with(codes, truth))
        if folds < 2:
            raise InputError(
                "held-out projections need responses of each class from at least two groups: "
                "add questions, or group by response"
            )
        fold = deal_folds(codes, truth, folds, np.random.default_rng(seed))
        weigh = tokens[read] if pooling == "token" else np.ones(len(read))
        trained = fold != np.arange(folds)[:, None]
        weights = np.stack([trained & ~truth, trained & truth], axis=1).reshape(2 * folds, -1) * weigh
        weights /= weights.sum(axis=1, keepdims=True)
        return cls(len(sides), read, fold, weights.astype(np.float32))

    def project(self, means: FloatArray) -> Floats:
        """Projections (response,) of means (response, d_model) at one layer."""
        at = means if len(self.read) == self.rows else means[self.read]
        of_class = (self.weights @ at).astype(np.float64).reshape(-1, 2, at.shape[1])
        negative, positive = of_class[:, 0], of_class[:, 1]
        unit = positive - negative
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-30)
        middle = ((positive + negative) / 2 * unit).sum(axis=1)
        along = at @ unit.T.astype(np.float32)  # (read, fold)
        projections = np.full(self.rows, np.nan)
        projections[self.read] = along[np.arange(len(at)), self.fold] - middle[self.fold]
        return projections


def random_direction(like: Direction, seed: int = 0) -> Direction:
    """A control: a random direction of the same norm at the same layer, isotropic, unit-normalised before scaling."""
    # a stream of its own: data made from the same seed must not be the control's direction
    draw = np.random.default_rng((seed, *b"random direction")).standard_normal(like.vector.shape)
    vector: FloatArray = np.asarray(draw * (like.norm / np.linalg.norm(draw)), dtype=np.float32)
    said = Origin(RANDOM, like.name, seed).provenance
    return Direction(f"random {seed} like {like.name}", like.layer, vector, like.activation_norm, said)


def random_subspace(like: Direction, size: int, seed: int = 0) -> list[Direction]:
    """A control: `size` orthonormal random directions at the same layer; those of a smaller size are its first ones."""
    width = like.vector.size
    if not 1 <= size < width:
        raise InputError(f"a random subspace of {size} dimensions does not fit into {width}: take 1 to {width - 1}")
    drawn = np.random.default_rng((seed, *b"random subspace")).standard_normal((width, size))
    basis, triangle = np.linalg.qr(drawn)
    vectors = (basis * np.sign(np.diag(triangle))).T.astype(np.float32)
    name = f"random subspace like {like.name}"
    drawn_as = Origin(SUBSPACE, like.name, seed, dimensions=size)
    return [
        Direction(name, like.layer, vector, like.activation_norm, replace(drawn_as, index=index).provenance)
        for index, vector in enumerate(vectors)
    ]


def rescaled(direction: Direction, norm: float) -> Direction:
    """The same direction at another norm."""
    return replace(direction, vector=np.asarray(direction.unit * np.float32(norm), dtype=np.float32))


def cosine_matrix(vectors: Sequence[Direction] | FloatArray) -> FloatArray:
    """Cosine between every two of `vectors` (k directions, or an array (k, d_model)), (k, k); NaN for a zero vector."""
    rows = np.array([vector.vector if isinstance(vector, Direction) else vector for vector in vectors], np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.full_like(rows, np.nan), where=norms > 0)
    return np.asarray(np.clip(unit @ unit.T, -1, 1), dtype=np.float32)


def project(means: ArrayLike, direction: Direction) -> FloatArray:
    """Projection of activations (n, d_model) on the unit direction, (n,), in residual units."""
    rows = np.asarray(means, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != len(direction.vector):
        raise InputError(
            f"direction {direction.name!r} has {len(direction.vector)} dimensions, the activations have shape "
            f"{rows.shape}: they come from different models"
        )
    return np.asarray(rows @ direction.unit)


def separation(
    projections: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0
) -> Separation:
    """AUC and d' of projections (n,) between True and False labels, with intervals bootstrapped over `groups` (n,).

    Non-finite projections are left out. On the responses a direction was made from this flatters it: give it
    `held_out_projections`. Intervals are NaN where a class comes from a single group. Raises InputError where a class
    is empty.
    """
    drawn = _Drawn.of(projections, labels, groups, seed)
    one = np.zeros_like(drawn.codes), np.ones((1, 1))
    value = float(_d_prime(*_moments(drawn.scores, drawn.labels, *one))[0])
    if drawn.counts is None:
        return Separation(drawn.auc(drawn.scores), Estimate(value, np.nan, np.nan))
    moments = _moments(drawn.scores, drawn.labels, drawn.codes, drawn.counts)
    return Separation(drawn.auc(drawn.scores), Estimate(value, *expanded_percentile(_d_prime(*moments), drawn.size)))


def aucs(
    projections: Sequence[ArrayLike], labels: ArrayLike, groups: ArrayLike | None = None, *, seed: int = 0
) -> list[Estimate]:
    """The AUCs that `separation` gives, of the same responses along several directions."""
    found: list[Estimate] = []
    drawn: _Drawn | None = None
    for scores in projections:
        flat = np.asarray(scores, dtype=np.float64)
        if drawn is None or not np.array_equal(np.isfinite(flat), drawn.kept):
            drawn = _Drawn.of(flat, labels, groups, seed)
        found.append(drawn.auc(flat[drawn.kept]))
    return found


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The responses with a finite projection, and a bootstrap over their groups."""

    kept: Bools  # (n,)
    scores: Floats  # (kept,), of the projections it was made from
    labels: Bools  # (kept,)
    codes: Ints  # (kept,)
    counts: Floats | None  # (draw, group); None where a class comes from a single group
    size: int  # groups

    @classmethod
    def of(cls, projections: ArrayLike, labels: ArrayLike, groups: ArrayLike | None, seed: int) -> _Drawn:
        """Raises InputError where a class is empty."""
        scores, sides = np.asarray(projections, dtype=np.float64), np.asarray(labels, dtype=bool)
        kept = np.isfinite(scores)
        codes = group_codes(None if groups is None else np.asarray(groups)[kept], int(kept.sum()))
        scores, sides = scores[kept], sides[kept]
        if sides.all() or not sides.any():
            raise InputError(
                "separation needs responses of both classes, and all of these are of one: loosen the bands"
            )
        size = int(codes.max()) + 1
        if min(groups_with(codes, sides)) < 2:
            return cls(kept, scores, sides, codes, None, size)
        codes, counts = group_draws(codes, np.random.default_rng(seed))
        return cls(kept, scores, sides, codes, counts, size)

    def auc(self, scores: Floats) -> Estimate:
        """The AUC of scores (kept,) with its interval."""
        value = auc(scores, self.labels)
        if self.counts is None:
            return Estimate(value, np.nan, np.nan)
        return Estimate(value, *expanded_percentile(auc_draws(scores, self.labels, self.codes, self.counts), self.size))


def _checked(means: ArrayLike, counts: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, Floats, Bools]:
    rows = np.asarray(means, dtype=np.float32)
    tokens, sides = np.asarray(counts, dtype=np.float64), np.asarray(labels, dtype=bool)
    if rows.ndim != 2 or tokens.shape != (len(rows),) or sides.shape != (len(rows),):
        raise InputError(
            f"means (response, d_model), counts and labels (response,) do not fit: {rows.shape}, {tokens.shape}, "
            f"{sides.shape}"
        )
    return rows if (tokens > 0).all() else np.where(tokens[:, None] > 0, rows, np.float32(0)), tokens, sides


def _moments(scores: Floats, labels: Bools, codes: Ints, counts: Floats) -> tuple[Floats, Floats]:
    """Per draw: count, mean and variance of each class: (side, draw) mean and variance."""
    centred = scores - scores.mean()
    means, variances = [], []
    for side in (labels, ~labels):
        n, first, second = (
            counts @ np.bincount(codes[side], weights=centred[side] ** power, minlength=counts.shape[1])
            for power in (0, 1, 2)
        )
        n = np.where(n > 0, n, np.nan)
        means.append(first / n)
        variances.append(second / n - (first / n) ** 2)
    return np.stack(means), np.stack(variances)


def _d_prime(means: Floats, variances: Floats) -> Floats:
    """(draw,) difference of class means over the root of the mean of their variances; NaN where both are constant."""
    pooled = np.sqrt(variances.mean(axis=0))
    gap: Floats = means[0] - means[1]
    values = np.full(gap.shape, np.nan)
    np.divide(gap, pooled, out=values, where=pooled > 0)
    return values
