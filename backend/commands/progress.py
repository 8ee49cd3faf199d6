"""How far a command is, as a bar on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress(what: str, total: int | None = None, *, unit: str = "text") -> Generator[Callable[[int, int], None]]:
    """A bar that is told how many are done, of how many."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, desc=what, mininterval=1.0 if unit == "answer" else 0.1) as bar:

        def move(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield move
