"""The command `labels`: draw answers to be read blind, and enter what a reader said of them as one more judge."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values
from backend.commands.options import add_folder


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("labels", help="draw answers to read blind; enter their labels as one more judge")
    add = parser.add_argument
    add("what", choices=("draw", "enter"))
    add("file", type=values.path, help="draw: where the answers go; enter: JSON lines of item and label")
    add_folder(parser)
    add("--n", type=values.count, default=200, help="answers to draw, evenly over organisms and conditions")
    add("--seed", type=values.seed, default=0, help="of the draw")
    add("--by", type=values.name, default="reader", help="who read them: the judge's name is hand-NAME")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what is asked, and say where it is."""
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.labelling import draw_blind, enter, read_entries, write_drawn
    from backend.study.labels import KINDS

    folder = StudyFolder(options.folder)
    responses = folder.answers()
    if options.what == "draw":
        drawn = draw_blind(responses, options.n, options.seed)
        write_drawn(options.file, drawn)
        print(f"{options.file}: {len(drawn)} answers; label each as {', '.join(KINDS)}")
        return
    labels = read_entries(options.file, responses, options.by)
    kept, scores = enter(folder, labels, options.by)
    print(f"{kept}: {len(labels)} labels; {scores}")
