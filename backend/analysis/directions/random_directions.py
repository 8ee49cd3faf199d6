"""What a direction is set beside: random directions and subspaces at its layer, and itself at another norm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backend.records import RANDOM, SUBSPACE, Direction, FloatArray, InputError, Origin


def random_direction(like: Direction, seed: int = 0) -> Direction:
    """A control: a random direction of the same norm at the same layer, isotropic, unit-normalised before scaling."""
    # a stream of its own: data made from the same seed must not be the control's direction
    draw = np.random.default_rng((seed, *b"random direction")).standard_normal(like.vector.shape)
    vector: FloatArray = np.asarray(draw * (like.norm / np.linalg.norm(draw)), dtype=np.float32)
    said = Origin(RANDOM, like.name, seed).provenance
    return Direction(f"random {seed} like {like.name}", like.layer, vector, like.activation_norm, said)


def random_subspace(like: Direction, size: int, seed: int = 0) -> list[Direction]:
    """A control: `size` orthonormal random directions at the same layer; drawn anew for every size and seed."""
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
