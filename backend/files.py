"""Files that are whole or not there, parts of a long run that a killed one goes on from, and one process at a time.

Whatever must not be lost is written through here: under a name of its own beside the target, onto the disk, then
renamed. A temporary name is locked by whoever writes under it, so what a killed process left is known and swept away
by the next one that writes there. Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Generic, Self, TypeVar

from backend.records import InputError

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp", re.DOTALL)
_REMEDIES = {
    errno.ENOSPC: "free some space and run again",
    errno.EDQUOT: "free some of your quota and run again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and run again",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EEXIST: "remove what has that name, or choose another",
    errno.ENOTDIR: "a file has the name of a folder there: choose another",
    errno.ENOTEMPTY: "remove what has that name, or choose another",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_LITTLE = 64 << 10  # bytes that a disk with room takes
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# --- whole or not at all ----------------------------------------------------------------------------------------------


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file `path` when the block ends, in the place of what had that name.

    After an error the old file is there as it was, and nothing else. Raises InputError with the file, the reason and
    the remedy where the disk takes no more.
    """
    with written(path), ExitStack() as undo:
        building, handle = _begin(path, _new_file)
        undo.callback(building.unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as out:
            with _no_room_said(building):
                yield out
            out.flush()
            settle(building, path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` when the block ends. Raises InputError as `whole`, or where it exists."""
    with written(path), ExitStack() as undo:
        building, handle = _begin(path, _new_folder)
        undo.callback(os.close, handle)
        undo.callback(shutil.rmtree, building, ignore_errors=True)
        with _no_room_said(building / "room"):
            yield building
        settle(building, path)


@contextmanager
def _no_room_said(file: Path) -> Iterator[None]:
    """Raise OSError in the place of another error where the disk takes no more: some libraries do not say so.

    `file` is one that an error removes.
    """
    try:
        yield
    except (OSError, InputError):
        raise
    except Exception:
        with file.open("ab") as out:
            out.write(bytes(_LITTLE))
        raise


def settle(building: Path, path: Path) -> None:
    """Everything of a file or folder onto the disk, then under its name: after a power cut it is whole or not there."""
    for one in (*(building.rglob("*") if building.is_dir() else ()), building):
        _flush(one)
    building.rename(path)
    _flush(path.parent)


def remove(folder: Path) -> None:
    """Remove a folder: who is killed meanwhile leaves it whole, or gone from its name."""
    aside = _temporary(folder)
    with suppress(FileNotFoundError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def append(path: Path, lines: bytes) -> None:
    """Put lines behind those of the file, made where there is none: all of them on the disk, or none and InputError."""
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # closing lets go of it
            extend(handle, lines)
            os.fsync(handle)
        finally:
            os.close(handle)


def extend(handle: int, lines: bytes) -> None:
    """Put lines behind those of an open file that no other process writes to: all of them, or none and OSError.

    A line that a kill or a power cut left without its end is closed off first.
    """
    size = os.fstat(handle).st_size
    torn = bool(size) and os.pread(handle, 1, size - 1) != b"\n"
    left = (b"\n" if torn else b"") + lines
    try:
        while left:  # the system may take less than it is given, and says so only in what it returns
            left = left[os.write(handle, left) :]
    except BaseException:
        os.ftruncate(handle, size)
        raise


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn a full disk, or any other refusal of the system, into an InputError that says what to do about `path`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # libraries in Rust and C++ have classes of their own for a full disk
        number = (error.errno if isinstance(error, OSError) else None) or _full(str(error))
        if number is None:
            raise
        remedy = _REMEDIES.get(number, "run again")
        raise InputError(
            f"{path} cannot be written ({os.strerror(number)}): {remedy}. What was there is unchanged"
        ) from error


def _full(message: str) -> int | None:
    return next((number for number in _FULL if os.strerror(number) in message), None)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- temporary names --------------------------------------------------------------------------------------------------


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _begin(path: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """A temporary name beside `path`, made and locked, and its handle. What killed processes left goes first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    while True:
        building = _temporary(path)
        handle = make(building)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_still(building, handle):  # else it was swept before it was locked
            return building, handle
        os.close(handle)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _new_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY)


def _sweep(folder: Path) -> None:
    """Remove what killed processes were writing in a folder."""
    for stray in [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)]:
        with suppress(OSError):
            handle = os.open(stray, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stray.is_dir():
                    shutil.rmtree(stray, ignore_errors=True)
                else:
                    stray.unlink()
            finally:
                os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    """Whether the name is (still) of what the handle has open."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False


# --- one process at a time --------------------------------------------------------------------------------------------


@contextmanager
def lock(path: Path, doing: str) -> Iterator[None]:
    """Be the only process that is `doing` what `path` is for. Raises InputError naming the one that is at it already.

    The lock ends with its process, however that ends. What killed processes left beside `path` is swept away.
    """
    file = path.with_name(f".{path.name}.lock")
    with written(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(file, doing)
        _sweep(path.parent)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)


def _locked(file: Path, doing: str) -> int:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            said = os.pread(handle, 20, 0).decode(errors="replace")
            os.close(handle)
            who = f"process {said}" if said.isdecimal() else "another process"
            raise InputError(
                f"{who} is {doing} already: wait until it ends, or stop it (what it finished is kept) and run again"
            ) from error
        if _is_still(file, handle):
            with suppress(OSError):  # a full disk: the lock holds all the same, without a name
                os.truncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle
        os.close(handle)


# --- parts of a long run ----------------------------------------------------------------------------------------------


class Parts(Generic[T]):
    """What a long run made so far, in files of `size` items, each written whole; use in a `with`.

    A run that ends early, by an error or Ctrl-C, keeps every item; a killed one loses the part that it was filling.
    The next one finds the `keys` of what there is and adds the rest. `write` puts items on a stream; `read` is its
    inverse, and raises InputError on a damaged part, which is set aside and said: its items count as not made.
    One process at a time: a second one raises InputError.
    """

    def __init__(
        self,
        folder: Path,
        write: Callable[[BinaryIO, Sequence[T]], None],
        read: Callable[[Path], Iterable[T]],
        key: Callable[[T], str],
        *,
        suffix: str,
        doing: str,
        size: int = 64,
    ) -> None:
        self.folder = folder
        self.keys: set[str] = set()
        self._write, self._read, self._key = write, read, key
        self._suffix, self._doing, self._size = suffix, doing, size
        self._open: list[T] = []
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.enter_context(lock(self.folder, self._doing))
            with written(self.folder):
                self.folder.mkdir(exist_ok=True)
                _sweep(self.folder)
                for part in self._parts():
                    self._take(part)
            undo.callback(self.close)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def add(self, item: T) -> None:
        """Keep one more; it is on disk when its part is full, or when the block ends."""
        self._open.append(item)
        self.keys.add(self._key(item))
        if len(self._open) >= self._size:
            self.close()

    def close(self) -> None:
        """Write what is there."""
        if self._open:
            last = max((int(part.stem) for part in self._parts()), default=-1)
            with whole(self.folder / f"{last + 1:06d}{self._suffix}") as out:
                self._write(out, self._open)
            self._open = []

    def __iter__(self) -> Iterator[T]:
        """Every item once, the parts in their order. Raises InputError where one was damaged or lost since."""
        self.close()
        seen: set[str] = set()
        for part in self._parts():
            for item in self._read(part):
                if self._key(item) not in seen:
                    seen.add(self._key(item))
                    yield item
        if len(seen) < len(self.keys):
            raise InputError(
                f"{self.folder} has {len(seen)} of {len(self.keys)} things that were kept there: run again, and what "
                "is missing is made anew"
            )

    def forget(self) -> None:
        """Remove the parts: what they were kept for is done."""
        self._open = []
        self.keys.clear()
        remove(self.folder)

    def _take(self, part: Path) -> None:
        try:
            self.keys.update([self._key(item) for item in self._read(part)])
        except InputError as error:
            part.rename(part.with_suffix(".damaged"))
            _LOG.warning("%s; it is set aside, and what it held is made again", error)

    def _parts(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"*{self._suffix}") if path.stem.isdecimal())
