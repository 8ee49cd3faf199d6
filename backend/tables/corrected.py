"""A judge's rates beside what the labels of a better one make of them: whose labels, how many, and how they were drawn.

Labels are the scores of a judge whose name begins with LABELLED (`python -m backend labels enter` gives such names), or
of one of which study.json says by whose scores its answers were drawn. Labels drawn by another judge's scores are
weighed by that judge's kinds of answer, whatever judge the raw rate is of: within those kinds alone they are a random
draw. It refuses to know who labelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import polars as pl

from backend.analysis.rates.corrected import corrected_difference, corrected_rates, side_by_side
from backend.analysis.rates.judge_agreement import FEWEST, readers_alpha
from backend.analysis.rates.rates import em_rates
from backend.outcomes import EM, Outcome
from backend.records import BASELINE, InputError
from backend.study import Study
from backend.tables.rates import compared, drawn_by, families_told, with_families, with_scores_of

LEAST_ALPHA = 2 / 3  # below it nothing should be concluded (Krippendorff 2004, Content Analysis, p. 241)
LABELLED = ("hand-", "labels-")  # how the names of judges begin whose scores are labels: verdicts, or scores
_RAW = {"n": "n", "hits": "hits", "value": "raw", "low": "raw_low", "high": "raw_high"}
_CORRECTED = ["value", "low", "high", "labels", "label_hits", "reason"]


@dataclass(frozen=True, eq=False)
class Labels:
    """What one reader said of some answers, (response, metric) as `study.responses` has it, and how they were drawn."""

    by: str
    scores: pl.DataFrame
    drawn: str | None = None  # the judge by whose scores; None: evenly

    @property
    def told(self) -> str:
        """Who labelled and how the answers were drawn, in words."""
        how = f"drawn by the scores of {self.drawn}" if self.drawn else "drawn without regard to scores"
        return f"labels of {self.by}, {how}"


def labels_of(study: Study, outcome: Outcome = EM) -> list[Labels]:
    """Every reader's labels with the scores the outcome needs, the one with most labels of unedited answers first."""
    found = []
    for judge in study.judges():
        drawn = drawn_by(study, judge)
        if (judge.startswith(LABELLED) or drawn) and set(outcome.needs) <= set(study.metrics(judge)):
            found.append(Labels(judge, study.responses(judge), drawn))
    return sorted(found, key=lambda labels: -_unedited(labels.scores).filter(outcome.scored()).height)


def weighed(study: Study, judge: str, labels: Labels, outcome: Outcome = EM) -> pl.DataFrame:
    """`side_by_side` of the answers that rates are of: with the kinds of `judge`, or of whose scores drew the labels.

    Raises InputError where that judge did not score this study, where another reader of the same answers disagrees
    (Krippendorff's alpha of their verdicts below LEAST_ALPHA), and as `side_by_side` does.
    """
    for other in labels_of(study, outcome):
        value, shared = agreement(labels, other, outcome)
        if other.by != labels.by and shared >= FEWEST and value < LEAST_ALPHA:
            raise InputError(
                f"{labels.by} and {other.by} disagree on {shared} answers that both read: Krippendorff's alpha of "
                f"their verdicts is {value:.2f}, {LEAST_ALPHA:.2f} at least is needed: settle what labels mean"
            )
    by = labels.drawn or judge
    if by not in study.judges():
        raise InputError(
            f"the labels of {labels.by} were drawn by the scores of {by}, which are not in this study: score it with "
            "that judge, or draw labels evenly"
        )
    return side_by_side(with_scores_of(study, study.responses(by)), labels.scores, outcome)


def agreement(one: Labels, other: Labels, outcome: Outcome = EM) -> tuple[float, int]:
    """Krippendorff's alpha of two readers' verdicts, NaN where they gave one kind alone, and of how many answers."""
    said = [
        dict(each.scores.filter(outcome.scored()).select("response", outcome.kind()).iter_rows())
        for each in (one, other)
    ]
    return readers_alpha(said, outcome.kinds)


def labelled_among(labels: Labels, among: pl.DataFrame, outcome: Outcome = EM) -> int:
    """How many of some answers, by their column response, have a verdict."""
    said = labels.scores.filter(outcome.scored()).select("response").unique()
    return said.join(among, on="response", how="semi").height


