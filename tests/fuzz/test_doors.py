"""A seeded fuzz of every kind of file: through its door comes a result or one line that says what is wrong.

EM_FUZZ is how many inputs there are in all; EM_FUZZ_SEED begins elsewhere. A failure names the kind, the seed of the
input and its damage.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from backend.records import InputError
from tests.fuzz.kinds import Kind, kinds

KINDS = kinds()
USUAL = sum(kind.share for kind in KINDS)
ALL = int(os.environ.get("EM_FUZZ", USUAL))
FIRST = int(os.environ.get("EM_FUZZ_SEED", "0"))
SLOWEST = 60.0  # seconds for one input, on a machine that does other things too: a hang is longer


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A folder as it should be of each kind, made once for those that share it."""
    made: dict[object, Path] = {}

    def of(kind: Kind) -> Path:
        key = kind.make.__name__ if kind.make.__name__ != "<lambda>" else kind.name
        if key not in made:
            made[key] = tmp_path_factory.mktemp("sound")
            kind.make(made[key])
        return made[key]

    return of


def fault(kind: Kind, sound: Path, scratch: Path, seed: int) -> str:
    """What is wrong with how the door takes one damaged file; nothing where it does as it should."""
    root = scratch / "in"
    shutil.copytree(sound, root)
    rng = random.Random(f"{kind.name} {seed}")
    damage = rng.choice(kind.damages)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        damage(rng, root / kind.file)
    fifo = (root / kind.file).is_fifo()
    started = time.monotonic()
    try:
        with _not_for_ever(root / kind.file), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.open(root)
    except InputError as error:
        said = str(error)
        if kind.says_file and Path(kind.file).name not in said and str(root) not in said:
            return f"{damage.__name__}: the message names no file: {said[:300]!r}"
        if len(said) > 3000:
            return f"{damage.__name__}: a message of {len(said)} characters: {said[:200]!r}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "/backend/" in f.filename]
        return f"{damage.__name__}: {type(error).__name__}: {str(error)[:200]!r} at {' > '.join(ours[-3:])}"
    if (took := time.monotonic() - started) > (SLOWEST / 10 if fifo else SLOWEST):
        return f"{damage.__name__}: took {took:.0f} s"
    return ""


class _Hangs(BaseException):
    """Not an Exception: no door may swallow it."""


@contextmanager
def _not_for_ever(path: Path) -> Iterator[None]:
    """End a block that waits: for a pipe, which is fed its end, or in Python."""

    def stop(number: int, frame: object) -> None:
        raise _Hangs(f"more than {SLOWEST:g} s")

    def feed() -> None:
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    pipe = path.is_fifo()
    timer = threading.Timer(SLOWEST / 10, feed)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST)
    if pipe:
        timer.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        timer.cancel()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_gives_a_result_or_a_line_that_says_what_is_wrong(kind, sound, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    whole = sound(kind)
    kind.open(Path(shutil.copytree(whole, tmp_path / "whole" / "in")))
    faults: dict[str, str] = {}  # by what they have alike
    for seed in range(FIRST, FIRST + max(1, round(kind.share * ALL / USUAL))):
        scratch = tmp_path / str(seed)
        scratch.mkdir()
        if said := fault(kind, whole, scratch, seed):
            faults.setdefault(said.partition(":")[2][:60] + said.rpartition(" at ")[2][-60:], f"{seed}: {said}")
        shutil.rmtree(scratch, ignore_errors=True)
    assert not faults, f"{kind.name}\n" + "\n".join(faults.values())
