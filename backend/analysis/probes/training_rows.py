"""The rows that a probe is trained on: finite, of both classes, each class in two groups or more.

It refuses to know what the features are, and what is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from backend.analysis.groups import Bools, Floats, Ints, group_codes, groups_with
from backend.records import InputError


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """What a probe is trained on: finite values, both classes present in two groups or more."""

    values: Floats  # (n, feature)
    labels: Bools  # (n,)
    codes: Ints  # (n,), groups 0..k-1
    units: Ints | None  # (n,)
    questions: Ints  # (n,), what labels are shuffled within: the groups, unless others are given
    names: tuple[str, ...]
    given: int  # rows before any were left out
    kept: Ints  # (n,), which of those these are
    notes: list[str]

    @classmethod
    def of(
        cls,
        values: ArrayLike,
        labels: ArrayLike,
        groups: ArrayLike | None,
        *,
        names: Sequence[str] | None = None,
        units: ArrayLike | None = None,
        questions: ArrayLike | None = None,
        constant_ok: bool = False,
    ) -> TrainingRows:
        """The rows (n, feature) that can be trained on; features may all be constant where rows are only judged on.

        Raises InputError where shapes do not fit, a class has no rows or a single group, or features have no values.
        """
        table, truth = np.asarray(values, dtype=np.float64), np.asarray(labels)
        if table.ndim != 2 or truth.shape != (len(table),):
            raise InputError(f"values (n, feature) and labels (n,) do not fit: {table.shape} and {truth.shape}")
        if truth.dtype != bool and not np.isin(truth, (0, 1)).all():
            raise InputError("labels must be True or False: leave out the rows that have none")
        named = tuple(names) if names is not None else tuple(f"feature {index}" for index in range(table.shape[1]))
        if len(named) != table.shape[1]:
            raise InputError(f"{len(named)} names do not fit {table.shape[1]} features")
        finite = np.isfinite(table)
        _refuse_empty_features(finite, named)
        kept = np.flatnonzero(finite.all(axis=1))
        codes = group_codes(group_codes(groups, len(table))[kept], len(kept))
        owners = None if units is None else group_codes(units, len(table))[kept]
        asked = codes if questions is None else group_codes(questions, len(table))[kept]
        notes = []
        if len(kept) < len(table):
            gaps = len(table) - len(kept)
            notes.append(f"{gaps} of {len(table)} rows hold a value that is not finite and are left out.")
        table, truth = table[kept], truth[kept].astype(bool)
        _refuse_single_groups(codes, truth)
        if not constant_ok:
            notes += _constant_features(table, named)
        return cls(table, truth, codes, owners, asked, named, len(finite), kept, notes)


def _refuse_empty_features(finite: Bools, names: tuple[str, ...]) -> None:
    if not finite.size:
        raise InputError("there is nothing to train a probe on: choose at least one feature, and rows of both classes")
    empty = [name for name, column in zip(names, finite.T, strict=True) if not column.any()]
    if empty:
        raise InputError(f"{_list(empty)} without a single number: leave out what was not recorded")
    if not finite.all(axis=1).any():
        raise InputError("no row has a number for every feature: leave out the features with gaps")


def _refuse_single_groups(codes: Ints, labels: Bools) -> None:
    for word, rows, groups in zip(
        ("positive", "negative"), (labels.sum(), (~labels).sum()), groups_with(codes, labels), strict=True
    ):
        if not rows:
            raise InputError(f"the {word} class has no rows: loosen the bands of the contrast or add responses")
        if groups < 2:
            raise InputError(
                f"all {rows} rows of the {word} class come from one group, so nothing of it can be held out: "
                "split by response instead of by question, loosen the bands, or add responses"
            )


def _constant_features(values: Floats, names: tuple[str, ...]) -> list[str]:
    constant = [name for name, spread in zip(names, np.ptp(values, axis=0), strict=True) if not spread]
    if len(constant) == len(names):
        raise InputError(f"{_list(constant)} constant over all rows, so no probe can tell them apart: choose others")
    return [f"{_list(constant)} constant over all rows; the coefficient is 0."] if constant else []


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the feature {shown} is" if len(names) == 1 else f"the features {shown} are"
