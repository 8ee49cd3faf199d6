"""What a worker counts and logs of its requests: GET /metrics in Prometheus' text form, and a line of JSON a request.

Knows routes, statuses and times. Never what was asked or answered.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.worker.protocol import Done, Event, Failed, Health, Start, Token

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
requests_log = logging.getLogger("backend.worker.requests")


class Metrics:
    """The counters of one worker."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._registry = CollectorRegistry()
        common: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter("em_requests", "Requests, by route and status", ["route", "status"], **common)
        self._tokens = Counter("em_tokens", "Tokens written", **common)
        self._ends = Counter("em_generations", "Generations that are over, by how they ended", ["end"], **common)
        self._first = Histogram("em_first_token_seconds", "From queue to first token", buckets=SECONDS, **common)
        self._whole = Histogram("em_generation_seconds", "From model to end", buckets=SECONDS, **common)
        for name, what in (
            ("active", "Rows being written"),
            ("waiting", "Requests that wait for room"),
            ("rows", "Rows that can be written at once"),
            ("memory", "Bytes that the keys and values of all rows may take"),
        ):
            gauge = Gauge(f"em_{name}", what, **common)
            gauge.set_function(lambda name=name: float(getattr(health(), name)))  # type: ignore[misc]

    async def reply(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def asked(self, route: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()

    def told(self, before: Sequence[Event], events: Sequence[Event], since: float) -> None:
        """Events came behind those `before`, of a generation that was queued at `since` (of time.time)."""
        tokens = sum(isinstance(event, Token) for event in events)
        self._tokens.inc(tokens)
        if tokens and all(isinstance(event, Start) for event in before):
            self._first.observe(max(0.0, time.time() - since))
        match events[-1]:
            case Done():
                self._ends.labels("done").inc()
                self._whole.observe(events[-1].seconds)
            case Failed():
                self._ends.labels("failed").inc()


class Observed:
    """Counts and logs every request, by the route that answered it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and see what is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        except Exception:
            status = status or 500  # what is answered is made of it further out
            raise
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.asked(route, status)
            if requests_log.isEnabledFor(logging.INFO):
                line = {
                    "time": round(time.time(), 3),
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "seconds": round(time.perf_counter() - started, 4),
                    "client": scope["client"][0] if scope.get("client") else "",
                }
                requests_log.info(json.dumps(line))
