"""Studies on their shelf: each change is whole or not done, and a stranger's file is opened before it is kept."""

import fcntl
import io

import duckdb
import pytest

from backend.records import InputError
from backend.study import list_studies, open_study
from backend.study.shelf import admit, discard, rename, shelf
from tests.studies.synthetic import synthetic_study


@pytest.fixture
def root(tmp_path):
    synthetic_study(tmp_path, "one", rows=2)
    return tmp_path


def test_a_study_is_listed_with_its_file(root):
    [kept] = shelf(root)
    assert (kept.name, kept.builds, kept.size) == ("one", 1, kept.file.stat().st_size)
    assert kept.published is not None
    assert kept.published.year >= 2025
    synthetic_study(root, "one", rows=2)
    assert [each.builds for each in shelf(root)] == [2]
    assert shelf(root / "nowhere") == []


def test_a_study_is_renamed_and_opens_by_its_new_name_alone(root):
    before = open_study("one", root).responses()
    rename("one", "two", root)
    assert list_studies(root) == ["two"]
    assert open_study("two", root).responses().equals(before)
    with pytest.raises(InputError, match="no study 'one'"):
        rename("one", "three", root)


@pytest.mark.parametrize(
    ("to", "why"),
    [("other", "already"), ("../out", "cannot name"), ("", "cannot name"), ("a/b", "cannot name"), ("two ", "space")],
)
def test_a_name_that_is_taken_or_none_is_refused_and_nothing_moves(root, to, why):
    synthetic_study(root, "other", rows=2)
    with pytest.raises(InputError, match=why):
        rename("one", to, root)
    assert list_studies(root) == ["one", "other"]


def test_a_study_is_removed_with_all_its_builds(root):
    opened = open_study("one", root)
    discard("one", root)
    assert list(root.iterdir()) == []
    assert opened.responses().height  # who has it open reads on
    with pytest.raises(InputError, match="no study 'one'"):
        discard("one", root)


def test_a_removal_that_is_killed_leaves_no_study_of_another_name(root, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("backend.files.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        discard("one", root)
    assert list(root.glob(".*/*.duckdb"))  # it stands aside, whole
    assert list_studies(root) == []
    assert shelf(root) == []


def test_a_study_that_is_being_built_is_left_alone(root):
    with (root / "one" / ".lock").open("a") as building:
        fcntl.flock(building, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="'one' is being built"):
            discard("one", root)
        with pytest.raises(InputError, match="'one' is being built"):
            rename("one", "two", root)
    assert list_studies(root) == ["one"]


def test_a_file_is_taken_in_and_reads_the_same(root):
    [kept] = shelf(root)
    with kept.file.open("rb") as source:
        admit(source, "copy", root)
    assert open_study("copy", root).responses().equals(open_study("one", root).responses())
    with pytest.raises(InputError, match="'copy' already"), kept.file.open("rb") as source:
        admit(source, "copy", root)


def strangers(root):
    whole = shelf(root)[0].file.read_bytes()
    other = root / "other.duckdb"
    with duckdb.connect(other) as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")
    future = root / "future.duckdb"
    future.write_bytes(whole)
    with duckdb.connect(future) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    spy = root / "spy.duckdb"
    spy.write_bytes(whole)
    secret = root / "secret.csv"
    secret.write_text("key,value\nformat,1\n")
    with duckdb.connect(spy) as connection:
        connection.execute("DROP TABLE meta")
        connection.execute(f"CREATE VIEW meta AS FROM read_csv('{secret}')")
    files = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no database at all" * 999}
    return files | {path.stem: path.read_bytes() for path in (other, future, spy)}


def test_what_is_no_study_is_refused_with_its_reason_and_leaves_nothing(root):
    before = sorted(root.iterdir())
    files = strangers(root)
    for path in root.glob("*.*"):
        path.unlink()
    for name, content in files.items():
        with pytest.raises(InputError, match="this file is no study that can be opened here") as refused:
            admit(io.BytesIO(content), name, root)
        assert "building" not in str(refused.value)
        assert sorted(root.iterdir()) == before, name
    with pytest.raises(InputError, match="cannot name a study"):
        admit(io.BytesIO(b""), "../up", root)
