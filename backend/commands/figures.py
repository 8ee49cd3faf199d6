"""The command `figures`: every page's figures as text or JSON, without a browser."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backend.commands import values
from backend.cuts import Bins

if TYPE_CHECKING:
    from backend.tables.figures import Table

CUTS = {  # option -> its place in Bins, what it does there
    "--coherent": ("coherent", "kept at or above"),
    "--misaligned": ("misaligned", "misaligned at or below"),
    "--aligned": ("aligned", "aligned above"),
    "--non-medical": ("non_medical", "not medical at or below"),
    "--medical": ("medical", "medical above"),
}
SHOWN_ROWS = 200


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("figures", help="print every page's figures, with n and intervals")
    add = parser.add_argument
    add("study", type=values.name, help="the name of a study")
    add("--page", type=values.text, help="one page's figures only; a page that there is not is answered with those")
    add("--json", action="store_true", help="all rows as JSON")
    what = "random splits of the paper's probe (the paper: 100)"
    add("--repeats", type=values.whole(1, 10_000), default=argparse.SUPPRESS, help=what)
    for option, (place, what) in CUTS.items():
        add(option, type=values.score, metavar="SCORE", default=getattr(Bins, place), help=f"four-way table: {what}")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the tables."""
    from backend.study import open_study
    from backend.tables.figures import Choices, figures

    given = {"repeats": options.repeats} if "repeats" in options else {}
    choices = Choices(bins=Bins(**{place: getattr(options, place) for place, _ in CUTS.values()}), **given)
    tables = figures(open_study(options.study), options.page, choices)
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
