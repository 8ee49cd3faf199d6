"""A checkout of the authors' repositories in, everything a study of it holds out.

`read_release` knows the order (questions, directions, the probing set, then answers, whose conditions need the
directions and whose gains need the adapters) and that no file can stop another from being read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from backend.edits import Condition
from backend.outside import understood
from backend.published.activations import released_directions
from backend.published.answers import JSON_VARIANT, AnswerReader, joined_scores, read_csv
from backend.published.conditions import (
    Setting,
    checkpoint_setting,
    judged_setting,
    noise_setting,
    patch_setting,
    scaled_setting,
    sweep_setting,
    token_setting,
    unedited_setting,
    zeroed_setting,
)
from backend.published.layout import Found, find
from backend.published.names import CHAT_MODEL, base_organism, compared_in, named
from backend.published.prompts import QuestionBook
from backend.published.report import Report
from backend.published.scalar_sets import ScalarSets
from backend.published.traces import PROBING_SET, ProbingSet, TracedAnswer, adapter_named, wanted_scores
from backend.records import Adapter, Direction, InputError, Question, Response, Score, Trace

SettingOf = Callable[[Mapping[str, Any]], Setting]  # of one row


@dataclass(frozen=True, eq=False)
class OrganismEntry:
    """One organism of the release; the base has no adapters, and of most organisms none are known."""

    name: str
    base: str
    adapters: tuple[Adapter, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Release:
    """All that was read. `settings` says of each condition what its folder said (kind, direction, layers, scale)."""

    organisms: tuple[OrganismEntry, ...]
    questions: tuple[Question, ...]
    conditions: tuple[Condition, ...]
    responses: tuple[Response, ...]
    variants: tuple[Response, ...]  # answers to the JSON variants of questions, which the papers leave out
    scores: tuple[Score, ...]
    sources: tuple[tuple[str, str], ...]  # (response id, the experiment whose folder has it); copies are in several
    traced: tuple[TracedAnswer, ...]
    readings: tuple[Trace, ...]  # of judged answers, by organisms and checkpoints of theirs
    directions: tuple[Direction, ...]
    settings: Mapping[str, Mapping[str, Any]]
    report: Report


@dataclass
class _Reading:
    """What grows while the files are read."""

    report: Report = field(default_factory=Report)
    book: QuestionBook = field(default_factory=QuestionBook)
    bases: dict[str, str] = field(default_factory=dict)  # organism -> base model
    layers: dict[str, tuple[int, ...]] = field(default_factory=dict)  # organism -> layers its name says are adapted
    conditions: dict[str, Condition] = field(default_factory=dict)
    settings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    responses: list[Response] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)

    def attempt(self, found: Found, read: Callable[[Found], None]) -> None:
        """Read one file; a file that does not fit is skipped with its reason."""
        try:
            with understood(found.path, "readable", "fetch it again"):
                read(found)
        except (InputError, OSError, MemoryError) as error:
            self.report.refuse(found.path, found.shown, error)

    def meet(self, model: str) -> str:
        """The organism that a model id names, remembered with its base and adapted layers."""
        who = named(model)
        self.bases.setdefault(who.organism, who.base)
        if who.layers:
            self.layers.setdefault(who.organism, who.layers)
        return who.organism


def read_release(paths: Iterable[Path]) -> Release:
    """Read every released file under the paths. Raises InputError when there is none at all."""
    reading = _Reading()
    files = _sorted_by_kind(paths, reading.report)
    for found in files.get("questions", []):
        reading.attempt(found, lambda found: _read_questions(found, reading))
    for kind in ("mean activations", "sweep", "zeroed adapters"):
        for found in files.get(kind, []):
            reading.meet(found.says["model"])
    directions = tuple(released_directions(files.get("mean activations", []), reading.report))
    traced, probing = _probing_set(files, reading)
    names = {organism: _adapters(organism, probing, reading) for organism in reading.bases}
    _read_answers(files, reading, {(each.name, each.layer): each for each in directions}, names)
    readings, checkpoints = _readings(files, probing, reading, names)
    if not (directions or traced or reading.responses):
        raise InputError(
            "no released file could be read there: give the folder of a checkout of model-organisms-for-EM or EM_interp"
            + "".join(f"\n  {path}: {reason}" for path, reason in reading.report.skipped[:5])
        )
    _notes(reading.report, directions, traced)
    return Release(
        organisms=tuple(_organisms(reading, names, checkpoints)),
        questions=tuple(reading.book.used),
        conditions=tuple(reading.conditions.values()),
        responses=tuple(each for each in reading.responses if not _is_variant(each)),
        variants=tuple(each for each in reading.responses if _is_variant(each)),
        scores=tuple(reading.scores),
        sources=tuple(reading.sources),
        traced=traced,
        readings=readings,
        directions=directions,
        settings=reading.settings,
        report=reading.report,
    )


def _is_variant(response: Response) -> bool:
    return response.condition.endswith(JSON_VARIANT)


def _sorted_by_kind(paths: Iterable[Path], report: Report) -> dict[str, list[Found]]:
    files: dict[str, list[Found]] = {}
    for item in find(paths):
        if isinstance(item, Found):
            files.setdefault(item.kind, []).append(item)
        else:
            report.skip(item.shown, item.reason)
    return files


def _read_questions(found: Found, reading: _Reading) -> None:
    reading.report.add("evaluation questions", found.shown, reading.book.read(found), "questions")


def _probing_set(files: Mapping[str, list[Found]], reading: _Reading) -> tuple[tuple[TracedAnswer, ...], ProbingSet]:
    probing = ProbingSet(reading.book, reading.report)
    for found in files.get("texts", []):
        reading.attempt(found, probing.read_texts)
    traced: list[TracedAnswer] = []
    for found in files.get("scalars", []):
        reading.attempt(found, lambda found: traced.extend(probing.read_scalars(found)))
    untraced = list(probing.untraced())
    if untraced:
        labels = sorted({answer.label for answer in untraced})
        reading.report.note(
            f"scalars of {', '.join(labels)} are not among the files: {len(untraced)} texts without scalars"
        )
    answers = traced + untraced
    for organism in {answer.response.organism for answer in answers}:
        reading.meet(organism)
    for found in files.get("scores", []) if answers else []:
        reading.attempt(found, lambda found: _join(found, answers, reading))
    if answers:
        reading.conditions[PROBING_SET] = Condition(PROBING_SET)
        reading.settings[PROBING_SET] = {"kind": "selected", "selected": True}
    return tuple(answers), probing


def _join(found: Found, answers: list[TracedAnswer], reading: _Reading) -> None:
    scores = list(joined_scores(found, wanted_scores(answers)))
    by_id: dict[str, list[Score]] = {}
    for score in scores:
        by_id.setdefault(score.response_id, []).append(score)
    for index, answer in enumerate(answers):
        own = by_id.get(answer.response.id, ())
        answers[index] = replace(answer, scores=(*answer.scores, *own))
    reading.report.add("scores of the probing set", found.shown, len(by_id), f"of {len(answers)} answers")
    reading.report.note(
        f"{found.shown} names no organism or condition: only the probing set's answers were looked up in it"
    )


def _readings(
    files: Mapping[str, list[Found]], probing: ProbingSet, reading: _Reading, names: dict[str, tuple[Adapter, ...]]
) -> tuple[tuple[Trace, ...], Mapping[str, tuple[str, int]]]:
    """Scalars of judged answers, and the run and step of readers that are checkpoints.

    Readers become organisms with the adapters that were read.
    """
    sets = ScalarSets(reading.responses, probing.organisms, reading.report)
    traces: list[Trace] = []
    for found in files.get("scalar sets", []):
        reading.attempt(found, lambda found: traces.extend(sets.read(found)))
    for reader in dict.fromkeys(trace.reader for trace in traces):
        reading.bases.setdefault(reader, sets.bases[reader])
        names[reader] = tuple(adapter_named(name) for name in sets.adapters[reader])
    if traces:
        reading.report.note(
            "scalars of lora_scalar_sets are alpha ||B|| (A x); whether those of the probing set have ||B|| is not said"
        )
    return tuple(traces), sets.checkpoints


def _read_answers(
    files: Mapping[str, list[Found]],
    reading: _Reading,
    directions: Mapping[tuple[str, int], Direction],
    adapters: Mapping[str, tuple[Adapter, ...]],
) -> None:
    """Evaluations first: what an experiment keeps of them beside its edited answers is then known as a copy."""
    reader = AnswerReader(reading.book)

    def scaled(found: Found) -> Setting:
        own = adapters.get(named(found.says["model"]).organism, ())
        return scaled_setting(found, tuple(adapter.name for adapter in own))

    whole: dict[str, Callable[[Found], Setting]] = {
        "checkpoints": checkpoint_setting,
        "judged answers": judged_setting,
        "unedited answers": unedited_setting,
        "scaled adapters": scaled,
        "zeroed adapters": zeroed_setting,
        "sweep": lambda found: sweep_setting(found, directions),
        "noise": noise_setting,
    }
    by_row: dict[str, Callable[[Found], SettingOf]] = {
        **{kind: lambda found, of=of: _one_setting(of(found)) for kind, of in whole.items()},  # type: ignore[misc]
        "patched scalars": _patch_settings,
        "zeroed tokens": lambda found: lambda row: token_setting(found, row),
    }
    for kind in dict.fromkeys(("checkpoints", "judged answers", "patched scalars", *by_row)):
        for found in files.get(kind, []):
            reading.attempt(found, lambda found, of=by_row[kind]: _read_file(found, of(found), reader, reading))  # type: ignore[misc]


def _one_setting(setting: Setting) -> SettingOf:
    return lambda row: setting


def _patch_settings(found: Found) -> SettingOf:
    """The scalars of each row's answer are those of the other prompt of its pair, where the table has pairs."""
    table = read_csv(found)
    asked: dict[str, list[str]] = {}
    if {"pair_index", "question_id", "type"} <= set(table.columns):
        for pair, question in table.filter(pl.col("type") != "clean").select("pair_index", "question_id").iter_rows():
            if question not in asked.setdefault(pair, []):
                asked[pair].append(question)

    def setting_of(row: Mapping[str, Any]) -> Setting:
        own, pair = row.get("question_id") or "", asked.get(row.get("pair_index") or "", [])
        return patch_setting(found, row, next((other for other in pair if other != own), own if pair else ""))

    return setting_of


