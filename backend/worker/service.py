"""The HTTP face of the engine: GET /health, POST /generate, DELETE /generate/{id}, POST /lens; GET /openapi.json.

Knows requests, refusals and streams; answers from the first moment, while a thread still loads the model. Serves this
machine alone: a Host that is not loopback is refused (a web page must not reach it by renaming its own address), there
are no CORS headers, and a body must say that it is JSON, which a foreign page cannot without asking first.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.hosts import is_loopback
from backend.records import InputError
from backend.worker.intake import Intake, Late, from_json
from backend.worker.openapi import openapi
from backend.worker.protocol import (
    Busy,
    Done,
    Event,
    Failed,
    Health,
    Pushed,
    Waiting,
    event_to_line,
    generation_from_json,
    health_to_json,
    lenses_from_json,
    pushed_to_json,
)

if TYPE_CHECKING:
    from backend.worker.engine import Engine

_NO_JSON = "the body must be JSON and say so: Content-Type: application/json"
MAX_MESSAGE = 2000  # characters of a refusal
HEARTBEAT = 0.25  # seconds of silence before a Waiting event
_log = logging.getLogger(__name__)


class Service:
    """The application, and the model it waits for. `load` runs in a thread of its own and may take minutes."""

    def __init__(self, model: str, load: Callable[[], Engine], *, any_host: bool = False) -> None:
        self._model = model
        self._load = load
        self._engine: Engine | None = None
        self._error = ""
        self._closed = False
        self._intake = Intake()
        threading.Thread(target=self._start, name="load", daemon=True).start()
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/openapi.json", _openapi),
                Route("/generate", self._generate, methods=["POST"]),
                Route("/generate/{id}", self._stop, methods=["DELETE"]),
                Route("/lens", self._lens, methods=["POST"]),
            ],
            middleware=[] if any_host else [Middleware(_LoopbackOnly)],
            exception_handlers={HTTPException: _http_error, Exception: _server_error},
        )

    def close(self) -> None:
        """End every request now."""
        self._closed = True
        if self._engine:
            self._engine.close()

    def _start(self) -> None:
        try:
            self._engine = self._load()
        except InputError as error:
            self._error = str(error)
        except Exception as error:
            _log.exception("the model could not be loaded")
            self._error = f"{self._model} could not be loaded ({type(error).__name__}: {error})"
        if self._closed:
            self.close()

    async def _health(self, request: Request) -> Response:
        if self._engine:
            health = self._engine.health()
        else:
            health = Health("failed" if self._error else "loading", self._model, error=self._error)
        return JSONResponse(health_to_json(health))

    async def _generate(self, request: Request) -> Response:
        async def submitted(engine: Engine, body: bytes) -> Response:
            events = _Events()
            job = await run_in_threadpool(_submit, engine, body, events.deliver)
            return _Stream(engine, job, events)

        return await self._answer(request, submitted)

    async def _lens(self, request: Request) -> Response:
        async def read(engine: Engine, body: bytes) -> Response:
            return JSONResponse(await run_in_threadpool(_lenses, engine, body))

        return await self._answer(request, read)

    async def _answer(self, request: Request, answer: Callable[[Engine, bytes], Awaitable[Response]]) -> Response:
        """What `answer` makes of the body, or the refusal of a body that does not come whole or says no request."""
        engine = self._engine
        if engine is None or not _says_json(request):
            return self._unready() if engine is None else _refusal(422, _NO_JSON)
        try:
            async with self._intake.body(request) as body:
                return await answer(engine, body)
        except InputError as error:
            return _refusal(422, str(error))
        except Late as error:
            return _refusal(408, str(error))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Busy as error:
            return _refusal(503, str(error))

    def _unready(self) -> Response:
        return _refusal(503, self._error or f"{self._model} is still loading: try again in a moment")

    async def _stop(self, request: Request) -> Response:
        if self._engine is None or not self._engine.cancel(request.path_params["id"]):
            return _refusal(404, "no such request is being written: it has ended already")
        return JSONResponse({"stopped": True})


class _Events:
    """From the engine's thread to the event loop it was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Sequence[Event]] = asyncio.Queue()

    def deliver(self, events: Sequence[Event]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the worker is ending
            self._loop.call_soon_threadsafe(self._queue.put_nowait, events)

    async def next(self) -> Sequence[Event]:
        """The next events; none after a heartbeat of silence."""
        with anyio.move_on_after(HEARTBEAT):
            return await self._queue.get()
        return ()


class _Stream(Response):
    """A request's events as they come. Whatever ends this response frees the request's rows."""

    def __init__(self, engine: Engine, job: str, events: _Events) -> None:
        super().__init__(media_type="application/x-ndjson")
        del self.headers["content-length"]
        self._engine = engine
        self._job = job
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, receive, tasks.cancel_scope)
                await self._write(send)
                tasks.cancel_scope.cancel()
        finally:
            self._engine.cancel(self._job)

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        last: Event | None = None
        while not isinstance(last, Done | Failed):
            events = await self._events.next() or [Waiting(self._engine.ahead(self._job))]
            last = events[-1]
            lines = b"".join(event_to_line(event) for event in events)
            await send({"type": "http.response.body", "body": lines, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _LoopbackOnly:
    """Refuse requests that name another host than this machine's loopback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_loopback(Request(scope).headers.get("host", "")):
            refusal = _refusal(
                403, "this worker serves its own machine only: start it with --host to open it to others"
            )
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _says_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _submit(engine: Engine, body: bytes, deliver: Callable[[Sequence[Event]], None]) -> str:
    return engine.submit(generation_from_json(from_json(body)), deliver)


def _lenses(engine: Engine, body: bytes) -> dict[str, Any]:
    from backend.subject.lens import lens  # torch is loaded by now: there is an engine

    directions = lenses_from_json(from_json(body))
    width = engine.subject.d_model
    for direction in directions:
        if direction.vector.size != width:
            raise InputError(
                f"{direction.name!r} has {direction.vector.size} numbers, the residual stream of "
                f"{engine.subject.name} has {width}: it comes from another model"
            )
    found = lens(engine.subject, np.stack([direction.vector for direction in directions]))
    return pushed_to_json([Pushed(one.top, one.bottom) for one in found])


def _refusal(status: int, message: str) -> JSONResponse:
    """A sentence, cut where it repeats too much of what was sent, with halves of surrogate pairs spelled out."""
    message = message.encode(errors="backslashreplace").decode()
    message = message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."
    return JSONResponse({"error": message}, status_code=status)


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi())


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refusal(error.status_code, f"{request.method} {request.url.path}: {error.detail}")


async def _server_error(request: Request, error: Exception) -> Response:
    return _refusal(500, f"the worker failed on this request ({type(error).__name__}: {error})")
