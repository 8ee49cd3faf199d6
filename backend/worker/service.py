"""The HTTP face of the engine: one application, whose app's own routes are here and the others beside.

GET /health, POST /generate, DELETE /generate/{id}, POST /lens; GET /openapi.json.

Knows requests, refusals and streams; answers from the first moment, while a thread still loads the model. There are no
CORS headers, and a body must say that it is JSON, which a foreign page cannot without asking first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backend.records import InputError
from backend.worker.access import Access, Admission
from backend.worker.compatible import compatible_routes
from backend.worker.generations import Generations, Reader, Record
from backend.worker.history import History
from backend.worker.intake import Intake, Late, from_json
from backend.worker.kept_routes import kept_routes
from backend.worker.metrics import Metrics, Observed
from backend.worker.openapi import openapi
from backend.worker.protocol import (
    Busy,
    Generation,
    Health,
    Pushed,
    Waiting,
    generation_from_json,
    health_to_json,
    lenses_from_json,
    pushed_to_json,
)
from backend.worker.refusals import host_of, refusal, refused
from backend.worker.replies import Lines
from backend.worker.scores import scores_route

if TYPE_CHECKING:
    from backend.worker.engine import Engine

_NO_JSON = "the body must be JSON and say so: Content-Type: application/json"
_log = logging.getLogger(__name__)


class Service:
    """The application, and the model it waits for. `load` runs in a thread of its own and may take minutes."""

    def __init__(
        self,
        model: str,
        load: Callable[[], Engine],
        *,
        history: History | None = None,
        admission: Admission = Admission(),  # noqa: B008 (frozen)
    ) -> None:
        self._model = model
        self._load = load
        self._engine: Engine | None = None
        self._error = ""
        self._closed = self._draining = False
        self._intake = Intake()
        self._metrics = Metrics(self.health)
        self.generations = Generations(history, self._metrics.told)
        threading.Thread(target=self._start, name="load", daemon=True).start()
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/openapi.json", _openapi),
                Route("/metrics", self._metrics.reply),
                Route("/generate", self._generate, methods=["POST"]),
                Route("/generate/{id}", self._stop, methods=["DELETE"]),
                Route("/lens", self._lens, methods=["POST"]),
                *compatible_routes(self),
                *kept_routes(self),
                scores_route(self),
            ],
            middleware=[Middleware(Observed, metrics=self._metrics), Middleware(Access, admission=admission)],
            exception_handlers={HTTPException: _http_error, Exception: _server_error},
        )

    @property
    def engine(self) -> Engine | None:
        """The engine, once the model is loaded."""
        return self._engine

    def drain(self, seconds: float) -> None:
        """Take nothing new, and wait at most so long for what is being written and for what waits."""
        self._draining = True
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._engine and (self._engine.busy or self.generations.unfinished):
            time.sleep(0.05)

    def close(self) -> None:
        """End every request now."""
        self._closed = True
        if self._engine:
            self._engine.close()
        self.generations.close()

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

    def health(self) -> Health:
        """What the worker says about itself."""
        if self._engine:
            return self._engine.health()
        return Health("failed" if self._error else "loading", self._model, error=self._error)

    async def _health(self, request: Request) -> Response:
        return JSONResponse(health_to_json(self.health()))

    async def _generate(self, request: Request) -> Response:
        async def written(engine: Engine, body: Any) -> Response:
            asked = await run_in_threadpool(generation_from_json, body)
            record = await self.submitted(engine, asked, "live", host_of(request))
            return Lines(
                Reader(record),
                lambda: engine.cancel(record.id),
                lambda: Waiting(engine.ahead(record.id), *engine.progress(record.id)),
            )

        return await self.answer(request, written)

    async def _lens(self, request: Request) -> Response:
        async def read(engine: Engine, body: Any) -> Response:
            return JSONResponse(await run_in_threadpool(_lenses, engine, body))

        return await self.answer(request, read)

    async def submitted(self, engine: Engine, asked: Generation, kind: str, user: str) -> Record:
        """A generation that waits for its user's turn. Raises InputError and Busy as the engine does."""
        return await run_in_threadpool(self.generations.submit, engine, asked, kind, user)

    async def answer(self, request: Request, answer: Callable[[Engine, Any], Awaitable[Response]]) -> Response:
        """What `answer` makes of the body's JSON, or the refusal of one that does not come whole or says no request."""

        async def read(engine: Engine) -> Response:
            if not _says_json(request):
                raise InputError(_NO_JSON)
            async with self._intake.body(request) as body:
                return await answer(engine, await run_in_threadpool(from_json, body))

        return await self.ready(request, read)

    async def ready(self, request: Request, answer: Callable[[Engine], Awaitable[Response]]) -> Response:
        """What `answer` makes of the engine, or a refusal: that it is not there yet, or of what it raises."""
        if self._draining:
            return refusal(request, 503, "the worker is stopping: ask another, or this one when it is back", retry=5)
        if self._engine is None:
            return refusal(request, 503, self._error or f"{self._model} is still loading: try again in a moment")
        try:
            return await answer(self._engine)
        except (InputError, Late, Busy, ClientDisconnect) as error:
            return refused(request, error)

    async def _stop(self, request: Request) -> Response:
        if self._engine is None or not self._engine.cancel(request.path_params["id"]):
            return refusal(request, 404, "no such request is being written: it has ended already")
        return JSONResponse({"stopped": True})


def _says_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _lenses(engine: Engine, body: Any) -> dict[str, Any]:
    from backend.subject.lens import lens  # torch is loaded by now: there is an engine

    directions = lenses_from_json(body)
    width = engine.subject.d_model
    for direction in directions:
        if direction.vector.size != width:
            raise InputError(
                f"{direction.name!r} has {direction.vector.size} numbers, the residual stream of "
                f"{engine.subject.name} has {width}: it comes from another model"
            )
    found = lens(engine.subject, np.stack([direction.vector for direction in directions]))
    return pushed_to_json([Pushed(one.top, one.bottom) for one in found])


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi())


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(request, error.status_code, f"{request.method} {request.url.path}: {error.detail}")


async def _server_error(request: Request, error: Exception) -> Response:
    reply = refusal(request, 500, f"the worker failed on this request ({type(error).__name__}: {error})")
    reply.headers["Connection"] = "close"  # as the server does with it: the next request takes another
    return reply
