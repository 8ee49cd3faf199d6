"""The command `import-published`: the authors' released data as a study."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("import-published", help="publish the authors' released data as a study")
    what = "a checkout of either repository"
    parser.add_argument("paths", type=values.path, nargs="+", metavar="PATH", help=what)
    parser.add_argument("--name", type=values.name, default="published", help="the name of the study")
    parser.add_argument("--verbose", action="store_true", help="name every file that was skipped, not one a reason")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Import, and say what was found and skipped."""
    from backend.pipeline.import_published import import_published
    from backend.study import check_name

    imported = import_published(options.paths, name=check_name(options.name))
    print("\n".join(imported.report.lines(verbose=options.verbose)))
    print(f"published study {options.name!r}: {imported.path}")
