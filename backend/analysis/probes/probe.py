"""Linear probes: logistic regressions on adapter scalars or activations, and how far to believe them.

A probe is judged on rows of groups (questions or responses) that it was not trained on, beside the same probe on
shuffled labels. `probe_progress` is the same story told as it goes: metrics first, then bootstraps, then shuffles.
Tokens of one response resemble each other, so a split by token leaks: it finds random labels of responses too. It is
there because the paper split that way (`paper_protocol`), and says so in its notes.
It refuses to know what the features are. Source: paper s4.1, Table 1, App. F-H.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import expit, stdtr, stdtrit

from backend.analysis.aucs import auc, auc_estimate, too_few_groups
from backend.analysis.estimates import LEVEL, Estimate, share_without_each
from backend.analysis.groups import (
    FEWEST_WITH_BOTH,
    Bools,
    Floats,
    Ints,
    deal_folds,
    group_codes,
    groups_with,
    groups_with_both,
    shuffled,
)
from backend.analysis.probes.classification import METRICS, calibration_curve, confusion, rates_of, roc_curve
from backend.analysis.probes.logistic import Design, Fit, Penalty, balanced, fit_logistic
from backend.analysis.probes.training_rows import TrainingRows
from backend.analysis.rates.families import with_family
from backend.records import Direction, InputError

Split = Literal["question", "response", "token"]

FEWEST_SHUFFLES = 19  # below which none can make a p-value of 5 %
PAPER_C = 0.01
GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of C, where cross-validation chooses it
INNER_FOLDS = 3
SEPARABLE = 0.999  # AUC on the training rows from which weights are as large as C lets them be
NEAR = 64  # features past which a fold's fit starts from that of the fold before: the same end, sooner
CHUNK = 10  # bootstraps, or shuffles, between two reports of a probe in progress
SIGNIFICANT = math.exp(0.5)  # the paper's cut on token significance: natural logarithm at or above 0.5


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained and judged.

    `C` is scikit-learn's: the weight of the summed loss against the penalty, so the same C penalises less with more
    rows; None lets cross-validation within each training fold choose it from GRID. `l1_ratio` is the share of L1 in an
    elastic net. `split` names what `groups` holds; "token" deals single rows into folds. `balance` gives both classes
    the same weight in training and in every metric, so that chance is 0.5. `shuffles` repeats with shuffled labels,
    `bootstraps` refits behind the intervals of the coefficients (0: none).
    """

    penalty: Penalty = "l2"
    C: float | None = 0.1
    split: Split = "question"
    folds: int = 5
    balance: bool = True
    seed: int = 0
    shuffles: int = 5
    bootstraps: int = 50
    l1_ratio: float = 0.5

    def __post_init__(self) -> None:
        for value, known in ((self.penalty, get_args(Penalty)), (self.split, get_args(Split))):
            if value not in known:
                raise InputError(f"{value!r} is not one of {', '.join(known)}")
        if not 0 <= self.l1_ratio <= 1:
            raise InputError(f"the share of L1 is {self.l1_ratio}: give a number from 0 (all L2) to 1 (all L1)")
        if self.C is not None and not 0 < self.C < np.inf:
            raise InputError(f"C is {self.C}: give a number above 0, smaller for a stronger penalty")
        if self.folds < 2:
            raise InputError(f"{self.folds} folds leave nothing to test on: use at least 2")
        if min(self.shuffles, self.bootstraps) < 0:
            raise InputError("shuffles and bootstraps cannot be negative")