def corrected_beside(
    study: Study, judge: str, labels: Labels, outcome: Outcome = EM, *, among: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The judge's rate of every organism and condition, and beside it what the labels make of it.

    [organism, condition, n, hits, raw, raw_low, raw_high, value, low, high, labels, label_hits, labels_by, drawn_by,
    reason]: `reason` says why a row has no corrected rate, else it is null. `among`: of these answers alone, rows of
    study.responses(judge) whose condition is what they are counted under (a sweep's cell). Raises InputError as
    `weighed` does.
    """
    answers, both = _counted_as(study, judge, labels, outcome, among)
    by = ["organism", "condition"]
    raw = em_rates(answers, by, outcomes=[outcome]).filter(pl.col("n") > 0).select(*by, **_renamed())
    labelled = both.filter(pl.col("hit").is_not_null()).select(by).unique()
    told = corrected_rates(both.join(labelled, on=by, how="semi", maintain_order="left")).select(*by, *_CORRECTED)
    none = pl.when(pl.col("labels") == 0).then(pl.lit("no labels"))
    return (
        raw.join(told, on=by, how="left", maintain_order="left")
        .with_columns(pl.col("labels", "label_hits").fill_null(0))
        .with_columns(labels_by=pl.lit(labels.by), drawn_by=pl.lit(labels.drawn, pl.String))
        .with_columns(reason=none.otherwise("reason"))
        .select(*by, *_RAW.values(), *_CORRECTED[:-1], "labels_by", "drawn_by", "reason")
    )


def corrected_gaps(
    study: Study, judge: str, labels: Labels, outcome: Outcome = EM, *, among: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The differences of `backend.tables.rates`, corrected, wherever both sides have labels enough.

    [organism, condition, against, under, difference, low, high, p_value, clear, labels, labels_against, questions,
    q_value, family, stands], in the same families. `among` as in `corrected_beside`. Raises InputError as `weighed`
    does.
    """
    _, both = _counted_as(study, judge, labels, outcome, among)
    sides = both.partition_by("organism", "condition", as_dict=True)
    rows = []
    for side, other in compared(study, sides):
        with suppress(InputError):  # too few labels on either side, or no question in common
            gap = corrected_difference(sides[side], sides[other])
            found = (gap.value, gap.low, gap.high, gap.p_value, gap.clear, *gap.labels, gap.questions)
            rows.append((*side, *other, *found))
    return with_families(pl.DataFrame(rows, _GAPS, orient="row"))


def corrected_tables(study: Study, judge: str, outcome: Outcome) -> Iterator[tuple[str, pl.DataFrame, tuple[str, ...]]]:
    """(title, table, notes) of `corrected_beside` and `corrected_gaps` for the labels of every reader."""
    known = labels_of(study, outcome)
    for labels in known if judge not in {labels.by for labels in known} else ():
        with suppress(InputError):  # said on the pages: these labels tell nothing of this judge
            table = corrected_beside(study, judge, labels, outcome)
            table = table.filter((pl.col("labels") > 0) | (pl.col("condition") == BASELINE))
            notes = (f"value, low, high: what {labels.by} would have said of all; {labels.told}",)
            yield f"beside its correction by the labels of {labels.by}", table, notes
            if (gaps := corrected_gaps(study, judge, labels, outcome)).height:
                title = f"differences, corrected by the labels of {labels.by}"
                yield title, gaps, (*notes, *families_told(gaps))


def _counted_as(
    study: Study, judge: str, labels: Labels, outcome: Outcome, among: pl.DataFrame | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The judge's answers, and those of `weighed`, under the organism and condition that each is counted under."""
    both = weighed(study, judge, labels, outcome)
    if among is None:
        return with_scores_of(study, study.responses(judge)), both
    named = among.select("response", "organism", "condition")
    return among, both.drop("organism", "condition").join(named, on="response", how="inner", maintain_order="left")


def _unedited(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("condition") == BASELINE)


def _renamed() -> dict[str, pl.Expr]:
    return {new: pl.col(old) for old, new in _RAW.items()}


_GAPS = (
    dict.fromkeys(("organism", "condition", "against", "under"), pl.String)
    | dict.fromkeys(("difference", "low", "high", "p_value"), pl.Float64)
    | {"clear": pl.Boolean}
    | dict.fromkeys(("labels", "labels_against", "questions"), pl.Int64)
)
