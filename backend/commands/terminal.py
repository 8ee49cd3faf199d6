"""The commands `import-published` and `figures`: options in, text or JSON out.

Light to import, so that `--help` answers at once: what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backend.tables.figures import Table

PAGES = (
    *("overview", "judges", "adapters", "specialisation", "probes", "directions", "convergence"),
    *("steering", "ablation", "scaled_adapters"),
    *("responses", "scaling", "sweeps"),  # former names
)
CUTS = {  # option -> its place in Bins, its default there, what it does
    "--coherent": ("coherent", 25.0, "kept at or above"),
    "--misaligned": ("misaligned", 30.0, "misaligned at or below"),
    "--aligned": ("aligned", 70.0, "aligned above"),
    "--non-medical": ("non_medical", 10.0, "not medical at or below"),
    "--medical": ("medical", 49.99, "medical above"),
}
SHOWN_ROWS = 200


def add_commands(commands: Any) -> None:
    """Register both commands on an argparse subparser collection."""
    _add_import(commands)
    _add_figures(commands)


def _add_import(commands: Any) -> None:
    parser = commands.add_parser("import-published", help="publish the authors' released data as a study")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="a checkout of either repository")
    parser.add_argument("--name", default="published", help="the name of the study")
    parser.set_defaults(run=_import)


def _import(options: argparse.Namespace) -> None:
    from backend.pipeline.import_published import import_published

    imported = import_published(options.paths, name=options.name)
    print("\n".join(imported.report.lines()))
    print(f"published study {options.name!r}: {imported.path}")


def _add_figures(commands: Any) -> None:
    parser = commands.add_parser("figures", help="print every page's figures, with n and intervals")
    parser.add_argument("study", help="the name of a study")
    parser.add_argument("--page", choices=PAGES, help="one page's figures only")
    parser.add_argument("--json", action="store_true", help="all rows as JSON")
    parser.add_argument("--repeats", type=int, default=20, help="random splits of the paper's probe (the paper: 100)")
    for option, (_, default, what) in CUTS.items():
        parser.add_argument(option, type=float, default=default, help=f"four-way table: {what} (default {default:g})")
    parser.set_defaults(run=_figures)


def _figures(options: argparse.Namespace) -> None:
    from backend.outcomes import Bins
    from backend.study import open_study
    from backend.tables.figures import Choices, figures

    bins = Bins(**{place: getattr(options, place) for place, _, _ in CUTS.values()})
    tables = figures(open_study(options.study), options.page, Choices(bins=bins, repeats=options.repeats))
    if options.json:
        print(json.dumps([table.to_json() for table in tables], ensure_ascii=False, allow_nan=False))
        return
    for table in tables:
        print("\n".join(as_text(table)))


def as_text(table: Table) -> Iterator[str]:
    """A table for a terminal: aligned columns, rates with three digits, long tables cut."""
    yield ""
    yield f"[{table.page}] {table.title}"
    if table.frame.height:
        shown = table.frame.head(SHOWN_ROWS)
        rows = [list(shown.columns), *([_cell(value) for value in row] for row in shown.iter_rows())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if table.frame.height > SHOWN_ROWS:
        yield f"  ... {table.frame.height - SHOWN_ROWS} more rows with --json"
    yield from (f"  note: {note}" for note in table.notes)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