@dataclass(frozen=True, eq=False)
class Probe:
    """A trained probe: P(positive) = sigmoid(weights . (x - mean) / scale + bias)."""

    names: tuple[str, ...]  # (feature,)
    mean: Floats  # (feature,)
    scale: Floats  # (feature,), 1 where a feature is constant
    weights: Floats  # (feature,), per standard deviation of the feature
    bias: float

    def decision(self, values: ArrayLike) -> Floats:
        """Log odds of the positive class, (n,), for values (n, feature)."""
        rows = np.asarray(values, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.names):
            raise InputError(f"the probe reads {len(self.names)} features, the values have shape {rows.shape}")
        return np.asarray((rows - self.mean) / self.scale @ self.weights + self.bias)

    def probability(self, values: ArrayLike) -> Floats:
        """P(positive), (n,), for values (n, feature)."""
        return np.asarray(expit(self.decision(values)))

    def direction(self, name: str, layer: int, *, activation_norm: float | None = None) -> Direction:
        """The probe's normal in the units of its features, as a direction of the residual stream at `layer`.

        Only for probes on activations. Its norm is that of the weights, whose size follows from C: steer by `relative`.
        """
        vector = np.asarray(self.weights / self.scale, dtype=np.float32)
        return Direction(name, layer, vector, activation_norm, {"method": "probe weight"})


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """What came of training: held-out metrics, the same by chance, coefficients, and the probe on all rows.

    A metric's value is over the pooled held-out rows, its interval over questions, whatever the split; NaN ends where
    too few hold a class. A shuffled metric's value is the mean over shuffles, its interval holds 95 % of further
    shuffles. With few groups chance lies below 0.5, since leaving a group out tips the rest the other way.
    """

    probe: Probe
    metrics: Mapping[str, Estimate]  # METRICS
    shuffled: Mapping[str, Estimate]  # METRICS, NaN where no shuffle leaves two groups a class; empty without shuffles
    coefficients: (
        pl.DataFrame
    )  # feature, coefficient, low, high, selected (share of refits that kept it), p_value, family
    roc: pl.DataFrame  # false_positive, true_positive
    calibration: pl.DataFrame  # predicted (mean probability), observed (share), low, high, n
    held_out: Floats  # (row,), P(positive) by the fold that did not see the row; NaN for rows left out
    n_rows: int
    n_groups: int
    n_questions: int  # what intervals are over, and labels shuffled within
    n_per_class: tuple[int, int]  # rows: positive, negative
    folds: int
    notes: tuple[str, ...] = ()  # what the reader must know to read the figures
    C: float = PAPER_C  # of the probe on all rows
    C_by_fold: tuple[float, ...] = ()  # of the fits that were judged
    p_value: float | None = None  # share of shuffles, this one counted in, whose AUC is as large; None without any
    bootstraps: int = 0  # refits so far
    shuffles: int = 0  # shuffles so far
    complete: bool = True  # False: more bootstraps or shuffles are on their way

    @property
    def above_chance(self) -> bool | None:
        """Whether its AUC is clear of chance: of one half on questions like these, and of shuffled labels at 5 %.

        None where that cannot be told: without an interval, or below FEWEST_SHUFFLES.
        """
        low = self.metrics["auc"].low
        if np.isnan(low) or self.p_value is None or self.shuffles < FEWEST_SHUFFLES:
            return None
        return low > max(0.5, self.shuffled["auc"].value) and self.p_value <= 1 - LEVEL + 1e-12


def train_probe(
    values: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None,
    *,
    names: Sequence[str] | None = None,
    settings: ProbeSettings | None = None,
    units: ArrayLike | None = None,
    questions: ArrayLike | None = None,
) -> ProbeReport:
    """Train a probe on values (n, feature) for labels (n,), judged by cross-validation over groups (n,).

    `groups` holds the question or response of each row, as `settings.split` says (None: single rows). Intervals go by
    `questions` (n,), which are the groups unless others are given. `units` (n,) is what was labelled as a whole, the
    response: shuffled labels are dealt to those, within questions, and to whole questions where each has one class.
    Rows with a value that is not finite are left out and counted in the notes. Features are standardised within each
    training fold.
    Raises InputError where that cannot be an estimate: a class without rows or in a single group, features without
    values or all constant.
    """
    steps = probe_progress(values, labels, groups, names=names, settings=settings, units=units, questions=questions)
    return deque(steps, maxlen=1)[0]


