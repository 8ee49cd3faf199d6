"""A direction as a sum of write vectors: how much of it a least-squares fit explains, and what each vector has of that.

The write vectors of an organism's adapters are what its fine-tuning can write directly; what they leave of a direction
was made of it by other parts. A share explained stands beside what a random direction would have explained, for which
there is a law: with k independent vectors in d dimensions it is Beta(k/2, (d-k)/2). It refuses to know what wrote what.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from backend.analysis.estimates import LEVEL
from backend.records import FloatArray, InputError

Floats = NDArray[np.float64]
FEWEST = 2  # vectors, below which a decomposition is the cosine with one


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The least-squares fit of one direction, both at their natural length."""

    share: float  # of the squared norm that is explained
    chance: tuple[float, float, float]  # of a random direction: the mean share, and what 95 % of them are within
    rank: int  # independent vectors among the writes
    coefficients: Floats  # (write,), in lengths of each write vector's unit
    without: Floats  # (write,), what is lost of the share where the vector is left out
    cosines: Floats  # (write,), of the direction with each


def decomposed(direction: FloatArray, writes: FloatArray) -> Decomposition:
    """`direction` (d,) by `writes` (k, d). Raises InputError on fewer than two of them, or as many as dimensions."""
    target, basis = np.asarray(direction, np.float64), np.asarray(writes, np.float64)
    lengths = np.linalg.norm(basis, axis=1) if basis.ndim == 2 else np.zeros(0)
    basis = basis[lengths > 0] if lengths.size else np.zeros((0, target.size))
    if len(basis) < FEWEST:
        raise InputError(
            f"a direction is decomposed into at least {FEWEST} write vectors, and here are {len(basis)}: choose a "
            "layer behind more adapters, or an organism that has more"
        )
    if len(basis) >= target.size:
        raise InputError(
            f"{len(basis)} write vectors explain any direction of {target.size} dimensions: choose fewer adapters"
        )
    unit = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    length = float(target @ target)
    fitted, _, rank, _ = np.linalg.lstsq(unit.T, target, rcond=None)
    share = _share(unit, target)
    low, high = betaincinv(rank / 2, (target.size - rank) / 2, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    coefficients, without, cosines = (np.full(len(lengths), np.nan) for _ in range(3))
    there = lengths > 0
    coefficients[there] = fitted
    without[there] = [share - _share(np.delete(unit, i, axis=0), target) for i in range(len(unit))]
    cosines[there] = unit @ target / np.sqrt(length)
    return Decomposition(
        share, (rank / target.size, float(low), float(high)), int(rank), coefficients, without, cosines
    )


def _share(unit: Floats, target: Floats) -> float:
    fitted = np.linalg.lstsq(unit.T, target, rcond=None)[0]
    return float(1 - np.sum((target - fitted @ unit) ** 2) / (target @ target))
