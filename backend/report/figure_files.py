"""One figure of a page as files: CSV, PNG, SVG and Vega-Lite, each with what it shows, of which study, by which judge
and of how many answers; and the lines of Python that give the page's numbers.

Nothing is made before it is asked for. It refuses to know how a figure is chosen.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from backend.charts.pick import Drawn
from backend.charts.pictures import png, rows_of, spec_of, svg, tables_of, titled
from backend.tables.figures import PAGES

COUNTS = {"n": "n", "clusters": "questions"}  # a column of counts -> what it counts
FORMER = {"start": "overview", "responses": "overview", "one_adapter": "adapters"}  # a page -> whose tables it draws
_FORMULA = r"^([=+\-@\t\r])"  # what a spreadsheet would run
_PYTHON = """\
from backend import figures, open_study

study = open_study({study!r})
for table in figures(study, {page!r}):
    print(table.title, table.frame, *table.notes, sep="\\n")
"""
_ANSWERS = """\
from backend import open_study

study = open_study({study!r})
answers = study.responses({judge})
print(answers)
"""


@dataclass(frozen=True, eq=False)
class FigureFile:
    """A chart of a page, as Altair or as Vega-Lite, and what is to stand in its files."""

    name: str  # a key of the page, for a file's name
    title: str
    chart: Drawn | Mapping[str, Any]
    study: str
    judge: str | None = None

    @property
    def about(self) -> list[str]:
        """Study, judge, and the counts of what is drawn, in words."""
        rows = rows_of(self.chart)
        said = [f"study {self.study}", *([f"judge {self.judge}"] if self.judge else [])]
        for column, what in COUNTS.items():
            known = rows[column].drop_nulls().to_list() if column in rows.columns else []
            if known and all(isinstance(each, int | float) for each in known):
                least, most = min(known), max(known)
                said.append(f"{what} {least:,.0f}" if least == most else f"{what} {least:,.0f}–{most:,.0f}")
        return said

    def spec(self) -> dict[str, Any]:
        """The chart as Vega-Lite, with its title and what it is of."""
        made = titled(spec_of(self.chart), self.title, [" · ".join(self.about)])
        return {**made, "usermeta": {"title": self.title, "about": self.about}}

    def vega_lite(self) -> str:
        """The specification as JSON."""
        return json.dumps(self.spec(), ensure_ascii=False, indent=1)

    def svg(self) -> str:
        """The chart as a file of its own, whose ink is that of a light page."""
        return str(svg(self.spec(), alt=f"{self.title}. {'; '.join(self.about)}."))

    def png(self) -> bytes:
        """The chart on white."""
        return png(self.spec())

    def csv(self) -> str:
        """All rows that the chart draws, below lines that begin with # and say what they are.

        Where the chart draws several tables, the column `table` says of which a row is. A list or a record stands as
        JSON; a text that a spreadsheet would take for a formula gets an apostrophe in front.
        """
        tables = {name: _flat(table) for name, table in tables_of(self.chart).items()}
        if len(tables) > 1:
            tables = {name: table.select(pl.lit(name).alias("table"), pl.all()) for name, table in tables.items()}
        flat = _together(list(tables.values()))
        head = [" ".join(line.split()) for line in (self.title, *self.about)]
        return "".join(f"# {line}\n" for line in head) + flat.write_csv()


def _flat(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows whose cells are numbers and texts, and no formulas."""
    nested = [name for name, kind in rows.schema.items() if kind.is_nested()]
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    listed = (pl.col(name).map_elements(_json, pl.String) for name in nested)
    return rows.with_columns(*listed, *(pl.col(name).str.replace(_FORMULA, "'$1") for name in texts))


def _json(cell: Any) -> str:
    """A record or a list."""
    whole = cell if isinstance(cell, Mapping) else list(cell)
    return json.dumps(whole, ensure_ascii=False, default=str)


def _together(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Tables below each other; a column that is of several kinds is text."""
    kinds: dict[str, set[pl.DataType]] = defaultdict(set)
    for table in tables:
        for name, kind in table.schema.items():
            kinds[name].add(kind)
    mixed = [name for name, found in kinds.items() if len(found) > 1 and not all(kind.is_numeric() for kind in found)]
    texts = [table.with_columns(pl.col(name).cast(pl.String) for name in mixed if name in table) for table in tables]
    return pl.concat(texts, how="diagonal_relaxed") if texts else pl.DataFrame()


def snippet(page: str, study: str, judge: str | None = None) -> str:
    """Lines of Python that give the numbers of a page; where it has no tables, the answers that it draws."""
    known = FORMER.get(page, page)
    if known in PAGES:
        return _PYTHON.format(study=study, page=known)
    return _ANSWERS.format(study=study, judge=repr(judge) if judge else "")