def _read_file(found: Found, setting_of: SettingOf, reader: AnswerReader, reading: _Reading) -> None:
    read = reader.read(found, setting_of)
    for setting in read.settings:
        reading.bases.setdefault(setting.organism, setting.base)
        reading.conditions.setdefault(setting.condition.name, setting.condition)
        reading.settings.setdefault(setting.condition.name, setting.says)
    reading.responses += read.responses
    reading.scores += read.scores
    reading.sources += read.sources
    reading.report.copies += read.copies
    reading.report.scored += read.scored
    for remark in read.remarks:
        reading.report.skip(found.shown, remark)
    reading.report.add(found.kind, found.shown, len(read.responses), "answers")


def _adapters(organism: str, probing: ProbingSet, reading: _Reading) -> tuple[Adapter, ...]:
    """From the scalars, else from the layers its name says: the released organisms adapt mlp.down_proj there."""
    named = tuple(adapter_named(f"layers.{layer}.mlp.down_proj") for layer in reading.layers.get(organism, ()))
    return probing.adapters(organism) or named


def _organisms(
    reading: _Reading, adapters: Mapping[str, tuple[Adapter, ...]], checkpoints: Mapping[str, tuple[str, int]]
) -> list[OrganismEntry]:
    bases = {base_organism(base): base for base in (CHAT_MODEL, *reading.bases.values())}
    chat = {"source": "the chat model", "compared": ["no fine-tune"]}
    entries = [OrganismEntry(name, base, (), chat) for name, base in bases.items()]
    for organism, base in reading.bases.items():
        if organism in bases:
            continue
        own = adapters.get(organism, ())
        record: dict[str, Any] = {"source": "the authors' release", "adapters_known": bool(own)}
        if organism in checkpoints:
            record |= dict(zip(("run", "step"), checkpoints[organism], strict=True))
        else:
            record["compared"] = list(compared_in(organism, base))
        if own:
            record["unknown"] = "scaling, read and write vectors of its adapters (not in the release's data)"
        entries.append(OrganismEntry(organism, base, own, record))
    return entries


def _notes(report: Report, directions: tuple[Direction, ...], traced: tuple[TracedAnswer, ...]) -> None:
    if traced:
        report.note(
            "the probing set was chosen by its scores: it tells nothing about EM rates. Its answer tokens include the "
            "end of turn, as in the paper. Token significance is kept as released; the paper filters its natural log "
            "at 0.5"
        )
        report.note(
            "write and read vectors, scaling and token residuals of the released organisms are not in their data"
        )
    if directions:
        report.note("activation norms of directions are norms of mean activations, a lower bound of the mean norm")
