"""Sweeps: what every condition did, the answers under it beside unedited ones, and what it changed.

Random controls of one direction, place, strength, tokens and target are one cell, whatever their seed: their answers
are counted together. A series is what is ablated or added, with what it is brought to where that is not zero, and at
which tokens where conditions differ in that. An edited answer is compared with unedited ones of its own length. It
refuses to know what is drawn.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import polars as pl

from backend.analysis.conditions.baselines import own_baselines
from backend.analysis.conditions.controls import ITSELF, RANDOM, SUBSPACE, role
from backend.analysis.conditions.describe import describe_stored, relative_strengths, sweep_rates
from backend.analysis.rates.changes import changes
from backend.analysis.rates.pairing import Pairs, pairs
from backend.analysis.rates.rates import SIMILAR_QUESTIONS, Estimand
from backend.edits import EVERY
from backend.outcomes import EM, Outcome
from backend.records import BASELINE, InputError
from backend.study import Study
from backend.study.origins import controls, origins

STEERED, ABLATED = ("steer",), ("ablate", "ablate_write")
EVERYWHERE, WISE, ALONE, WRITES = (
    "one direction after every block",
    "each block's own direction",
    "after one block alone",
    "out of the write vectors",
)
CHANGED = ("difference", "p_value", "q_value", "family", "clear", "stands", "verdict")
METRICS = ("aligned", "coherent", "medical", "money", "financial", "gender", "bad_stuff")


@dataclass(frozen=True, eq=False)
class SweptAnswers:
    """The answers under edits of some kinds, and the same organisms' without."""

    answers: pl.DataFrame  # the columns of study.responses, and cell: "baseline" for every unedited answer
    cells: pl.DataFrame  # the columns of `described` but condition, one row a cell of these kinds or an unedited one
    kinds: tuple[str, ...]
    cut: tuple[str, ...]  # the unedited conditions, of one length each, that edited answers are compared with
    other_lengths: int  # edited answers left out, being cut at another length than those of their organism here
    baselines: tuple[str, ...]  # what there is to choose from where an organism has edited answers of several lengths

    @property
    def edited(self) -> list[str]:
        """The cells under an edit."""
        return self.cells.filter(pl.col("kind").is_in(self.kinds))["cell"].to_list()

    def about(self, topics: Collection[str] | None) -> pl.DataFrame:
        """The answers to questions of some topics; of all where it is None."""
        return self.answers if topics is None else self.answers.filter(pl.col("topic").is_in(list(topics)))


def described(study: Study) -> pl.DataFrame:
    """What every condition did, beside its role, the direction it is like, its share of the norm, and its cell.

    [condition, kind, direction, layers, layer, strength, where, to, relative, role, like, series, cell]
    """
    conditions = study.conditions()
    table = describe_stored(conditions, study.info.get("settings"))
    known, declared = origins(study), controls(study)
    roles = [role(name, known, declared) if name else None for name in table["direction"]]
    relative = relative_strengths(conditions, study.directions(), table)
    table = table.join(relative, on="condition", how="left", maintain_order="left").with_columns(
        role=pl.Series([each.kind if each else None for each in roles], dtype=pl.String),
        like=pl.Series([each.like if each else None for each in roles], dtype=pl.String),
    )
    seeded = pl.col("role").is_in([RANDOM, SUBSPACE])
    place = ["kind", "role", "like", "layers", pl.col("strength").round_sig_figs(5), "where", "to"]
    pooled = seeded & (pl.len().over(place) > 1)
    series = pl.when(pooled).then(pl.format("{} like {}", "role", "like")).otherwise(pl.col("direction"))
    where = pl.when(pl.col("layers") == "all").then(pl.lit("everywhere")).otherwise(pl.format("L{}", "layers"))
    strength = (
        pl.when(pl.col("strength").is_null())
        .then(pl.lit(""))
        .otherwise(pl.format(" ×{}", pl.col("strength").round_sig_figs(3)))
    )
    to = pl.when(pl.col("to").fill_null("zero") == "zero").then(pl.lit("")).otherwise(pl.format(" to {}", "to"))
    at = pl.when(pl.col("where") == EVERY.words).then(None).otherwise(pl.format(" at {}", "where")).fill_null("")
    cell = pl.format("{} {} {}{}{}{}, {} directions", "kind", series, where, strength, to, at, pl.len().over(place))
    mixed = (pl.col("kind") != "steer") & (pl.col("where").n_unique().over("kind") > 1)
    apart = pl.format("{}{}{}", series, to, pl.when(mixed).then(at).otherwise(pl.lit("")))
    return table.with_columns(series=apart, cell=pl.when(pooled).then(cell).otherwise(pl.col("condition")))


def swept(study: Study, responses: pl.DataFrame, kinds: tuple[str, ...], baseline: str | None = None) -> SweptAnswers:
    """The sweep of edits of these kinds among `responses`, which are study.responses of one judge.

    Edited answers of an organism have one length, that of the most of them. Where it has several, those compared with
    `baseline`, an unedited condition, if it has such. Raises InputError where none has.
    """
    table = described(study).filter(pl.col("kind").is_in([*kinds, "baseline"]))
    edited = pl.col("condition").is_in(table.filter(pl.col("kind") != "baseline")["condition"].implode())
    organisms = responses.filter(edited)["organism"].unique()
    every = responses.filter(
        pl.col("organism").is_in(organisms.implode()), pl.col("condition").is_in(table["condition"].implode())
    )
    baselines = study.info.get("baselines") or {}
    beside = pl.col("condition").replace_strict(baselines, default=BASELINE, return_dtype=pl.String)
    counts = every.filter(edited).group_by("organism", beside.alias("beside")).len()
    several = counts.filter(pl.len().over("organism") > 1)
    order = several.group_by("beside").agg(pl.sum("len")).sort("len", "beside", descending=[True, False])["beside"]
    compared = every
    if baseline is not None:
        having = counts.filter(beside=baseline)["organism"]
        if having.is_empty():
            raise InputError(f"no edited answers are compared with {baseline!r}: choose one of {', '.join(order)}")
        compared = every.filter(~edited | (beside == baseline) | ~pl.col("organism").is_in(having.implode()))
    answers = _by_cell(compared, table, baselines)
    held = answers.filter(edited)
    cut = sorted({baselines[name] for name in held["condition"].unique() if name in baselines})
    other = every.filter(edited).height - held.height
    cells = table.unique("cell", keep="first", maintain_order=True).drop("condition")
    return SweptAnswers(answers, cells, kinds, tuple(cut), other, tuple(order))


def swept_at_each_length(
    study: Study, responses: pl.DataFrame, kinds: tuple[str, ...]
) -> list[tuple[str, SweptAnswers]]:
    """The sweep, and those organisms that were edited at further lengths at each of them; with its baseline's name."""
    usual = swept(study, responses, kinds)
    edited = usual.answers.filter(pl.col("cell").is_in(usual.edited))
    found = [("", usual)]
    for baseline in usual.baselines:
        sweep = swept(study, responses, kinds, baseline)
        new = sweep.answers.filter(pl.col("cell").is_in(sweep.edited)).join(
            edited, on=["organism", "condition"], how="anti"
        )
        if new.height:
            own = sweep.answers.filter(pl.col("organism").is_in(new["organism"].unique().implode()))
            found.append((baseline, replace(sweep, answers=own, cut=(baseline,), other_lengths=0)))
    return found


def _by_cell(responses: pl.DataFrame, table: pl.DataFrame, baselines: dict[str, str]) -> pl.DataFrame:
    """The answers of one length each by cell; `table` says what conditions did, `baselines` what each is beside."""
    edited = table.filter(pl.col("kind") != "baseline").select("condition", pooled="cell")
    own = own_baselines(responses, edited["condition"].to_list(), baselines)
    named = own.join(edited, on="condition", how="left", maintain_order="left")
    return named.with_columns(cell=pl.coalesce("pooled", "cell")).drop("pooled")


def starting_topics(study: Study, sweep: SweptAnswers) -> tuple[str, ...]:
    """The sets of questions that a sweep is first shown for, in order: those it was published for, else all it has.

    A study says so (`published_questions` in its info) where the same edits were also sampled on other questions.
    """
    edited = sweep.answers.filter(pl.col("cell").is_in(sweep.edited))
    topics = edited["topic"].unique().sort().to_list()
    published = set(study.info.get("published_questions") or ())
    return tuple(topic for topic in topics if topic in published) or tuple(topics)


def steered(
    sweep: SweptAnswers,
    topics: Collection[str] | None = None,
    outcome: Outcome = EM,
    about: Estimand = SIMILAR_QUESTIONS,
) -> pl.DataFrame:
    """Rates by organism and cell with what the cell did, and of the outcome the change against the unedited answers.

    [organism, cell, metric, n, hits, value, low, high, dropped, clusters, too_small, *columns of cells, difference,
    p_value, q_value, family, clear, stands, verdict]; those from difference on are null for other rates than the
    outcome's, and where nothing is compared.
    """
    rows = sweep.about(topics)
    table = sweep_rates(rows, sweep.cells, outcome.beside, by="cell", about=about)
    key = ["organism", "cell", "metric"]
    changed = changes(rows, sweep.edited, by="cell", outcomes=(outcome,), about=about).select(*key, *CHANGED)
    return table.join(changed, on=key, how="left", maintain_order="left")


def ablated(
    study: Study,
    sweep: SweptAnswers,
    topics: Collection[str] | None = None,
    about: Estimand = SIMILAR_QUESTIONS,
    outcome: Outcome = EM,
) -> pl.DataFrame:
    """What each ablation changed against the same organism without it, with what it ablated and how.

    The columns of `changes`, those of cells, way (how it ablates, in words) and own (the organism's own direction).
    """
    table = changes(sweep.about(topics), sweep.edited, by="cell", outcomes=outcome.beside, about=about)
    did = sweep.cells.with_columns(way=_ways())
    table = table.join(did, on="cell", how="left", maintain_order="left")
    known = origins(study)
    whose = pl.Series([role(name, known).owner if name else None for name in table["like"]], dtype=pl.String)
    return table.with_columns(own=(whose == table["organism"]).fill_null(False) & (pl.col("role") == ITSELF))


def paired(sweep: SweptAnswers, organism: str, cell: str, outcome: Outcome = EM) -> Pairs:
    """The answers of a cell beside the organism's answers without an edit, with the outcome's scores and METRICS."""
    held, wanted = sweep.answers.columns, dict.fromkeys((*outcome.needs, *METRICS))
    metrics = [name for name in wanted if name in held and sweep.answers[name].is_not_null().any()]
    return pairs(sweep.answers, organism, cell, metrics, by="cell")


def _ways() -> pl.Expr:
    """How a condition ablates, in words."""
    return (
        pl.when(pl.col("kind").str.contains("write"))
        .then(pl.lit(WRITES))
        .when(pl.col("layers") == "all")
        .then(pl.lit(EVERYWHERE))
        .when(pl.col("layer").is_not_null())
        .then(pl.lit(ALONE))
        .otherwise(pl.lit(WISE))
    )
