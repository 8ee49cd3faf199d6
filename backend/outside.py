"""Text and JSON that people and other programs wrote, read so that what is wrong with it is said.

Knows files, encodings and JSON: the file, the place in it, the reason. Refuses to know what is asked of the content.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend.records import InputError

LARGEST = 256 << 20  # bytes of a file that is read as a whole
DEEPEST = 64  # lists and objects in one another; none that is of use has ten
_HALF = re.compile(r"[\ud800-\udfff]")
_MAY_BE_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 80  # characters of a value that a message repeats


def text_of(path: Path, *, absent: str = "see that the name is right") -> str:
    """The whole text of a file, without the mark that some editors put in front. `absent` is what to do without one.

    Raises InputError where there is no such file, it is no file (a folder, a pipe), too large, or not UTF-8.
    """
    data = bytes_of(path, absent=absent)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte {error.start} is no UTF-8 text: save the file as UTF-8 and try again"
        ) from error


def bytes_of(path: Path, *, absent: str = "see that the name is right") -> bytes:
    """The whole content of a file, unpacked where its name ends in .gz. Raises InputError as `text_of`."""
    size = must_be_file(path, absent=absent)
    if size <= LARGEST:
        with _readable(path), path.open("rb") as packed:
            if path.suffix != ".gz":
                return packed.read()
            try:
                content = gzip.GzipFile(fileobj=packed).read(LARGEST + 1)
            except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
                raise InputError(f"{path} is no whole .gz file ({in_a_line(error)}): pack it again") from error
        if (size := len(content)) <= LARGEST:
            return content
    raise InputError(f"{path} has {size >> 20:,} MB, and at most {LARGEST >> 20} are read: is it another file?")


def must_be_file(path: Path, *, absent: str = "see that the name is right") -> int:
    """The size of a file in bytes. Raises InputError where none is there, or it is a folder, a pipe or a loop of links.

    Who opens a pipe by its name waits for ever: ask before another library opens it.
    """
    with _readable(path):
        if not path.exists():
            raise InputError(f"there is no file {path}: {absent}")
        if not path.is_file():
            raise InputError(f"{path} is no file: put one in its place")
        return path.stat().st_size


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{path} cannot be read ({why}): see that it is there and that you may read it") from error


@contextmanager
def understood(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn whatever another library raises on a file into an InputError: that `path` is not `what`, why, what to do.

    Libraries in Rust and C++ raise types of their own on damaged files, plain ones (KeyError, MemoryError on a size
    that the file claims) and panics, and promise none of them.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{path} is not {what} ({in_a_line(error)}): {remedy}") from error


def json_of(path: Path, *, absent: str = "see that the name is right") -> Any:
    """What a JSON file says. Raises InputError as `text_of`, and on what `json_in` refuses."""
    try:
        return json_in(text_of(path, absent=absent))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): mend it there, or write the file again") from error


def json_in(text: str | bytes) -> Any:
    """What a text of JSON says. Raises ValueError on what is none, and on what programs read differently.

    That is a name that an object has twice, half of a surrogate pair, and nesting beyond any use.
    """
    return _json(text, DEEPEST)


def finite_json_in(text: str | bytes, deepest: int) -> Any:
    """As `json_in`, of what is written out again as JSON: every number is finite, and it nests at most so deep."""
    return _json(text, deepest, parse_constant=_no_number, parse_float=_finite)


def _json(text: str | bytes, deepest: int, **hooks: Any) -> Any:
    try:
        said = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(said, object_pairs_hook=_once, **hooks)
    except RecursionError as error:
        raise ValueError(f"it nests deeper than {deepest} levels") from error
    _shallow(value, deepest)
    if _MAY_BE_HALF.search(said) and _HALF.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("it holds half of a surrogate pair, which is no character")
    return value


def json_lines(path: Path, *, absent: str = "see that the name is right") -> Iterator[tuple[int, Any]]:
    """(number, what it says) of every line with something in it, counted from 1.

    Raises InputError with the number of the first line that `json_in` refuses.
    """
    for number, line in enumerate(text_of(path, absent=absent).split("\n"), 1):
        if line.strip():
            try:
                yield number, json_in(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number}: no JSON ({error}): mend the line, or leave it out") from error


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value[: 2 * _SHOWN] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def in_a_line(error: BaseException) -> str:
    """The first line of what an error of another library says, cut where it is long; its kind where it says nothing."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return said[:300] or type(error).__name__


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {shown(twice)} twice")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{shown(text)} is past any number")
    return value


def _shallow(value: Any, deepest: int, depth: int = 0) -> None:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if inside and depth == deepest:
        raise ValueError(f"it nests deeper than {deepest} levels")
    for each in inside:
        if isinstance(each, dict | list):
            _shallow(each, deepest, depth + 1)
