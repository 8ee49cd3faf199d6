"""Build a study: trace the responses of a study folder, extract directions, publish one immutable file.

Traces are kept in parts under cache/work while the build runs: a killed build loses the part it was writing, and the
next one goes on from there. The published study appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from backend.files import Parts
from backend.outside import must_be_file, understood
from backend.pipeline import work
from backend.pipeline.extract import study_directions
from backend.pipeline.folder import StudyFolder
from backend.pipeline.lenses import add_lenses
from backend.pipeline.measured import measurements
from backend.pipeline.question_sets import QUESTIONS
from backend.records import BASE, Direction, FloatArray, InputError, Question, Response, Score, Trace
from backend.study import STUDIES, Draft
from backend.study.outcome_json import outcomes_to_json
from backend.subject.load import Subject
from backend.subject.trace import Text, trace

_PART = 64  # traces a part
Progress = Callable[[int, int], None]  # gets how many responses are traced, of how many


class Traces(Parts[Trace]):
    """Traces of one reader in parts on disk. Arrays only: no pickle."""

    def __init__(self, folder: Path, doing: str) -> None:
        super().__init__(folder, _write, _read, lambda one: one.response_id, suffix=".npz", doing=doing, size=_PART)


def _write(out: BinaryIO, traces: Sequence[Trace]) -> None:
    columns = {
        "response_id": np.array([t.response_id for t in traces]),
        "reader": np.array([t.reader for t in traces]),
        "length": np.array([len(t.tokens) for t in traces]),
        "tokens": np.array([json.dumps(t.tokens) for t in traces]),
        "n_prompt": np.array([t.n_prompt for t in traces]),
        "n_answer": np.array([t.n_answer for t in traces]),
        "scalars": np.concatenate([t.scalars for t in traces], axis=1),
        "prompt_mean": np.stack([t.prompt_mean for t in traces]),
        "answer_mean": np.stack([t.answer_mean for t in traces]),
        "answer_norm": np.stack([t.answer_norm for t in traces]),
        "projections": np.concatenate([_projections(t) for t in traces], axis=1),
    }
    np.savez(out, allow_pickle=False, **columns)


def _read(part: Path) -> list[Trace]:
    must_be_file(part)
    with understood(part, "a whole file of traces", "it is made again"), part.open("rb") as stream:
        columns = dict(np.load(stream, allow_pickle=False))
        _check_arrays(columns)
        lengths = columns["length"]
        return [
            _trace(columns, i, int(end - n), int(end))
            for i, (end, n) in enumerate(zip(np.cumsum(lengths), lengths, strict=True))
        ]


def _check_arrays(columns: Mapping[str, Any]) -> None:
    """Raise ValueError unless the arrays are of one number of traces and of tokens."""
    n, tokens = len(columns["length"]), int(columns["length"].sum())
    for name, shape in {
        **dict.fromkeys(("response_id", "reader", "length", "tokens", "n_prompt", "n_answer"), (n,)),
        **dict.fromkeys(("prompt_mean", "answer_mean"), (n, None, None)),
        "answer_norm": (n, None),
        **dict.fromkeys(("scalars", "projections"), (None, tokens)),
    }.items():
        found = columns[name].shape
        if len(found) != len(shape) or any(is_ not in (None, has) for is_, has in zip(shape, found, strict=True)):
            raise ValueError(f"its {name} has the shape {found}")


def _trace(columns: Mapping[str, Any], i: int, start: int, end: int) -> Trace:
    return Trace(
        response_id=str(columns["response_id"][i]),
        reader=str(columns["reader"][i]),
        tokens=tuple(json.loads(str(columns["tokens"][i]))),
        n_prompt=int(columns["n_prompt"][i]),
        scalars=columns["scalars"][:, start:end],
        prompt_mean=columns["prompt_mean"][i],
        answer_mean=columns["answer_mean"][i],
        n_answer=int(columns["n_answer"][i]),
        answer_norm=columns["answer_norm"][i],
        projections=columns["projections"][:, start:end],
    )


def _projections(one: Trace) -> FloatArray:
    return one.projections if one.projections.size else np.zeros((0, len(one.tokens)), dtype=np.float32)


def build(
    folder: StudyFolder,
    subject: Subject,
    name: str,
    *,
    root: Path = STUDIES,
    progress: Progress,
    forget: bool = True,
) -> Path:
    """Trace what is not traced yet, publish the study `name`, and return its file.

    Traces are kept for the next build where they shall not be forgotten.
    Raises InputError on responses that cannot be traced or an empty folder, before anything is published.
    """
    responses, _ = folder.answers(), folder.outcomes  # both are refused before anything is traced
    stored = folder.directions()
    projected = [_stored(stored, name, layer) for name, layer in folder.projected()]
    reads = folder.reads(responses)
    total, before, read = sum(map(len, reads.values())), 0, []
    with ExitStack() as held:
        for reader, texts in reads.items():
            work = work_of(name, subject, texts, reader, projected)
            traces = held.enter_context(Traces(work, f"building the study {name!r}"))
            move = partial(_told, progress, before, total)
            trace_into(traces, subject, texts, reader, project=projected, progress=move)
            read.append(traces)
            before += len(texts)
        path = _publish(folder, subject, responses, read, name, root)
        for traces in read if forget else ():
            traces.forget()
    return path


def _told(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """How far one reader is, as a part of what all read."""
    progress(before + done, total)


def work_of(
    name: str, subject: Subject, responses: Sequence[Response], reader: str, projected: Sequence[Direction] = ()
) -> Path:
    """Where traces wait, a folder for all that they depend on: the model, the reader, texts, what is projected on."""
    texts = [[r.id, r.prompt_ids, r.answer_ids] for r in responses]
    along = [[d.name, d.layer, hashlib.sha256(d.vector.tobytes()).hexdigest()] for d in projected]
    return work.place(f"trace-{name}", work.fingerprint(subject, [reader], [reader, texts, along]))


def trace_into(
    traces: Traces,
    subject: Subject,
    responses: Sequence[Response],
    reader: str,
    *,
    project: Sequence[Direction] = (),
    progress: Progress = lambda *_: None,
) -> None:
    """Trace those of `responses` that `traces` does not hold yet. Raises InputError unless all are traced then."""
    texts = [Text(r.id, r.prompt_ids, r.answer_ids) for r in responses if r.id not in traces.keys]
    progress(len(responses) - len(texts), len(responses))
    for one in trace(subject, texts, reader, project=project):
        traces.add(one)
        progress(len(traces.keys), len(responses))
    wanted = {r.id for r in responses}
    if len(wanted & traces.keys) < len(wanted):
        raise InputError(
            f"{len(wanted & traces.keys)} of {len(wanted)} texts are traced: run again, and what is missing is read"
        )


def _stored(stored: Mapping[str, Sequence[Direction]], name: str, layer: int) -> Direction:
    for direction in stored.get(name, ()):
        if direction.layer == layer:
            return direction
    raise InputError(
        f"study.json wants projections on {name!r} of layer {layer}, which directions/ does not hold: extract it, or "
        'take it out of "projected"'
    )


def _publish(
    folder: StudyFolder,
    subject: Subject,
    responses: Sequence[Response],
    read: Sequence[Traces],
    name: str,
    root: Path,
) -> Path:
    """The study of what was read, the first reader's readings first."""
    settings = folder.settings
    with Draft(name, root=root) as draft:
        draft.meta(**settings)
        draft.meta(
            reader=folder.reader,
            outcomes=outcomes_to_json(folder.outcomes),
            controls=list(folder.controls),
            folder=str(folder.path.resolve()),
            layers=len(subject.blocks),
            d_model=subject.d_model,
            altered={name: subject.altered_adapters(name) for name in subject.organisms},
            built=datetime.now(UTC).isoformat(timespec="seconds"),
            token_mask="answer: generated tokens without header and end of turn; prompt: everything before",
            versions={package: version(package) for package in ("torch", "transformers", "duckdb", "numpy")},
        )
        draft.add_organism(BASE, base=settings["base"], adapters=(), record={})
        for organism, worn in subject.organisms.items():
            draft.add_organism(
                organism, base=settings["base"], adapters=worn.adapters, record=folder.training(organism)
            )
        sweeps = folder.sweeps()
        draft.meta(
            sweeps={sweep: found.record for sweep, found in sweeps.items()},
            baselines={c.name: found.unedited.name for found in sweeps.values() for c in found.conditions},
        )
        draft.add_questions(_questions(responses))
        draft.add_conditions(folder.conditions())
        draft.add_responses(responses)
        scores = folder.scores()
        draft.add_scores(scores)
        draft.add_traces(chain.from_iterable(read))
        projected = folder.projected()
        for one in chain.from_iterable(read) if projected else ():
            draft.add_projections(one.response_id, one.reader, projected, one.projections)
        found = _directions(folder, subject, responses, scores, read[0])
        draft.add_directions(found)
        add_lenses(draft, subject, found)
        measured: dict[str, dict[str, Any]] = {}
        for run in measurements(folder.path):
            measured.setdefault(run.kind, {})[run.name] = dict(run.record)
            draft.add_measured(run.kind, run.name, run.frame)
        draft.meta(measured=measured)
        return draft.publish()


