"""Whether an open file holds what a study holds: columns of their kinds, names where names must be, JSON that reads.

A file that `Draft` wrote always does; one that another program wrote, or wrote to, may not. It is asked once, when the
file is opened, so that whoever reads a study need not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import duckdb

from backend.edits import edits_from_json
from backend.outside import json_in, shown
from backend.records import InputError
from backend.study.outcome_json import outcomes_of
from backend.study.schema import TABLES

_MAY_BE_NULL = {  # (table, column); of the tables below all other columns are filled
    ("adapters", "read_vector"),
    ("adapters", "write_vector"),
    ("adapters", "scaling"),
    ("adapters", "write_norm"),
    ("directions", "activation_norm"),
    ("scores", "value"),
}
_LATER: frozenset[tuple[str, str]] = frozenset()  # (table, column) that files of earlier builds lack
_VECTORS = (("directions", "vector"), ("adapters", "read_vector"), ("adapters", "write_vector"))
_FILLED = ("meta", "organisms", "adapters", "questions", "conditions", "responses", "scores", "directions", "traces")
_INFO: dict[str, Callable[[Any], bool]] = {  # what pages take for granted of the info that they ask for
    "title": lambda said: isinstance(said, str),
    "base": lambda said: isinstance(said, str),
    "judge": lambda said: isinstance(said, str),
    "folder": lambda said: isinstance(said, str),
    "layers": lambda said: type(said) is int,
    "d_model": lambda said: type(said) is int,
    "controls": lambda said: isinstance(said, list) and all(isinstance(each, str) for each in said),
    "baselines": lambda said: isinstance(said, dict) and all(isinstance(each, str) for each in said.values()),
    "settings": lambda said: isinstance(said, dict) and all(isinstance(each, dict) for each in said.values()),
    "sweeps": lambda said: isinstance(said, dict) and all(isinstance(each, dict) for each in said.values()),
    "measured": lambda said: isinstance(said, dict) and all(isinstance(each, dict) for each in said.values()),
    "report": lambda said: isinstance(said, dict),
    "outcomes": lambda said: bool(outcomes_of({"outcomes": said})),
}
_NUMBERED = {  # a count that is 0 in a study, and what it says where it is not
    "organisms": (
        "SELECT count(*) FROM (SELECT count(*) n, count(DISTINCT organism) d, count(DISTINCT name) i, min(organism) "
        "low, max(organism) high FROM organisms) WHERE n > 0 AND (n <> d OR n <> i OR low <> 0 OR high <> n - 1)",
        "its organisms are not numbered 0, 1, 2 ... or two have one name",
    ),
    "adapters": (
        "SELECT count(*) FROM (SELECT count(*) n, count(DISTINCT adapter) d, count(DISTINCT name) i, min(adapter) low, "
        "max(adapter) high FROM adapters GROUP BY organism) WHERE n <> d OR n <> i OR low <> 0 OR high <> n - 1 "
        "UNION ALL SELECT count(*) FROM adapters ANTI JOIN organisms USING (organism) ORDER BY 1 DESC",
        "its adapters are not numbered 0, 1, 2 ... in every organism, or two have one name",
    ),
    "responses": (
        "SELECT count(*) FROM (SELECT count(*) n, count(DISTINCT response) d, count(DISTINCT id) i, min(response) low, "
        "max(response) high FROM responses) WHERE n > 0 AND (n <> d OR n <> i OR low <> 0 OR high <> n - 1)",
        "its responses are not numbered 0, 1, 2 ... or two have one id",
    ),
    "scores": (
        "SELECT count(*) - count(DISTINCT (response, judge, metric)) FROM scores",
        "a judge scored a response twice on one metric",
    ),
}
_CELLS: tuple[tuple[str, str, Callable[[Any], object]], ...] = (
    ("organisms", "record", lambda said: isinstance(said, dict)),
    ("directions", "provenance", lambda said: isinstance(said, dict)),
    ("conditions", "edits", lambda said: edits_from_json(said) is not None),
)


def check_content(connection: duckdb.DuckDBPyConnection) -> None:
    """Raises InputError with the table, the column and what is odd there."""
    found = connection.execute("SELECT table_name, column_name, data_type FROM duckdb_columns()").fetchall()
    kinds = {(table, column): kind for table, column, kind in found}
    tables = {table for table, _ in kinds}
    for place, kind in _columns().items():
        if place[0] in tables and place not in kinds and place not in _LATER:
            raise InputError(f"its table {place[0]} has no column {place[1]}")
        if place in kinds and kinds[place] != kind:
            raise InputError(f"its column {'.'.join(place)} is of {kinds[place]}, not {kind}")
    for table in _FILLED:
        columns = [c for t, c in _columns() if t == table and (t, c) in kinds and (t, c) not in _MAY_BE_NULL]
        empty = " OR ".join(f'"{column}" IS NULL' for column in columns)
        if columns and connection.execute(f'SELECT count(*) FROM "{table}" WHERE {empty}').fetchall()[0][0]:
            raise InputError(f"its table {table} has cells without a value")
    for table, (sql, odd) in _NUMBERED.items():
        if table in tables and connection.execute(sql).fetchall()[0][0]:
            raise InputError(odd)
    for table, column, holds in _CELLS:
        if (table, column) in kinds:
            for (text,) in connection.execute(f'SELECT DISTINCT "{column}" FROM "{table}"').fetchall():
                _check(f"{table}.{column}", text, holds)
    for table, column in _VECTORS:
        odd = f"SELECT count(*) FROM {table} WHERE octet_length({column}) % 4 <> 0"
        if (table, column) in kinds and connection.execute(odd).fetchall()[0][0]:
            raise InputError(f"its column {table}.{column} holds what is no vector")


def check_info(info: Mapping[str, str]) -> dict[str, Any]:
    """The info of a study, by the JSON of each. Raises InputError where one is not what pages take it for."""
    return {key: _check(f"info {key!r}", text, _holds(key)) for key, text in info.items()}


def _holds(key: str) -> Callable[[Any], object]:
    return lambda said: said is None or key not in _INFO or _INFO[key](said)


def _check(where: str, text: str, holds: Callable[[Any], object]) -> Any:
    try:
        said = json_in(text)
        fits = holds(said)
    except ValueError as error:  # InputError is one
        raise InputError(f"its {where} does not read: {error}") from error
    if not fits:
        raise InputError(f"its {where} is {shown(said)}, which it cannot be")
    return said


@cache
def _columns() -> dict[tuple[str, str], str]:
    """The kind of every column that this program writes, by table and name."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(TABLES)
        rows = connection.execute("SELECT table_name, column_name, data_type FROM duckdb_columns()").fetchall()
    return {(table, column): kind for table, column, kind in rows}
