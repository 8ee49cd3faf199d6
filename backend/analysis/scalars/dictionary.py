"""A small sparse autoencoder on the vector of all adapter scalars at a token, beside what it must beat.

TopK: at each token the k features with the largest positive reading are active, so that its L0 is k at most. Scalars
are brought to mean 0 and deviation 1 an adapter while it is trained; the weights that it ends with read them as they
are, in the form of sae-lens: features = topk(relu((x - b_dec) W_enc + b_enc)), x = features W_dec + b_dec. Beside it,
at equal L0: the first k principal components, and at each token the k adapters that are farthest from their mean.
It refuses to know where scalars come from, and files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.records import InputError

Floats = NDArray[np.float64]
FEWEST = 100  # tokens a feature, below which a dictionary is made of single tokens
_BATCH, _RATE, _CHECK = 512, 3e-3, 250  # tokens a step, Adam's rate, steps between two looks at what is never active


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A TopK autoencoder that reads scalars as they are."""

    encoder: Floats  # (adapter, feature), W_enc
    threshold: Floats  # (feature,), b_enc
    decoder: Floats  # (feature, adapter), W_dec, in the units of the scalars
    centre: Floats  # (adapter,), b_dec
    active: int  # k

    def features(self, scalars: Floats) -> Floats:
        """(token, feature) of scalars (token, adapter)."""
        return _largest((scalars - self.centre) @ self.encoder + self.threshold, self.active)

    def restored(self, scalars: Floats) -> Floats:
        """(token, adapter), what the features say of the scalars."""
        return self.features(scalars) @ self.decoder + self.centre


def trained(scalars: Floats, *, features: int, active: int, steps: int = 4000, seed: int = 0) -> Dictionary:
    """A dictionary of scalars (token, adapter).

    Raises InputError on too few tokens or adapters, an adapter that never changes, or a number of active features that
    is none or as large as that of adapters, which then restores everything.
    """
    tokens, adapters = scalars.shape
    if not 0 < active < min(adapters, features):
        raise InputError(
            f"{active} features cannot be active of {features} on {adapters} adapters: choose 1 to "
            f"{min(adapters, features) - 1}, since as many as adapters restore everything"
        )
    if tokens < FEWEST * features:
        raise InputError(
            f"{tokens} tokens are too few for {features} features: take at most {tokens // FEWEST}, or read more "
            "answers"
        )
    middle, spread = scalars.mean(axis=0), scalars.std(axis=0)
    if not (spread > 0).all():
        raise InputError(f"{int((spread == 0).sum())} adapters never change over these tokens: leave them out")
    rng = np.random.default_rng((seed, *b"dictionary"))
    whitened = (scalars - middle) / spread
    encoder, threshold, decoder, centre = _fitted(whitened, features, active, steps, rng)
    return Dictionary(encoder / spread[:, None], threshold, decoder * spread, middle + spread * centre, active)


def _fitted(x: Floats, features: int, active: int, steps: int, rng: np.random.Generator) -> tuple[Floats, ...]:
    """Adam on the squared error; decoder rows are of length 1, and features that are never active start anew."""
    decoder = _unit(x[rng.integers(len(x), size=features)] + 1e-3 * rng.standard_normal((features, x.shape[1])))
    weights = [decoder.T.copy(), np.zeros(features), decoder, np.zeros(x.shape[1])]
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    used = np.zeros(features)
    for step in range(1, steps + 1):
        batch = x[rng.integers(len(x), size=_BATCH)]
        encoder, threshold, decoder, centre = weights
        found = _largest((batch - centre) @ encoder + threshold, active)
        off = found @ decoder + centre - batch  # (token, adapter)
        back = (off @ decoder.T) * (found > 0)
        slopes = [
            (batch - centre).T @ back,
            back.sum(axis=0),
            found.T @ off,
            off.sum(axis=0) - (back @ encoder.T).sum(axis=0),
        ]
        rate = _RATE * min(1.0, 2 * (1 - step / (steps + 1)))
        for i, slope in enumerate(slopes):
            slope = slope / len(batch)
            first[i] += 0.1 * (slope - first[i])
            second[i] += 0.001 * (slope**2 - second[i])
            size = np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8
            weights[i] = weights[i] - rate * first[i] / (1 - 0.9**step) / size
        weights[2] = _unit(weights[2])
        used += (found > 0).sum(axis=0)
        if step % _CHECK == 0 and step < 0.7 * steps:
            idle = np.flatnonzero(used == 0)
            worst = batch[np.argsort((off**2).sum(axis=1))[-len(idle) :]] if len(idle) else batch[:0]
            for feature, example in zip(idle, worst, strict=False):
                weights[2][feature] = _unit((example - weights[3])[None])[0]
                weights[0][:, feature] = weights[2][feature]
                weights[1][feature] = 0.0
            used[:] = 0
    return tuple(weights)


def _largest(readings: Floats, active: int) -> Floats:
    """The positive ones of the largest `active` readings of each row; the others are 0."""
    positive = np.maximum(readings, 0)
    if active < positive.shape[1]:
        below = np.argpartition(positive, -active, axis=1)[:, :-active]
        np.put_along_axis(positive, below, 0.0, axis=1)
    return positive


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12))


# --- what it must beat ------------------------------------------------------------------------------------------------


def principal(scalars: Floats) -> Floats:
    """(component, adapter), principal components of scalars at deviation 1, the largest first."""
    whitened = (scalars - scalars.mean(axis=0)) / scalars.std(axis=0)
    return np.asarray(np.linalg.svd(whitened, full_matrices=False)[2])


def restored_by_components(scalars: Floats, learned: Floats, active: int) -> Floats:
    """`scalars` by the first `active` principal components of `learned`."""
    middle, spread = learned.mean(axis=0), learned.std(axis=0)
    axes = principal(learned)[:active]
    return np.asarray(((scalars - middle) / spread) @ axes.T @ axes * spread + middle)


def restored_by_adapters(scalars: Floats, learned: Floats, active: int) -> Floats:
    """`scalars` where at each token the `active` adapters farthest from their mean keep theirs."""
    middle, spread = learned.mean(axis=0), learned.std(axis=0)
    off = (scalars - middle) / spread
    below = np.argpartition(np.abs(off), -active, axis=1)[:, :-active]
    np.put_along_axis(off, below, 0.0, axis=1)
    return np.asarray(off * spread + middle)


def explained(scalars: Floats, restored: Floats, learned: Floats) -> float:
    """The share of the variance of scalars, at the deviations of `learned`, that `restored` has."""
    middle, spread = learned.mean(axis=0), learned.std(axis=0)
    return float(1 - (((scalars - restored) / spread) ** 2).sum() / (((scalars - middle) / spread) ** 2).sum())
