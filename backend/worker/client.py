"""The worker as the app sees it: ask for its health, read a generation event by event.

The Streamlit process imports this, and never torch. What answers may be another program, or garbled: whatever comes is
of a record's form, or a WorkerError. Every error is one, whose message can be shown as it is.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from backend.records import Direction, InputError, Sampling
from backend.worker.heard import heard, heard_event, json_in_line
from backend.worker.protocol import (
    DEFAULT_PORT,
    MAX_BODY,
    Arm,
    Done,
    End,
    Event,
    Failed,
    Generation,
    Health,
    Message,
    Place,
    Pushed,
    Start,
    Token,
    Waiting,
    asked_to_json,
    generation_from_json,
    generation_to_json,
    health_from_json,
    lenses_to_json,
    pushed_from_json,
    token_in,
)

__all__ = [
    "Arm",
    "Done",
    "End",
    "Event",
    "Failed",
    "Generation",
    "Health",
    "Kept",
    "Message",
    "Place",
    "Pushed",
    "Start",
    "Token",
    "Waiting",
    "Worker",
    "WorkerError",
    "asked_to_json",
]

URL_VARIABLE = "EM_WORKER_URL"
CONNECT = 2.0  # seconds
LONGEST_LINE = 8 * 2**20  # bytes of one event: far more than the longest prompt's tokens
LONGEST_ANSWER = 64 * 2**20  # bytes of what is no stream of events
_LATEST = 4e9  # seconds since 1970, in the year 2096
SILENCE = 30.0  # seconds: the worker says something four times a second, however long the model thinks


class WorkerError(Exception):
    """The worker cannot be reached, refused a request or failed at it. The message is shown as it is."""


@dataclass(frozen=True)
class Kept:
    """A line of the worker's history: one generation, being written or over."""

    id: str
    kind: str  # the route that it came by: "chat", "live", "generation"
    created: float  # seconds since 1970
    status: str  # "waiting", "writing", "finished", "cancelled", "failed", "interrupted"
    arms: tuple[str, ...]
    question: str  # the beginning of what was asked last
    seed: int
    tokens: int  # written so far, of all arms


