"""Rates with the judge's error in them: one judge scored every answer, a better one (the reference) some of them.

The reference's verdict is taken for the truth. Answers are put into strata by the judge's own scores: its hits, those
that pass the outcome's gate and miss by at most NEAR points, the others that pass it, and those that do not. Within a
stratum the labelled answers must be a random draw; strata may be drawn at different rates, so one may label by score.
Two estimators of the rate that the reference would give to all:

corrected_rate   Post-stratified, sum_k N_k / N * h_k / n_k: prediction-powered inference with the judge's stratum as
    the prediction, at its best weight (Angelopoulos et al. 2023, PPI++, arXiv 2311.01453). Its interval imputes the
    verdicts that are missing: the rate of each question in each stratum from the beta-binomial model of intervals.py,
    then a verdict an answer, then the distribution of the completed counts; 200 times, mixed. So it holds what the
    judge gets wrong, what so few labels leave open, and what the intervals of plain rates hold.
rogan_gladen     (p + specificity - 1) / (sensitivity + specificity - 1), 1978; for comparison: labels must be a random
    draw of all answers, and it runs away where the judge tells little.

Simulated in docs/statistics.md. It refuses to know who the judges are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtri

from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, Estimand, Floats, question_rates
from backend.outcomes import EM, Outcome
from backend.records import InputError

NEAR = 30.0  # points of the judge's scale by which an answer misses a hit and is still near
FEW = 0.05  # share of the answers up to which a stratum without a label is counted with the next one
FEWEST_LABELS = 10  # of one group, below which its rate is not corrected
STRATA = ("its hits", "its near misses", "its clear misses", "what its gate keeps out")
_IMPUTED, _SPREAD = 200, 32  # completed tables, and points of each one's distribution


@dataclass(frozen=True)
class Corrected:
    """The rate that the reference would give to every answer the judge scored, with its 95 % interval.

    `labels` and `hits` count the answers with the reference's verdict, and its hits, (stratum,) in order of STRATA;
    `answers` those the judge scored.
    """

    value: float
    low: float
    high: float
    answers: tuple[int, ...]
    labels: tuple[int, ...]
    hits: tuple[int, ...]
    questions: int


@dataclass(frozen=True, eq=False)
class _Counts:
    """(question, stratum): answers the judge scored, those the reference labelled, and its hits among them."""

    answers: Floats
    labels: Floats
    hits: Floats

    @property
    def value(self) -> float:
        with np.errstate(invalid="ignore"):
            share = self.hits.sum(0) / self.labels.sum(0)
        return float(np.nansum(self.answers.sum(0) * share) / self.answers.sum())


def side_by_side(judge: pl.DataFrame, reference: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """The answers that the judge gave every score, with its stratum and the reference's verdict where there is one.

    Both are tables with a row a response; adds [stratum, hit], `hit` null without a label. Raises InputError where a
    judge lacks a metric, where no label is of these answers, and where all labels say the same: then nothing tells the
    judge's errors.
    """
    for frame in (judge, reference):
        missing = set(outcome.needs) - set(frame.columns)
        if missing:
            raise InputError(f"a judge gives no score for {' and '.join(sorted(missing))}: choose one that does")
    labelled = reference.filter(outcome.scored()).select("response", hit=outcome.hits())
    rows = judge.filter(outcome.scored()).with_columns(stratum=stratum(outcome))
    both = rows.join(labelled, on="response", how="left", maintain_order="left")
    said = both["hit"].drop_nulls()
    if not len(said):
        raise InputError("none of the labels is of an answer that the judge scored: score those answers first")
    if said.n_unique() == 1:
        raise InputError(
            f"all {len(said)} labels say {outcome.kinds[int(said[0])]!r}: nothing tells how often the judge errs on "
            "the other side. Label more answers, the judge's hits first"
        )
    return both


def stratum(outcome: Outcome) -> pl.Expr:
    """The place in STRATA of a row with the judge's scores."""
    miss = pl.max_horizontal(band.miss() for band in outcome.core)
    passed = pl.lit(True) if outcome.gate is None else outcome.gate.holds()
    return pl.when(~passed).then(3).when(miss <= 0).then(0).when(miss <= NEAR).then(1).otherwise(2)


