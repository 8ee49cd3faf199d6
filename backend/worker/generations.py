"""Every generation of a worker: those being written, those of a while ago, and with a history all that there were.

Knows who waits for events, and that an event is on the disk before anybody hears of it. Refuses to know HTTP and the
model. A reader that is slow takes nobody's memory: all read the same list.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import anyio

from backend.records import InputError
from backend.worker.history import INTERRUPTED, History
from backend.worker.protocol import (
    Done,
    End,
    Event,
    Failed,
    Generation,
    Token,
    asked_to_json,
    generation_from_json,
)

if TYPE_CHECKING:
    from backend.worker.engine import Engine

HEARTBEAT = 0.25  # seconds of silence after which a reader is told so
KEPT = 64  # generations that stay in memory when they are over
EXCERPT = 200  # characters of a question in a list
Status = Literal["waiting", "writing", "finished", "cancelled", "failed", "interrupted"]

Told = Callable[[Sequence[Event], Sequence[Event], float], None]  # gets events before, new events, and the beginning

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Record:
    """One generation: what was asked and every event so far. Written by one thread, read by any."""

    id: str
    asked: Generation
    kind: str  # the route that it came by: "chat", "live", "generation"
    created: float  # seconds since 1970
    events: list[Event] = field(default_factory=list)
    handle: int | None = None  # its file, while it is written
    _readers: set[Reader] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return bool(self.events) and isinstance(self.events[-1], Done | Failed)

    @property
    def status(self) -> Status:
        """How it stands."""
        last = self.events[-1] if self.events else None
        if isinstance(last, Failed):
            return "interrupted" if last.message == INTERRUPTED else "failed"
        if isinstance(last, Done):
            cancelled = any(isinstance(event, End) and event.reason == "cancelled" for event in self.events)
            return "cancelled" if cancelled else "finished"
        return "writing" if len(self.events) > 1 else "waiting"

    def summary(self) -> dict[str, Any]:
        """A line of a list."""
        return {
            "object": "generation",
            "id": self.id,
            "kind": self.kind,
            "created": self.created,
            "status": self.status,
            "arms": [arm.name for arm in self.asked.arms],
            "question": self.asked.messages[-1]["content"][:EXCERPT],
            "seed": self.asked.seed,
            "tokens": sum(isinstance(event, Token) for event in self.events),
            "events": len(self.events),
        }

    def whole(self) -> dict[str, Any]:
        """Everything: what was asked, as it can be sent again, and what was answered."""
        texts = [""] * len(self.asked.arms)
        ends: list[End | None] = [None] * len(texts)
        for event in self.events:
            if isinstance(event, Token):
                texts[event.arm] += event.text
            elif isinstance(event, End):
                ends[event.arm] = event
        failed = self.events[-1].message if self.events and isinstance(self.events[-1], Failed) else None
        answers = [
            {
                "arm": arm.name,
                "text": text,
                "reason": end.reason if end else None,
                "edits": [edit.words for edit in arm.edits],
                "receipts": [{**one.to_json(), "words": one.words} for one in (end.receipts if end else ())],
            }
            for arm, text, end in zip(self.asked.arms, texts, ends, strict=True)
        ]
        return {**self.summary(), "request": asked_to_json(self.asked), "answers": answers, "error": failed}

    def publish(self, events: Sequence[Event]) -> None:
        """More events; never blocks."""
        self.events.extend(events)
        with self._lock:
            for reader in self._readers:
                reader.wake()

    def join(self, reader: Reader) -> None:
        """Wake this reader whenever there is more."""
        with self._lock:
            self._readers.add(reader)

    def leave(self, reader: Reader) -> None:
        """No longer."""
        with self._lock:
            self._readers.discard(reader)


class Reader:
    """The events of a record from one number on. Made and used in one event loop."""

    def __init__(self, record: Record, start: int = 0) -> None:
        self.record = record
        self.at = start
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        record.join(self)

    @property
    def over(self) -> bool:
        """Whether everything is read and nothing follows."""
        return self.record.over and self.at >= len(self.record.events)

    def wake(self) -> None:
        """There is more. May be called from any thread."""
        with suppress(RuntimeError):  # the loop is closed: the worker is ending
            self._loop.call_soon_threadsafe(self._more.set)

    async def next(self) -> Sequence[Event]:
        """The next events; none after a heartbeat of silence."""
        self._more.clear()
        if self.at >= len(self.record.events):
            with anyio.move_on_after(HEARTBEAT):
                await self._more.wait()
        events = self.record.events[self.at :]
        self.at += len(events)
        return events

    def close(self) -> None:
        """Wait for no more."""
        self.record.leave(self)


class Generations:
    """All of them. Every method may be called from any thread; `submit` and `find` may wait for the disk."""

    def __init__(self, history: History | None = None, told: Told = lambda before, events, since: None) -> None:
        self._history = history
        self._told = told
        self._lock = threading.Lock()  # guards the two below
        self._records: OrderedDict[str, Record] = OrderedDict()  # in memory, by their beginning
        self._index: dict[str, dict[str, Any]] = {}  # summaries of those that are on disk alone
        self.interrupted = self._look() if history else []
        self._queue: SimpleQueue[tuple[Record, Sequence[Event], Engine | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._keep, name="history", daemon=True)
        self._thread.start()

    def submit(self, engine: Engine, asked: Generation, kind: str, user: str) -> Record:
        """Ask the engine, and keep what was asked first. Raises InputError and Busy as the engine does."""
        record = Record(uuid.uuid4().hex, asked, kind, time.time())
        if self._history:
            said = {"kind": kind, "created": record.created, "request": asked_to_json(asked)}
            record.handle = self._history.begin(record.id, said)
        with self._lock:
            self._records[record.id] = record
        try:
            engine.submit(asked, lambda events: self._queue.put((record, events, engine)), record.id, user)
        except BaseException:
            with self._lock:
                del self._records[record.id]
            if self._history and record.handle is not None:
                self._history.forget(record.id, record.handle)
            raise
        return record

    def find(self, id: str) -> Record | None:
        """One of them, from memory or from the disk."""
        with self._lock:
            if id in self._records:
                return self._records[id]
        return self._read(id)

    def summaries(self) -> list[dict[str, Any]]:
        """A line for each, the newest first."""
        with self._lock:
            records, stored = list(self._records.values()), list(self._index.values())
        return sorted((*(record.summary() for record in records), *stored), key=lambda one: -one["created"])

    @property
    def unfinished(self) -> bool:
        """Whether some are waiting or being written."""
        with self._lock:
            return any(not record.over for record in self._records.values())

    def close(self, timeout: float = 1.0) -> None:
        """Write what has come, and let go of the folder."""
        self._queue.put(None)
        self._thread.join(timeout)
        if self._history:
            self._history.close()

    def _keep(self) -> None:
        while (turn := self._queue.get()) is not None:
            record, events, engine = turn
            if record.over:
                continue  # its disk was full: nobody hears what is not kept
            try:
                if self._history and record.handle is not None:
                    self._history.add(record.id, record.handle, events)
            except Exception as error:
                _log.error("a generation could not be kept", exc_info=error)
                if engine:
                    engine.cancel(record.id)
                events = [Failed(f"the answer could not be kept: {error}")]
            self._told(record.events, events, record.created)
            record.publish(events)
            if isinstance(events[-1], Done | Failed):
                self._finish(record)

    def _finish(self, record: Record) -> None:
        if record.handle is not None:
            os.close(record.handle)
            record.handle = None
        with self._lock:
            over = [each for each in self._records.values() if each.over]
            for each in over[: max(0, len(over) - KEPT)]:
                del self._records[each.id]
                if self._history:
                    self._index[each.id] = each.summary()

    def _look(self) -> list[str]:
        """Read what the folder has; returns those that the last worker's end interrupted, and marks them."""
        assert self._history is not None
        interrupted = []
        for id in self._history.ids():
            try:
                record = self._read(id)
                assert record is not None
                if not record.over:
                    self._history.interrupt(id)
                    record.events.append(Failed(INTERRUPTED))
                    interrupted.append(id)
                self._index[id] = record.summary()
            except InputError as error:
                _log.warning("%s", error)
        return interrupted

    def _read(self, id: str) -> Record | None:
        found = self._history.read(id) if self._history else None
        if found is None:
            return None
        said, events = found
        try:
            return Record(id, generation_from_json(said["request"]), str(said["kind"]), float(said["created"]), events)
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(f"the generation {id} of the history cannot be read ({error}): remove its file") from error
