"""What the stages of a run share: the study folder, the loaded model, the kept cells, and who is told how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from backend.pipeline.build import Progress
from backend.pipeline.folder import StudyFolder
from backend.recipe.cells import CELLS, Blocks, CellStore, answer_here
from backend.recipe.reading import ReadRecipe, digest_of
from backend.records import InputError
from backend.study import STUDIES
from backend.subject import load as loading
from backend.subject.load import Subject

Watch = Callable[..., AbstractContextManager[Progress]]  # (what is done, of how many, unit=) -> told how far it is


@contextmanager
def unwatched(what: str, total: int | None = None, *, unit: str = "") -> Iterator[Progress]:
    """Nobody is told."""
    yield lambda *_: None


@dataclass(eq=False)
class Bench:
    """One run's place of work. The model is loaded when a stage first asks for it."""

    read: ReadRecipe
    folder: StudyFolder
    root: Path = STUDIES
    say: Callable[[str], None] = lambda _: None
    watch: Watch = unwatched
    blocks: Blocks = answer_here
    units: float = 0.0  # what the stage at hand did, in the units of its cost
    left: tuple[str, ...] = ()  # names of what the stage at hand left beside its files: `Entry.left`
    former: tuple[str, ...] = ()  # names of what its earlier run left so
    cells: CellStore = field(init=False)
    _subject: Subject | None = None
    _bare: Subject | None = None

    def __post_init__(self) -> None:
        self.cells = CellStore(self.folder.path / CELLS, self.blocks, self.check_unchanged)

    def answer_with(self, blocks: Blocks) -> None:
        """Have answers sampled by others from now on, as on a cluster."""
        self.blocks = blocks
        self.cells = CellStore(self.folder.path / CELLS, blocks, self.check_unchanged)

    def subject(self) -> Subject:
        """The base with the organisms that the folder has now."""
        self._bare = None
        if self._subject is None or {*self._subject.organisms} != {*self.folder.organisms}:
            self._subject = None  # not two models at once
            self.say(f"loading {self.read.recipe.base}")
            self._subject = loading.load(base_of(self.read), organisms=self.folder.organisms)
        return self._subject

    def bare(self) -> Subject:
        """The base alone, to train."""
        self._subject = None
        if self._bare is None:
            self.say(f"loading {self.read.recipe.base}")
            self._bare = loading.load(base_of(self.read))
        return self._bare

    def changed_organism(self) -> None:
        """An organism of the folder is another now: whoever loaded it loads it anew."""
        self._subject = None
        self.cells = CellStore(self.folder.path / CELLS, self.blocks, self.check_unchanged)

    def check_unchanged(self) -> None:
        """Raise InputError where the recipe is no longer the one that this run began with."""
        path = self.read.path
        if not path.is_file() or digest_of(path) != self.read.digest:
            raise InputError(
                f"{path} has changed since this run began with it: what is finished is kept. Run again, and the new "
                "recipe says what is left"
            )


def base_of(read: ReadRecipe) -> str:
    """The base as models are loaded: a folder beside the recipe, or the name as it is."""
    base = read.recipe.base
    return str(read.beside(base).resolve()) if read.beside(base).exists() else base


def machine() -> str:
    """What a measured rate belongs to: this machine and how many cores this process has."""
    return f"{os.uname().nodename}, {len(os.sched_getaffinity(0))} cores"
