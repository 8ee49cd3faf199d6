"""Cosines between vectors, and what random ones reach.

It refuses to know what the vectors are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from backend.records import Direction, FloatArray


def comparable(one: Direction, other: Direction) -> bool:
    """Whether a cosine of the two means anything: of one width, and of one base model where both say theirs."""
    models = {each.provenance["model"] for each in (one, other) if each.provenance.get("model")}
    return one.vector.size == other.vector.size and one.d_model == other.d_model and len(models) < 2


def cosine_matrix(vectors: Sequence[Direction] | FloatArray) -> FloatArray:
    """Cosine between every two of `vectors` (k directions, or an array (k, d_model)), (k, k); NaN for a zero vector."""
    rows = np.array([vector.vector if isinstance(vector, Direction) else vector for vector in vectors], np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.full_like(rows, np.nan), where=norms > 0)
    return np.asarray(np.clip(unit @ unit.T, -1, 1), dtype=np.float32)


def row_cosines(one: FloatArray, other: FloatArray) -> FloatArray:
    """Cosine between the rows of two arrays (row, d_model) or (1, d_model), (row,); NaN where a row is zero."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = (one * other).sum(axis=1)
    cosines: FloatArray = np.full_like(products, np.nan)
    np.divide(products, norms, out=cosines, where=norms > 0)
    return cosines


def chance(width: int, level: float = 0.95) -> float:
    """The size of cosine that two random directions of so many dimensions stay under with probability `level`."""
    return float(np.sqrt(betaincinv(0.5, (width - 1) / 2, level)))
