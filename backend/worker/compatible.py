"""The OpenAI-compatible routes: GET /v1/models, POST /v1/chat/completions; and llama.cpp's GET /lora-adapters.

Knows which path answers what. The forms are those of `completions`, the errors those of `refusals`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backend.worker.completions import ChatRequest, Completion, UnknownModel
from backend.worker.forms import form
from backend.worker.generations import Reader
from backend.worker.protocol import Generation
from backend.worker.refusals import host_of
from backend.worker.replies import Chunks, Whole

if TYPE_CHECKING:
    from backend.worker.engine import Engine
    from backend.worker.service import Service

OWNER = "workbench"


def compatible_routes(service: Service) -> list[Route]:
    """The routes, of one service."""
    routes = _Compatible(service)
    return [
        Route("/v1/models", routes.models),
        Route("/v1/models/{model:path}", routes.model),
        Route("/v1/chat/completions", routes.chat, methods=["POST"]),
        Route("/lora-adapters", routes.adapters),
    ]


class _Compatible:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._since = int(time.time())

    async def models(self, request: Request) -> Response:
        """The base, and each organism that can be worn."""

        async def listed(engine: Engine) -> Response:
            return JSONResponse({"object": "list", "data": self._models(engine)})

        return await self._service.ready(request, listed)

    async def model(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["model"]

        async def found(engine: Engine) -> Response:
            for model in self._models(engine):
                if model["id"] == name:
                    return JSONResponse(model)
            raise UnknownModel(name)

        return await self._service.ready(request, found)

    def _models(self, engine: Engine) -> list[dict[str, Any]]:
        base = engine.subject.name
        common = {"object": "model", "created": self._since, "owned_by": OWNER}
        worn = [{"id": name, "parent": base, **common} for name in served_organisms(engine)]
        return [{"id": base, "parent": None, **common}, *worn]

    async def adapters(self, request: Request) -> Response:
        """The ids that `lora` may name, as llama.cpp lists them. At rest no row wears any."""

        async def listed(engine: Engine) -> Response:
            names = served_organisms(engine)
            return JSONResponse([{"id": i, "path": name, "scale": 0.0} for i, name in enumerate(names)])

        return await self._service.ready(request, listed)

    async def chat(self, request: Request) -> Response:
        """Answers to a conversation, whole or as they are written."""

        async def answered(engine: Engine, body: Any) -> Response:
            asked, generation = await run_in_threadpool(_asked, engine, body)
            record = await self._service.submitted(engine, generation, "chat", asked.user or host_of(request))
            usage = bool(asked.stream_options and asked.stream_options.include_usage)
            completion = Completion(record.id, asked.model, int(record.created), generation, usage)
            reply = Chunks if asked.stream else Whole
            return reply(Reader(record), lambda: engine.cancel(record.id), completion)

        return await self._service.answer(request, answered)


def _asked(engine: Engine, body: Any) -> tuple[ChatRequest, Generation]:
    """What a body asks. Large ones take a while: not for the event loop."""
    asked = form(ChatRequest, body)
    return asked, asked.generation(engine.subject.name, served_organisms(engine))


def served_organisms(engine: Engine) -> list[str]:
    """The organisms of a model in their order, which is that of their ids."""
    return list(engine.subject.organisms)
