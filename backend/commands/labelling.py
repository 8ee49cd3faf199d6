"""The command `labels`: draw answers to be read blind, and enter what a reader said of them as one more judge.

What is drawn is named by a hash, in random order, without organism and condition: who reads it cannot know them. The
same hash finds the answer again when its label is entered.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backend.analysis.rates.judge_agreement import spread
from backend.pipeline.folder import DEMO, StudyFolder
from backend.records import InputError, Response
from backend.study.labels import KINDS, Label, append_labels, label_scores, now, read_labels


def add_commands(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("labels", help="draw answers to read blind; enter their labels as one more judge")
    parser.add_argument("what", choices=("draw", "enter"))
    parser.add_argument("file", type=Path, help="draw: where the answers go; enter: JSON lines of item and label")
    parser.add_argument("--folder", type=Path, default=DEMO, help="the study folder")
    parser.add_argument("--n", type=int, default=200, help="answers to draw, evenly over organisms and conditions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--by", default="reader", help="who read them: the judge's name is hand-NAME")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    folder = StudyFolder(options.folder)
    responses = folder.responses()
    if not responses:
        raise InputError(f"{folder.path} holds no responses: sample some first (python -m backend sample)")
    if options.what == "draw":
        drawn = draw(responses, options.n, options.seed)
        lines = [json.dumps({"item": item(r), "question": r.question, "answer": r.text}) for r in drawn]
        options.file.write_text("\n".join(lines) + "\n")
        print(f"{options.file}: {len(drawn)} answers; label each as {', '.join(KINDS)}")
        return
    labels = read_entries(options.file, responses, options.by)
    kept = folder.path / "labels" / f"{options.by}.jsonl"
    append_labels(kept, labels)
    judge = f"hand-{options.by}"
    print(f"{kept}: {len(labels)} labels; {folder.add_scores(judge, label_scores(read_labels(kept), judge))}")


def draw(responses: Sequence[Response], n: int, seed: int) -> list[Response]:
    """About n responses in random order: as many of every organism and condition, spread over its questions."""
    rng = np.random.default_rng(seed)
    cells: dict[tuple[str, str], list[Response]] = defaultdict(list)
    for response in responses:
        if response.text.strip():
            cells[response.organism, response.condition].append(response)
    lots = [n // len(cells) + (i < n % len(cells)) for i in range(len(cells))]
    drawn = [r for cell, lot in zip(cells.values(), lots, strict=True) for r in _first(cell, lot, rng)]
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _first(cell: Sequence[Response], n: int, rng: np.random.Generator) -> list[Response]:
    return [cell[i] for i in spread([r.question_id for r in cell], rng)[:n]]


def item(response: Response) -> str:
    """What names a response without saying what it is."""
    return hashlib.sha256(f"{response.id}\0{response.text}".encode()).hexdigest()[:12]


def read_entries(file: Path, responses: Sequence[Response], by: str) -> list[Label]:
    """The labels of a file, each with the response it is of. InputError names the line that is none."""
    ids = {item(response): response.id for response in responses}
    labels = []
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            labels.append(Label(ids[entry["item"]], entry["label"], by, blind=True, at=now()))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}, line {number}: no label of an answer of this folder ({error})") from error
    return labels
