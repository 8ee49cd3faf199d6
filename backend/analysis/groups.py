"""Rows that belong together (tokens of one response, responses to one question): they are drawn and held out together.

It refuses to know what the rows are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backend.records import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

FEWEST_WITH_BOTH = 2  # groups with both labels, below which nothing is shuffled or matched within groups
DRAWS = 1000
LARGEST = 1000  # groups drawn one by one; more are merged at random into this many, which keeps the variance


def group_codes(groups: ArrayLike | None, rows: int) -> Ints:
    """Groups as integers 0..k-1, (row,); every row a group of its own where None."""
    if groups is None:
        return np.arange(rows)
    named = np.asarray(groups)
    if named.shape != (rows,):
        raise InputError(f"{rows} rows need {rows} groups, one each, not an array of shape {named.shape}")
    return np.unique(named, return_inverse=True)[1].astype(np.intp)


def groups_with(codes: Ints, labels: Bools) -> tuple[int, int]:
    """How many groups hold a positive row, and how many a negative one."""
    return len(np.unique(codes[labels])), len(np.unique(codes[~labels]))


def groups_with_both(codes: Ints, labels: Bools) -> int:
    """How many groups hold both a positive row and a negative one."""
    return len(np.intersect1d(codes[labels], codes[~labels]))


def deal_folds(codes: Ints, labels: Bools, folds: int, rng: np.random.Generator) -> Ints:
    """The fold of every row, (row,), with whole groups in one fold and both classes spread over the folds.

    Groups are dealt in turn: those with positive rows alone, those with both classes, those with negative rows alone,
    larger ones first. So each class is in every fold as long as it is in as many groups as there are folds.
    """
    size = int(codes.max(initial=-1)) + 1
    positive = np.bincount(codes, weights=labels, minlength=size)
    negative = np.bincount(codes, weights=~labels, minlength=size)
    kind = (negative > 0).astype(int) + ((negative > 0) & (positive == 0))
    order = np.lexsort((rng.random(size), -positive - negative, kind))
    fold = np.empty(size, dtype=np.intp)
    fold[order] = np.arange(size) % folds
    return fold[codes]


def group_draws(codes: Ints, rng: np.random.Generator, draws: int = DRAWS) -> tuple[Ints, Floats]:
    """A bootstrap over groups: codes (row,), merged where there are many, and how often each is drawn (draw, group)."""
    size = int(codes.max()) + 1
    if size > LARGEST:
        codes, size = (rng.permutation(size) % LARGEST)[codes].astype(np.intp), LARGEST
    return codes, rng.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)


def shuffled(labels: Bools, codes: Ints, rng: np.random.Generator, units: Ints | None = None) -> Bools:
    """Labels dealt anew to what was labelled as a whole, (row,), within groups: how many a group has of each stays.

    What was labelled is the unit (the response), or, where no units are given, each group's rows of one label. A group
    of one label keeps it. Where every group has one label (a topic is a property of the question), nothing can be dealt
    within them, and whole groups are dealt labels instead.
    """
    pure = not groups_with_both(codes, labels)
    owner = codes if pure or units is None else units
    _, first, block = np.unique(owner * 2 + labels, return_index=True, return_inverse=True)
    if pure:
        return np.asarray(rng.permutation(labels[first])[block])
    group, mine = codes[first], labels[first]
    dealt = np.empty_like(mine)
    dealt[np.argsort(group, kind="stable")] = mine[np.lexsort((rng.random(len(group)), group))]
    return np.asarray(dealt[block])
