"""Files that git leaves in the place of large ones where git-lfs was not there to fetch them."""

from __future__ import annotations

from pathlib import Path

from backend.outside import must_be_file
from backend.records import InputError

_LARGEST = 1024  # bytes; a pointer has three short lines


def refuse_pointer(file: Path) -> None:
    """Raise InputError where `file` is a git-lfs pointer, or is there and no file and no folder (a pipe)."""
    if not file.is_dir():
        must_be_file(file)
    if file.is_file() and file.stat().st_size < _LARGEST and file.read_bytes().startswith(b"version https://git-lfs"):
        raise InputError(f"{file} is a git-lfs pointer, not the file: fetch the file with `git lfs pull` in its folder")