def corrected_rate(both: pl.DataFrame, *, about: Estimand = SIMILAR_QUESTIONS, seed: int = 0) -> Corrected:
    """The corrected rate of the rows of `side_by_side`.

    Raises InputError below FEWEST_LABELS, and where a stratum with over FEW of the answers has no label.
    """
    counts = _counted(both)
    low, high = _interval(_imputed(counts, np.random.default_rng(seed)), counts.answers.sum(1), about)
    value = counts.value
    answers, labels, hits = (tuple(map(int, part.sum(0))) for part in (counts.answers, counts.labels, counts.hits))
    return Corrected(value, min(low, value), max(high, value), answers, labels, hits, len(counts.answers))


def corrected_rates(
    both: pl.DataFrame, by: Sequence[str] = ("organism", "condition"), *, about: Estimand = SIMILAR_QUESTIONS
) -> pl.DataFrame:
    """[*by, value, low, high, n, labels, label_hits, clusters, reason] of every group, in order of appearance.

    `reason` says why a group has no corrected rate, else it is null.
    """
    rows: list[tuple[object, ...]] = []
    for key, part in both.partition_by(*by, as_dict=True, maintain_order=True).items():
        n, labels = part.height, part["hit"].drop_nulls()
        known = (n, len(labels), int(labels.sum()), part["question_id"].n_unique())
        try:
            found = corrected_rate(part, about=about)
        except InputError as error:
            rows.append((*key, None, None, None, *known, str(error)))
            continue
        rows.append((*key, found.value, found.low, found.high, *known, None))
    return pl.DataFrame(rows, {**{name: both.schema[name] for name in by}, **_SCHEMA}, orient="row")


_SCHEMA = (
    dict.fromkeys(("value", "low", "high"), pl.Float64)
    | dict.fromkeys(("n", "labels", "label_hits", "clusters"), pl.Int64)
    | {"reason": pl.String}
)


def rogan_gladen(both: pl.DataFrame) -> float:
    """The rate by the judge's own rate, sensitivity and specificity, cut to 0 and 1; NaN where it tells nothing."""
    told = both.filter(pl.col("hit").is_not_null())
    says, truth = (told["stratum"] == 0).to_numpy(), told["hit"].to_numpy()
    if truth.all() or not truth.any():
        return np.nan
    sensitivity, specificity = says[truth].mean(), (~says[~truth]).mean()
    if sensitivity + specificity <= 1:
        return np.nan
    rate = float((both["stratum"] == 0).mean())  # type: ignore[arg-type]
    return float(np.clip((rate + specificity - 1) / (sensitivity + specificity - 1), 0, 1))


def _counted(both: pl.DataFrame) -> _Counts:
    table = both.with_columns(labelled=pl.col("hit").is_not_null(), yes=pl.col("hit").fill_null(False))
    grouped = table.group_by("question_id", "stratum", maintain_order=True).agg(
        pl.len().alias("n"), pl.col("labelled").sum(), pl.col("yes").sum()
    )
    questions, place = np.unique(grouped["question_id"].to_numpy(), return_inverse=True)
    counts = np.zeros((3, len(questions), len(STRATA)))
    for part, name in zip(counts, ("n", "labelled", "yes"), strict=True):
        part[place, grouped["stratum"].to_numpy()] = grouped[name].to_numpy()
    answers, labels, hits = counts
    if labels.sum() < FEWEST_LABELS:
        raise InputError(f"{int(labels.sum())} of its answers are labelled: {FEWEST_LABELS} at least are needed")
    total = answers.sum()
    for k, name in enumerate(STRATA):
        if not answers[:, k].any() or labels[:, k].any():
            continue
        if answers[:, k].sum() > FEW * total:
            n = int(answers[:, k].sum())
            raise InputError(f"no label is among the judge's {n} answers of one kind, {name}: label some of them")
        near = min((j for j in range(len(STRATA)) if labels[:, j].any()), key=lambda j: abs(j - k))
        answers[:, near] += answers[:, k]
        answers[:, k] = 0
    return _Counts(answers, labels, hits)


