"""A table of questions and answers as somebody else wrote it: CSV or Parquet.

Knows the two formats and how long a text may be. Refuses to know which columns are wanted.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from backend.outside import must_be_file, understood
from backend.records import InputError

MAX_CELL = 2**20  # bytes of one text in a table: no question and no answer is longer


def read_table(path: Path) -> pl.DataFrame:
    """The table; every cell of a CSV is the text it is ("007" stays so), an empty one null and "" empty.

    Raises InputError where it is none, or a text in it is longer than MAX_CELL.
    """
    must_be_file(path)
    with understood(path, f"a {path.suffix[1:]} table that can be read", "save it again, as UTF-8"):
        if path.suffix.lower() == ".csv":
            return bounded(pl.read_csv(path, infer_schema=False, glob=False), path)
        return bounded(pl.read_parquet(path, glob=False), path)


def bounded(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The frame of a file. Raises InputError where a text is longer than MAX_CELL."""
    for name in (name for name, kind in frame.schema.items() if kind == pl.String):
        sizes = frame[name].str.len_bytes()
        row = sizes.arg_max()
        if row is not None and sizes[row] > MAX_CELL:
            raise InputError(
                f"{path} holds a text of {sizes[row]:,} bytes in row {row + 1} (the header not counted), column "
                f"{name!r}: at most {MAX_CELL:,} are read; cut it or leave the row out"
            )
    return frame
