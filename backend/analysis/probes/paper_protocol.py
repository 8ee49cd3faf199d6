"""The paper's own way to train and judge a probe, to set beside an honest one; it leaks, and says so in its notes.

It refuses to know what the features are. Source: paper s4.1, Table 1, App. F-H; lora_interp/lora_probing.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from backend.analysis.aucs import auc
from backend.analysis.estimates import Estimate
from backend.analysis.groups import Bools, Floats, Ints
from backend.analysis.probes.classification import METRICS, calibration_curve, confusion, rates_of, roc_curve
from backend.analysis.probes.logistic import Design
from backend.analysis.probes.probe import PAPER_C, Probe, ProbeReport
from backend.analysis.probes.training_rows import TrainingRows
from backend.records import InputError


def paper_protocol(
    values: ArrayLike, labels: ArrayLike, *, repeats: int = 100, names: Sequence[str] | None = None, seed: int = 0
) -> ProbeReport:
    """The paper's probe on values (n, feature) and labels (n,), to reproduce its Table 1 and Figure 6.

    Each repeat cuts the larger class at random to the size of the smaller, z-scores over all those rows, splits them
    80/20 by token, stratified, and fits L1 (liblinear, C = 0.01). Values are means over repeats, their ends hold 95 %
    of the repeats: no estimate for new responses. Raises InputError as `train_probe` does, and on fewer than 5 rows of
    a class. Source: paper s4.1, lora_interp/lora_probing.py.
    """
    if repeats < 1:
        raise InputError(f"{repeats} repeats: ask for at least one")
    rows = TrainingRows.of(values, labels, None, names=names)
    if min(rows.labels.sum(), (~rows.labels).sum()) < 5:
        raise InputError("an 80/20 split needs at least 5 tokens of each class: add responses")
    rng = np.random.default_rng(seed)
    repeated = [_paper_repeat(rows, rng) for _ in range(repeats)]
    table = np.array([once.metrics for once in repeated])
    weights = np.array([once.weights for once in repeated])
    tested = np.concatenate([once.probability for once in repeated])
    truth = np.concatenate([once.labels for once in repeated])
    low, high = np.quantile(weights, [0.025, 0.975], axis=0)
    held_out = np.full(rows.given, np.nan)
    sums, times = np.zeros(len(rows.labels)), np.zeros(len(rows.labels))
    for once in repeated:
        sums[once.at] += once.probability
        times[once.at] += 1
    held_out[rows.kept] = np.divide(sums, times, out=np.full_like(sums, np.nan), where=times > 0)
    mean = np.mean([np.append(once.bias, [*once.mean, *once.scale]) for once in repeated], axis=0)
    count = len(rows.names)
    return ProbeReport(
        probe=Probe(rows.names, mean[1 : count + 1], mean[count + 1 :], weights.mean(axis=0), float(mean[0])),
        metrics={name: _over_repeats(column) for name, column in zip(METRICS, table.T, strict=True)},
        shuffled={},
        coefficients=pl.DataFrame(
            {
                "feature": list(rows.names),
                "coefficient": weights.mean(axis=0),
                "low": low,
                "high": high,
                "selected": (weights != 0).mean(axis=0),
            }
        ),
        roc=roc_curve(tested, truth),
        calibration=calibration_curve(tested, truth, balance=False),
        held_out=held_out,
        n_rows=len(rows.labels),
        n_groups=len(rows.labels),
        n_questions=0,
        n_per_class=(int(rows.labels.sum()), int((~rows.labels).sum())),
        folds=1,
        notes=(
            *rows.notes,
            "The paper's protocol: split by token, so tokens of one response are in training and test. "
            f"Intervals are the spread over {repeats} random splits, not over new responses.",
        ),
    )


def _over_repeats(values: Floats) -> Estimate:
    """Mean and 95 % of the repeats in which a metric is defined; NaN where it is in none."""
    defined = values[np.isfinite(values)]
    if not len(defined):
        return Estimate(np.nan, np.nan, np.nan)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Estimate(float(defined.mean()), float(low), float(high))


@dataclass(frozen=True, eq=False)
class _Repeat:
    metrics: list[float]
    weights: Floats
    bias: float
    mean: Floats
    scale: Floats
    at: Ints  # (test row,), of the rows given
    probability: Floats  # (test row,)
    labels: Bools  # (test row,)


def _paper_repeat(rows: TrainingRows, rng: np.random.Generator) -> _Repeat:
    sides = [np.flatnonzero(side) for side in (rows.labels, ~rows.labels)]
    size = min(map(len, sides))
    kept = rng.permutation(np.concatenate([rng.permutation(side)[:size] for side in sides]))
    design, labels = Design(rows.values[kept]), rows.labels[kept]
    train, test = train_test_split(
        np.arange(len(kept)), test_size=0.2, stratify=labels, random_state=int(rng.integers(2**31))
    )
    model = LogisticRegression(l1_ratio=1.0, solver="liblinear", C=PAPER_C, max_iter=1000, random_state=0)
    model.fit(design.values[train], labels[train])
    probability = model.predict_proba(design.values[test])[:, 1]
    metrics = [*rates_of(confusion(probability, labels[test]), False), auc(probability, labels[test])]
    fitted = model.coef_[0], float(model.intercept_[0]), design.mean, design.scale
    return _Repeat(metrics, *fitted, kept[test], probability, labels[test])
