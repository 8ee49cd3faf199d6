"""The command `studies`: what is kept, under which name; take in a file, rename, remove."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values
from backend.records import InputError


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("studies", help="list the studies that are kept; take one in, rename or remove one")
    parser.add_argument("what", choices=("list", "take-in", "rename", "remove"), nargs="?", default="list")
    parser.add_argument("study", nargs="?", type=values.text, help="rename, remove: which; take-in: the file")
    parser.add_argument(
        "--name", type=values.name, help="take-in, rename: the name it gets (take-in: by default the file's)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do it, and say what was done. Raises InputError for what is missing, not there or being built."""
    from pathlib import Path

    from backend.study.shelf import admit, discard, rename, shelf

    if options.what == "list":
        for kept in shelf():
            when = f"{kept.published:%Y-%m-%d %H:%M}" if kept.published else "at an unknown time"
            print(f"{kept.name}: {kept.size / 1e6:,.0f} MB, published {when}, {kept.file}")
        return
    if options.study is None:
        raise InputError(f"say what to {options.what}: python -m backend studies {options.what} …")
    if options.what == "remove":
        discard(options.study)
        print(f"removed {options.study}")
    elif options.what == "rename":
        if options.name is None:
            raise InputError("say what it is to be called: --name")
        rename(options.study, options.name)
        print(f"{options.study} is {options.name} now")
    else:
        file = Path(options.study)
        try:
            with file.open("rb") as source:
                print(f"published {admit(source, options.name or file.stem)}")
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}") from error
