"""A study that another program wrote, or wrote to, is refused when it is opened, with the place that is odd."""

import duckdb
import pytest

from backend.records import InputError
from backend.study import open_study
from tests.study.test_connection import small_study


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("ALTER TABLE responses ALTER seed TYPE VARCHAR", r"responses\.seed is of VARCHAR, not BIGINT"),
        ("ALTER TABLE directions DROP COLUMN vector", "its table directions has no column vector"),
        ("UPDATE responses SET text = NULL WHERE response = 3", "its table responses has cells without a value"),
        ("UPDATE conditions SET edits = '{' WHERE name = 'steered'", r"its conditions\.edits does not read: .*line 1"),
        ('UPDATE conditions SET edits = \'[{"kind": "fly"}]\'', r"conditions\.edits .*unknown kind 'fly'"),
        ("UPDATE directions SET provenance = '[1]'", r"directions\.provenance is a list of 1, which it cannot be"),
        ("UPDATE directions SET vector = '\\x01'::BLOB", r"directions\.vector holds what is no vector"),
        ("UPDATE adapters SET adapter = 7", "its adapters are not numbered"),
        ("UPDATE responses SET response = response + 1", "its responses are not numbered"),
        ("INSERT INTO scores FROM scores LIMIT 1", "a judge scored a response twice on one metric"),
        ("UPDATE meta SET value = '3' WHERE key = 'info.title'", r"its info 'title' is 3, which it cannot be"),
        ("INSERT INTO meta VALUES ('info.settings', '{\"a\": 1}')", r"its info 'settings' is an object of 1"),
        (
            "INSERT INTO meta VALUES ('info.outcomes', '[\"x\"]')",
            r"its info 'outcomes' does not read: .*no outcome 'x'",
        ),
    ],
)
def test_what_is_no_study_of_ours_is_refused_with_the_place(tmp_path, sql, says):
    path = small_study(tmp_path).path
    copy = tmp_path / "t" / "1.duckdb"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    with duckdb.connect(copy) as connection:
        connection.execute(sql)
    with pytest.raises(InputError, match=rf"1\.duckdb cannot be read as a study \(.*{says}.*\)\. Delete that file"):
        open_study("t", tmp_path)
