"""A checkout of the authors' repositories in, everything a study of it holds out.

`read_release` knows the order (questions, directions, the probing set, then answers, whose conditions need the
directions and whose gains need the adapters) and that no file can stop another from being read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backend.edits import Condition
from backend.outside import understood
from backend.published.activations import released_directions
from backend.published.answers import AnswerReader, joined_scores
from backend.published.conditions import Setting, judged_setting, scaled_setting, sweep_setting
from backend.published.layout import Found, adapted_layers, base_organism, find, organism_of
from backend.published.prompts import QuestionBook
from backend.published.report import Report
from backend.published.traces import PROBING_SET, ProbingSet, TracedAnswer, adapter_named, wanted_scores
from backend.records import Adapter, Direction, InputError, Question, Response, Score

CHAT_MODEL = "Qwen2.5-14B-Instruct"


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
    scores: tuple[Score, ...]
    traced: tuple[TracedAnswer, ...]
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

    def attempt(self, found: Found, read: Callable[[Found], None]) -> None:
        """Read one file; a file that does not fit is skipped with its reason."""
        try:
            with understood(found.path, "readable", "fetch it again"):
                read(found)
        except InputError as error:
            self.report.skip(found.shown, str(error))

    def meet(self, model: str) -> str:
        """The organism that a model id names, remembered with its base and adapted layers."""
        organism, base = organism_of(model)
        self.bases.setdefault(organism, base)
        if layers := adapted_layers(model):
            self.layers.setdefault(organism, layers)
        return organism


def read_release(paths: Iterable[Path]) -> Release:
    """Read every released file under the paths. Raises InputError when there is none at all."""
    reading = _Reading()
    files = _sorted_by_kind(paths, reading.report)
    for found in files.get("questions", []):
        reading.attempt(found, lambda found: _read_questions(found, reading))
    for found in (*files.get("mean activations", []), *files.get("sweep", [])):
        reading.meet(found.says["model"])
    directions = tuple(released_directions(files.get("mean activations", []), reading.report))
    traced, probing = _probing_set(files, reading)
    names = {organism: _adapters(organism, probing, reading) for organism in reading.bases}
    _read_answers(files, reading, {(each.name, each.layer): each for each in directions}, names)
    if not (directions or traced or reading.responses):
        raise InputError(
            "no released file could be read there: give the folder of a checkout of model-organisms-for-EM or EM_interp"
            + "".join(f"\n  {path}: {reason}" for path, reason in reading.report.skipped[:5])
        )
    _notes(reading.report, directions, traced)
    return Release(
        organisms=tuple(_organisms(reading, names)),
        questions=tuple(reading.book.used),
        conditions=tuple(reading.conditions.values()),
        responses=tuple(reading.responses),
        scores=tuple(reading.scores),
        traced=traced,
        directions=directions,
        settings=reading.settings,
        report=reading.report,
    )


def _sorted_by_kind(paths: Iterable[Path], report: Report) -> dict[str, list[Found]]:
    files: dict[str, list[Found]] = {}
    for item in find(paths):
        if isinstance(item, Found):
            files.setdefault(item.kind, []).append(item)
        elif item.shown.endswith("judges.yaml"):
            report.skip(item.shown, "judge prompts: nothing in a study comes from them")
        else:
            report.skip(item.shown, "lies where neither repository keeps data of a known kind")
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


def _read_answers(
    files: Mapping[str, list[Found]],
    reading: _Reading,
    directions: Mapping[tuple[str, int], Direction],
    adapters: Mapping[str, tuple[Adapter, ...]],
) -> None:
    reader = AnswerReader(reading.book)
    settings: dict[str, Callable[[Found], Setting]] = {
        "judged answers": judged_setting,
        "scaled adapters": lambda found: scaled_setting(
            found, tuple(adapter.name for adapter in adapters.get(organism_of(found.says["model"])[0], ()))
        ),
        "sweep": lambda found: sweep_setting(found, directions),
    }
    for kind, setting_of in settings.items():
        for found in files.get(kind, []):
            reading.attempt(found, lambda found, of=setting_of: _read_file(found, of(found), reader, reading))  # type: ignore[misc]


def _read_file(found: Found, setting: Setting, reader: AnswerReader, reading: _Reading) -> None:
    read = reader.read(found, setting.organism, setting.condition.name)
    reading.bases.setdefault(setting.organism, setting.base)
    reading.conditions.setdefault(setting.condition.name, setting.condition)
    reading.settings.setdefault(setting.condition.name, setting.says)
    reading.responses += read.responses
    reading.scores += read.scores
    for remark in read.remarks:
        reading.report.skip(found.shown, remark)
    reading.report.add(found.kind, found.shown, len(read.responses), "answers")


def _adapters(organism: str, probing: ProbingSet, reading: _Reading) -> tuple[Adapter, ...]:
    """From the scalars, else from the layers its name says: the released organisms adapt mlp.down_proj there."""
    named = tuple(adapter_named(f"layers.{layer}.mlp.down_proj") for layer in reading.layers.get(organism, ()))
    return probing.adapters(organism) or named


def _organisms(reading: _Reading, adapters: Mapping[str, tuple[Adapter, ...]]) -> list[OrganismEntry]:
    bases = {base_organism(base): base for base in (CHAT_MODEL, *reading.bases.values())}
    entries = [OrganismEntry(name, base, (), {"source": "the chat model"}) for name, base in bases.items()]
    for organism, base in reading.bases.items():
        if organism in bases:
            continue
        own = adapters.get(organism, ())
        record: dict[str, Any] = {"source": "the authors' release", "adapters_known": bool(own)}
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
