"""What a command says when it fails for a reason that nobody foresaw: one line, and a file with the rest."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

LOGS = Path(__file__).resolve().parents[2] / "cache" / "logs"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MEMORY = ("out of memory", "can't allocate memory")  # how torch says it


def told_in_a_line(error: Exception) -> str:
    """The failure in one line: what it was, what helps where that is known, and where the traceback is."""
    log = _logged(error)
    return f"{_reason(error)}; {f'all of it is in {log}' if log else 'no log of it could be written'}"


def _reason(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}".partition("\n")[0]
    if isinstance(error, MemoryError) or any(words in said.lower() for words in _MEMORY):
        return f"there is not enough memory ({said}): end other programs, or ask for less at once"
    if (isinstance(error, OSError) and error.errno in _FULL) or os.strerror(errno.ENOSPC) in said:
        return f"the disk is full ({said}): make room, and run the command again"
    return f"this should not have happened ({said})"


def _logged(error: Exception) -> Path | None:
    """The file with the traceback: with the project's other files, else where the system keeps what is temporary."""
    text = "".join(traceback.format_exception(error))
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
    for folder in (LOGS, Path(tempfile.gettempdir())):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            return folder / name
    return None
