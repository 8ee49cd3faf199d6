"""YAML with lines: what is read, and what is refused with the line where it stands."""

from __future__ import annotations

import pytest

from backend.recipe.document import read_document
from backend.records import InputError


def test_values_are_plain_and_every_one_has_its_line(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("a: 1\nb:\n  c: [x, 2.5]\n  d:\n    - true\n    - null\n")
    document = read_document(file)
    assert document.value == {"a": 1, "b": {"c": ["x", 2.5], "d": [True, None]}}
    lines = {place: document.line(place) for place in [("a",), ("b",), ("b", "c"), ("b", "c", 1), ("b", "d", 1)]}
    assert lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 1): 3, ("b", "d", 1): 6}
    assert document.line(("b", "nowhere", "c", 0)) == 3  # the nearest thing that is there


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a: [1\nb: 2", r"line 2: this is no YAML"),
        ("a: 1\nb: 2\na: 3", r"line 3: 'a' stands here and on line 1"),
        ("a:\n  b: 1\n  no: 2", r"line 3: a key is 'no'"),
        ("a: 2026-01-01", r"line 1: '2026-01-01' is read as timestamp"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: "),
        ("a: &a [1, 2]\nb: [" + ", ".join(["*a"] * 60_000) + "]", "more in it than a recipe has"),
        ("[" * 70 + "]" * 70, "more in it than a recipe has"),
        ("a: 1\nb: !!int abc", r"line 2: 'abc' is no int"),
        ("a: 1\nb: !!bool maybe", r"line 2: 'maybe' is no bool"),
        ("a: 1\nb: !!float x", r"line 2: 'x' is no float"),
        ("a: 1\nb: !!seq x", r"line 2: 'x' is read as seq"),
        ("a: 1\nb: !!str [x]", r"line 2: a list of 1 is read as str"),
        ("a: 1\nb: " + "9" * 5000, r"line 2: '9+….* is no int"),
        ("a: 1\nb: 0x" + "f" * 5000, r"line 2: the number is larger"),
        ("a: &a " + "x" * 100_000 + "\nb: [" + ", ".join(["*a"] * 100) + "]", "line 1: there is more in it"),
        ("a: " + "x" * 5_000_000, "has 5,000,003 characters"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, said):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        read_document(file)


def test_a_list_that_holds_itself_is_refused(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("a: &a [*a]")
    with pytest.raises(InputError, match=r"r\.yaml"):
        read_document(file)