def probe_progress(
    values: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None,
    *,
    names: Sequence[str] | None = None,
    settings: ProbeSettings | None = None,
    units: ArrayLike | None = None,
    questions: ArrayLike | None = None,
) -> Iterator[ProbeReport]:
    """`train_probe` as it goes: the metrics as soon as they are there, then more bootstraps, then more shuffles.

    The last report is what `train_probe` returns, and says that it is complete. Raises InputError as that does, at the
    first step.
    """
    settings = settings or ProbeSettings()
    rows = TrainingRows.of(values, labels, groups, names=names, units=units, questions=questions)
    rng = np.random.default_rng(settings.seed)
    folds, notes = _fold_count(rows, settings)
    judged = _cross_validate(rows, rows.labels, folds, settings, rng)
    metrics = _metrics(judged.probability, rows, settings)
    design = Design(rows.values)
    chosen = _choose_c(rows, rows.labels, np.arange(len(rows.labels)), settings)
    whole = _fit(design, rows.labels, settings, chosen)
    notes += [*rows.notes, *_dealt(rows, settings)]
    notes += _caveats(rows, metrics, whole, judged.converged and whole.converged, settings)
    everywhere = np.full(rows.given, np.nan)
    everywhere[rows.kept] = judged.probability
    report = ProbeReport(
        probe=Probe(rows.names, whole.design.mean, whole.design.scale, whole.weights, whole.bias),
        metrics=metrics,
        shuffled={},
        coefficients=_coefficients(rows, whole, ()),
        roc=roc_curve(judged.probability, rows.labels),
        calibration=calibration_curve(judged.probability, rows.labels, settings.balance, rows.codes),
        held_out=everywhere,
        n_rows=len(rows.labels),
        n_groups=int(rows.codes.max()) + 1,
        n_questions=len(np.unique(rows.questions)),
        n_per_class=(int(rows.labels.sum()), int((~rows.labels).sum())),
        folds=folds,
        notes=tuple(notes),
        C=chosen,
        C_by_fold=judged.C,
        complete=False,
    )
    drawn: list[Floats] = []
    for weights in _bootstraps(rows, whole, settings, chosen, rng):
        if len(drawn) % CHUNK == 0:
            yield replace(report, coefficients=_coefficients(rows, whole, drawn), bootstraps=len(drawn))
        drawn.append(weights)
    report = replace(report, coefficients=_coefficients(rows, whole, drawn), bootstraps=len(drawn))
    found: list[list[float]] = []
    for once in _shuffled_metrics(rows, folds, settings, rng):
        if len(found) % CHUNK == 0:
            yield _beside_chance(report, found)
        found.append(once)
    report = _beside_chance(report, found) if settings.shuffles else report
    yield replace(report, complete=True)


def evaluate_probe(
    probe: Probe, values: ArrayLike, labels: ArrayLike, groups: ArrayLike | None, *, balance: bool = True, seed: int = 0
) -> Mapping[str, Estimate]:
    """METRICS of a trained probe on other rows (another organism, another layer), with intervals over groups (n,).

    Standardised as in training. Raises InputError as `train_probe` does.
    """
    rows = TrainingRows.of(values, labels, groups, names=probe.names, constant_ok=True)
    settings = ProbeSettings(balance=balance)
    return _metrics(probe.probability(rows.values), rows, settings)


# --- fits ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Judged:
    """Every row by the fit that did not see its fold."""

    probability: Floats  # (row,)
    converged: bool
    C: tuple[float, ...]  # of every fold


def _fit(
    design: Design,
    labels: Bools,
    settings: ProbeSettings,
    C: float,
    sample: Floats | None = None,
    start: Fit | None = None,
) -> Fit:
    """A fit with the penalty of the settings; `sample` (n,) on top of the balance of classes."""
    weights = balanced(labels, sample) if settings.balance else np.ones(len(labels)) if sample is None else sample
    return fit_logistic(design, labels, weights, penalty=settings.penalty, C=C, l1_ratio=settings.l1_ratio, start=start)


