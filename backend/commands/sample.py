"""The command `sample`: an organism's answers to the evaluation questions under one condition, into a study folder."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from backend.commands import values
from backend.commands.loading import loaded
from backend.commands.options import add_folder, add_sampling
from backend.commands.progress import progress
from backend.edits import Ablate, Add, Condition
from backend.records import BASE, BASELINE, USUAL, InputError, Sampling

if TYPE_CHECKING:
    from backend.pipeline.folder import StudyFolder


KEEPS = "what was answered is kept: the same command goes on from there"


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("sample", help="answer the evaluation questions under one condition")
    add_folder(parser)
    add = parser.add_argument
    add("--organism", type=values.name, default=BASE, help="an organism of the folder, or base")
    add("--condition", type=values.name, default=BASELINE, help="its name; a new one needs --add or --ablate")
    add("--study", type=values.name, help="the published study that holds the direction")
    edits = parser.add_mutually_exclusive_group()
    what = "add a direction, strength in raw units"
    edits.add_argument("--add", type=values.addition, metavar="DIRECTION:LAYER:STRENGTH", help=what)
    what = "project a direction out after every block"
    edits.add_argument("--ablate", type=values.ablated_layer, metavar="DIRECTION:LAYER", help=what)
    add("--random", type=values.seed, metavar="SEED", help="a random direction of the same norm in its place")
    add("--n", type=values.count, default=25, help="answers a question")
    topics = values.several(values.text)
    add("--questions", type=topics, default="all", metavar="TOPIC,...", help="topics of the questions, or all")
    add_sampling(parser, USUAL.max_new_tokens)
    parser.set_defaults(run=run, keeps=KEEPS)


def run(options: argparse.Namespace) -> None:
    """Sample with a bar, and keep the condition whole."""
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.question_sets import questions_about
    from backend.pipeline.sample import sample_into
    from backend.pipeline.sweep import Cell, Sweep, run_sweep

    folder = StudyFolder(options.folder)
    organism = folder.known(options.organism)
    condition = _condition(options, folder)
    sampling = Sampling(options.temperature, options.top_p, options.max_new_tokens)
    cells = (Cell(organism, condition),)
    asked = Sweep(
        f"{organism}.{condition.name}", cells, questions_about(options.questions), options.n, sampling, options.seed
    )
    subject = loaded(folder)
    with progress(condition.name, unit="answer") as move, run_sweep(subject, asked, progress=move) as responses:
        sample_into(folder, responses, organism, condition)
    print(f"{len(responses)} answers of {organism} under {condition.name} in {folder.path}")


def _condition(options: argparse.Namespace, folder: StudyFolder) -> Condition:
    if not (options.add or options.ablate):
        return folder.condition(options.condition)
    if options.condition == BASELINE or not options.study:
        raise InputError("--add and --ablate need a --condition name of their own and the --study with the direction")
    from backend.analysis.directions.random_directions import random_direction
    from backend.study import open_study

    name, layer, *strength = options.add or options.ablate
    direction = open_study(options.study).direction(name, layer)
    if options.random is not None:
        direction = random_direction(direction, options.random)
    edit = Add(direction, *strength) if strength else Ablate(direction)
    return Condition(options.condition, (edit,))
