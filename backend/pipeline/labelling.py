"""Answers to be read blind: draw them, and enter what a reader said of them as one more judge.

What is drawn is named by a hash, in random order, without organism and condition: who reads it cannot know them. The
same hash finds the answer again when its label is entered.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.analysis.rates.judge_agreement import spread
from backend.files import whole
from backend.outside import json_lines, shown
from backend.pipeline.folder import StudyFolder
from backend.records import InputError, Response
from backend.study.labels import Label, append_labels, label_scores, now, read_labels


def draw_blind(responses: Sequence[Response], n: int, seed: int) -> list[Response]:
    """About n responses in random order: as many of every organism and condition, spread over its questions.

    Raises InputError where no response says anything.
    """
    rng = np.random.default_rng(seed)
    cells: dict[tuple[str, str], list[Response]] = defaultdict(list)
    for response in responses:
        if response.text.strip():
            cells[response.organism, response.condition].append(response)
    if not cells:
        raise InputError("there is no answer with a word in it to draw: sample some first")
    lots = [n // len(cells) + (i < n % len(cells)) for i in range(len(cells))]
    drawn = [r for cell, lot in zip(cells.values(), lots, strict=True) for r in _first(cell, lot, rng)]
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _first(cell: Sequence[Response], n: int, rng: np.random.Generator) -> list[Response]:
    return [cell[i] for i in spread([r.question_id for r in cell], rng)[:n]]


def write_drawn(file: Path, drawn: Sequence[Response]) -> None:
    """A JSON line for each answer: item, question, answer. Raises InputError where the file cannot be written."""
    lines = [json.dumps({"item": item(r), "question": r.question, "answer": r.text}) for r in drawn]
    if not file.parent.is_dir():
        raise InputError(f"the drawn answers cannot be written to {file}: there is no folder {file.parent}")
    with whole(file) as out:
        out.write(("\n".join(lines) + "\n").encode())


def item(response: Response) -> str:
    """What names a response without saying what it is."""
    return hashlib.sha256(f"{response.id}\0{response.text}".encode()).hexdigest()[:12]


def read_entries(file: Path, responses: Sequence[Response], by: str) -> list[Label]:
    """The labels of a file, each with the response it is of. InputError names the line that is none."""
    ids = {item(response): response.id for response in responses}
    labels: list[Label] = []
    for number, entry in json_lines(file):
        name, kind = (entry.get("item"), entry.get("label", "")) if isinstance(entry, dict) else (None, "")
        if not isinstance(name, str) or name not in ids:
            raise InputError(
                f"{file}, line {number}: {shown(name or entry)} is no answer of this folder: leave the line out"
            )
        try:
            labels.append(Label(ids[name], kind, by, blind=True, at=now()))
        except InputError as error:
            raise InputError(f"{file}, line {number}: {error}") from error
    return labels


def enter(folder: StudyFolder, labels: Sequence[Label], by: str) -> tuple[Path, Path]:
    """Put the labels behind those the reader gave before, and give all of them as scores of the judge hand-BY.

    Returns the file of labels and that of scores.
    """
    kept = folder.path / "labels" / f"{by}.jsonl"
    append_labels(kept, labels)
    judge = f"hand-{by}"
    return kept, folder.add_scores(judge, label_scores(read_labels(kept), judge))
