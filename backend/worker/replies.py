"""Replies that last as long as an answer is written: lines, server-sent events, or one body at the end.

Knows ASGI and when a client has gone. Whatever ends a reply that owns its generation frees the rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from backend.worker.completions import Completion
from backend.worker.generations import Reader
from backend.worker.protocol import Event, Failed, Waiting, event_to_line


class Following(Response):
    """A reply that follows a generation. `leave` is called when it ends, however that is."""

    def __init__(self, reader: Reader, leave: Callable[[], Any], media_type: str) -> None:
        super().__init__(media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._reader = reader
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the end, or until the client hangs up."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, receive, tasks.cancel_scope)
                await self._reply(scope, receive, send)
                tasks.cancel_scope.cancel()
        finally:
            self._reader.close()
            self._leave()

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while not self._reader.over:
            body = self._body(await self._reader.next())
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _body(self, events: Sequence[Event]) -> bytes:
        """These events, or a heartbeat where there are none, as bytes."""
        raise NotImplementedError


class Lines(Following):
    """A JSON object on every line."""

    def __init__(self, reader: Reader, leave: Callable[[], Any], waiting: Callable[[], Waiting]) -> None:
        super().__init__(reader, leave, "application/x-ndjson")
        self._waiting = waiting

    def _body(self, events: Sequence[Event]) -> bytes:
        return b"".join(event_to_line(event) for event in events or [self._waiting()])


class Numbered(Following):
    """Server-sent events with their numbers, from which a reader that lost its connection goes on."""

    def __init__(self, reader: Reader, waiting: Callable[[], Waiting]) -> None:
        super().__init__(reader, lambda: None, "text/event-stream")
        self._waiting = waiting

    def _body(self, events: Sequence[Event]) -> bytes:
        if not events:
            return b"event: waiting\ndata: " + event_to_line(self._waiting()) + b"\n"
        first = self._reader.at - len(events)
        return b"".join(
            b"id: %d\ndata: %s\n" % (number, event_to_line(event)) for number, event in enumerate(events, first)
        )


class Chunks(Following):
    """A chat completion as it grows, as the OpenAI API streams it."""

    def __init__(self, reader: Reader, leave: Callable[[], Any], completion: Completion) -> None:
        super().__init__(reader, leave, "text/event-stream")
        self._completion = completion

    def _body(self, events: Sequence[Event]) -> bytes:
        if not events:
            return b": the model is at work\n\n"
        said = []
        for event in events:
            self._completion.take(event)
            if isinstance(event, Failed):
                said.append(_data({"error": failure(event)}))
            said += [_data(chunk) for chunk in self._completion.chunks(event)]
        if self._reader.over and not isinstance(events[-1], Failed):
            said.append(b"data: [DONE]\n\n")
        return b"".join(said)


class Whole(Following):
    """A chat completion when it is finished."""

    def __init__(self, reader: Reader, leave: Callable[[], Any], completion: Completion) -> None:
        super().__init__(reader, leave, "application/json")
        self._completion = completion

    async def _reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        last: Event | None = None
        while not self._reader.over:
            for event in await self._reader.next():
                self._completion.take(event)
                last = event
        failed = isinstance(last, Failed)
        body = {"error": failure(last)} if isinstance(last, Failed) else self._completion.whole()
        await JSONResponse(body, status_code=500 if failed else 200)(scope, receive, send)


def failure(event: Failed) -> dict[str, Any]:
    """An answer that could not be finished, in the OpenAI API's envelope."""
    return {"message": event.message, "type": "server_error", "param": None, "code": "generation_failed"}


def _data(value: Any) -> bytes:
    return b"data: " + json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n\n"
