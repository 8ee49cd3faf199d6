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

from backend.edits import Edit
from backend.records import InputError
from backend.worker.history import History, KeptFile
from backend.worker.protocol import (
    INTERRUPTED,
    Busy,
    Done,
    End,
    Event,
    Failed,
    Generation,
    Start,
    Token,
    asked_to_json,
)

if TYPE_CHECKING:
    from backend.worker.engine import Engine

HEARTBEAT = 0.25  # seconds of silence after which a reader is told so
KEPT = 64  # generations that stay in memory when they are over
KEPT_BYTES = 128 * 2**20  # that they take at the most, but for the newest
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
    size: int = 0  # bytes in memory, about
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
        self.size = (self.size or _asked_bytes(self.asked)) + sum(map(_event_bytes, events))
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
        self._closed = False
        self.interrupted = self._look() if history else []
        self._queue: SimpleQueue[tuple[Record, Sequence[Event], Engine | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._keep, name="history", daemon=True)
        self._thread.start()

    def submit(self, engine: Engine, asked: Generation, kind: str, user: str) -> Record:
        """Ask the engine, and keep what was asked first. Raises InputError and Busy as the engine does.

        Busy, too, when the worker is ending.
        """
        record = Record(uuid.uuid4().hex, asked, kind, time.time())
        if self._history:
            said = {"kind": kind, "created": record.created, "request": asked_to_json(asked)}
            record.handle = self._history.begin(record.id, said)
        try:
            with self._lock:
                if self._closed:
                    raise Busy("the worker is stopping: ask again when it is back")
                self._records[record.id] = record
            engine.submit(asked, lambda events: self._queue.put((record, events, engine)), record.id, user)
        except BaseException:
            with self._lock:
                self._records.pop(record.id, None)
            if self._history and record.handle is not None:
                self._history.forget(record.id, record.handle)
            raise
        return record

    def find(self, id: str) -> Record | None:
        """One of them, from memory or from the disk. Raises InputError where its file is none.

        One that nobody writes and that has no end (the disk was full, or marking it failed) was interrupted.
        """
        with self._lock:
            if id in self._records:
                return self._records[id]
        kept = self._history.read(id) if self._history else None
        return None if kept is None else _ended(id, kept)

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
        """End those that are not over, write what has come, and let go of the folder; wait at most `timeout` seconds.

        Where the disk takes longer the folder stays taken until it is done, or until the process is gone.
        """
        with self._lock:
            self._closed = True
        self._queue.put(None)
        self._thread.join(timeout)

    def _keep(self) -> None:
        while (turn := self._queue.get()) is not None:
            self._take(*turn)
        while not self._queue.empty():
            if (turn := self._queue.get()) is not None:
                self._take(*turn)
        with self._lock:
            unfinished = [record for record in self._records.values() if not record.over]
        for record in unfinished:  # the model is still at it: nobody waits for what it would say
            self._take(record, [Failed(INTERRUPTED)], None)
        if self._history:
            self._history.close()

    def _take(self, record: Record, events: Sequence[Event], engine: Engine | None) -> None:
        """Keep events, then tell them to whoever reads."""
        if record.over:
            return  # its disk was full: nobody hears what is not kept
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
            size = sum(each.size for each in over)
            for left, each in zip(range(len(over), 1, -1), over, strict=False):
                if left <= KEPT and size <= KEPT_BYTES:
                    break
                size -= each.size
                del self._records[each.id]
                if self._history:
                    self._index[each.id] = each.summary()

    def _look(self) -> list[str]:
        """Read what the folder has; returns those that the last worker's end interrupted, and marks them."""
        assert self._history is not None
        interrupted = []
        for id in self._history.ids():
            try:
                kept = self._history.outline(id)
                if kept is None:
                    continue
                record = _ended(id, kept)
                if added := len(record.events) - len(kept.events):
                    interrupted.append(id)
                said = record.summary()
                self._index[id] = {**said, "tokens": kept.tokens, "events": said["events"] + kept.tokens}
                if added:
                    self._history.interrupt(id)
            except InputError as error:
                _log.warning("%s", error)
        return interrupted


def _ended(id: str, kept: KeptFile) -> Record:
    """What a file has, as a generation that is over."""
    record = Record(id, kept.asked, kept.kind, kept.created, list(kept.events))
    if not record.over:
        record.events.append(Failed(INTERRUPTED))
    return record


def _asked_bytes(asked: Generation) -> int:
    """About what a request takes in memory: its texts and its directions, which arms may share."""
    edits: dict[int, Edit] = {id(edit): edit for arm in asked.arms for edit in arm.edits}
    vectors = {id(direction): direction.vector.nbytes for edit in edits.values() for direction in edit.directions}
    texts = sum(len(message["content"]) for message in asked.messages)
    return 4096 + 4 * texts + 1024 * len(edits) + sum(vectors.values())


def _event_bytes(event: Event) -> int:
    """About what one takes."""
    match event:
        case Start():
            return 512 + 64 * len(event.prompt_tokens)
        case Token():
            scalars = sum(128 + values.nbytes for values in event.scalars.values())
            return 512 + scalars + 192 * len(event.likeliest)
        case End():
            return 512 + 512 * len(event.receipts)
    return 256
