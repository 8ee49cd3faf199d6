"""The command `figures-of`: a study without its texts, as files."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values

LARGEST = 8_000_000  # bytes that a folder in a repository should stay under


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("figures-of", help="write the figures of a study, without its texts, as files")
    parser.add_argument("study", type=values.name, help="the name of a study")
    parser.add_argument("--out", type=values.path, required=True, metavar="FOLDER", help="where they are written")
    parser.add_argument("--title", type=values.text, help="what the study of them is called (default: as this one)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the files, and say how large they are."""
    from backend.pipeline.figures_only import write_figures
    from backend.study import open_study

    study = open_study(options.study)
    size = write_figures(study, options.out, title=options.title or str(study.info.get("title", study.name)))
    print(f"wrote {size / 1e6:.1f} MB to {options.out}")
    if size > LARGEST:
        print(f"that is more than the {LARGEST / 1e6:.0f} MB that a repository should be asked to hold")