def _directions(
    folder: StudyFolder, subject: Subject, responses: Sequence[Response], scores: Sequence[Score], traces: Traces
) -> list[Direction]:
    """The stored directions, and those of the reader's own answers, unless its outcome's is stored already.

    Raises InputError on a stored direction of another model's width or depth.
    """
    stored, asked = folder.directions(), folder.outcomes[0]
    for name, stack in stored.items():
        if stack[0].vector.size != subject.d_model or stack[-1].layer >= len(subject.blocks):
            raise InputError(
                f"the direction {name!r} of {folder.path} has {stack[0].vector.size} dimensions and layers to "
                f"{stack[-1].layer}; {subject.name} has {subject.d_model} and {len(subject.blocks)} layers"
            )
    own = study_directions(
        responses,
        scores,
        traces,
        reader=folder.reader,
        model=str(folder.settings["base"]),
        judge=folder.judge,
        outcome=asked,
    )
    taken = {*stored, *(asked.contrast.name for name in stored if name == f"{folder.reader} {asked.contrast.name}")}
    plain = [stack for stack in stored.values() if len({d.layer for d in stack}) == len(stack)]  # no subspaces
    return [*(d for stack in plain for d in stack), *(d for d in own if d.name not in taken)]


def _questions(responses: Sequence[Response]) -> list[Question]:
    """The questions that were asked, the known ones in their usual order."""
    asked = {r.question_id: Question(r.question_id, r.question, r.topic) for r in responses}
    known = [q.id for q in QUESTIONS if q.id in asked]
    return [asked[i] for i in (*known, *(i for i in asked if i not in set(known)))]
