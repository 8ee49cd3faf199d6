"""The studies that are kept: listed, renamed, removed, taken in from a file, without a look at what they say.

Each of these is whole or not done. A study that is being built is left alone.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from backend.files import remove, written
from backend.records import InputError
from backend.study.connection import Connection
from backend.study.publish import BUILDING, claim, release
from backend.study.schema import STUDIES, SUFFIX, check_name, list_studies, newest, published


@dataclass(frozen=True)
class Shelved:
    """One study on the shelf: its newest file, that file's size in bytes, when it was published, how many builds."""

    name: str
    file: Path
    size: int
    published: datetime | None  # None where the file's name does not say
    builds: int


def shelf(root: Path = STUDIES) -> list[Shelved]:
    """Every study in alphabetical order. One that goes away meanwhile is left out."""
    kept = []
    for name in list_studies(root):
        files = published(name, root)
        try:
            size = files[-1].stat().st_size
        except (IndexError, OSError):
            continue
        kept.append(Shelved(name, files[-1], size, _stamp(files[-1]), len(files)))
    return kept


def rename(name: str, to: str, root: Path = STUDIES) -> None:
    """Give a study another name. Raises InputError where it is not there or being built, or the name is no free one."""
    newest(name, root)
    if check_name(to) != to.strip():
        raise InputError(f"{to!r} begins or ends with a space: leave that out")
    home, target = Path(root) / name, Path(root) / to
    with written(home), _alone(home):
        if target.exists():
            raise InputError(f"there is a study {to!r} already: choose another name, or remove that one first")
        home.rename(target)


def discard(name: str, root: Path = STUDIES) -> None:
    """Remove a study with all of its builds. Raises InputError where it is not there or being built.

    Who has it open reads on; the folder that it was built from is not touched.
    """
    newest(name, root)
    home = Path(root) / name
    with written(home), _alone(home):
        remove(home)


def admit(source: BinaryIO, name: str, root: Path = STUDIES) -> Path:
    """Take in a study's file under a name that is free. Raises InputError for what cannot be opened as a study.

    The file is a stranger's: it is opened as every study is, read-only and without a way to other files.
    """
    check_name(name)
    if name in list_studies(root):
        raise InputError(f"there is a study {name!r} already: choose another name, or remove that one first")
    home = Path(root) / name
    with written(home), claim(home):
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=home))
        try:
            file = building / f"study{SUFFIX}"
            with file.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            try:
                Connection(name, file).close()
            except InputError as error:
                reason = re.search(r"cannot be read as a study \((.*?)\)\. Delete", str(error), re.DOTALL)
                why = reason[1].replace(str(file), "it") if reason else str(error)
                raise InputError(f"this file is no study that can be opened here: {why}") from error
            return release(file, name, home)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            if not published(name, root):
                shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Be the only one who has to do with the builds of a study."""
    with (home / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"the study {home.name!r} is being built: wait until that ends") from error
        yield


def _stamp(file: Path) -> datetime | None:
    try:
        return datetime.strptime(file.stem.rstrip("~"), "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
