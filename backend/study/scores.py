"""A published study with the scores of one more judge: all its tables again, published as the next build.

A build never changes: who has the old one open keeps reading it, and who opens the study anew sees the new one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb

from backend.files import written
from backend.records import InputError, Score
from backend.study.parquet import score_frame
from backend.study.publish import BUILDING, claim, release
from backend.study.read import Study
from backend.study.schema import SUFFIX

_SCORES = """
CREATE TABLE scores AS
    FROM old.scores s ANTI JOIN (SELECT r.response, judge FROM given JOIN old.responses r ON r.id = response_id) g
    ON s.response = g.response AND s.judge = g.judge;
INSERT INTO scores
    SELECT r.response, judge, metric, value, raw FROM given JOIN old.responses r ON r.id = response_id ORDER BY place;
"""


def with_scores(study: Study, scores: Sequence[Score]) -> Path:
    """Publish the study again with these scores; earlier ones of the same judge and response give way to them.

    Raises InputError where a score names a response that the study does not hold, or the file cannot be read or
    written. Returns the new file.
    """
    frame = score_frame(scores).with_row_index("place")
    lost = frame.join(study.responses(), left_on="response_id", right_on="response", how="anti")
    if lost.height:
        raise InputError(
            f"a score names the response {lost['response_id'][0]!r}, which {study.name} does not hold: "
            "judge the study as it is published now"
        )
    home = study.path.parent
    with written(home), claim(home), tempfile.TemporaryDirectory(prefix=BUILDING, dir=home) as building:
        file = Path(building) / f"study{SUFFIX}"
        with duckdb.connect(file, config={"temp_directory": building}) as connection:
            connection.register("given", frame)
            try:
                _copy(connection, study.path)
            except duckdb.Error as error:
                why = str(error).partition("\n")[0]
                raise InputError(
                    f"{study.name!r} cannot be published again with these scores ({why}): see that {study.path} is "
                    f"whole, and that there is room beside it"
                ) from error
        return release(file, study.name, home)


def _copy(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Every table of the file at `path`, with the scores that are registered as `given`."""
    connection.execute(f"ATTACH {_quoted(path)} AS old (READ_ONLY)")
    tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'old'").fetchall()
    for (table,) in tables:
        connection.execute(_SCORES if table == "scores" else f'CREATE TABLE "{table}" AS FROM old."{table}"')
    connection.execute("DETACH old")
    connection.execute("CHECKPOINT")


def _quoted(path: Path) -> str:
    """A path as a literal: ATTACH takes no parameter."""
    return "'" + str(path).replace("'", "''") + "'"
