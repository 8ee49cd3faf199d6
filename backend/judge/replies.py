"""The record of every reply a judge model gave: append-only lines, so that nothing is asked, or paid, twice.

Knows files and keys, not what a reply means. One line is one reply; a line torn by a kill or a full disk is skipped
when reading and closed off before the next is written, so it costs that one reply and no other. One process at a time
judges with one file: a second is refused, since it would ask the same questions.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from backend.files import extend, written
from backend.outside import must_be_file
from backend.records import InputError


def memory() -> Path:
    """The folder where judges keep what they said: judge/ in EM_CACHE, else in the project's cache, wherever one is."""
    return Path(os.environ.get("EM_CACHE") or Path(__file__).resolve().parents[2] / "cache") / "judge"


def reply_key(model: str, digest: str, question: str, answer: str) -> str:
    """What identifies a reply: the same four texts always mean the same key."""
    return hashlib.sha256(json.dumps([model, digest, question, answer]).encode()).hexdigest()[:32]


def file_name(judge: str) -> str:
    """A judge's name as the name of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", judge)


class Replies:
    """An open record; use in a `with`. Raises InputError when another process has it open or it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Mapping[str, Any]] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> Replies:
        if self.path.exists():
            must_be_file(self.path)
        with written(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise InputError(
                f"another run is judging with {self.path}: wait for it or stop it, so that nothing is paid twice"
            ) from error
        self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)  # which also lets go of the lock

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The reply kept under `key`, or None."""
        return self._known.get(key)

    def keep(self, key: str, reply: Mapping[str, Any]) -> None:
        """Append one reply; it is on file when this returns."""
        line = (json.dumps({"key": key, **reply}, ensure_ascii=True) + "\n").encode()
        with self._guard, written(self.path):
            extend(self._fd, line)
            self._known[key] = reply

    def _read(self) -> None:
        for line in self.path.read_bytes().splitlines():
            try:
                reply = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(reply, dict) and isinstance(reply.get("key"), str):
                self._known[reply["key"]] = reply