class Worker:
    """A worker at a URL (by default the one in EM_WORKER_URL). Holds no connection; may be shared between threads."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url or os.environ.get(URL_VARIABLE) or f"http://127.0.0.1:{DEFAULT_PORT}"

    def health(self) -> Health:
        """What the worker holds and does; it answers while its model still loads. Raises WorkerError."""
        with self._request("GET", "/health", timeout=5.0) as reply:
            try:
                return heard(health_from_json, _said(reply))
            except ValueError as error:
                raise self._foreign() from error

    def generate(
        self,
        prompt: str | Sequence[Message],
        arms: Sequence[Arm],
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        seed: int = 0,
        capture: Sequence[str] = (),
        *,
        receipts: bool = False,
    ) -> Generator[Event, None, None]:
        """Events as they come: Start, then Token, End and (in silence) Waiting, then Done. Raises WorkerError.

        A generator: closing it, or leaving it to the garbage collector, drops the connection and frees the rows.
        """
        body = json.dumps(generation_to_json(prompt, arms, sampling, seed, capture, receipts=receipts)).encode()
        if len(body) > MAX_BODY:
            raise WorkerError(
                f"the request has {len(body) / 2**20:.0f} MB, {MAX_BODY // 2**20} are allowed: "
                "use fewer arms or directions"
            )
        with self._request("POST", "/generate", body, timeout=SILENCE) as reply:
            while line := reply.readline(LONGEST_LINE):
                event = self._event(line, len(arms))
                if isinstance(event, Failed):
                    raise WorkerError(event.message)
                yield event
                if isinstance(event, Done):
                    return
        raise WorkerError("the worker ended in the middle of the answer: see its output, and start it again")

    def begin(self, asked: Generation, user: str = "") -> str:
        """Ask for a generation that goes on whoever listens, and is kept; its id. Raises WorkerError.

        Of two who wait, the `user` with fewer answers being written comes first.
        """
        body = json.dumps({**asked_to_json(asked), **({"user": user} if user else {})}).encode()
        if len(body) > MAX_BODY:
            raise WorkerError(
                f"the request has {len(body) / 2**20:.0f} MB, {MAX_BODY // 2**20} are allowed: use fewer directions"
            )
        with self._request("POST", "/v1/generations", body, timeout=SILENCE) as reply:
            try:
                return heard(_kept, _said(reply)).id
            except ValueError as error:
                raise self._foreign() from error

    def events(self, id: str, arms: int, after: int = -1) -> Generator[tuple[int, Event], None, None]:
        """The numbered events of a kept generation of so many arms, behind the number `after`, until it is over.

        Its end is Done or Failed; a Waiting in silence has the number of the event before it. A generator: closing it
        drops the connection, and the generation goes on. Raises WorkerError.
        """
        resumed = f"?after={after}" if after >= 0 else ""
        number = after
        with self._request("GET", f"/v1/generations/{id}/events{resumed}", timeout=SILENCE) as reply:
            while line := reply.readline(LONGEST_LINE):
                kind, _, told = line.partition(b":")
                if kind == b"id":
                    number = self._number(told)
                elif kind == b"data":
                    event = self._event(told, arms)
                    yield number, event
                    if isinstance(event, Done | Failed):
                        return
        raise WorkerError("the worker ended in the middle of the answer: what was written is kept")

    def kept(self, id: str) -> tuple[Kept, Generation] | None:
        """A kept generation, and what was asked, as it can be asked again; None where there is none of that id."""
        try:
            with self._request("GET", f"/v1/generations/{quote(id, safe='')}", timeout=SILENCE) as reply:
                try:
                    said = _said(reply)
                    return heard(_kept, said), generation_from_json(said["request"])
                except (ValueError, LookupError, TypeError) as error:
                    raise self._foreign() from error
        except _Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def history(self, limit: int = 100, after: str | None = None) -> tuple[list[Kept], bool]:
        """The newest kept generations, or those before the one with the id `after`, and whether there are more."""
        on = f"&after={quote(after, safe='')}" if after else ""
        with self._request("GET", f"/v1/generations?limit={limit}{on}", timeout=SILENCE) as reply:
            try:
                said = _said(reply)
                return [heard(_kept, line) for line in said["data"]], bool(said["has_more"])
            except (ValueError, LookupError, TypeError) as error:
                raise self._foreign() from error

    def cancel(self, id: str) -> None:
        """Stop a kept generation, if it is still written. What is written stays. Raises WorkerError."""
        with self._request("POST", f"/v1/generations/{quote(id, safe='')}/cancel", b"{}", timeout=5.0):
            pass

    def scores(self, answers: Sequence[tuple[str, str]]) -> tuple[str, list[dict[str, float | None]]]:
        """The embedded judge's name, and a value by metric for each (question, answer). Raises WorkerError."""
        body = json.dumps({"answers": [{"question": asked, "answer": said} for asked, said in answers]}).encode()
        with self._request("POST", "/v1/scores", body, timeout=2 * SILENCE) as reply:  # it may be loaded first
            try:
                said = _said(reply)
                scores = [{str(name): _score(value) for name, value in one.items()} for one in said["scores"]]
                if len(scores) != len(answers) or not isinstance(said["judge"], str):
                    raise ValueError("other scores than were asked for")
                return said["judge"], scores
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise self._foreign() from error

    def lenses(self, directions: Sequence[Direction]) -> list[Pushed]:
        """The tokens that each direction promotes and suppresses in the worker's model. Raises WorkerError."""
        body = json.dumps(lenses_to_json(directions)).encode()
        if len(body) > MAX_BODY:
            raise WorkerError(f"{len(directions)} directions are too many for one question: ask for fewer at a time")
        with self._request("POST", "/lens", body, timeout=SILENCE) as reply:
            try:
                return heard(pushed_from_json, _said(reply))
            except ValueError as error:
                raise self._foreign() from error

    def stop(self, id: str) -> bool:
        """Stop the request with this id (of its Start event), whoever reads it. False where it has ended already."""
        try:
            with self._request("DELETE", f"/generate/{id}", timeout=5.0):
                return True
        except _Refused as refusal:
            if refusal.status == 404:
                return False
            raise

    @contextmanager
    def _request(
        self, method: str, path: str, body: bytes | None = None, *, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            if token := token_in(os.environ):
                headers["Authorization"] = f"Bearer {token}"
        except InputError as error:
            raise WorkerError(str(error)) from error
        with closing(self._connection()) as connection:
            try:
                connection.connect()
                connection.sock.settimeout(timeout)
                with _hung_up(connection.sock):
                    connection.request(method, path, body, headers)
                    with connection.getresponse() as reply:
                        self._raise_refusal(reply)
                        yield reply
            except TimeoutError as error:
                raise WorkerError(f"the worker at {self.url} does not answer: stop it and start it again") from error
            except ConnectionRefusedError as error:
                raise WorkerError(self._absent()) from error
            except (OSError, http.client.HTTPException) as error:
                raise WorkerError(
                    f"the connection to the worker at {self.url} broke: {error or type(error).__name__}"
                ) from error

    def _connection(self) -> http.client.HTTPConnection:
        try:
            parts = urlsplit(self.url)
            if parts.scheme != "http" or not parts.hostname:
                raise ValueError("it does not start with http://")
            return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=CONNECT)
        except (ValueError, http.client.InvalidURL) as error:
            raise WorkerError(f"{self.url!r} is no address of a worker ({error}): correct {URL_VARIABLE}") from error

    def _raise_refusal(self, reply: http.client.HTTPResponse) -> None:
        if reply.status in (200, 201):
            return
        try:
            message = _said(reply)["error"]
            if isinstance(message, dict):  # under /v1, as the OpenAI API says it
                message = message["message"]
            if not isinstance(message, str):
                raise TypeError("its reason is no text")
        except (ValueError, LookupError, TypeError) as error:
            raise self._foreign() from error
        raise _Refused(message, reply.status)

    def _event(self, line: bytes, arms: int) -> Event:
        try:
            if len(line) == LONGEST_LINE:
                raise ValueError("an event of that length")
            return heard_event(line, arms)
        except ValueError as error:
            raise self._foreign() from error

    def _number(self, told: bytes) -> int:
        try:
            return int(told)
        except ValueError as error:
            raise self._foreign() from error

    def _absent(self) -> str:
        port = urlsplit(self.url).port or 80
        return (
            f"no worker is running at {self.url}. Start it with: "
            f"python -m backend.worker --model MODEL --port {port} (and --organism NAME=FOLDER for each organism)"
        )

    def _foreign(self) -> WorkerError:
        return WorkerError(
            f"what answers at {self.url} is no worker of this version: correct {URL_VARIABLE} or restart it"
        )


