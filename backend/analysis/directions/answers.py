"""Two classes of answers as mean activations: what a mean difference is made of, and how much each answer counts in it.

One mean activation an answer with its token count, so that both the per-response mean and the paper's token-pooled mean
(s3.1: over all answer tokens) come out exactly. Everything is checked here, once, and never again where it is used.
It refuses to know where activations come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backend.analysis.groups import FEWEST_WITH_BOTH, Bools, Floats, Ints, group_codes, groups_with_both, shuffled
from backend.records import FloatArray, InputError

Pooling = Literal["response", "token"]  # what counts alike; the paper's is "token"
Balance = Literal["weights", "matching", "truncation"]  # the paper's is "truncation"
MATCHED: Balance = "matching"
BALANCES: Mapping[Balance, str] = {
    "weights": "every answer counts, and both classes weigh alike",
    "matching": "every question weighs as much in one class as in the other; questions of one class drop out",
    "truncation": "the larger class is cut at random to the size of the smaller, as in the paper's code",
}


@dataclass(frozen=True, eq=False)
class Means:
    """Residual means of the same answers at several layers, with the tokens behind them.

    Raises InputError where shapes do not fit, or an answer that has tokens has a mean that is not finite.
    """

    by_layer: Mapping[int, FloatArray]  # layer -> (row, d_model)
    counts: NDArray[Any]  # (answer,) tokens
    norms: Mapping[int, float] = field(default_factory=dict)  # layer -> mean activation norm, where it is known
    picked: NDArray[np.intp] | None = None  # (answer,) rows that these are; None: all, in their order

    def __post_init__(self) -> None:
        if self.picked is not None:
            return  # of means that were checked
        object.__setattr__(self, "counts", np.asarray(self.counts))
        object.__setattr__(
            self, "by_layer", {layer: np.asarray(rows, dtype=np.float32) for layer, rows in self.by_layer.items()}
        )
        for layer, rows in self.by_layer.items():
            if rows.ndim != 2 or self.counts.shape != (len(rows),):
                raise InputError(
                    f"means (answer, d_model) of layer {layer} and counts (answer,) do not fit: {rows.shape} and "
                    f"{self.counts.shape}"
                )
            broken = ~np.isfinite(rows).all(axis=1) & (self.counts > 0)
            if broken.any():
                raise InputError(
                    f"layer {layer} holds NaN or infinity in the means of {broken.sum()} of {len(rows)} answers: "
                    "trace them again"
                )

    def rows(self, picked: NDArray[np.intp]) -> Means:
        """The same layers of some of the answers, in the order of `picked`; nothing is copied yet."""
        rows = picked if self.picked is None else self.picked[picked]
        return Means(self.by_layer, self.counts[picked], self.norms, rows)

    def only(self, *layers: int) -> Means:
        """Some of the layers of the same answers."""
        by_layer = {layer: self.by_layer[layer] for layer in layers}
        return Means(by_layer, self.counts, self.norms, self.picked)

    def at(self, layer: int) -> FloatArray:
        """The means at one layer, (answer, d_model)."""
        there = self.by_layer[layer]
        return there if self.picked is None else there[self.picked]


@dataclass(frozen=True, eq=False)
class Answers:
    """Means of answers of two classes, and the groups (questions) that they come from.

    Answers without tokens count nowhere. Raises InputError where shapes do not fit, or a class has no answer with
    tokens.
    """

    means: Means
    labels: Bools  # (answer,), True for positive
    groups: NDArray[Any] | None = None  # (answer,), of any values; None: every answer by itself
    codes: Ints = field(init=False)  # (answer,), the groups as 0..k-1

    def __post_init__(self) -> None:
        labels, size = np.asarray(self.labels, dtype=bool), len(self.means.counts)
        if labels.shape != (size,):
            raise InputError(f"labels (answer,) of shape {labels.shape} do not fit {size} answers")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "codes", group_codes(self.groups, size))
        for side, word in ((labels, "positive"), (~labels, "negative")):
            if not (self.means.counts[side] > 0).any():
                raise InputError(
                    f"there is no {word} response with answer tokens among {size}: "
                    "loosen the bands of the contrast or add responses"
                )

    @property
    def counts(self) -> NDArray[Any]:
        """Tokens, (answer,)."""
        return self.means.counts

    def rows(self, picked: NDArray[np.intp]) -> Answers:
        """Some of the answers, in the order of `picked`."""
        return Answers(self.means.rows(picked), self.labels[picked], self.codes[picked])

    def only(self, *layers: int) -> Answers:
        """The same answers at some of the layers."""
        return Answers(self.means.only(*layers), self.labels, self.codes)

    @property
    def with_both(self) -> int:
        """How many groups have answers with tokens of both classes."""
        read = self.counts > 0
        return groups_with_both(self.codes[read], self.labels[read])

    def shuffled(self, rng: np.random.Generator) -> Answers:
        """The same answers with labels dealt anew among those with tokens, within groups.

        A group has as many of each label as before, so which groups a class comes from stays. Raises InputError where
        fewer than two groups have both classes: there is next to nothing to deal.
        """
        self.refuse_few("shuffle labels within questions")
        read = np.flatnonzero(self.counts > 0)
        labels = self.labels.copy()
        labels[read] = shuffled(labels[read], self.codes[read], rng, read)
        return Answers(self.means, labels, self.codes)

    def refuse_few(self, what: str) -> None:
        """Raises InputError where fewer than FEWEST_WITH_BOTH groups have both classes; `what` was to be done."""
        if self.with_both < FEWEST_WITH_BOTH:
            size = len(np.unique(self.codes))
            raise InputError(
                f"{self.with_both} of {size} questions {'has' if self.with_both == 1 else 'have'} responses of both "
                f"classes, and to {what} takes {FEWEST_WITH_BOTH}: add responses or questions, or loosen the bands"
            )

    def weights(self, pooling: Pooling = "response", balance: Balance = "weights", seed: int = 0) -> Floats:
        """How much each answer counts in the mean of its class, (answer,), not negative; 0 without tokens.

        Pooling "response" weighs every answer alike, "token" every token. Balance "weights" is no more than that: a
        mean of each class, so that both weigh alike however many answers they have. "matching" is `matched_weights`;
        "truncation", the paper's, leaves out as many random answers of the larger class as it has more (`seed`), which
        changes a mean only by chance.
        """
        read = self.counts > 0
        weights = np.where(read, self.counts, 0).astype(np.float64) if pooling == "token" else read.astype(np.float64)
        if balance == "matching":
            return matched_weights(self.labels, self.codes, weights)
        if balance == "truncation":
            answered = np.flatnonzero(read)
            kept = answered[truncate_larger_class(self.labels[answered], seed)]
            weights[np.setdiff1d(answered, kept)] = 0
        return weights


def truncate_larger_class(labels: ArrayLike, seed: int = 0) -> Ints:
    """Row numbers that keep the smaller class whole and as many random rows of the larger, sorted (paper's code)."""
    labels = np.asarray(labels, dtype=bool)
    sides = [np.flatnonzero(side) for side in (labels, ~labels)]
    size = min(map(len, sides))
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(side)[:size] for side in sides]))


def matched_weights(labels: ArrayLike, groups: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Weights (row,) that give both classes the same mix of groups (questions), from `weights` (row,) or from ones.

    The difference of weighted means is then an average of differences within groups, so that what a question is about
    does not pass for what tells the classes apart. A group whose classes weigh w+ and w- comes in with
    w+ w- / (w+ + w-), so with 0 where it has one class alone. Raises InputError where no group has both classes.
    """
    labels = np.asarray(labels, dtype=bool)
    codes = group_codes(groups, len(labels))
    own = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    of_class = np.stack([np.bincount(codes, weights=own * side) for side in (~labels, labels)])  # (class, group)
    both = of_class.all(axis=0)
    if not both.any():
        raise InputError("no question has responses of both classes, so they cannot be compared within questions")
    share = np.zeros_like(of_class)
    share[:, both] = of_class[::-1, both] / of_class[:, both].sum(axis=0)  # what the group comes in with / its own
    return np.asarray(own * share[labels.astype(np.intp), codes])
