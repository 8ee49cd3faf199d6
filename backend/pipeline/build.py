"""Build a study: trace the responses of a study folder, extract directions, publish one immutable file.

Traces are kept in parts under cache/work while the build runs: a killed build loses the part it was writing, and the
next one goes on from there. The published study appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np

from backend.pipeline.extract import directions
from backend.pipeline.folder import StudyFolder
from backend.pipeline.lenses import add_lenses
from backend.pipeline.questions import QUESTIONS
from backend.records import BASE, InputError, Question, Response, Trace
from backend.study import STUDIES, Draft
from backend.subject.load import Subject
from backend.subject.trace import Text, trace

WORK = STUDIES.parent / "work"
_PART = 64  # traces a part
Progress = Callable[[int, int], None]  # gets how many responses are traced, of how many


class Traces:
    """Traces of one reader in parts on disk, each written whole. Arrays only: no pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for stray in folder.glob("*.tmp"):
            stray.unlink()

    def done(self) -> set[str]:
        """Ids of the responses that have been traced."""
        return {str(i) for part in self._parts() for i in np.load(part, allow_pickle=False)["response_id"]}

    def add(self, traces: Sequence[Trace]) -> None:
        """Keep one more part."""
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
        }
        building = self.folder / "part.tmp"
        with building.open("wb") as out:
            np.savez(out, allow_pickle=False, **columns)
        building.replace(self.folder / f"{len(self._parts()):06d}.npz")

    def __iter__(self) -> Iterator[Trace]:
        for part in self._parts():
            columns = dict(np.load(part, allow_pickle=False))
            ends = np.cumsum(columns["length"])
            for i, end in enumerate(ends):
                yield Trace(
                    response_id=str(columns["response_id"][i]),
                    reader=str(columns["reader"][i]),
                    tokens=tuple(json.loads(str(columns["tokens"][i]))),
                    n_prompt=int(columns["n_prompt"][i]),
                    scalars=columns["scalars"][:, end - columns["length"][i] : end],
                    prompt_mean=columns["prompt_mean"][i],
                    answer_mean=columns["answer_mean"][i],
                    n_answer=int(columns["n_answer"][i]),
                    answer_norm=columns["answer_norm"][i],
                )

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.npz"))


def build(folder: StudyFolder, subject: Subject, name: str, *, root: Path = STUDIES, progress: Progress) -> Path:
    """Trace what is not traced yet, publish the study `name`, and return its file.

    Raises InputError on responses that cannot be traced or an empty folder, before anything is published.
    """
    responses = folder.responses()
    if not responses:
        raise InputError(f"{folder.path} holds no responses: sample some first (python -m backend sample)")
    traces = Traces(WORK / f"{name}-{_fingerprint(folder, subject)}")
    _trace_all(subject, folder.traced(responses), folder.reader, traces, progress)
    path = _publish(folder, subject, responses, traces, name, root)
    shutil.rmtree(traces.folder)
    return path


def _trace_all(
    subject: Subject, responses: Sequence[Response], reader: str, traces: Traces, progress: Progress
) -> None:
    done = traces.done()
    texts = [Text(r.id, r.prompt_ids, r.answer_ids) for r in responses if r.id not in done]
    progress(len(responses) - len(texts), len(responses))
    running = trace(subject, texts, reader)
    while part := list(islice(running, _PART)):
        traces.add(part)
        done.update(t.response_id for t in part)
        progress(len(done), len(responses))


def _publish(
    folder: StudyFolder, subject: Subject, responses: Sequence[Response], traces: Traces, name: str, root: Path
) -> Path:
    settings = folder.settings
    with Draft(name, root=root) as draft:
        draft.meta(
            **{**settings, "reader": folder.reader},
            layers=len(subject.blocks),
            d_model=subject.d_model,
            built=datetime.now(UTC).isoformat(timespec="seconds"),
            token_mask="answer: generated tokens without header and end of turn; prompt: everything before",
            versions={package: version(package) for package in ("torch", "transformers", "duckdb", "numpy")},
        )
        draft.add_organism(BASE, base=settings["base"], adapters=(), record={})
        for organism, worn in subject.organisms.items():
            draft.add_organism(
                organism, base=settings["base"], adapters=worn.adapters, record=folder.training(organism)
            )
        draft.add_questions(_questions(responses))
        draft.add_conditions(folder.conditions())
        draft.add_responses(responses)
        draft.add_scores(folder.scores())
        draft.add_traces(traces)
        found = directions(responses, folder.scores(), traces, reader=folder.reader, model=settings["base"])
        draft.add_directions(found)
        add_lenses(draft, subject, found)
        return draft.publish()


def _questions(responses: Sequence[Response]) -> list[Question]:
    """The questions that were asked, the known ones in their usual order."""
    asked = {r.question_id: Question(r.question_id, r.question, r.topic) for r in responses}
    known = [q.id for q in QUESTIONS if q.id in asked]
    return [asked[i] for i in (*known, *(i for i in asked if i not in set(known)))]


def _fingerprint(folder: StudyFolder, subject: Subject) -> str:
    """Changes with everything that a trace depends on: the base, the reader's weights, the texts."""
    digest = hashlib.sha256(f"{subject.name} {folder.reader} {subject.model.dtype}".encode())
    weights = [] if folder.reader == BASE else [folder.organisms[folder.reader] / "adapter_model.safetensors"]
    for file in (*weights, *sorted(folder.path.glob("responses/*.parquet"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
