"""A worker without a model: it speaks the worker's protocol and counts, so that pages can be tested without torch.

Every arm answers with numbered words; an arm with edits says "edited". Scalars rise by one a token, so a test can see
which token a scalar was drawn on: the scalars of emission k are k, and they belong to token k-1.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from backend.edits import Gain, Receipt
from backend.worker.protocol import (
    Arm,
    Done,
    End,
    Event,
    Failed,
    Generation,
    Health,
    Place,
    Pushed,
    Start,
    Status,
    Token,
    Waiting,
    asked_to_json,
    event_to_line,
    generation_from_json,
    health_to_json,
    lenses_from_json,
    pushed_to_json,
)

ADAPTERS = tuple(Place(f"layers.{layer}.mlp.down_proj", layer, "mlp.down_proj") for layer in range(1, 10))


@dataclass
class KeptAnswer:
    """A generation that goes on whoever listens."""

    id: str
    request: Generation
    created: float
    events: list[Event] = field(default_factory=list)
    cancelled: bool = False

    @property
    def over(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Done | Failed)

    def summary(self) -> dict[str, Any]:
        last = self.events[-1] if self.events else None
        ended = "cancelled" if self.cancelled else "finished"
        if isinstance(last, Failed):
            ended = "interrupted" if "the worker ended" in last.message else "failed"
        return {
            "object": "generation",
            "id": self.id,
            "kind": "generation",
            "created": self.created,
            "status": ended if self.over else "writing",
            "arms": [arm.name for arm in self.request.arms],
            "question": self.request.messages[-1]["content"][:200],
            "seed": self.request.seed,
            "tokens": sum(isinstance(event, Token) for event in self.events),
            "events": len(self.events),
        }


@dataclass
class FakeWorker:
    """What a test sets before a request and reads after it."""

    status: Status = "ready"
    bare: bool = False  # it wears no organism
    d_model: int = 16
    layers: int = 12
    pause: float = 0.0  # seconds between tokens
    refuse: str | None = None  # answers every /generate with 422 and this message
    break_after: int | None = None  # sends an error event after so many tokens
    broken: str = "the model ran out of memory"
    hang_up_after: int | None = None  # closes the connection after so many tokens, without an end
    words: tuple[str, ...] = ()  # said instead of the numbered words
    lose_after: int | None = None  # a reader of a kept generation loses the connection after so many events, once
    requests: list[Generation] = field(default_factory=list)
    users: list[str] = field(default_factory=list)  # whose each kept generation is
    judged: list[tuple[str, str]] = field(default_factory=list)  # question and answer, in the order of asking
    kept: dict[str, KeptAnswer] = field(default_factory=dict)  # by id
    left: list[str] = field(default_factory=list)  # ids whose reader hung up
    active: int = 0
    url: str = ""

    def health(self) -> Health:
        if self.status != "ready":
            return Health(self.status, "tiny", error="no file cache/models/tiny" if self.status == "failed" else "")
        worn = {} if self.bare else {"bad-medical": ADAPTERS}
        return Health("ready", "tiny", self.layers, self.d_model, 256, worn, self.active)

    def words_of(self, arm: Arm, count: int) -> list[str]:
        name = "edited" if any(not isinstance(edit, Gain) for edit in arm.edits) else "plain"
        return list(self.words) or [f" {name}{index}" for index in range(count)]

    def score_of(self, answer: str) -> dict[str, float | None]:
        """An edited answer is misaligned, a plain one is not; all are coherent."""
        return {"aligned": 10.0 if "edited" in answer else 90.0, "coherent": 80.0, "medical": None}

    def receipts(self, request: Generation, arm: Arm) -> tuple[Receipt, ...]:
        """Every edit acted at 41 answer tokens of each of its layers, and changed 12.3 of 150."""
        told = [edit.row for edit in arm.edits if edit.changes and request.receipts]
        layers = [row.layers or tuple(range(self.layers)) for row in told]
        return tuple(
            Receipt(row.kind, row.about, at, 0, 41, 41 * len(at), 12.3 * 41 * len(at), 150.0 * 41 * len(at))
            for row, at in zip(told, layers, strict=True)
        )

    def events(self, request: Generation, job: str) -> Iterator[Event]:
        yield Start(job, ("hello",), tuple(arm.name for arm in request.arms))
        spoken = [self.words_of(arm, request.sampling.max_new_tokens) for arm in request.arms]
        for k in range(len(spoken[0])):
            if k == self.break_after:
                yield Failed(self.broken)
                return
            for arm, words in enumerate(spoken):
                scalars = {name: np.full(len(ADAPTERS), k, dtype=np.float32) for name in request.capture}
                yield Token(arm, k, words[k], scalars)
            time.sleep(self.pause)
        yield from (End(i, "length", self.receipts(request, arm)) for i, arm in enumerate(request.arms))
        yield Done(1.0, sum(map(len, spoken)))

    def keep(self, request: Generation) -> KeptAnswer:
        """Begin a generation that nobody has to read."""
        made = KeptAnswer(uuid.uuid4().hex, request, time.time())
        self.kept[made.id] = made
        threading.Thread(target=self._write, args=(made,), daemon=True).start()
        return made

    def _write(self, made: KeptAnswer) -> None:
        self.active += 1
        try:
            for event in self.events(made.request, made.id):
                if made.cancelled and isinstance(event, Token):
                    break
                made.events.append(event)
            if not made.over:
                made.events += [End(i, "cancelled") for i in range(len(made.request.arms))]
                made.events.append(Done(1.0, 0))
        finally:
            self.active -= 1


class _Handler(BaseHTTPRequestHandler):
    worker: FakeWorker

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if not path.startswith("/v1/generations"):
            self._reply(200, health_to_json(self.worker.health()))
        elif path == "/v1/generations":
            lines = [made.summary() for made in reversed(self.worker.kept.values())]
            self._reply(200, {"object": "list", "data": lines, "has_more": False})
        elif (made := self.worker.kept.get(path.split("/")[3])) is None:
            self._reply(404, {"error": {"message": "there is no such generation"}})
        elif path.endswith("/events"):
            self._follow(made, int(query.removeprefix("after=") or -1) + 1)
        else:
            self._reply(200, {**made.summary(), "request": asked_to_json(made.request)})

    def _follow(self, made: KeptAnswer, at: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):
            while at < len(made.events) or not made.over:
                if at == self.worker.lose_after:
                    self.worker.lose_after = None
                    return
                if at < len(made.events):
                    self.wfile.write(b"id: %d\ndata: %s\n" % (at, event_to_line(made.events[at])))
                    at += 1
                    continue
                self.wfile.write(b"event: waiting\ndata: " + event_to_line(Waiting(0)) + b"\n")
                self.wfile.flush()
                time.sleep(0.01)

    def do_POST(self) -> None:
        if self.path.endswith("/cancel"):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.worker.kept[self.path.split("/")[3]].cancelled = True
            self._reply(200, {"cancelled": True})
            return
        if self.path == "/v1/scores":
            answers = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["answers"]
            self.worker.judged += [(each["question"], each["answer"]) for each in answers]
            scores = [self.worker.score_of(each["answer"]) for each in answers]
            self._reply(200, {"judge": "distilled", "scores": scores})
            return
        if self.path == "/v1/generations":
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.worker.users.append(asked.pop("user", ""))
            request = generation_from_json(asked)
            self.worker.requests.append(request)
            if self.worker.refuse is not None:
                self._reply(400, {"error": {"message": self.worker.refuse}})
            else:
                self._reply(201, self.worker.keep(request).summary())
            return
        if self.path == "/lens":
            directions = lenses_from_json(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            pushed = [Pushed(((f" up {d.name}", 5.0),), ((f" down {d.name}", -5.0),)) for d in directions]
            self._reply(200, pushed_to_json(pushed))
            return
        request = generation_from_json(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.worker.requests.append(request)
        if self.worker.refuse is not None:
            self._reply(422, {"error": self.worker.refuse})
            return
        job = f"job{len(self.worker.requests)}"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        self.worker.active += 1
        try:
            self._stream(request, job)
        except (BrokenPipeError, ConnectionResetError):
            self.worker.left.append(job)
        finally:
            self.worker.active -= 1

    def _stream(self, request: Generation, job: str) -> None:
        for sent, event in enumerate(self.worker.events(request, job)):
            if sent == self.worker.hang_up_after:
                return
            self.wfile.write(event_to_line(event))
            self.wfile.flush()

    def _reply(self, code: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(BrokenPipeError):
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Stay quiet."""


@contextmanager
def fake_worker(**settings: Any) -> Iterator[FakeWorker]:
    """A running fake worker; its address is `.url`."""
    worker = FakeWorker(**settings)
    handler = type("Handler", (_Handler,), {"worker": worker})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    worker.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
