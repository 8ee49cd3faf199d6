"""One published file, opened read-only, and the names in it: what every part of a study asks through.

Every question runs on a cursor of its own, so any thread may ask. A file that cannot be read, whichever part of it is
broken, is an InputError that says what to do.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakSet

import duckdb
import numpy as np
import polars as pl

from backend.records import FloatArray, InputError
from backend.study.schema import FORMAT, SEGMENTS, build_command
from backend.study.sound import check_content, check_info

IntArray = np.ndarray[Any, np.dtype[np.int32]]

_BLOCKS_OFFSET = 3 * 4096  # DuckDB's headers before the first block
_BROKEN = (duckdb.Error, pl.exceptions.PolarsError)  # a flipped byte raises nearly any of them
_PARTING = 2.0  # seconds in which a thread that asks can let go
_SHOWN = 200  # characters of a wrong name that a message repeats


class Connection:
    """A published file, its tables asked by SQL, and its names as integers."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self._connection: duckdb.DuckDBPyConnection | None = _open(path)
        self._asked: set[duckdb.DuckDBPyConnection] = set()  # cursors at work
        _OPEN.add(self)
        self._places: dict[str, dict[str, int]] = {}  # of an organism's adapters
        self.info: dict[str, Any] = self._info()  # what `Draft.meta` was given

    def close(self) -> None:
        """Let go of the file. What is being asked, or is asked afterwards, raises InputError."""
        connection, self._connection = self._connection, None
        for cursor in tuple(self._asked):
            cursor.interrupt()
        until = time.monotonic() + _PARTING
        while self._asked and time.monotonic() < until:
            time.sleep(0.01)
        if connection is not None:
            with suppress(duckdb.ResourceInUseException):  # what cannot be interrupted goes on
                connection.close()

    def readers(self) -> list[str]:
        """Organisms that read texts."""
        return self._column(
            "SELECT name FROM organisms WHERE organism IN (SELECT DISTINCT reader FROM traces) ORDER BY organism"
        )

    def _query(self, sql: str, labels: pl.DataFrame | None = None, /, **params: Any) -> pl.DataFrame:
        cursor = self._cursor()
        try:
            if labels is not None:
                cursor.register("labels", labels)
            frame: pl.DataFrame = cursor.sql(sql, params=params).pl()
            return frame
        except duckdb.InterruptException as error:
            raise self._closed() from error
        except duckdb.OutOfMemoryException as error:
            raise InputError(f"there is not enough memory to read {self.path}: close other programs") from error
        except _BROKEN as error:
            raise _damaged(self.path, error) from error
        finally:
            cursor.close()
            self._asked.discard(cursor)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        connection = self._connection
        if connection is None:
            raise self._closed()
        try:
            cursor = connection.cursor()
        except duckdb.ConnectionException as error:  # another thread was faster
            raise self._closed() from error
        self._asked.add(cursor)
        return cursor

    def _closed(self) -> InputError:
        return InputError(f"study {self.name!r} is closed: open it again")

    def _column(self, sql: str, **params: Any) -> list[Any]:
        return self._query(sql, **params).to_series().to_list()

    def _info(self) -> dict[str, Any]:
        rows = dict(self._query("SELECT key, value FROM meta").iter_rows())
        said = {key.removeprefix("info."): text for key, text in rows.items() if key.startswith("info.")}
        try:
            return check_info(said)
        except InputError as error:
            raise _damaged(self.path, error) from error

    def _has(self, table: str) -> bool:
        """Whether the file has a table: those of earlier builds lack the newer ones."""
        return table in self._tables

    # --- names and integers -----------------------------------------------------------------------------------------

    @cached_property
    def _tables(self) -> frozenset[str]:
        return frozenset(self._column("SELECT table_name FROM duckdb_tables()"))

    @cached_property
    def _ids(self) -> list[str]:
        """Response ids; the index is the response's integer."""
        return self._column("SELECT id FROM responses ORDER BY response")

    @cached_property
    def _id_series(self) -> pl.Series:
        return pl.Series(self._ids, dtype=pl.String)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self._ids)}

    @cached_property
    def _organisms(self) -> dict[str, int]:
        return dict(self._query("SELECT name, organism FROM organisms ORDER BY organism").iter_rows())

    def _organism(self, name: str) -> int:
        return self._organisms[one_of(name, self._organisms, "organism")]

    def _response(self, name: str) -> int:
        if name not in self._indices:
            raise InputError(
                f"study {self.name!r} holds no response {_shown(name)}: it was built anew, choose another one"
            )
        return self._indices[name]

    def _response_indices(self, names: Iterable[str]) -> list[int]:
        return [self._response(name) for name in names]

    def _named(self, column: str) -> pl.Expr:
        """Responses by their integers as ids."""
        return pl.lit(self._id_series).gather(pl.col(column)).alias(column)

    def _adapter_names(self, organism: str) -> list[str]:
        return list(self._adapter_places(organism))

    def _adapter_places(self, organism: str) -> dict[str, int]:
        """The index of every adapter, read once: nearly every question about scalars asks for some."""
        if organism not in self._places:
            names = self._column(
                "SELECT name FROM adapters WHERE organism = $organism ORDER BY adapter",
                organism=self._organism(organism),
            )
            self._places[organism] = {name: index for index, name in enumerate(names)}
        return self._places[organism]

    def _adapter_indices(self, organism: str, names: Sequence[str]) -> list[int]:
        known = self._adapter_places(organism)
        return [known[one_of(name, known, f"adapter of {organism!r}")] for name in names]


