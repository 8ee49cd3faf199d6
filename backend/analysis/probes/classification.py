"""What a classifier is judged by, from probabilities and labels: rates of a confusion, the ROC curve, calibration.

It refuses to know where probabilities come from, and which rows were held out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from backend.analysis.estimates import expanded_percentile
from backend.analysis.groups import Bools, Floats, Ints, group_draws
from backend.analysis.probes.logistic import balanced

METRICS = ("accuracy", "precision", "recall", "f1", "auc")  # the columns of Table 1
ROC_POINTS = 201
CALIBRATION_BINS = 10


def confusion(probability: Floats, labels: Bools, codes: Ints | None = None) -> Floats:
    """True positives, false negatives, false positives, true negatives of each group, (group, 4)."""
    codes = np.zeros(len(labels), dtype=np.intp) if codes is None else codes
    cell = codes * 4 + 2 * ~labels + (probability <= 0.5)
    return np.bincount(cell, minlength=4 * (int(codes.max()) + 1)).reshape(-1, 4).astype(np.float64)


def rates_of(counts: Floats, balance: bool) -> list[Any]:
    """Accuracy, precision, recall and F1 (draw,) of counts (draw, 4), as if classes were equal where balanced.

    NaN where undefined: precision where nothing is called positive.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if balance:
            halves = counts.reshape(-1, 2, 2)
            counts = (halves / halves.sum(axis=2, keepdims=True)).reshape(-1, 4)
        hit, miss, alarm, clear = counts.T
        accuracy = (hit + clear) / counts.sum(axis=1)
        metrics = [accuracy, hit / (hit + alarm), hit / (hit + miss), 2 * hit / (2 * hit + alarm + miss)]
    return [metric if len(metric) > 1 else metric[0] for metric in metrics]


def roc_curve(probability: Floats, labels: Bools) -> pl.DataFrame:
    """At most ROC_POINTS points of the curve, from (0, 0) to (1, 1)."""
    order = np.argsort(-probability, kind="stable")
    last = np.append(np.diff(probability[order]) != 0, True)  # ties are one step
    called = np.cumsum(np.stack([~labels[order], labels[order]]), axis=1)[:, last]
    curve = np.concatenate([np.zeros((2, 1)), called / called[:, -1:]], axis=1)
    if curve.shape[1] > ROC_POINTS:
        # evenly along the curve's length, which steps right and up
        at = np.searchsorted(curve.sum(axis=0), np.linspace(0, 2, ROC_POINTS) - 1e-12)
        curve = curve[:, np.unique(np.append(np.minimum(at, curve.shape[1] - 1), curve.shape[1] - 1))]
    return pl.DataFrame({"false_positive": curve[0], "true_positive": curve[1]})


def calibration_curve(probability: Floats, labels: Bools, balance: bool, codes: Ints | None = None) -> pl.DataFrame:
    """Mean probability against share of positive rows, in bins of equally many rows; classes weighed as in training.

    Ends of the share are a bootstrap over groups, `codes` (row,); null without, or with one group.
    """
    weights = balanced(labels) if balance else np.ones(len(labels))
    bins = np.minimum(np.argsort(np.argsort(probability)) * CALIBRATION_BINS // len(labels), CALIBRATION_BINS - 1)
    total = np.bincount(bins, weights=weights, minlength=CALIBRATION_BINS)
    used = total > 0
    sums = [np.bincount(bins, weights=weights * side, minlength=CALIBRATION_BINS) for side in (probability, labels)]
    predicted, observed = (side[used] / total[used] for side in sums)
    ends = np.full((2, int(used.sum())), np.nan)
    if codes is not None and codes.max() > 0:
        codes, counts = group_draws(codes, np.random.default_rng(0))
        cell, size = codes * CALIBRATION_BINS + bins, counts.shape[1] * CALIBRATION_BINS
        tables = [
            np.bincount(cell, weights=w, minlength=size).reshape(counts.shape[1], -1)
            for w in (weights * labels, weights)
        ]
        drawn = counts @ tables[0] / np.maximum(counts @ tables[1], 1e-300)
        drawn[counts @ tables[1] == 0] = np.nan
        ends = np.array([expanded_percentile(column, counts.shape[1]) for column in drawn[:, used].T]).T
    table = {"predicted": predicted, "observed": observed, "low": ends[0], "high": ends[1]}
    frame = pl.DataFrame({**table, "n": np.bincount(bins, minlength=CALIBRATION_BINS)[used]})
    return frame.with_columns(pl.col("low", "high").fill_nan(None))