def _choose_c(rows: TrainingRows, labels: Bools, at: Ints, settings: ProbeSettings) -> float:
    """The C of the settings, or the one of GRID with the smallest held-out loss over inner folds of the rows `at`.

    Folds hold whole groups; where a class is in too few groups for that the middle of the grid is taken.
    """
    if settings.C is not None:
        return settings.C
    truth = labels[at]
    units = np.arange(len(at)) if settings.split == "token" else group_codes(rows.codes[at], len(at))
    folds = min(INNER_FOLDS, *groups_with(units, truth))
    if folds < 2:
        return GRID[len(GRID) // 2]
    fold = deal_folds(units, truth, folds, np.random.default_rng(settings.seed))
    loss = np.zeros(len(GRID))
    for number in range(folds):
        train, test = at[fold != number], at[fold == number]
        design, start = Design(rows.values[train]), None
        sample = balanced(labels[test]) if settings.balance else np.ones(len(test))
        for place, C in enumerate(GRID):
            start = _fit(design, labels[train], settings, C, start=start)
            probability = np.clip(start.probability(rows.values[test]), 1e-9, 1 - 1e-9)
            loss[place] -= sample @ np.log(np.where(labels[test], probability, 1 - probability))
    return GRID[int(loss.argmin())]


def _fold_count(rows: TrainingRows, settings: ProbeSettings) -> tuple[int, list[str]]:
    units = np.arange(len(rows.labels)) if settings.split == "token" else rows.codes
    most = min(groups_with(units, rows.labels))
    if most >= settings.folds:
        return settings.folds, []
    what = {"question": "questions", "response": "responses", "token": "tokens"}[settings.split]
    return most, [f"{most} folds instead of {settings.folds}: the rarer class comes from {most} {what}."]


def _cross_validate(
    rows: TrainingRows, labels: Bools, folds: int, settings: ProbeSettings, rng: np.random.Generator
) -> _Judged:
    units = np.arange(len(labels)) if settings.split == "token" else rows.codes
    fold, probability, converged, chosen = deal_folds(units, labels, folds, rng), np.empty(len(labels)), True, []
    found: Fit | None = None
    for number in range(folds):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        chosen.append(_choose_c(rows, labels, train, settings))
        near = found if settings.penalty == "elasticnet" or rows.values.shape[1] > NEAR else None
        found = _fit(Design(rows.values[train]), labels[train], settings, chosen[-1], start=near)
        probability[test] = found.probability(rows.values[test])
        converged &= found.converged
    return _Judged(probability, converged, tuple(chosen))


def _shuffled_metrics(
    rows: TrainingRows, folds: int, settings: ProbeSettings, rng: np.random.Generator
) -> Iterator[list[float]]:
    """METRICS of the probe on shuffled labels, one list a shuffle."""
    for labels in _shuffles(rows, settings, rng):
        most = min(folds, *groups_with(rows.codes, labels)) if settings.split != "token" else folds
        probability = _cross_validate(rows, labels, most, settings, rng).probability
        yield [*rates_of(confusion(probability, labels), settings.balance), auc(probability, labels)]


def _beside_chance(report: ProbeReport, found: Sequence[Sequence[float]]) -> ProbeReport:
    """The report with the metrics of so many shuffles: their mean, the range of 95 % of more, and the p-value."""
    table = np.array(found or np.full((1, len(METRICS)), np.nan))  # (shuffle, metric)
    reach = np.full(len(METRICS), np.nan)
    if len(table) > 1:
        wide = stdtrit(len(table) - 1, 0.975) * np.sqrt(1 + 1 / len(table))
        reach = wide * table.std(axis=0, ddof=1)
    shuffled_metrics = {
        name: Estimate(float(mean), float(max(mean - wide, 0)), float(min(mean + wide, 1)))
        for name, mean, wide in zip(METRICS, table.mean(axis=0), reach, strict=True)
    }
    aucs = table[:, METRICS.index("auc")]
    as_large = int((aucs >= report.metrics["auc"].value - 1e-12).sum())
    p_value = (1 + as_large) / (1 + len(found)) if found else None
    return replace(report, shuffled=shuffled_metrics, p_value=p_value, shuffles=len(found))


def _shuffles(rows: TrainingRows, settings: ProbeSettings, rng: np.random.Generator) -> Iterator[Bools]:
    """Shuffled labels (n,) that leave both classes in two groups at least."""
    found = 0
    for _ in range(settings.shuffles * 20):
        labels = shuffled(rows.labels, rows.questions, rng, rows.units)
        if found < settings.shuffles and min(groups_with(rows.codes, labels)) > 1:
            found += 1
            yield labels


def _bootstraps(
    rows: TrainingRows, whole: Fit, settings: ProbeSettings, C: float, rng: np.random.Generator
) -> Iterator[Floats]:
    """Weights (feature,) of refits on groups drawn anew; draws that lack a class are left out."""
    size = int(rows.codes.max()) + 1
    for counts in rng.multinomial(size, np.full(size, 1 / size), size=settings.bootstraps):
        sample = counts[rows.codes].astype(np.float64)
        if sample[rows.labels].any() and sample[~rows.labels].any():
            yield _fit(whole.design, rows.labels, settings, C, sample, start=whole).weights


def _coefficients(rows: TrainingRows, whole: Fit, drawn: Sequence[Floats]) -> pl.DataFrame:
    """Coefficients on all rows; ends are a t interval with the bootstrap's standard error over groups.

    Its degrees of freedom are the groups that hold the rarer class, less one. All coefficients are one family.
    """
    size = min(groups_with(rows.codes, rows.labels))
    error = selected = np.full(len(rows.names), np.nan)
    if len(drawn) > 1:
        error = np.sqrt(size / (size - 1)) * np.std(drawn, axis=0, ddof=1)
        selected = np.mean(np.array(drawn) != 0, axis=0)
    reach = stdtrit(size - 1, 0.975) * error
    off = np.divide(np.abs(whole.weights), error, out=np.where(np.isnan(error), np.nan, 0.0), where=error > 0)
    ends = {"low": whole.weights - reach, "high": whole.weights + reach, "selected": selected}
    table = pl.DataFrame({"feature": list(rows.names), "coefficient": whole.weights, **ends})
    table = table.with_columns(pl.col("low", "high", "selected").fill_nan(None))
    return with_family(table.with_columns(p_value=pl.Series(2 * stdtr(size - 1, -off))))


def _dealt(rows: TrainingRows, settings: ProbeSettings) -> list[str]:
    """How labels are shuffled, where that does little."""
    size, both = len(np.unique(rows.questions)), groups_with_both(rows.questions, rows.labels)
    if not settings.shuffles or size == len(rows.labels) or both in (0, size):
        return []
    few = " That is too few: what shuffled labels reach says next to nothing." if both < FEWEST_WITH_BOTH else ""
    return [f"Labels are shuffled within questions; {both} of {size} have both classes, the others keep theirs.{few}"]


def _caveats(
    rows: TrainingRows, metrics: Mapping[str, Estimate], whole: Fit, converged: bool, settings: ProbeSettings
) -> list[str]:
    notes = []
    if settings.split == "token":
        notes.append("Split by token: tokens of one response are in training and test, so the metrics flatter.")
    if why := too_few_groups(rows.questions, rows.labels):
        notes.append(f"No intervals, and no verdict: {why}.")
    if metrics["auc"].value == 1:
        notes.append("The held-out classes separate perfectly: check that no feature gives the label away.")
    elif auc(whole.probability(rows.values), rows.labels) > SEPARABLE:
        notes.append(
            "On its own rows the probe separates the classes perfectly: it has room to learn them by heart, so only "
            "the held-out metrics count, and the size of the weights follows from C."
        )
    if not whole.weights.any():
        notes.append("The penalty dropped every feature: raise C to see any.")
    if not converged:
        notes.append("A fit stopped before it converged: lower C.")
    if settings.penalty != "l2" and (twins := _collinear(rows)):
        notes.append(
            f"Features move together ({twins}): which of them an L1 penalty keeps is a matter of chance, so read the "
            "selection frequency, not the single pick."
        )
    return notes


def _collinear(rows: TrainingRows, most: int = 200) -> str:
    """The two features that move together the most, in words, where their correlation passes one half."""
    values = rows.values[:, :most]
    if values.shape[1] < 2:
        return ""
    with np.errstate(invalid="ignore", divide="ignore"):
        together: Floats = np.nan_to_num(np.asarray(np.corrcoef(values, rowvar=False)))
    np.fill_diagonal(together, 0)
    a, b = np.unravel_index(np.abs(together).argmax(), together.shape)
    if abs(together[a, b]) <= 0.5:
        return ""
    return f"{rows.names[a]} and {rows.names[b]} at r = {together[a, b]:.2f}"


# --- metrics ----------------------------------------------------------------------------------------------------------


def _metrics(probability: Floats, rows: TrainingRows, settings: ProbeSettings) -> dict[str, Estimate]:
    """METRICS of probabilities (n,), with intervals over questions, whatever the split; NaN ends with too few."""
    by_question = confusion(probability, rows.labels, rows.questions)
    values = rates_of(by_question.sum(axis=0, keepdims=True), settings.balance)
    found = {name: Estimate(float(value), np.nan, np.nan) for name, value in zip(METRICS, values, strict=False)}
    if too_few_groups(rows.questions, rows.labels) is None:
        groups = min(groups_with(rows.questions, rows.labels))
        without = rates_of(by_question.sum(axis=0) - by_question, settings.balance)
        found = {
            name: share_without_each(estimate.value, left, groups)
            for (name, estimate), left in zip(found.items(), without, strict=True)
        }
    return found | {"auc": auc_estimate(probability, rows.labels, rows.questions)}
