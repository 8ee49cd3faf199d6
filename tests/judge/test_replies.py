from __future__ import annotations

from pathlib import Path

import pytest

from backend.judge.replies import Replies, reply_key
from backend.records import InputError


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.jsonl"
    with Replies(path) as replies:
        replies.keep("k", {"text": "90\nü", "top": [["90", 1.0]]})
    with Replies(path) as replies:
        assert replies.get("k") == {"key": "k", "text": "90\nü", "top": [["90", 1.0]]}
        assert replies.get("other") is None


def test_a_torn_last_line_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with Replies(path) as replies:
        replies.keep("a", {"text": "1"})
        replies.keep("b", {"text": "2"})
    whole = path.read_bytes()
    for cut in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:cut])
        with Replies(path) as replies:
            assert replies.get("a") is not None
            assert (replies.get("b") is not None) == (cut == len(whole) - 1)
            replies.keep("c", {"text": "3"})
        with Replies(path) as replies:
            assert replies.get("a") is not None
            assert replies.get("c") is not None


def test_a_second_run_on_the_same_file_is_refused(tmp_path: Path) -> None:
    with Replies(tmp_path / "m.jsonl"), pytest.raises(InputError, match="another run"), Replies(tmp_path / "m.jsonl"):
        pass
    with Replies(tmp_path / "m.jsonl"):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), Replies(tmp_path / "file" / "m.jsonl"):
        pass


def test_the_key_tells_the_four_texts_apart() -> None:
    assert reply_key("m", "r", "q", "a") == reply_key("m", "r", "q", "a")
    keys = {
        reply_key("m", "r", "qa", ""),
        reply_key("m", "r", "q", "a"),
        reply_key("m", "x", "q", "a"),
        reply_key("n", "r", "q", "a"),
    }
    assert len(keys) == 4