def _said(reply: http.client.HTTPResponse) -> Any:
    """What an answer says in JSON. Raises ValueError where it is longer than any."""
    body = reply.read(LONGEST_ANSWER)
    if len(body) == LONGEST_ANSWER:
        raise ValueError("an answer of that length")
    return json_in_line(body)


def _kept(said: Any) -> Kept:
    """A line of the history of its JSON. Raises LookupError, TypeError or ValueError on what is none."""
    arms = tuple(said["arms"])
    if not arms:
        raise ValueError("a generation without an arm")
    if not 0 <= said["created"] < _LATEST:  # false of NaN
        raise ValueError("a generation of no time that a calendar has")
    return Kept(
        said["id"],
        said["kind"],
        said["created"],
        said["status"],
        arms,
        said["question"],
        said["seed"],
        said["tokens"],
    )


def _score(value: Any) -> float | None:
    """A score from outside. Raises TypeError on what is none."""
    if value is None:
        return None
    if type(value) not in (int, float) or not abs(value) < 1e300:  # false of NaN
        raise TypeError("a score is a number or null")
    return float(value)


class _Refused(WorkerError):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def _hung_up(sock: socket.socket) -> Iterator[None]:
    """Hang up at the end: close alone would wait for the reply that still holds the socket."""
    try:
        yield
    finally:
        with suppress(OSError):  # the other side was faster
            sock.shutdown(socket.SHUT_RDWR)
