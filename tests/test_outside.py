"""Files that others wrote: what is right in them is read, and what is wrong is said with the file and the place."""

import json
import os

import pytest

from backend.outside import DEEPEST, bytes_of, json_in, json_lines, json_of, must_be_file, shown, text_of, understood
from backend.records import InputError


def test_text_is_read_whole_and_without_the_mark_of_editors(tmp_path):
    (tmp_path / "t").write_bytes(b"\xef\xbb\xbfna\xc3\xafve\r\n")
    assert text_of(tmp_path / "t") == "naïve\r\n"


def test_what_is_no_utf8_is_named_by_its_line(tmp_path):
    (tmp_path / "t").write_bytes(b"one\ntwo\nna\xefve\n")
    with pytest.raises(InputError, match=r"/t, line 3: byte 10 is no UTF-8 text: save the file as UTF-8"):
        text_of(tmp_path / "t")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "there is no file .*/x: see that the name is right"),
        (lambda path: path.mkdir(), "is no file: put one in its place"),
        (os.mkfifo, "is no file: put one in its place"),
        (lambda path: path.symlink_to(path.parent), "is no file"),
        (lambda path: path.symlink_to(path.parent / "nowhere"), "there is no file"),
        (lambda path: path.symlink_to(path), "there is no file|cannot be read"),
    ],
)
def test_what_is_no_file_is_said_and_not_waited_for(tmp_path, make, says):
    make(tmp_path / "x")
    for door in (text_of, bytes_of, must_be_file, json_of, lambda path: list(json_lines(path))):
        with pytest.raises(InputError, match=says):
            door(tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1 column 2"),
        ('{"a": 1, "a": 2}', "has the name 'a' twice"),
        ("[" * 100_000, f"nests deeper than {DEEPEST} levels"),
        ("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), f"nests deeper than {DEEPEST} levels"),
        ('"\\ud800"', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        ("9" * 5000, "4300 digits"),
    ],
)
def test_what_is_no_json_or_reads_differently_elsewhere_is_refused(tmp_path, text, says):
    with pytest.raises(ValueError, match=says):
        json_in(text)
    (tmp_path / "j.json").write_text(text)
    with pytest.raises(InputError, match=rf"j\.json cannot be read as JSON \(.*{says}.*\): mend it there"):
        json_of(tmp_path / "j.json")
    (tmp_path / "j.jsonl").write_text(f"{{}}\n\n{text}\n")
    with pytest.raises(InputError, match=rf"j\.jsonl, line 3: no JSON \(.*{says}"):
        list(json_lines(tmp_path / "j.jsonl"))


def test_sound_json_is_what_it_says():
    value = {"a": [1, 2.5, None, True, "é\U0001f600"], "b": {"c": []}}
    assert json_in(json.dumps(value)) == json_in(json.dumps(value).encode("utf-8-sig")) == value
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert json.dumps(json_in(deep)) == deep


def test_lines_end_where_json_lines_end_and_nowhere_else(tmp_path):
    (tmp_path / "l").write_text('{"a": "x\u2028y\x85z"}\r\n\n[2]', encoding="utf-8")
    assert list(json_lines(tmp_path / "l")) == [(1, {"a": "x\u2028y\x85z"}), (3, [2])]


def test_whatever_a_library_raises_on_a_file_becomes_a_line(tmp_path):
    with (
        pytest.raises(InputError, match=r"/f is not a table \(first line\): write it again$"),
        understood(tmp_path / "f", "a table", "write it again"),
    ):
        raise MemoryError("\nfirst line\nsecond")
    with pytest.raises(KeyboardInterrupt), understood(tmp_path / "f", "a table", "write it again"):
        raise KeyboardInterrupt


def test_a_value_in_a_message_is_cut():
    assert shown({"a": 1}) == "an object of 1"
    assert shown([1, 2]) == "a list of 2"
    assert shown("ab") == "'ab'"
    assert len(shown("x" * 10_000)) < 100
    assert len(shown(10**400)) < 100
