"""Every page's figures as tables, without a browser: for any study, with n and intervals.

Each page is a function of a study that yields tables. What a study lacks is left out, and a line says so. The numbers
come from backend.analysis, which the pages use too; this module chooses rows, columns and words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from backend.analysis.conditions.describe import before_after, describe_stored, sweep_rates
from backend.analysis.contrasts import label_responses
from backend.analysis.directions.convergence import pairs
from backend.analysis.probes.classification import METRICS
from backend.analysis.probes.paper_protocol import paper_protocol
from backend.analysis.probes.probe import SIGNIFICANT, ProbeReport, ProbeSettings, Split, train_probe
from backend.analysis.rates.fourway import NEEDS, at_the_edge, four_way, sensitivity
from backend.analysis.rates.rates import SIMILAR_QUESTIONS, THESE_QUESTIONS, em_rates
from backend.outcomes import CONTRASTS, Bins, Contrast
from backend.records import InputError
from backend.study import ScalarTable, Study

_RATE = ["n", "value", "low", "high"]


@dataclass(frozen=True, eq=False)
class Table:
    """One figure as a table: which page has it, what it shows, and what to know when reading it."""

    page: str
    title: str
    frame: pl.DataFrame
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is no finite number is null."""
        rows = [{name: _finite(value) for name, value in row.items()} for row in self.frame.iter_rows(named=True)]
        return {"page": self.page, "title": self.title, "notes": list(self.notes), "rows": rows}


@dataclass(frozen=True)
class Choices:
    """What a reader may choose: the four-way table's cut-offs and the repeats of the paper's probe."""

    bins: Bins = field(default_factory=Bins)
    repeats: int = 20
    shuffles: int = 5
    bootstraps: int = 20


def figures(study: Study, page: str | None = None, choices: Choices | None = None) -> list[Table]:
    """All tables of a study, or those of one page. Raises InputError for a page that does not exist."""
    if page is not None and page not in PAGES:
        raise InputError(f"there is no page {page!r}: choose {', '.join(PAGES)}")
    choices = choices or Choices()
    return [table for name, of in PAGES.items() if page in (None, name) for table in of(study, choices)]


# --- pages ------------------------------------------------------------------------------------------------------------


def overview(study: Study, _: Choices) -> Iterator[Table]:
    """What the study holds, and what was noted when it was made."""
    held = {
        "organisms": study.organisms().height,
        "conditions": study.conditions().height,
        "questions": study.questions().height,
        "responses": study.responses(None).height,
        "judges": ", ".join(study.judges()) or "none",
        "organisms that read texts": ", ".join(study.readers()) or "none",
        "directions": study.directions()["name"].n_unique(),
    }
    frame = pl.DataFrame({"what": list(held), "in this study": [str(value) for value in held.values()]})
    report = study.info.get("report") or {}
    skipped = [f"skipped {row['path']}: {row['reason']}" for row in report.get("skipped", ())]
    title = f"{study.name}: {study.info.get('title', '')}".rstrip(": ")
    yield Table("overview", title, frame, (*report.get("notes", ()), *skipped))


def responses(study: Study, _: Choices) -> Iterator[Table]:
    """EM and coherence by organism and condition, by topic, and EM by question."""
    judged = _judged(study, ("aligned", "coherent"))
    if not judged:
        yield _nothing("responses", "no judge scored alignment and coherence")
    described = _described(study)
    chosen = described.filter(pl.col("kind") == "selected")["condition"].to_list()
    note = (f"without the condition {', '.join(chosen)}: its answers were chosen by their scores",) if chosen else ()
    for judge, frame in judged:
        rows = frame.filter(~pl.col("condition").is_in(chosen))
        for by in (["organism", "condition"], ["organism", "condition", "topic"]):
            rates = em_rates(rows, by).filter(pl.col("n") > 0)
            title = f"EM and coherence by {', '.join(by)} (judge {judge})"
            yield Table("responses", title, rates.select(*by, "metric", *_RATE, "dropped", "clusters"), note)
        by = ["organism", "condition", "question_id"]
        rates = em_rates(rows, by).filter((pl.col("n") > 0) & (pl.col("metric") == "em"))
        yield Table("responses", f"EM by question (judge {judge})", rates.select(*by, *_RATE, "dropped"), note)


