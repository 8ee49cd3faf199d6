"""The command `downstream`: what a direction sets off behind its layer, in an organism and its base, into a folder."""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError
from typing import Any

from backend.commands import values
from backend.commands.loading import loaded
from backend.commands.options import add_folder
from backend.commands.progress import progress

KEEPS = "what was read is kept: the same command goes on from there"


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("downstream", help="follow a direction through the layers behind its own")
    add_folder(parser, "the study folder; the result goes to its measured/downstream/")
    add = parser.add_argument
    add("--organism", type=values.name, required=True, help="whose answers are read, by it and by the base")
    add("--direction", type=values.name, required=True, help="a stored direction")
    add("--layer", type=values.whole(0, 1000), required=True, help="where it is added")
    what = "lengths, as shares of the activation norm; parts are frozen at the largest"
    add("--shares", type=_shares, default="1%,4%,20%", metavar="S%,...", help=what)
    add("--random", type=values.whole(0, 1000), default=10, metavar="N", help="random directions beside it")
    add("--texts", type=values.count, default=1, help="answers of each question and class")
    add("--questions", type=values.several(values.text), default=(), metavar="TOPIC,...", help="topics (default: all)")
    add("--outcome", type=values.text, metavar="NAME", help="whose two classes (default: the first, or em)")
    add("--judge", type=values.judge, help="whose scores (default: study.json's, or the judge with the most scores)")
    add("--name", type=values.name, help="of the result (default: the direction and its layer)")
    parser.set_defaults(run=run, keeps=KEEPS)


def run(options: argparse.Namespace) -> None:
    """Measure with a bar, and keep the result."""
    from backend.pipeline.downstream import Following, follow
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.measured import keep
    from backend.study.outcome_json import named_outcome

    folder = StudyFolder(options.folder)
    organism = folder.known(options.organism)
    outcome = named_outcome(folder.outcomes, options.outcome)
    asked = Following(
        organism,
        options.direction,
        options.layer,
        options.shares,
        options.random,
        options.texts,
        options.judge,
        options.questions,
    )
    folder.direction(asked.direction)  # refused before the model is loaded
    name = options.name or f"{options.direction} L{options.layer}"
    subject = loaded(folder)
    with progress("texts") as move:
        found = follow(folder, subject, asked, outcome, name, move)
    print(keep(folder.path, found))


def _shares(said: str) -> tuple[float, ...]:
    found, shares = values.strengths(said)
    if not shares or any(value <= 0 for value in found):
        raise ArgumentTypeError(f"{said!r} is no list of shares above 0: write 1%,4%,20%")
    return found
