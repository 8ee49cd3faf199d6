"""How requests come in: their heads and bodies arrive in time, and what is held of them at once stays small.

Knows bytes, clocks and memory. Refuses to know what a body asks: that is the protocol's.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import h11
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from backend.outside import DEEPEST, finite_json_in
from backend.records import InputError
from backend.worker.protocol import MAX_BODY, MAX_VALUES, Busy

HEAD_SECONDS = 10.0  # for a request's line and headers
BODY_SECONDS = 30.0  # for its body
ROOM_SECONDS = 10.0  # that one waits for others to be read
HELD = 4 * MAX_BODY  # bytes of bodies at once: what they become in memory is a small multiple of it
_DRAINED = 8 * MAX_BODY  # bytes read, and not kept, of a body that is too long, so that its sender hears why
_SOON = 0.5  # seconds
DEEPEST_BODY = DEEPEST // 2  # lists and objects in one another; what is kept of it lies some levels deeper
_LARGE = 2**20  # bytes; what a smaller body leaves behind is soon used again


class Late(Exception):
    """A body did not arrive in time; the message says so plainly."""


class Intake:
    """The room that bodies share. Used from one event loop."""

    def __init__(self) -> None:
        self._held = 0  # bytes
        self._changed = asyncio.Condition()
        self._clearing: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """A request's whole body; its room is free again when the block ends.

        Raises InputError when it is too long, Busy when others take the room, Late, and starlette's ClientDisconnect.
        """
        size = _declared(request)
        if size > _DRAINED:
            raise _too_long()
        size = min(size, MAX_BODY)
        await self._enter(request, size)
        try:
            body = await _read(request, MAX_BODY)
            if body is None:
                raise _too_long()
            yield body
        finally:
            self._held -= size
            if size > _LARGE:
                self._clear_up()
            async with self._changed:
                self._changed.notify_all()

    def _clear_up(self) -> None:
        """Once, after the last of several large bodies, when nobody holds it any more."""
        if self._clearing is not None:
            self._clearing.cancel()
        self._clearing = asyncio.get_running_loop().call_later(_SOON, _give_back)

    async def _enter(self, request: Request, size: int) -> None:
        with anyio.move_on_after(ROOM_SECONDS):
            async with self._changed:
                await self._changed.wait_for(lambda: self._held + size <= HELD)
                self._held += size
                return
        await _read(request, 0)  # so that its sender hears why
        raise Busy("the worker is reading other large requests: try again in a moment")


def from_json(body: bytes) -> Any:
    """What a body says. Raises InputError on what is no JSON, or would fill the memory with small values.

    What may be kept or said again is writable: finite, whole characters, not deeper than a history's file may be.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise InputError(f"the request has more than {MAX_VALUES} values: use fewer arms or fewer layers")
    try:
        return finite_json_in(body, DEEPEST_BODY)
    except ValueError as error:
        raise InputError(f"the body is not JSON ({error})") from error


def _declared(request: Request) -> int:
    """The length that the head promises (the server holds the sender to it), or the longest that is read without."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else MAX_BODY


async def _read(request: Request, most: int) -> bytes | None:
    """The whole body. One longer than `most` is read on for a while, without keeping it, and is None."""
    body, size = bytearray(), 0
    with _in_time():
        async for chunk in request.stream():
            size += len(chunk)
            if size <= most:
                body += chunk
            elif size > _DRAINED:
                break
    return bytes(body) if size <= most else None


class _in_time:  # noqa: N801 (used as a function)
    """A block that raises Late when it lasts longer than a body may."""

    def __enter__(self) -> None:
        self._scope = anyio.fail_after(BODY_SECONDS)
        self._scope.__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            self._scope.__exit__(*error)
        except TimeoutError as late:
            raise Late(f"the request's body did not arrive within {BODY_SECONDS:g} seconds: send it again") from late


def _too_long() -> InputError:
    return InputError(f"the request is larger than {MAX_BODY // 2**20} MB: use fewer arms or fewer directions")


def _give_back() -> None:
    """Return freed memory to the system: glibc keeps what threads freed, and large blocks once one was freed."""
    gc.collect()  # an error's traceback and the future it came through hold each other, and the body
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


class TimedHttp(H11Protocol):
    """uvicorn's HTTP, which hangs up on a sender whose request's head does not arrive in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A sender is there: the head of its request is waited for from now on."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Part of a request has come, which may end its head."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The sender is gone."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
