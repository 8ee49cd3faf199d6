"""What was asked and answered, on disk: one file a generation, a line for what was asked and one for every event.

Files grow at their end and are never changed. A generation is called finished only when its last line is on the disk;
one without a last line was interrupted, which the next start says and writes behind it. Knows files and lines.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backend.files import extend, lock, written
from backend.outside import bytes_of
from backend.records import InputError
from backend.worker.heard import heard_event, json_in_line
from backend.worker.protocol import (
    INTERRUPTED,
    Done,
    Event,
    Failed,
    Generation,
    Token,
    event_to_line,
    generation_from_json,
)

FORMAT = 1
_TOKEN = event_to_line(Token(0, 0, ""))[:16]  # what the line of a token begins with
_KIND = 40  # characters
_LATEST = 1e11  # seconds since 1970: some thousand years
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class KeptFile:
    """What a file has."""

    asked: Generation
    kind: str  # the route that it came by
    created: float  # seconds since 1970
    events: list[Event] = field(default_factory=list)
    tokens: int = 0  # beside the events


class History:
    """A folder of generations, of one worker at a time. Raises InputError where another has it or it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._undo = ExitStack()
        with written(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()  # one folder has one lock, whatever it is called
        self._undo.enter_context(lock(self.folder / "history", "writing this history of generations"))

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

    def read(self, id: str) -> KeptFile | None:
        """What was asked, and every event; None where there is no such generation.

        A line that is no event is left out: a kill may have cut it short. Raises InputError on a file of another kind.
        """
        if (found := self._asked(id)) is None:
            return None
        kept, lines = found
        for line in lines:
            with suppress(ValueError):
                kept.events.append(heard_event(line, len(kept.asked.arms)))
        return kept

    def outline(self, id: str) -> KeptFile | None:
        """As `read`, but tokens are counted and not read, which is what takes the time."""
        if (found := self._asked(id)) is None:
            return None
        kept, lines = found
        tokens = 0
        for line in lines:
            if line.startswith(_TOKEN):
                tokens += line.endswith(b"}")
                continue
            with suppress(ValueError):
                kept.events.append(heard_event(line, len(kept.asked.arms)))
        return replace(kept, tokens=tokens)

    def _asked(self, id: str) -> tuple[KeptFile, list[bytes]] | None:
        """What the first line says, and the other lines."""
        file = self._file(id)
        if not _ID.fullmatch(id) or not os.path.lexists(file):
            return None
        first, *lines = bytes_of(file).split(b"\n")
        try:
            said = json_in_line(first)
            if said["format"] != FORMAT:
                raise ValueError(f"its format is {str(said['format'])[:20]}")
            kind, created = said["kind"], said["created"]
            if not isinstance(kind, str) or len(kind) > _KIND or not _is_time(created):
                raise ValueError("its kind is no text, or its beginning no time")
            return KeptFile(generation_from_json(said["request"]), kind, float(created)), lines
        except (LookupError, ValueError, TypeError) as error:
            raise InputError(f"{file} is no generation of this version ({str(error)[:200]}): remove it") from error

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


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LATEST


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _settle_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
