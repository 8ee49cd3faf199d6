"""Several generations at once, event by event, while they are written: a lost connection goes on where it was.

It refuses to know what is drawn. Leaving it lets the generations go on; the worker keeps them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from queue import Empty, SimpleQueue

from backend.worker.client import Done, Failed, Worker, WorkerError
from panels.run import LiveRun
from panels.scoring import score_ended

AGAIN = 0.5  # seconds before a lost connection is made again
TURN = 0.3  # seconds between two looks for samples that have ended
PATIENCE = 45.0  # seconds without a word from the worker: it is started again in this time, if it ever is
GONE = "the worker does not keep this generation any more: it was started again without a history"


def follow(worker: Worker, runs: Sequence[LiveRun]) -> Generator[LiveRun, None, None]:
    """Each run after every event that it took, until all are settled or the worker is given up (`error` says so).

    A thread reads each run that is not settled, and one has samples scored as they end. They end within a heartbeat
    after this generator.
    """
    told: SimpleQueue[LiveRun | None] = SimpleQueue()
    left = threading.Event()
    growing = [run for run in runs if not run.settled]
    reading = [partial(_read, worker, run, told, left) for run in growing]
    scoring = [partial(_score, worker, growing, told, left)] if any(len(run.answers) > 1 for run in growing) else []
    for work in (*reading, *scoring):
        threading.Thread(target=work, name="following", daemon=True).start()
    try:
        ended = 0
        while ended < len(reading) + len(scoring):
            try:
                run_told = told.get(timeout=1.0)
            except Empty:
                continue  # a chance to be closed
            if run_told is None:
                ended += 1
            else:
                yield run_told
    finally:
        left.set()


def _read(worker: Worker, run: LiveRun, told: SimpleQueue[LiveRun | None], left: threading.Event) -> None:
    heard = time.monotonic()
    try:
        while not left.is_set() and not run.over:
            try:
                with closing(worker.events(run.id, len(run.answers), run.heard - 1)) as events:
                    for number, event in events:
                        heard = time.monotonic()
                        if left.is_set():
                            return
                        run.take(number, event)
                        told.put(run)
                        if isinstance(event, Done | Failed):
                            return
            except WorkerError as error:
                run.error = str(error)
                told.put(run)
                if time.monotonic() - heard > PATIENCE or _gone(worker, run):
                    return
                left.wait(AGAIN)
    finally:
        told.put(None)


def _score(worker: Worker, runs: Sequence[LiveRun], told: SimpleQueue[LiveRun | None], left: threading.Event) -> None:
    """Have samples scored until all runs are settled, or no score is to be had."""
    judged = [run for run in runs if len(run.answers) > 1]
    try:
        while not left.is_set():
            for run in judged:
                try:
                    if score_ended(worker, run):
                        told.put(run)
                except WorkerError as error:
                    run.not_judged(f"The samples are not scored: {error}")
                    told.put(run)
            if all(run.settled or run.unjudged or run.error for run in judged):
                return
            left.wait(TURN)
    finally:
        told.put(None)


def _gone(worker: Worker, run: LiveRun) -> bool:
    """Whether the worker is there and does not know the run."""
    try:
        if worker.kept(run.id) is None:
            run.error, run.over = GONE, True
            return True
    except WorkerError:
        pass
    return False
