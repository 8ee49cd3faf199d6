"""The command `app`: the worker and the app together, for one study."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from backend.commands import values
from backend.hosts import APP_TOKEN
from backend.records import InputError

if TYPE_CHECKING:
    from backend.pipeline.served import Served


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("app", help="start the worker and the app together")
    add = parser.add_argument
    add("--study", type=values.name, default=os.environ.get("STUDY") or "demo", help="which is shown first")
    what = "the study folder with the organisms to wear (default: the one that the study was built from)"
    add("--folder", type=values.path, help=what)
    what = "the model the worker loads, without the organisms of a folder"
    add("--model", type=values.text, help=what)
    what = "what is worn, instead of a folder's organisms; a peft folder or a hub id (repeat)"
    add("--organism", type=values.organism, action="append", default=[], metavar="NAME=FOLDER", help=what)
    add("--host", type=values.text, default=os.environ.get("HOST") or "127.0.0.1", help="where it listens")
    add("--port", type=values.port, default=os.environ.get("PORT") or "8501", help="0: any free one")
    what = f"what who opens the app signs in with (default: {APP_TOKEN}, which no list of processes shows)"
    add("--token", default=os.environ.get(APP_TOKEN) or "", help=what)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Start both, and stay until they end."""
    from backend.commands.launch import launch

    served = _served(options)
    if served.missing:
        print(served.missing, flush=True)
    return launch(options.study, served.model, served.organisms, options.host, options.port, options.token)


def _served(options: argparse.Namespace) -> Served:
    """What is named wins over the study's own folder."""
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.served import Served, of_folder, of_study

    named = dict(options.organism)
    if len(named) < len(options.organism):
        raise InputError(f"an organism is named twice among {', '.join(name for name, _ in options.organism)}")
    if options.model:
        return Served(options.model, named)
    found = of_folder(StudyFolder(options.folder)) if options.folder else of_study(options.study)
    return Served(found.model, named, found.missing if found.model is None else None) if named else found
