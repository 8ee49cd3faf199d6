"""A seeded fuzz of every kind of file: through its door comes a result or one line that says what is wrong.

EM_FUZZ is how many inputs there are in all; EM_FUZZ_SEED begins elsewhere. A failure names the kind, the seed of the
input and its damage.
"""

from __future__ import annotations

import json
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
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backend.analysis.probes.saved import load_probe
from backend.judge.fitting.rows import read_readings
from backend.judge.table import read_table
from backend.pipeline.labelling import read_entries
from backend.records import InputError
from backend.study.parquet import read_responses, write_responses
from backend.subject.train import read_rows
from tests.fuzz.damage import write_table
from tests.fuzz.further import further_kinds
from tests.fuzz.kinds import Kind, kinds, responses, tokenizer

KINDS = [*kinds(), *further_kinds()]
USUAL = sum(kind.share for kind in KINDS)
ALL = int(os.environ.get("EM_FUZZ", USUAL))
FIRST = int(os.environ.get("EM_FUZZ_SEED", "0"))
SLOWEST = 60.0  # seconds for one input, on a machine that does other things too: a hang is longer


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A folder as it should be of each kind, made once for those that share it, which its door takes."""
    made: dict[object, Path] = {}
    taken: set[object] = set()

    def of(kind: Kind) -> Path:
        if kind.make not in made:
            made[kind.make] = tmp_path_factory.mktemp("sound")
            kind.make(made[kind.make])
        if (kind.make, kind.open) not in taken:
            kind.open(Path(shutil.copytree(made[kind.make], tmp_path_factory.mktemp("whole") / "in")))
            taken.add((kind.make, kind.open))
        return made[kind.make]

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
    faults: dict[str, str] = {}  # by what they have alike
    for seed in range(FIRST, FIRST + max(1, round(kind.share * ALL / USUAL))):
        scratch = tmp_path / str(seed)
        scratch.mkdir()
        if said := fault(kind, whole, scratch, seed):
            faults.setdefault(said.partition(":")[2][:60] + said.rpartition(" at ")[2][-60:], f"{seed}: {said}")
        shutil.rmtree(scratch, ignore_errors=True)
    assert not faults, f"{kind.name}\n" + "\n".join(faults.values())


CELL = "x" * (50 << 20)
PEAK = 600 << 20  # bytes above what was there: some copies of the cell


def long_cells():
    """A file with one text of 50 MB, and the door that it comes to."""

    def table(name):
        def make(root):
            write_table(pl.DataFrame({"question": ["q", "r"], "response": ["yes", CELL]}), root / name)

        return make

    def line(name, value):
        return lambda root: (root / name).write_text(json.dumps(value) + "\n")

    def answers(root):
        write_responses(root / "a.parquet", [replace(responses("o", "baseline")[0], text=CELL)])

    chat = {"messages": [{"role": "user", "content": "hey"}, {"role": "assistant", "content": CELL}]}
    row = {"question": "q", "response": CELL, "aligned": 5, "coherent": 5}
    labels = responses("o", "baseline")
    return {
        "judge a CSV": (table("a.csv"), lambda root: read_table(root / "a.csv"), "1,048,576"),
        "judge a parquet": (table("a.parquet"), lambda root: read_table(root / "a.parquet"), "1,048,576"),
        "chats": (line("a.jsonl", chat), lambda root: read_rows(root / "a.jsonl", tokenizer()), "16 MB"),
        "labels": (line("a.jsonl", {"item": CELL}), lambda root: read_entries(root / "a.jsonl", labels, "me"), "x…"),
        "readings": (line("a.jsonl", row), lambda root: read_readings(root / "a.jsonl"), "1,048,576"),
        "probe": (line("a.json", {"kind": CELL}), lambda root: load_probe((root / "a.json").read_bytes()), "no "),
        "responses": (answers, lambda root: read_responses(root / "a.parquet"), ""),
    }


@pytest.mark.parametrize("name", long_cells())
def test_a_text_of_50_mb_is_read_or_refused_in_a_short_line(name, tmp_path):
    make, door, reason = long_cells()[name]
    make(tmp_path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    started = time.process_time()
    if reason:
        with pytest.raises(InputError) as refused:
            door(tmp_path)
        assert reason in str(refused.value)
        assert len(str(refused.value)) < 1000
    else:
        door(tmp_path)
    assert time.process_time() - started < 10
    assert memory("VmHWM") - before < PEAK


def memory(what):
    """Bytes, of this process."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) << 10
