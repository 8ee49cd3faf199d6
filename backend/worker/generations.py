"""Generations while they are written and for a while after: their events in order, for any number of readers.

Knows events and who waits for them. Refuses to know HTTP and the model. A reader that is slow takes nobody's memory:
all read the same list.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

import anyio

from backend.worker.protocol import Done, Event, Failed, Generation

HEARTBEAT = 0.25  # seconds of silence after which a reader is told so


class Record:
    """One generation: what was asked and every event so far. Written by one thread, read by any."""

    def __init__(self, asked: Generation) -> None:
        self.id = uuid.uuid4().hex
        self.asked = asked
        self.created = time.time()
        self.events: list[Event] = []
        self._readers: set[Reader] = set()
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return bool(self.events) and isinstance(self.events[-1], Done | Failed)

    def deliver(self, events: Sequence[Event]) -> None:
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
