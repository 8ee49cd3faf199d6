"""What was asked and answered, on disk: one file a generation, a line for what was asked and one for every event.

Files grow at their end and are never changed. A generation is called finished only when its last line is on the disk;
one without a last line was interrupted, which the next start says and writes behind it. Knows files and lines.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from backend.files import extend, lock, written
from backend.outside import json_in
from backend.records import InputError
from backend.worker.protocol import Done, Event, Failed, event_from_line, event_to_line

FORMAT = 1
INTERRUPTED = "the worker ended before the answer was finished"
_ID = re.compile(r"[0-9a-f]{32}")


class History:
    """A folder of generations, of one worker at a time. Raises InputError where another has it or it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._undo = ExitStack()
        with written(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._undo.enter_context(lock(folder, "writing this history of generations"))

    def close(self) -> None:
        """Let another worker have the folder."""
        self._undo.close()

    def begin(self, id: str, asked: dict[str, Any]) -> int:
        """Keep what is asked; returns the open file, to which `add` adds. Raises InputError on a full disk."""
        with written(self._file(id)):
            handle = os.open(self._file(id), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                extend(handle, _line({"format": FORMAT, "id": id, **asked}))
                os.fsync(handle)
                _settle_folder(self.folder)
            except BaseException:
                os.close(handle)
                self._file(id).unlink(missing_ok=True)
                raise
        return handle

    def forget(self, id: str, handle: int) -> None:
        """Nothing was written after all: the request was refused."""
        os.close(handle)
        self._file(id).unlink(missing_ok=True)

    def add(self, id: str, handle: int, events: Sequence[Event]) -> None:
        """Events behind those that are there; the last closes the file. Raises InputError on a full disk."""
        with written(self._file(id)):
            extend(handle, b"".join(map(event_to_line, events)))
            if isinstance(events[-1], Done | Failed):
                os.fsync(handle)

    def read(self, id: str) -> tuple[dict[str, Any], list[Event]] | None:
        """What was asked, and every event; None where there is no such generation.

        A line that a kill cut short is left out. Raises InputError on a file of another kind.
        """
        if not _ID.fullmatch(id) or not self._file(id).is_file():
            return None
        lines = self._file(id).read_bytes().splitlines()
        try:
            asked = json_in(lines[0])
            if asked["format"] != FORMAT:
                raise ValueError(f"its format is {asked['format']}")
            return asked, [event for line in lines[1:] for event in _event(line)]
        except (LookupError, ValueError, TypeError) as error:
            raise InputError(f"{self._file(id)} is no generation of this version ({error}): remove it") from error

    def ids(self) -> Iterator[str]:
        """Every generation's."""
        yield from (path.stem for path in self.folder.glob("*.jsonl") if _ID.fullmatch(path.stem))

    def interrupt(self, id: str) -> None:
        """Write behind an interrupted generation that it is."""
        with written(self._file(id)):
            handle = os.open(self._file(id), os.O_RDWR | os.O_APPEND)
            try:
                extend(handle, event_to_line(Failed(INTERRUPTED)))
                os.fsync(handle)
            finally:
                os.close(handle)

    def _file(self, id: str) -> Path:
        return self.folder / f"{id}.jsonl"


def _event(line: bytes) -> list[Event]:
    """The event of a line; none of a torn one."""
    try:
        return [event_from_line(line)]
    except (LookupError, ValueError, TypeError):
        return []


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _settle_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
