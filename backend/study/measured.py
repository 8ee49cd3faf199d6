"""What was measured with the model beside answers and traces: runs of a kind, each a record and a table of numbers."""

from __future__ import annotations

from typing import Any

import polars as pl

from backend.study.connection import Connection, one_of
from backend.study.parquet import MEASURED


class Measurements(Connection):
    """The measurements of a study."""

    def measurements(self, kind: str) -> dict[str, dict[str, Any]]:
        """The record of every run of a kind, by name."""
        runs = (self.info.get("measured") or {}).get(kind)
        return {name: record for name, record in runs.items() if isinstance(record, dict)} if runs else {}

    def measured(self, kind: str, run: str) -> pl.DataFrame:
        """The numbers of one run, in the columns of `parquet.MEASURED`."""
        one_of(run, self.measurements(kind), f"run of the kind {kind!r}")
        if not self._has("measured"):
            return pl.DataFrame(schema=MEASURED)
        columns = ", ".join(MEASURED)
        return self._query(f"SELECT {columns} FROM measured WHERE kind = $kind AND run = $run", kind=kind, run=run)