def probes(study: Study, choices: Choices) -> Iterator[Table]:
    """The contrasts that a reader's tokens support: the paper's protocol beside splits by response and by question."""
    if not study.readers():
        yield _nothing("probes", "no scalars per token")
    for reader in study.readers():
        found = list(_contrasts(study, reader))
        if not found:
            yield _nothing("probes", f"no contrast has both classes among the answers that {reader} read")
            continue
        metrics, coefficients, notes = [], [], list[str]()
        for contrast, judge, labels in found:
            for tokens, cut in (("all", None), ("significant", SIGNIFICANT)):
                rows = _token_rows(study, reader, labels, cut)
                if rows is None:
                    continue
                for protocol, report in _reports(rows, choices, tokens == "all"):
                    metrics.append(_metric_row(contrast, judge, tokens, protocol, rows, report))
                    notes += [f"{contrast.name}: {note}" for note in report.notes if "protocol" not in note]
                    if protocol != "paper (token)":
                        continue
                    for row in report.coefficients.iter_rows(named=True):
                        coefficients.append({"contrast": contrast.name, "tokens": tokens, **row})
        yield Table("probes", f"Probes on the scalars of {reader}", pl.DataFrame(metrics), tuple(dict.fromkeys(notes)))
        title = f"Coefficients per adapter of {reader}, paper's protocol, per standard deviation"
        yield Table("probes", title, pl.DataFrame(coefficients), ("ends hold 95 % of the repeats",))


def scaling(study: Study, choices: Choices) -> Iterator[Table]:
    """The four-way table of scaled adapters at the chosen cut-offs, and how it depends on them."""
    scaled = _described(study).filter(pl.col("kind") == "scale")["condition"].to_list()
    judged = [
        (judge, rows)
        for judge, frame in _judged(study, NEEDS)
        if (rows := frame.filter(pl.col("condition").is_in(scaled))).height
    ]
    if not judged:
        yield _nothing("scaling", "no answers under scaled adapters with alignment, coherence and medical scores")
    bins, by = choices.bins, ["organism", "condition"]
    for judge, rows in judged:
        edges = (
            f"coherent >= {bins.coherent:g}; misaligned <= {bins.misaligned:g}, aligned > {bins.aligned:g}; "
            f"non-medical <= {bins.non_medical:g}, medical > {bins.medical:g}"
        )
        table = four_way(rows, by, bins).select(*by, "cell", *_RATE, "dropped")
        yield Table("scaling", f"Scaled adapters, share of kept answers (judge {judge})", table, (edges,))
        for cell in ("misaligned medical", "misaligned non-medical", "aligned medical"):
            moved = sensitivity(rows, by, cell, bins)
            yield Table("scaling", f"The share of {cell} as the coherence cut-off and the medical edge move", moved)
        near = at_the_edge(rows, by, bins).filter(pl.col("n") > 0)
        yield Table("scaling", "Kept scores within 0.1 of a bin's edge", near)


def directions(study: Study, _: Choices) -> Iterator[Table]:
    """Norms and shares of the activation norm by layer, and the range of cosines between directions over layers."""
    listed = study.directions()
    if listed.is_empty():
        yield _nothing("directions", "no directions")
        return
    share = (pl.col("norm") / pl.col("activation_norm")).alias("share")
    norms = listed.select("name", "layer", "norm", "activation_norm", share)
    yield Table("directions", "Norm and share of the activation norm, by layer", norms)
    cosines = pairs({name: study.direction_stack(name) for name in listed["name"].unique(maintain_order=True)})
    if cosines.height:
        yield Table("directions", "Cosine between directions over the layers they share", cosines)


def sweeps(study: Study, _: Choices) -> Iterator[Table]:
    """EM, coherence and topics by direction and strength; what each ablation changed."""
    described = _described(study)
    edited = described.filter(pl.col("kind").is_in(["steer", "ablate", "mixed"]))["condition"].to_list()
    judged = _judged(study, ("aligned", "coherent"))
    if not edited or not judged:
        yield _nothing("sweeps", "no judged answers under steering or ablation")
        return
    shares = study.directions().select(
        pl.col("name").alias("direction"), "layer", (pl.col("norm") / pl.col("activation_norm")).alias("_share")
    )
    for judge, frame in judged:
        swept = frame.filter(pl.col("condition").is_in(edited))["organism"].unique()
        rows = frame.filter(pl.col("organism").is_in(swept.implode()))
        table = sweep_rates(rows, described.filter(pl.col("kind") != "scale"))
        table = table.join(shares, on=["direction", "layer"], how="left", maintain_order="left").with_columns(
            (pl.col("strength") * pl.col("_share")).alias("relative")
        )
        columns = ["organism", "kind", "direction", "layers", "strength", "relative", "metric", *_RATE, "dropped"]
        note = "relative: strength x norm of the direction / mean activation norm at its layer"
        yield Table("sweeps", f"Rates by direction and strength (judge {judge})", table.select(columns), (note,))
        for about, words in ((SIMILAR_QUESTIONS, "questions like these"), (THESE_QUESTIONS, "these very questions")):
            changed = before_after(frame, described, about=about)
            if changed.height:
                title = f"Before and after ablation, intervals for {words} (judge {judge})"
                yield Table("sweeps", title, changed)


