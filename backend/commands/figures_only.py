"""The commands `figures-of` and `import-figures`: a study without its texts, as files, and as a study again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from backend.commands import values

LARGEST = 8_000_000  # bytes that a folder in a repository should stay under


def add(commands: Any) -> None:
    """Register both commands on an argparse subparser collection."""
    parser = commands.add_parser("figures-of", help="write the figures of a study, without texts, as files")
    parser.add_argument("study", type=values.name, help="the name of a study")
    parser.add_argument("--out", type=values.path, required=True, metavar="FOLDER", help="where they are written")
    parser.add_argument("--title", type=values.text, help="what the study of them is called (default: as this one)")
    parser.set_defaults(run=write)
    parser = commands.add_parser("import-figures", help="publish such files as a study")
    parser.add_argument("folder", type=values.path, metavar="FOLDER", help="what figures-of wrote")
    parser.add_argument("--name", type=values.name, required=True, help="the name of the study")
    parser.add_argument("--if-absent", action="store_true", help="do nothing where the study is there already")
    parser.set_defaults(run=publish)


def write(options: argparse.Namespace) -> None:
    """Write the files, and say how large they are."""
    from backend.pipeline.figures_only import write_figures
    from backend.study import open_study

    study = open_study(options.study)
    size = write_figures(study, Path(options.out), title=options.title or str(study.info.get("title", study.name)))
    print(f"wrote {size / 1e6:.1f} MB to {options.out}")
    if size > LARGEST:
        print(f"that is more than the {LARGEST / 1e6:.0f} MB that a repository should be asked to hold")


def publish(options: argparse.Namespace) -> None:
    """Publish, where it is wanted."""
    from backend.study import check_name, list_studies

    name = check_name(options.name)
    if options.if_absent and name in list_studies():
        return
    from backend.pipeline.figures_only import publish_figures

    print(f"published {publish_figures(Path(options.folder), name)}")
