"""The command `import-figures`: what `figures-of` wrote, as a study again."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("import-figures", help="publish the figures of a study, without texts, as a study")
    parser.add_argument("folder", type=values.path, metavar="FOLDER", help="what figures-of wrote")
    parser.add_argument("--name", type=values.name, required=True, help="the study's name")
    what = "do nothing where the study is there already"
    parser.add_argument("--if-absent", action="store_true", help=what)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Publish, where it is wanted."""
    from backend.study import check_name, list_studies

    name = check_name(options.name)
    if options.if_absent and name in list_studies():
        return
    from backend.pipeline.figures_only import publish_figures

    print(f"published {publish_figures(options.folder, name)}")
