"""Mean-difference directions: the direction between two classes of answers, and how well it repeats itself.

Directions keep their natural norm. It refuses to know where answers come from, and what a direction tells apart.
Source: paper s3.1; released code activation_steering, vector_util.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.analysis.directions.answers import Answers, Balance, Pooling
from backend.analysis.directions.cosines import row_cosines
from backend.analysis.estimates import Estimate
from backend.analysis.groups import Bools, Floats, group_draws, groups_with_both
from backend.records import Direction, FloatArray, InputError


@dataclass(frozen=True, eq=False)
class MeanDifference:
    """Mean of the positive answers minus mean of the negative ones: weights chosen once, taken at any layer."""

    name: str
    answers: Answers
    weights: Floats  # (answer,), they sum to 1 over the positive ones and to -1 over the negative ones
    provenance: Mapping[str, Any]  # what was done, and what the caller said of it

    @classmethod
    def of(
        cls,
        answers: Answers,
        *,
        name: str,
        pooling: Pooling = "response",
        balance: Balance = "weights",
        seed: int = 0,
        provenance: Mapping[str, Any] | None = None,
    ) -> MeanDifference:
        """Of answers weighed by `Answers.weights`.

        Raises InputError where fewer than two groups have both classes to match.
        """
        if balance == "matching":
            answers.refuse_few("match classes by question")
        weights = answers.weights(pooling, balance, seed)
        kept = weights > 0
        done = {
            "method": "mean difference",
            "pooling": pooling,
            "balance": balance,
            "n_positive": int((kept & answers.labels).sum()),
            "n_negative": int((kept & ~answers.labels).sum()),
            "questions": len(np.unique(answers.codes[kept])),
            "questions_with_both": groups_with_both(answers.codes[kept], answers.labels[kept]),
            "tokens": int(answers.counts[kept].sum()),
            **({"seed": seed} if balance == "truncation" else {}),
        }
        return cls(name, answers, _signed(weights, answers.labels), {**done, **(provenance or {})})

    def at(self, layer: int) -> Direction:
        """The direction at one layer. Raises InputError where both classes have the same mean."""
        kept = np.flatnonzero(self.weights)
        means = self.answers.means.rows(kept).at(layer)
        vector = (self.weights[kept] @ means.astype(np.float64)).astype(np.float32)
        return Direction(self.name, layer, vector, self.answers.means.norms.get(layer), self.provenance)


def stability(
    answers: Answers, *, pooling: Pooling = "response", balance: Balance = "weights", splits: int = 50, seed: int = 0
) -> dict[int, Estimate]:
    """How well mean differences repeat themselves: cosine between the directions of two random halves, by layer.

    Whole groups go to one half. The value is the median over `splits` random halvings, the same for all layers; the
    ends hold 95 % of them. Halvings that leave a class empty in a half are drawn again; raises InputError where that
    does not succeed. A direction of all answers is more stable than the halves are.
    """
    labels, codes, weights = answers.labels, answers.codes, answers.weights(pooling, balance)
    rng = np.random.default_rng(seed)
    size = int(codes.max(initial=0)) + 1
    halves: list[Floats] = []
    for _ in range(splits * 20):
        half = (rng.permutation(size) < size // 2)[codes]
        if all(weights[part & side].any() for part in (half, ~half) for side in (labels, ~labels)):
            halves += [_signed(weights * part, labels) for part in (half, ~half)]
        if len(halves) == 2 * splits:
            made = _differences(np.stack(halves), answers)
            return {layer: _spread(row_cosines(pair[::2], pair[1::2])) for layer, pair in made}
    raise InputError(
        f"{len(labels)} responses in {size} groups do not fall into two halves that both hold both classes: "
        "add responses, or split by response"
    )


def bootstrap_cosine(
    answers: Answers, *, pooling: Pooling = "response", balance: Balance = "weights", draws: int = 100, seed: int = 0
) -> dict[int, Estimate]:
    """Cosine between the direction of all answers and those of bootstrap samples of its groups, by layer.

    Value and ends as in `stability`. Draws without one of the classes are left out; raises InputError where all are.
    """
    labels, weights = answers.labels, answers.weights(pooling, balance)
    codes, times = group_draws(answers.codes, np.random.default_rng(seed), draws)
    drawn = times[:, codes] * weights
    kept = [row for row in drawn if row[labels].any() and row[~labels].any()]
    if not kept:
        raise InputError("no bootstrap sample of the groups holds both classes: add responses or questions")
    made = _differences(np.stack([_signed(row, labels) for row in (weights, *kept)]), answers)
    return {layer: _spread(row_cosines(vectors[:1], vectors[1:])) for layer, vectors in made}


def _signed(weights: Floats, labels: Bools) -> Floats:
    """Weights (answer,) that sum to 1 over positive ones and to -1 over negative ones: times means, a direction."""
    signed = np.zeros(len(weights))
    signed[labels] = weights[labels] / weights[labels].sum()
    signed[~labels] = -weights[~labels] / weights[~labels].sum()
    return signed


def _differences(weights: Floats, answers: Answers) -> Iterator[tuple[int, FloatArray]]:
    """Directions (row, d_model), one for each row of signed weights (row, answer), layer by layer."""
    seen = np.flatnonzero(weights.any(axis=0))
    light, means = weights[:, seen].astype(np.float32), answers.means.rows(seen)
    for layer in means.by_layer:
        yield layer, light @ means.at(layer)


def _spread(values: FloatArray) -> Estimate:
    low, value, high = np.nanquantile(values, [0.025, 0.5, 0.975]) if np.isfinite(values).any() else [np.nan] * 3
    return Estimate(float(value), float(low), float(high))
