"""The routes of generations that nobody has to wait for: create, list, look at, follow by events, cancel.

Knows which path answers what. A generation made here goes on when its reader has gone; its events can be followed from
any number on, as often as wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backend.records import InputError
from backend.worker.forms import FieldError
from backend.worker.generations import Reader, Record
from backend.worker.protocol import MAX_NAME, Waiting, generation_from_json
from backend.worker.refusals import host_of, refusal, refused
from backend.worker.replies import Numbered

if TYPE_CHECKING:
    from backend.worker.engine import Engine
    from backend.worker.service import Service

MOST = 100  # lines of one list
STATUSES = ("waiting", "writing", "finished", "cancelled", "failed", "interrupted")


def kept_routes(service: Service) -> list[Route]:
    """The routes, of one service."""
    routes = _Kept(service)
    return [
        Route("/v1/generations", routes.listed, methods=["GET"]),
        Route("/v1/generations", routes.create, methods=["POST"]),
        Route("/v1/generations/{id}", routes.one),
        Route("/v1/generations/{id}/events", routes.events),
        Route("/v1/generations/{id}/cancel", routes.cancel, methods=["POST"]),
    ]


class _Kept:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        """Begin a generation; its events are followed at /events."""

        async def begun(engine: Engine, body: Any) -> Response:
            user = host_of(request)
            if isinstance(body, dict) and "user" in body:
                user = body.pop("user")
                if not isinstance(user, str) or len(user) > MAX_NAME:
                    raise FieldError("user", f"whose request it is takes text of at most {MAX_NAME} characters")
            asked = await run_in_threadpool(generation_from_json, body)
            record = await self._service.submitted(engine, asked, "generation", user)
            return JSONResponse(record.summary(), 201, {"Location": f"/v1/generations/{record.id}"})

        return await self._service.answer(request, begun)

    async def listed(self, request: Request) -> Response:
        """The newest generations, or those before one of them."""
        try:
            limit, status = _limit(request), request.query_params.get("status")
            if status is not None and status not in STATUSES:
                raise FieldError("status", f"use one of {', '.join(STATUSES)}")
        except FieldError as error:
            return refused(request, error)
        lines = await run_in_threadpool(self._service.generations.summaries)
        after = request.query_params.get("after")
        if after is not None:
            place = next((i for i, line in enumerate(lines) if line["id"] == after), None)
            if place is None:
                return refusal(request, 400, f"there is no generation {after[:40]!r} to go on after", param="after")
            lines = lines[place + 1 :]
        lines = [line for line in lines if status in (None, line["status"])]
        return JSONResponse({"object": "list", "data": lines[:limit], "has_more": len(lines) > limit})

    async def one(self, request: Request) -> Response:
        """What was asked and answered."""
        record = await self._found(request)
        return record if isinstance(record, Response) else JSONResponse(record.whole())

    async def events(self, request: Request) -> Response:
        """Its events, from the one behind Last-Event-ID (or `after`) on, until it is over."""
        record = await self._found(request)
        if isinstance(record, Response):
            return record
        last = request.headers.get("last-event-id") or request.query_params.get("after")
        if last is not None and not (last.isascii() and last.isdecimal() and len(last) < 10):
            return refusal(request, 400, "the number of an event is a whole number from 0", param="after")
        reader = Reader(record, 0 if last is None else min(int(last) + 1, len(record.events)))
        return Numbered(reader, lambda: self._waiting(record))

    def _waiting(self, record: Record) -> Waiting:
        engine = self._service.engine
        return Waiting(engine.ahead(record.id), *engine.progress(record.id)) if engine else Waiting(0)

    async def cancel(self, request: Request) -> Response:
        """Stop it. What is written stays."""
        record = await self._found(request)
        if isinstance(record, Response):
            return record
        engine = self._service.engine
        return JSONResponse({"id": record.id, "cancelled": bool(engine and engine.cancel(record.id))})

    async def _found(self, request: Request) -> Record | Response:
        try:
            record = await run_in_threadpool(self._service.generations.find, request.path_params["id"])
        except InputError as error:
            return refusal(request, 404, str(error))  # its file is none of a generation
        return record or refusal(request, 404, "there is no such generation: GET /v1/generations lists what there is")


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", "20")
    if not (given.isascii() and given.isdecimal() and 1 <= int(given[:9]) <= MOST and len(given) < 9):
        raise FieldError("limit", f"a list has 1 to {MOST} lines")
    return int(given)
