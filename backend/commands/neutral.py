"""The command `neutral`: what an organism's fine-tune leaves on text about nothing, into a study folder."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values
from backend.commands.loading import loaded
from backend.commands.options import add_folder


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("neutral", help="an organism's difference from the base on text about nothing")
    add_folder(parser, "the study folder; the result goes to measured/neutral/, the difference to directions/")
    add = parser.add_argument
    add("--organism", type=values.name, required=True, help="who is set against the base")
    add("--direction", type=values.name, required=True, help="a stored direction of its answers, to stand beside")
    add("--first", type=values.whole(1, 1000), default=5, metavar="N", help="tokens of a text, behind the sink")
    add("--texts", type=values.path, metavar="FILE", help="texts, one a line (default: forty that come along)")
    add("--random", type=values.whole(0, 1000), default=10, metavar="N", help="random directions beside it")
    add("--name", type=values.name, help="of the result (default: the organism)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure, and keep the result and the direction."""
    from backend.outside import text_of
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.measured import keep
    from backend.pipeline.neutral import Neutral, diff
    from backend.pipeline.neutral_texts import TEXTS

    folder = StudyFolder(options.folder)
    asked = Neutral(folder.known(options.organism), options.direction, options.first, options.random)
    folder.direction(asked.direction)  # refused before the model is loaded
    texts = [line for line in text_of(options.texts).splitlines() if line.strip()] if options.texts else TEXTS
    found, stack = diff(folder, loaded(folder), asked, options.name or options.organism, texts)
    print(keep(folder.path, found))
    print(folder.add_directions(stack))
