"""Timing things against each other: all of them in one run, in an order that is drawn anew for every round.

Knows clocks, rounds and ratios. Refuses to know models.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Task:
    """One competitor's way of doing a row's work.

    `run` does `share` of the work; a number that it returns is taken as that share instead. `warm` is run untimed
    before the first round, `run` itself where it is not given.
    """

    run: Callable[[], Any]
    share: float = 1.0
    note: str = ""
    warm: Callable[[], Any] | None = None


@dataclass
class Timing:
    """Seconds for the whole of the work, one entry a round, or why there are none."""

    seconds: list[float] = field(default_factory=list)
    note: str = ""
    error: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else float("nan")


@dataclass(frozen=True)
class Clock:
    """How often a row is repeated: `most` rounds, fewer (but `least`) once `budget` seconds have gone."""

    least: int
    most: int
    budget: float
    seed: int

    def interleaved(self, tasks: Mapping[str, Task]) -> dict[str, Timing]:
        """Every task once to warm up, then in rounds. A task that raises leaves the race, and says why."""
        timings = {name: Timing(note=task.note) for name, task in tasks.items()}
        rng = np.random.default_rng(self.seed)
        running = dict(tasks)
        started = time.perf_counter()
        for name in list(running):
            self._once(name, running, timings, timed=False)
        for done in range(self.most):
            if done >= self.least and time.perf_counter() - started > self.budget:
                break
            for name in rng.permutation(list(running)):
                self._once(str(name), running, timings, timed=True)
        return timings

    def _once(self, name: str, running: dict[str, Task], timings: dict[str, Timing], *, timed: bool) -> None:
        task = running[name]
        gc.collect()
        began = time.perf_counter()
        try:
            share = task.run() if timed or task.warm is None else task.warm()
        except Exception as error:  # a competitor that fails must not take the others with it
            timings[name].error = one_line(error)
            timings[name].seconds.clear()
            del running[name]
            return
        seconds = time.perf_counter() - began
        if timed:
            timings[name].seconds.append(seconds / (share if isinstance(share, float) else task.share))


def ratios(timings: Mapping[str, Timing], unit: str) -> dict[str, tuple[float, float, float]]:
    """How many times the unit's speed each one has: ratio of medians, and the lowest and highest of a single round."""
    base = timings[unit]
    found = {}
    for name, timing in timings.items():
        rounds = [b / s for b, s in zip(base.seconds, timing.seconds, strict=False)]
        if rounds:
            found[name] = (base.median / timing.median, min(rounds), max(rounds))
    return found


def seconds_of(run: Callable[[], Any]) -> float:
    """How long one call takes."""
    gc.collect()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def one_line(error: BaseException) -> str:
    """An error as one line."""
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[-1] if lines else ''}"
    return text if len(text) <= 220 else text[:217] + "..."