_OPEN: WeakSet[Connection] = WeakSet()


@atexit.register
def _close_all() -> None:
    """Close what is kept until the end, as in the app's cache.

    A connection that outlives Python makes DuckDB print a page, and a thread that is asking then ends the process.
    """
    for each in list(_OPEN):
        each.close()


def one_of(name: Any, known: Iterable[Any], what: str) -> Any:
    """The name, where it is a known one. Raises InputError with those that are."""
    if name not in known:
        raise InputError(
            f"there is no {what} {_shown(name)} in this study; there is: {', '.join(map(str, known)) or 'none'}"
        )
    return name


def _shown(name: Any) -> str:
    text = repr(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def segment_codes(name: str) -> dict[str, int]:
    """The first and last code of a segment ("prompt", "answer", "all"), as `low` and `high`."""
    low, high = SEGMENTS[one_of(name, SEGMENTS, "segment")]
    return {"low": low, "high": high}


def vector_of(blob: bytes) -> FloatArray:
    """A vector as it is stored, (d_model,)."""
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)


def ascending(keys: Any, values: FloatArray) -> tuple[Any, FloatArray]:
    """Both in ascending order of the keys: a study is sorted, so there is rarely anything to do."""
    if (keys[1:] > keys[:-1]).all():
        return keys, values
    order = np.argsort(keys, kind="stable")
    return keys[order], values[order]


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a whole file of this format; what the file says cannot reach any other file."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise _damaged(path, "it is no file")
    with ExitStack() as undo:
        try:
            connection = duckdb.connect(path, read_only=True, config={"enable_external_access": "false"})
            undo.callback(connection.close)
            _check(connection, path)
        except duckdb.Error as error:
            raise _damaged(path, error) from error
        undo.pop_all()
    return connection


def _check(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raises InputError unless the file is whole and of this format."""
    size = connection.sql("SELECT block_size * total_blocks FROM pragma_database_size()").fetchall()[0][0]
    found = connection.sql("SELECT value FROM meta WHERE key = 'format'").fetchall()
    if path.stat().st_size < _BLOCKS_OFFSET + size:
        raise _damaged(path, "it is shorter than it says")
    if found != [(str(FORMAT),)]:
        raise _damaged(path, f"its format is {found}, this program reads format {FORMAT}")
    try:
        check_content(connection)
    except InputError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> InputError:
    why = str(reason).partition("\n")[0][:500]
    return InputError(
        f"{path} cannot be read as a study ({why}). Delete that file to go back to an earlier build of "
        f"{path.parent.name!r}, or build it again: {build_command(path.parent.name)}"
    )
