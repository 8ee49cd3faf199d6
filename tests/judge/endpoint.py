"""An OpenAI-compatible chat endpoint inside the test process that misbehaves as a test tells it to."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Tokens = Mapping[str, float]  # candidates of one token


@dataclass
class Fault:
    """A reply other than a chat completion."""

    status: int = 200
    message: str = "fault"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # instead of an error object
    drop: bool = False  # close the connection without a word
    delay: float = 0.0


@dataclass
class Completion:
    """A chat completion with parts of its own: of the choice (finish_reason, logprobs) and of the message."""

    choice: Mapping[str, Any] = field(default_factory=dict)
    message: Mapping[str, Any] = field(default_factory=dict)


What = Tokens | Sequence[Tokens] | str | Fault | Completion
Behaviour = Callable[[int, Mapping[str, Any]], What]  # (request number, payload)


@dataclass
class Server:
    url: str
    payloads: list[Mapping[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[Server]:
    """A server on a free port. Tokens with probabilities become a reply with logprobs, a string one without."""
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with guard:
                number = len(server.payloads)
                server.payloads.append(payload)
                server.keys.add(self.headers.get("authorization", ""))
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                self._reply(behaviour(number, payload))
            finally:
                with guard:
                    server.at_once -= 1

        def _reply(self, what: What) -> None:
            if isinstance(what, Fault):
                time.sleep(what.delay)
                if what.drop:
                    self.close_connection = True
                    self.connection.close()
                    return
                said = {"message": what.message, "type": "x", "code": what.code, "param": what.param}
                error = json.dumps({"error": said}).encode()
                self._send(what.status, error if what.body is None else what.body, what.headers)
            else:
                self._send(200, json.dumps(completion(what)).encode(), {})  # with NaN, as servers do

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {
                "content-type": "application/json",
                "content-length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def completion(what: Tokens | Sequence[Tokens] | str | Completion) -> dict[str, Any]:
    """A chat completion as the API documents it."""
    if isinstance(what, Completion):
        plain = completion("")
        choice = plain["choices"][0]
        choice |= {**what.choice, "message": {**choice["message"], **what.message}}
        return plain
    tokens = [] if isinstance(what, str) else [what] if isinstance(what, Mapping) else what
    text = what if isinstance(what, str) else "".join(max(top, key=lambda token: top[token]) for top in tokens)
    content = []
    for top in tokens:
        entries = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in top.items()]
        content.append({**entries[0], "top_logprobs": entries})
    logprobs = {"content": content, "refusal": None} if content else None
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": logprobs,
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }
