"""Training: rates along it, scalars along it, losses, and organisms that were trained in different ways side by side.

What a checkpoint is, its study's record says: of a condition (kind "checkpoint", step), of an organism that read texts
(run, step), and of what organisms stand beside each other for (compared). It refuses to know how anything is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.analysis.aucs import auc_table
from backend.analysis.contrasts import label_responses
from backend.analysis.rates.changes import changes
from backend.analysis.rates.rates import about_of, about_words
from backend.analysis.scalars.grouped import grouped_mean
from backend.outcomes import EM, Contrast, Outcome
from backend.records import BASE, BASELINE, InputError
from backend.study import Study
from backend.study.outcome_json import contrasts_of
from backend.tables.adapters import response_scalars
from backend.tables.experiments import rates_said, said

ORGANISMS = "organisms"  # what they are compared as where no record says more
NO_FINE_TUNE = "no fine-tune"  # the group of base models in records


# --- along training --------------------------------------------------------------------------------------------------


def along(study: Study, responses: pl.DataFrame, outcome: Outcome = EM) -> pl.DataFrame:
    """Rates along every training run: [organism, step, *columns of rates_said]; a run is an organism.

    `responses` are study.responses of one judge.
    """
    steps = said(study, "checkpoint", "step")
    rows = responses.join(steps, on="condition", how="inner", maintain_order="left") if steps.height else pl.DataFrame()
    if rows.is_empty():
        return pl.DataFrame()
    several = rows.group_by("organism").agg(pl.col("step").n_unique()).filter(pl.col("step") > 1)["organism"]
    rows = rows.filter(pl.col("organism").is_in(several.implode())).with_columns(pl.col("step").cast(pl.Int64))
    return rates_said(rows, ["organism", "step"], outcome).sort("organism", "step", maintain_order=True)


def checkpoints(study: Study) -> pl.Series:
    """The names of the conditions that are checkpoints."""
    return said(study, "checkpoint", "step")["condition"]


def before_training(study: Study, responses: pl.DataFrame, run: str, outcome: Outcome = EM) -> pl.DataFrame:
    """The rates of a run's base on the questions that its checkpoints were asked: the columns of rates_said.

    Empty where the base was not asked all of them.
    """
    steps = checkpoints(study).implode()
    asked = responses.filter(pl.col("organism") == run, pl.col("condition").is_in(steps))["question_id"]
    own = responses.filter(pl.col("organism") == base_of(study, run), pl.col("condition") == BASELINE)
    own = own.filter(pl.col("question_id").is_in(asked.unique().implode()))
    return (
        rates_said(own, ["organism"], outcome) if own["question_id"].n_unique() == asked.n_unique() else pl.DataFrame()
    )


def beyond_base(study: Study, responses: pl.DataFrame, run: str, outcome: Outcome = EM) -> pl.DataFrame:
    """What every checkpoint of a run has beyond its base, on the questions of both; the steps are a family.

    [step, *columns of `changes`, about]. Empty where `before_training` is. `responses` as there.
    """
    if before_training(study, responses, run, outcome).is_empty():
        return pl.DataFrame()
    steps = said(study, "checkpoint", "step").select("condition", cell=pl.col("step").cast(pl.Int64).cast(pl.String))
    own = responses.filter(pl.col("organism") == run).join(steps, on="condition", maintain_order="left")
    base = responses.filter(pl.col("organism") == base_of(study, run), pl.col("condition") == BASELINE)
    frame = pl.concat([own, base.with_columns(organism=pl.lit(run), cell=pl.lit(BASELINE)).select(own.columns)])
    asked = own.filter(outcome.scored())["question_id"].n_unique()
    table = changes(frame, own["cell"].unique().to_list(), by="cell", outcomes=(outcome,), about=about_of(asked))
    step = pl.col("cell").cast(pl.Int64)
    return table.select(step.alias("step"), pl.exclude("cell"), about=pl.lit(about_words(asked))).sort("step")


def base_of(study: Study, organism: str) -> str:
    """The unadapted organism of the same base model."""
    bases = dict(study.organisms().select("organism", "base").iter_rows())
    other = f"{BASE} {bases.get(organism)}"
    return other if other in bases else BASE


def checkpoints_read(study: Study) -> pl.DataFrame:
    """[run, step, reader] of the organisms with scalars that are checkpoints of one run, in order of steps."""
    rows = [
        (record["run"], int(record["step"]), reader)
        for reader, record in _records(study).items()
        if "run" in record and "step" in record and reader in study.readers() and study.adapters(reader).height
    ]
    return pl.DataFrame(rows, {"run": pl.String, "step": pl.Int64, "reader": pl.String}, orient="row").sort(
        "run", "step"
    )


def scalars_along(study: Study) -> pl.DataFrame:
    """How far the mean scalar of each adapter tells two classes of texts apart, by step of its training.

    [run, step, adapter, contrast, judge, positive, negative, value (AUC), low, high, mean_positive, mean_negative, both
    with _low and _high, n, questions, shared]: over the texts that the checkpoint has read, of which `shared` were read
    by every checkpoint of the run; the first contrast of the study that has both classes among those of each step, by
    the judge that scored most. Intervals are over questions.
    """
    tables = []
    for (run,), part in checkpoints_read(study).group_by("run", maintain_order=True):
        texts = {reader: study.readings(reader)["response"].to_list() for reader in part["reader"]}
        labelled = _classes(study, list(texts.values()))
        if part.height < 2 or labelled is None:
            continue
        contrast, judge, classes = labelled
        shared = len(set.intersection(*map(set, texts.values())))
        for step, reader in part.select("step", "reader").iter_rows():
            names = study.adapters(reader)["name"].to_list()
            rows = classes.join(response_scalars(study, reader, names), on="response", maintain_order="left")
            values, truth, questions = (
                rows.select(names).to_numpy(),
                rows["label"].to_numpy(),
                rows["question_id"].to_numpy(),
            )
            found = auc_table(values, truth, questions).select("value", "low", "high")
            tables.append(
                found.select(
                    pl.lit(run).alias("run"),
                    pl.lit(step).alias("step"),
                    pl.Series("adapter", names),
                    pl.lit(contrast.name).alias("contrast"),
                    pl.lit(judge).alias("judge"),
                    pl.lit(contrast.positive_name).alias("positive"),
                    pl.lit(contrast.negative_name).alias("negative"),
                    pl.all(),
                    _means(values[truth], questions[truth], "mean_positive"),
                    _means(values[~truth], questions[~truth], "mean_negative"),
                    pl.lit(rows.height).alias("n"),
                    pl.lit(rows["question_id"].n_unique()).alias("questions"),
                    pl.lit(shared).alias("shared"),
                ).unnest("mean_positive", "mean_negative")
            )
    return pl.concat(tables) if tables else pl.DataFrame()


def _means(values: NDArray[Any], groups: NDArray[Any], name: str) -> pl.Series:
    """The mean of every column of values (row, column) with the ends of its interval, as a struct to be unnested."""
    found = [grouped_mean(column, groups) for column in values.T]
    ends = ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high"))
    return pl.DataFrame({key: [getattr(each, part) for each in found] for key, part in ends}).to_struct(name)


def _classes(study: Study, texts: Sequence[Sequence[str]]) -> tuple[Contrast, str, pl.DataFrame] | None:
    """A contrast with both classes in each of these sets of responses, the judge, and the classes of all of them."""
    every = sorted({text for some in texts for text in some})
    judged = {judge: study.responses(judge).filter(pl.col("response").is_in(every)) for judge in study.judges()}
    for contrast in contrasts_of(study.info):
        found: list[tuple[Contrast, str, pl.DataFrame]] = []
        for judge, frame in judged.items():
            try:
                classes = label_responses(frame, contrast)
            except InputError:
                continue  # it did not score what the contrast needs, or one side is empty
            sides = [classes.filter(pl.col("response").is_in(some))["label"].n_unique() for some in texts]
            if all(count == 2 for count in sides):
                found.append((contrast, judge, classes))
        if found:
            return max(found, key=lambda each: each[2].height)
    return None


def losses(study: Study) -> pl.DataFrame:
    """[organism, step, loss] of the organisms whose record has the losses of their training; steps count from 1."""
    tables = [
        pl.DataFrame({"organism": organism, "step": np.arange(1, len(found) + 1), "loss": np.array(found, dtype=float)})
        for organism, record in _records(study).items()
        if isinstance(found := record.get("losses"), list) and found
    ]
    return pl.concat(tables) if tables else pl.DataFrame()


# --- organisms side by side ------------------------------------------------------------------------------------------


def question_sets(study: Study, responses: pl.DataFrame) -> dict[str, list[str]]:
    """The sets of questions that organisms were asked without an edit, by name; those of one topic first.

    A name says the topic, or the questions where they are few, and how many organisms were asked all of them.
    """
    own = _unedited(responses).select("organism", "question_id", "topic").unique()
    asked = {name: set(rows["question_id"]) for (name,), rows in own.group_by("organism", maintain_order=True)}
    topics = {topic: frozenset(rows["question_id"]) for (topic,), rows in own.group_by("topic", maintain_order=True)}
    found: dict[frozenset[str], str] = {}
    for topic in sorted(topics, key=lambda name: (name != "first-plot", name)):
        found[topics[topic]] = str(topic)
    for questions in sorted({frozenset(each) for each in asked.values()}, key=lambda each: (len(each), sorted(each))):
        words = ", ".join(sorted(questions)) if len(questions) <= 4 else f"all that {len(questions)} are"
        found.setdefault(questions, words)
    sets = {}
    for questions, words in found.items():
        organisms = sum(questions <= each for each in asked.values())
        if organisms > 1 and questions:
            plural = f"{len(questions)} question{'s' if len(questions) > 1 else ''}"
            sets[f"{words} ({plural}, {organisms} organisms)"] = sorted(questions)
    return sets


def compared(study: Study, responses: pl.DataFrame, questions: list[str], outcome: Outcome = EM) -> pl.DataFrame:
    """Unedited rates of the organisms that were asked all of `questions`, over these alone, by what they differ in.

    [group, organism, base, *columns of rates_said]: an organism is in each group that its record names (compared), but
    for those in which it would stand alone where it stands beside others elsewhere. `responses` are study.responses of
    one judge.
    """
    own = _unedited(responses).filter(pl.col("question_id").is_in(questions))
    whole = (
        own.group_by("organism").agg(pl.col("question_id").n_unique()).filter(pl.col("question_id") == len(questions))
    )
    rates = rates_said(own.filter(pl.col("organism").is_in(whole["organism"].implode())), ["organism"], outcome)
    known = _records(study)
    listed = [(group, name) for name in rates["organism"].unique(maintain_order=True) for group in _groups(known[name])]
    table = pl.DataFrame(listed, {"group": pl.String, "organism": pl.String}, orient="row")
    alone = (pl.len().over("group") == 1) & (pl.len().over("organism") > 1)  # nothing to stand beside here
    bases = study.organisms().select("organism", "base")
    table = table.filter(~alone).sort(pl.col("group") != NO_FINE_TUNE, "group", maintain_order=True)
    table = table.join(bases, on="organism", how="left", maintain_order="left")
    return table.join(rates, on="organism", how="inner", maintain_order="left_right")


def _groups(record: Mapping[str, Any]) -> list[str]:
    named = record.get("compared")
    return [str(group) for group in named] if isinstance(named, list) and named else [ORGANISMS]


def _unedited(responses: pl.DataFrame) -> pl.DataFrame:
    return responses.filter(pl.col("condition") == BASELINE)


def _records(study: Study) -> dict[str, dict[str, Any]]:
    rows = study.organisms().select("organism", "record").iter_rows()
    return {organism: json.loads(record or "{}") for organism, record in rows}