def _imputed(counts: _Counts, rng: np.random.Generator) -> Floats:
    """Hits of every question in tables whose missing verdicts were drawn, (table, question)."""
    total = np.zeros((_IMPUTED, len(counts.answers)))
    for answers, labels, hits in zip(counts.answers.T, counts.labels.T, counts.hits.T, strict=True):
        if answers.any():
            shares = question_rates(hits, labels, _IMPUTED, rng)
            total += hits + rng.binomial((answers - labels).astype(int), shares)
    return total


def _interval(hits: Floats, n: Floats, about: Estimand) -> tuple[float, float]:
    """The 95 % interval of the mixture of all tables' rates, each at the middles of equal shares of its mass."""
    scores = ndtri((np.arange(_SPREAD) + 0.5) / _SPREAD)
    points = np.concatenate([about.rates(row, n, scores) for row in hits])
    low, high = np.quantile(points, [0.025, 0.975])
    return float(low), float(high)


# --- what to label next -----------------------------------------------------------------------------------------------


def allocation(both: pl.DataFrame, n: int) -> pl.DataFrame:
    """[stratum, answers, labels, share, wanted]: how to spread n more labels over the rows of `side_by_side`.

    Neyman's allocation (1934): a stratum gets labels by its size times the standard deviation of the verdict in it, as
    the labels so far have it with half a hit and half a miss added. No stratum gets more than it has left, and each
    that has none gets one. `share` is that of hits, so smoothed.
    """
    table = _strata(both)
    weight = (table["answers"] * (table["share"] * (1 - table["share"])).sqrt()).to_numpy()
    left = (table["answers"] - table["labels"]).to_numpy()
    have = table["labels"].to_numpy()
    wanted = np.minimum((have == 0).astype(int), left)
    for _ in range(max(0, min(n, int(left.sum())) - int(wanted.sum()))):
        # the stratum in which one more label takes most off the variance
        gain = np.where(wanted < left, weight**2 / ((have + wanted) * (have + wanted + 1)).clip(1), -1.0)
        wanted[int(gain.argmax())] += 1
    return table.with_columns(wanted=pl.Series(wanted, dtype=pl.Int64))


def labels_for(both: pl.DataFrame, half_width: float) -> int:
    """How many labels in all, at Neyman's allocation, leave the judge's error a 95 % interval of +- half_width.

    What the questions leave open comes on top, and more labels do not lessen it. Raises InputError where the width is
    not above 0.
    """
    if not half_width > 0:
        raise InputError(f"a half-width of {half_width} cannot be reached: give one above 0")
    table = _strata(both)
    spread = float((table["answers"] * (table["share"] * (1 - table["share"])).sqrt()).sum()) / float(both.height)
    return int(min(np.ceil((ndtri(0.975) * spread / half_width) ** 2), both.height))


def _strata(both: pl.DataFrame) -> pl.DataFrame:
    """[stratum, answers, labels, share] of every stratum with answers, in order of STRATA."""
    labelled, hits = pl.col("hit").is_not_null().sum(), pl.col("hit").fill_null(False).sum()
    counted = both.group_by("stratum").agg(answers=pl.len(), labels=labelled, hits=hits).sort("stratum")
    return counted.select(
        stratum=pl.col("stratum").replace_strict(dict(enumerate(STRATA)), return_dtype=pl.String),
        answers=pl.col("answers").cast(pl.Int64),
        labels=pl.col("labels").cast(pl.Int64),
        share=(pl.col("hits") + 0.5) / (pl.col("labels") + 1),
    )
