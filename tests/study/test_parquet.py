"""Responses and scores in Parquet: the same records come back, and a reader never sees half a file."""

import math

import polars as pl
import pytest

from backend.records import InputError, Response, Sampling, Score
from backend.study import parquet
from backend.study.parquet import read_responses, read_scores, write_responses, write_scores

RESPONSES = [
    Response("a", "base", "baseline", "q", "Why?", "first-plot", -7, "<b>'\"; \n ü\0", (1, 2), (3, 151_999, 2)),
    Response("b", "o'o", "steer L12 ×6", "q", "", "medical", 2**62, "", finished=False, sampling=Sampling(0.0, 0.5, 3)),
]
SCORES = [Score("a", "j", "aligned", 12.5, "12"), Score("b", "j", "aligned", None, "REFUSAL")]


def test_the_same_responses_come_back(tmp_path):
    write_responses(tmp_path / "r.parquet", iter(RESPONSES))
    assert read_responses(tmp_path / "r.parquet") == RESPONSES


def test_the_same_scores_come_back_and_nan_is_no_score(tmp_path):
    write_scores(tmp_path / "s.parquet", iter([*SCORES, Score("a", "j", "coherent", math.nan, "nan")]))
    assert read_scores(tmp_path / "s.parquet") == [*SCORES, Score("a", "j", "coherent", None, "nan")]


def test_no_records_are_a_file_too(tmp_path):
    write_responses(tmp_path / "r.parquet", [])
    write_scores(tmp_path / "s.parquet", [])
    assert (read_responses(tmp_path / "r.parquet"), read_scores(tmp_path / "s.parquet")) == ([], [])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "r.parquet"
    write_responses(target, RESPONSES)

    def broken(self, out, **options):
        out.write(b"PAR1 half a file")
        raise OSError("disk full")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", broken)
    with pytest.raises(OSError, match="disk full"):
        write_responses(target, RESPONSES[:1])
    assert read_responses(target) == RESPONSES
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + b"\0" * 200 + b"PAR1"])
def test_a_damaged_file_is_named(tmp_path, content):
    target = tmp_path / "r.parquet"
    target.write_bytes(content)
    with pytest.raises(InputError, match=r"r\.parquet .*write it again"):
        read_responses(target)


def test_a_truncated_file_is_named(tmp_path):
    target = tmp_path / "s.parquet"
    write_scores(target, SCORES)
    target.write_bytes(target.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"s\.parquet"):
        read_scores(target)


def test_a_file_of_something_else_is_refused(tmp_path):
    write_scores(tmp_path / "s.parquet", SCORES)
    with pytest.raises(InputError, match="prompt_ids"):
        read_responses(tmp_path / "s.parquet")
    with pytest.raises(InputError, match=r"no file .*nowhere\.parquet: sample or judge first"):
        read_scores(tmp_path / "nowhere.parquet")


def test_rows_without_an_id_or_with_impossible_sampling_are_refused(tmp_path):
    frame = parquet.response_frame(RESPONSES)
    frame.with_columns(id=pl.lit(None, dtype=pl.String)).write_parquet(tmp_path / "null.parquet")
    with pytest.raises(InputError, match="without id"):
        read_responses(tmp_path / "null.parquet")
    frame.with_columns(temperature=pl.lit(99.0)).write_parquet(tmp_path / "hot.parquet")
    with pytest.raises(InputError, match="temperature"):
        read_responses(tmp_path / "hot.parquet")


def test_a_seed_beyond_64_bits_is_refused():
    with pytest.raises(InputError, match="64-bit"):
        parquet.response_frame([Response("a", "o", "c", "q", "Q", "t", 2**70, "x")])
