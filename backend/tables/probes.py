"""The contrasts that a reader's tokens support, and probes on them: the paper's protocol beside held-out splits.

It refuses to know how a probe is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.contrasts import label_responses
from backend.analysis.probes.classification import METRICS
from backend.analysis.probes.paper_protocol import paper_protocol
from backend.analysis.probes.probe import ProbeReport, ProbeSettings, Split, train_probe
from backend.outcomes import Contrast
from backend.records import InputError
from backend.study import Study
from backend.study.outcome_json import contrasts_of
from backend.tables.features import Features, token_scalars
from backend.tables.rows import Rows, labelled
from backend.tables.sweeps import described

PAPER = "paper (token)"


@dataclass(frozen=True)
class Repeats:
    """How often splits, shuffles and refits are drawn."""

    paper: int = 20  # random splits of the paper's protocol
    shuffles: int = 5
    bootstraps: int = 20


@dataclass(frozen=True, eq=False)
class Contrasted:
    """A contrast with both classes among the unedited answers of a reader."""

    contrast: Contrast
    judge: str
    classes: pl.DataFrame  # response, label (True: positive), question_id and others


@dataclass(frozen=True, eq=False)
class Probed:
    """The probes of a reader's contrasts, as tables."""

    metrics: pl.DataFrame
    coefficients: pl.DataFrame  # of the paper's protocol
    notes: tuple[str, ...]


def contrasts(study: Study, reader: str) -> list[Contrasted]:
    """Contrasts with both classes among the unedited answers of the reader that it read, by the judge with most."""
    kinds = described(study).filter(pl.col("kind").is_in(["baseline", "selected"]))["condition"]
    read = study.readings(reader)["response"]
    judged = {
        judge: frame.filter(
            pl.col("response").is_in(read.implode())
            & pl.col("condition").is_in(kinds.implode())
            & (pl.col("organism") == reader)
        )
        for judge in study.judges()
        if (frame := study.responses(judge)).height
    }
    found = (_best(contrast, judged) for contrast in contrasts_of(study.info))
    return [each for each in found if each is not None]


def _best(contrast: Contrast, judged: dict[str, pl.DataFrame]) -> Contrasted | None:
    best: Contrasted | None = None
    for judge, frame in judged.items():
        try:
            classes = label_responses(frame, contrast)
        except InputError:
            continue  # this judge did not score what the contrast needs, or one side is empty
        if best is None or classes.height > best.classes.height:
            best = Contrasted(contrast, judge, classes)
    return best


def probed(study: Study, reader: str, found: list[Contrasted], repeats: Repeats) -> Probed:
    """Probes on the scalars of a reader's answer tokens, of all and of those of high significance."""
    metrics, coefficients, notes = [], [], list[str]()
    names = tuple(study.adapters(reader)["name"])
    read = dict(_tokens(study, reader, names))
    for each in found:
        for tokens, features in read.items():
            rows = labelled(features, each.classes)
            for protocol, report in _reports(rows, repeats, tokens == "all"):
                metrics.append(_metric_row(each, tokens, protocol, rows, report))
                notes += [f"{each.contrast.name}: {note}" for note in report.notes if "protocol" not in note]
                if protocol == PAPER:
                    told = report.coefficients.iter_rows(named=True)
                    coefficients += [{"contrast": each.contrast.name, "tokens": tokens, **row} for row in told]
    return Probed(pl.DataFrame(metrics), pl.DataFrame(coefficients), tuple(dict.fromkeys(notes)))


def _tokens(study: Study, reader: str, names: tuple[str, ...]) -> Iterator[tuple[str, Features]]:
    for tokens, significant in (("all", False), ("significant", True)):
        try:
            yield tokens, token_scalars(study, reader, names, significant)
        except InputError:
            continue  # the study holds none, or no significance to choose them by


def _reports(rows: Rows, repeats: Repeats, grouped: bool) -> Iterator[tuple[str, ProbeReport]]:
    """The paper's protocol and, for all tokens, the splits that hold whole responses and questions out."""
    try:
        yield PAPER, paper_protocol(rows.values, rows.labels, repeats=repeats.paper, names=rows.names)
    except InputError:
        return  # too few tokens of a class
    splits: tuple[tuple[Split, np.ndarray[Any, Any]], ...] = (("response", rows.response), ("question", rows.questions))
    for split, groups in splits if grouped else ():
        settings = ProbeSettings("l1", 0.01, split, shuffles=repeats.shuffles, bootstraps=repeats.bootstraps)
        try:
            report = train_probe(
                rows.values,
                rows.labels,
                groups,
                names=rows.names,
                settings=settings,
                units=rows.response,
                questions=rows.questions,
            )
        except InputError:
            continue  # a class in a single question cannot be held out
        yield f"by {split}", report


def _metric_row(each: Contrasted, tokens: str, protocol: str, rows: Rows, report: ProbeReport) -> dict[str, Any]:
    row: dict[str, Any] = {
        "contrast": each.contrast.name,
        "judge": each.judge,
        "tokens": tokens,
        "protocol": protocol,
        "n_tokens": len(rows.labels),
        "n_responses": len(np.unique(rows.response)),
        "n_questions": len(np.unique(rows.questions)),
    }
    for name in METRICS:
        estimate = report.metrics[name]
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    for name in ("accuracy", "auc"):
        chance = report.shuffled.get(name)
        row |= {f"shuffled_{name}": None if chance is None else chance.value}
    return row | {"p_value": report.p_value, "above_chance": report.above_chance}
