"""Rates with the judge's error in them: one judge scored every answer, a better one (the reference) some of them.

The reference's verdict is taken for the truth. Answers are put into strata by the judge's own scores: its hits, those
that pass the outcome's gate and miss by at most NEAR points, the others that pass it, and those that do not. Within a
stratum the labelled answers must be a random draw; strata may be drawn at different rates, so one may label by score.
Of what the reference would give to all:

corrected_rate   Post-stratified, sum_k N_k / N * h_k / n_k: prediction-powered inference with the judge's stratum as
    the prediction, at its best weight (Angelopoulos et al. 2023, PPI++, arXiv 2311.01453). Its interval imputes the
    verdicts that are missing: the rate of each question in each stratum from the beta-binomial model of intervals.py,
    then a verdict an answer, then the distribution of the completed counts; 200 times, mixed. So it holds what the
    judge gets wrong, what so few labels leave open, and what the intervals of plain rates hold.
corrected_difference   Of two such rates, every question weighed alike on both. Both sides are imputed, and the two
    rates of each completed pair joined as those of a plain difference (`gaps` of intervals.py).
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

from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, THESE_QUESTIONS, Estimand, Floats, question_rates
from backend.outcomes import EM, Outcome
from backend.records import InputError

NEAR = 30.0  # points of the judge's scale by which an answer misses a hit and is still near
FEW = 0.05  # share of the answers up to which a stratum without a label is counted with the next one
FEWEST_LABELS = 10  # of one group, below which its rate is not corrected
STRATA = ("its hits", "its near misses", "its clear misses", "what its gate keeps out")
_IMPUTED, _SPREAD = 200, 32  # completed tables, and points of each one's distribution
_DRAWN = 128  # draws of the difference of each pair of completed tables


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

    def value(self, weights: Floats | float = 1.0) -> float:
        """The post-stratified rate, every answer to a question with the weight of that question, (question, 1)."""
        answers, labels, hits = ((weights * part).sum(0) for part in (self.answers, self.labels, self.hits))
        with np.errstate(invalid="ignore"):
            return float(np.nansum(answers * hits / labels) / answers.sum())


def side_by_side(judge: pl.DataFrame, reference: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """The answers that the judge gave every score, with its stratum and the reference's verdict where there is one.

    Both are tables with a row a response; adds [stratum, hit], `hit` null without a label. Raises InputError where a
    judge lacks a metric, where no label is of these answers, where two labels of one answer disagree, and where all say
    the same: then nothing tells the judge's errors.
    """
    rows = unlabelled(judge, outcome).drop("hit")
    _must_score(reference, outcome)
    labelled = reference.filter(outcome.scored()).select("response", hit=outcome.hits())
    labelled = labelled.join(rows, on="response", how="semi", maintain_order="left").unique(maintain_order=True)
    twice = labelled.filter(pl.col("response").is_duplicated())["response"].unique(maintain_order=True)
    if len(twice):
        raise InputError(f"{len(twice)} answers have labels that disagree ({twice[0]}): settle what each of them is")
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


def unlabelled(judge: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """`side_by_side` before anybody labelled: `hit` is null everywhere."""
    _must_score(judge, outcome)
    hit = pl.lit(None, pl.Boolean).alias("hit")
    return judge.filter(outcome.scored()).with_columns(stratum(outcome).alias("stratum"), hit)


def _must_score(judge: pl.DataFrame, outcome: Outcome) -> None:
    missing = set(outcome.needs) - set(judge.columns)
    if missing:
        raise InputError(f"a judge gives no score for {' and '.join(sorted(missing))}: choose one that does")


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
    value = counts.value()
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


@dataclass(frozen=True)
class CorrectedDifference:
    """The rate that the reference would give to one side minus that to the other, with its 95 % interval.

    Over the questions that both were asked. `labels` are those of either side.
    """

    value: float
    low: float
    high: float
    p_value: float
    labels: tuple[int, int]
    questions: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero, as it does where the p-value is below 5 %."""
        return self.low > 0 or self.high < 0


def corrected_difference(
    a: pl.DataFrame, b: pl.DataFrame, *, about: Estimand = SIMILAR_QUESTIONS, seed: int = 0
) -> CorrectedDifference:
    """The corrected rate of `a` minus that of `b`, both rows of `side_by_side`, clustered by question.

    Each question weighs n_a n_b / (n_a + n_b), as in a plain difference. The interval is the hull of what these very
    questions leave open and, for questions like these, of what the model of questions does, whose tails count twice.
    Raises InputError where the two share no question, and where either side has too few labels.
    """
    asked = a.select("question_id").unique().join(b.select("question_id").unique(), on="question_id", how="semi")
    if asked.is_empty():
        raise InputError("the two sides share no question, so they cannot be compared")
    one, other = (_counted(side.join(asked, on="question_id", how="semi")) for side in (a, b))
    n, m = one.answers.sum(1), other.answers.sum(1)
    shared = n * m / (n + m)
    value = one.value((shared / n)[:, None]) - other.value((shared / m)[:, None])
    rng = np.random.default_rng(seed)
    pairs = list(zip(_imputed(one, rng), _imputed(other, rng), strict=True))
    low, high, p_value = value, value, 0.0
    for share, estimand in ((1, THESE_QUESTIONS), (2, about))[: 1 + (about is not THESE_QUESTIONS)]:
        points = np.concatenate([estimand.gaps((hits, n), (missed, m), _DRAWN, rng) for hits, missed in pairs])
        lower, upper = np.quantile(points, [0.025 / share, 1 - 0.025 / share])
        low, high = min(low, float(lower)), max(high, float(upper))
        beyond = min((points <= 0).mean(), (points >= 0).mean())
        p_value = max(p_value, min(1.0, 2 * share * float(beyond)))
    if low <= 0 <= high:
        p_value = max(p_value, 0.05)  # the value is in the interval, though it may not be in the draws' ends
    labels = int(one.labels.sum()), int(other.labels.sum())
    return CorrectedDifference(value, max(low, -1.0), min(high, 1.0), p_value, labels, len(n))


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
