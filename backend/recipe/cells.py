"""Answers cell by cell: what a study folder holds of them already, and the rest in blocks, each kept when it is done.

A cell is kept under the hash of all that its answers depend on, so a sweep of which one strength changes samples that
strength's cells alone, and a block that was answered elsewhere is the same file. Knows no recipe and no cluster: who
answers a block is passed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from backend.edits import Receipt, edits_to_json
from backend.files import whole
from backend.pipeline import work
from backend.pipeline.sweep import Answered, Cell, Progress, Sweep, read_answered, run_sweep, write_answered
from backend.records import InputError, Response
from backend.subject.decode import BATCH
from backend.subject.load import Subject

CELLS = ".cells"
BLOCK = 6 * BATCH  # answers that are sampled together: one batch in six runs empty at its end
Block = tuple[Sweep, list[Answered]]  # what was asked, and the answers in the order of cells, questions and seeds
Blocks = Callable[[Subject, Sequence[Sweep], int, Progress], Iterator[Block]]  # in any order; int: rows at a time


def answer_here(subject: Subject, blocks: Sequence[Sweep], batch: int, progress: Progress) -> Iterator[Block]:
    """The blocks one after another, with the model of this process; `progress` is told of answers of all blocks."""
    done, every = 0, sum(block.size for block in blocks)
    for block in blocks:
        yield block, answered(subject, block, batch, partial(_told, progress, done, every))
        done += block.size


def _told(progress: Progress, before: int, every: int, done: int, _: int) -> None:
    """How far one block is, as a part of all."""
    progress(before + done, every)


def answered(subject: Subject, block: Sweep, batch: int, progress: Progress = lambda *_: None) -> list[Answered]:
    """The answers to one block with what edits did, resumable as a sweep is."""
    told: list[tuple[Receipt, ...]] = []

    def hear(_: Cell, receipts: Sequence[Receipt]) -> None:
        told.append(tuple(receipts))

    with run_sweep(subject, block, batch=batch, progress=progress, told=hear) as responses:
        return [Answered(*each) for each in zip(responses, told, strict=True)]


@dataclass(eq=False)
class CellStore:
    """The answered cells of a folder; `run` answers a sweep as `run_sweep` does, but for what is kept."""

    folder: Path
    blocks: Blocks = answer_here
    before: Callable[[], None] = lambda: None  # is called before every block
    asked: int = 0  # answers that were sampled, not found
    used: tuple[str, ...] = ()  # names of the cells of what was answered last
    _weights: dict[str, str] = field(default_factory=dict)

    def key(self, subject: Subject, sweep: Sweep, cell: Cell) -> str:
        """Changes with everything that the answers of a cell depend on."""
        organism = cell.organism
        if organism not in self._weights:
            self._weights[organism] = work.fingerprint(subject, [organism], organism)
        said = [
            self._weights[organism],
            cell.condition.name,
            edits_to_json(cell.condition.edits),
            [[q.id, q.text, q.topic] for q in sweep.questions],
            [*vars(sweep.sampling).values()],
            [sweep.n, sweep.seed],
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]

    @contextmanager
    def run(
        self,
        subject: Subject,
        sweep: Sweep,
        *,
        batch: int = BATCH,
        progress: Progress = lambda *_: None,
        told: Callable[[Cell, Sequence[Receipt]], None] = lambda *_: None,
    ) -> Iterator[list[Response]]:
        """All answers of a sweep; cells that are kept are not asked again. Raises InputError as `run_sweep`."""
        files = {self._file(subject, sweep, cell): cell for cell in sweep.cells}
        self.used = tuple(sorted(file.name for file in files))
        known = {file: found for file in files if (found := self._kept(file)) is not None}
        missing = [cell for file, cell in files.items() if file not in known]
        each = len(sweep.questions) * sweep.n
        there = each * len(known)
        progress(there, sweep.size)

        def move(done: int, _: int) -> None:
            progress(there + done, sweep.size)

        for block, found in self.blocks(subject, self._blocks(sweep, missing), batch, move):
            for i, cell in enumerate(block.cells):
                own, file = found[i * each : (i + 1) * each], self._file(subject, sweep, cell)
                with whole(file) as out:
                    write_answered(out, own)
                known[file] = own
            self.asked += block.size
            self.before()
        for file, cell in files.items():
            for one in known[file]:
                told(cell, one.receipts)
        yield [one.response for file in files for one in known[file]]

    def forget(self, keep: set[str]) -> None:
        """Remove the cells that nothing needs any more: all but those of some names."""
        for file in self.folder.glob("*.parquet"):
            if file.name not in keep:
                file.unlink()

    def _file(self, subject: Subject, sweep: Sweep, cell: Cell) -> Path:
        return self.folder / f"{self.key(subject, sweep, cell)}.parquet"

    def _kept(self, file: Path) -> list[Answered] | None:
        """The answers of a cell, None where it has none; a damaged file is removed, and its cell asked again."""
        if not file.exists():
            return None
        try:
            return read_answered(file)
        except InputError:
            file.unlink()
            return None

    def _blocks(self, sweep: Sweep, cells: Sequence[Cell]) -> list[Sweep]:
        """The cells in blocks of about `BLOCK` answers, in their order: the same on one machine and on many."""
        at_once = max(1, BLOCK // (len(sweep.questions) * sweep.n))
        return [replace(sweep, cells=tuple(cells[i : i + at_once])) for i in range(0, len(cells), at_once)]
