"""The command `build`: trace a study folder and publish it as a study."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values
from backend.commands.loading import loaded
from backend.commands.options import add_folder
from backend.commands.progress import progress

KEEPS = "what was traced is kept: the same command goes on from there"


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("build", help="trace a study folder and publish it as a study")
    add_folder(parser)
    parser.add_argument("--name", type=values.name, required=True, help="the study's name")
    what = "do nothing where the study is there already"
    parser.add_argument("--if-absent", action="store_true", help=what)
    parser.set_defaults(run=run, keeps=KEEPS)


def run(options: argparse.Namespace) -> None:
    """Load the model, trace with a bar, publish."""
    from backend.study import check_name, list_studies

    name = check_name(options.name)
    if options.if_absent and name in list_studies():
        return
    from backend.pipeline.build import build
    from backend.pipeline.folder import StudyFolder

    folder = StudyFolder(options.folder)
    folder.answers()  # none: said before the model is loaded
    print(f"building the study {name!r} from {folder.path}: loading the model", flush=True)
    subject = loaded(folder)
    with progress("tracing") as move:
        path = build(folder, subject, name, progress=move)
    print(f"published {path}")