Page = Callable[[Study, Choices], Iterator[Table]]
PAGES: dict[str, Page] = {
    "overview": overview,
    "responses": responses,
    "probes": probes,
    "scaling": scaling,
    "directions": directions,
    "sweeps": sweeps,
}


# --- what they are made of --------------------------------------------------------------------------------------------


def _nothing(page: str, why: str) -> Table:
    return Table(page, f"{page}: this study has {why}", pl.DataFrame())


def _judged(study: Study, metrics: Sequence[str]) -> list[tuple[str, pl.DataFrame]]:
    """Judges that scored all of these metrics, each with the responses it scored."""
    return [(judge, study.responses(judge)) for judge in study.judges() if set(metrics) <= set(study.metrics(judge))]


def _described(study: Study) -> pl.DataFrame:
    """What every condition did, by the study's record or its edits."""
    return describe_stored(study.conditions(), study.info.get("settings"))


def _contrasts(study: Study, reader: str) -> Iterator[tuple[Contrast, str, pl.DataFrame]]:
    """Contrasts with both classes among the unedited answers of the reader that it read, by the judge with most."""
    kinds = _described(study).filter(pl.col("kind").is_in(["baseline", "selected"]))["condition"]
    read = study.scalar_summary(reader)["response"].unique()
    judged = {
        judge: frame.filter(
            pl.col("response").is_in(read.implode())
            & pl.col("condition").is_in(kinds.implode())
            & (pl.col("organism") == reader)
        )
        for judge in study.judges()
        if (frame := study.responses(judge)).height
    }
    for contrast in CONTRASTS:
        best: tuple[str, pl.DataFrame] | None = None
        for judge, frame in judged.items():
            try:
                labels = label_responses(frame, contrast)
            except InputError:
                continue  # this judge did not score what the contrast needs, or one side is empty
            if best is None or labels.height > best[1].height:
                best = judge, labels
        if best is not None:
            yield contrast, *best


@dataclass(frozen=True, eq=False)
class _TokenRows:
    values: np.ndarray[Any, Any]  # (token, adapter)
    labels: np.ndarray[Any, Any]  # (token,)
    responses: np.ndarray[Any, Any]  # (token,)
    questions: np.ndarray[Any, Any]  # (token,)
    names: tuple[str, ...]


def _token_rows(study: Study, reader: str, labels: pl.DataFrame, significance: float | None) -> _TokenRows | None:
    """Answer tokens of labelled responses; None where there are none, or no significance to choose them by."""
    names, chosen = tuple(study.adapters(reader)["name"]), labels["response"].to_list()
    try:
        table: ScalarTable = study.scalar_tokens(reader, names, responses=chosen, min_significance=significance)
    except InputError:
        return None
    if not len(table.values):
        return None
    of = dict(zip(labels["response"], labels.select("label", "question_id").rows(), strict=True))
    owners = [of[name] for name in table.responses]
    label, question = (np.array([owner[part] for owner in owners])[table.response] for part in (0, 1))
    return _TokenRows(table.values, label, table.response, question, names)


def _reports(rows: _TokenRows, choices: Choices, grouped: bool) -> Iterator[tuple[str, ProbeReport]]:
    """The paper's protocol and, for all tokens, the splits that hold whole responses and questions out."""
    try:
        yield "paper (token)", paper_protocol(rows.values, rows.labels, repeats=choices.repeats, names=rows.names)
    except InputError:
        return  # too few tokens of a class
    splits: tuple[tuple[Split, np.ndarray[Any, Any]], ...] = (
        ("response", rows.responses),
        ("question", rows.questions),
    )
    for split, groups in splits if grouped else ():
        settings = ProbeSettings("l1", 0.01, split, shuffles=choices.shuffles, bootstraps=choices.bootstraps)
        try:
            report = train_probe(
                rows.values, rows.labels, groups, names=rows.names, settings=settings, units=rows.responses
            )
        except InputError:
            continue  # a class in a single question cannot be held out
        yield f"by {split}", report


def _metric_row(
    contrast: Contrast, judge: str, tokens: str, protocol: str, rows: _TokenRows, report: ProbeReport
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "contrast": contrast.name,
        "judge": judge,
        "tokens": tokens,
        "protocol": protocol,
        "n_tokens": len(rows.labels),
        "n_responses": len(np.unique(rows.responses)),
        "n_questions": len(np.unique(rows.questions)),
    }
    for name in METRICS:
        estimate = report.metrics[name]
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    for name in ("accuracy", "auc"):
        chance = report.shuffled.get(name)
        row |= {f"shuffled_{name}": None if chance is None else chance.value}
    return row


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
