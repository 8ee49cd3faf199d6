"""The client: every way a worker can be absent or wrong becomes one sentence, and closing hangs up at once."""

import json
import os
import socket
import threading
import time

import pytest

from backend.worker import client
from backend.worker.client import Arm, Start, Worker, WorkerError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
START = b'{"event":"start","id":"1","prompt_tokens":["a"],"arms":["a"]}\n'


@pytest.fixture
def answering():
    """Makes a server that sends given bytes to its one client, and keeps the socket for the test to look at."""
    opened, asked = [], []

    def make(reply, close=True):
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def serve():
            peer, _ = listener.accept()
            opened.append(peer)
            peer.settimeout(10)
            received = peer.recv(65536)
            while not received.endswith(b"}" if received.startswith(b"POST") else b"\r\n\r\n"):
                received += peer.recv(65536)
            asked.append(received)
            peer.sendall(reply)
            if close:
                peer.close()

        threading.Thread(target=serve, daemon=True).start()
        return Worker(f"http://127.0.0.1:{listener.getsockname()[1]}")

    vars(make).update(opened=opened, asked=asked)
    yield make
    for sock in opened:
        sock.close()


def events(worker):
    return worker.generate("hello", [Arm("a")])


def test_no_worker_says_so_and_how_to_start_one():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(WorkerError, match=rf"no worker is running .*: python -m backend.worker .* --port {port}"):
        Worker(f"http://127.0.0.1:{port}").health()


def test_the_address_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("EM_WORKER_URL", "http://127.0.0.1:1234")
    assert Worker().url == "http://127.0.0.1:1234"
    monkeypatch.delenv("EM_WORKER_URL")
    assert Worker().url == "http://127.0.0.1:8600"


def test_a_token_is_sent_without_what_an_editor_put_around_it(answering, monkeypatch):
    monkeypatch.setenv("EM_WORKER_TOKEN", " a-token-of-some-length\n")
    health = b'{"status": "ready", "model": "m", "organisms": {}}'
    worker = answering(HEAD + health)
    assert worker.health().model == "m"
    assert b"Authorization: Bearer a-token-of-some-length\r\n" in answering.asked[-1]


@pytest.mark.parametrize(
    "token", ["short", "a-token\nof-some-length-", "ein-schlüssel-der-lang-ist", "x\x00" * 20, "a b" * 20]
)
def test_a_token_that_is_none_is_said_and_not_sent(monkeypatch, token):
    monkeypatch.setattr("os.environ", {**os.environ, "EM_WORKER_TOKEN": token})
    with pytest.raises(WorkerError, match="token in EM_WORKER_TOKEN must be at least 16 ASCII"):
        Worker("http://127.0.0.1:1").health()


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://127.0.0.1", "http://", "http://127.0.0.1:none", "http://[::1"])
def test_an_address_that_is_none_says_so(url):
    with pytest.raises(WorkerError, match="is no address of a worker"):
        Worker(url).health()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_another_server_at_the_address_is_recognised(answering, reply):
    with pytest.raises(WorkerError, match="is no worker of this version"):
        answering(reply).health()


def test_an_event_that_is_none_is_recognised(answering):
    with pytest.raises(WorkerError, match="is no worker of this version"):
        list(events(answering(HEAD + START + b'{"event":"party"}\n')))


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"token","arm":1,"id":5,"text":"x","scalars":{}}',  # one arm was asked for
        b'{"event":"token","arm":-1,"id":5,"text":"x","scalars":{}}',
        b'{"event":"token","arm":true,"id":5,"text":"x","scalars":{}}',
        b'{"event":"token","arm":0,"id":5,"text":null,"scalars":{}}',
        b'{"event":"token","arm":0,"id":5,"text":"x","scalars":{"o":[[1,2]]}}',
        b'{"event":"token","arm":0,"id":5,"text":"x","scalars":{"o":7}}',
        b'{"event":"end","arm":0,"reason":"tired"}',
        b'{"event":"end","arm":0,"reason":"stop","receipts":[{"kind":"add","about":"v","layers":["1"]}]}',
        b'{"event":"end","arm":0,"reason":"stop","receipts":[{"kind":"add","about":"v","layers":[1],"changed":NaN}]}',
        b'{"event":"waiting","ahead":"two"}',
        b'{"event":"done","seconds":NaN,"tokens":1}',
        b'{"event":"done","seconds":1e999,"tokens":1}',
        b'{"event":"error","message":["x"]}',
        b'{"event":"token","arm":0,"id":5,"text":"\xff","scalars":{}}',
        b"[" * 100_000,
        b'{"event":' * 50_000,
        b'{"event":"error","message":"' + b"x" * (client.LONGEST_LINE + 1),
    ],
    ids=lambda line: line[:70].decode(errors="replace"),
)
def test_an_event_of_other_values_is_recognised(answering, line):
    with pytest.raises(WorkerError, match="is no worker of this version"):
        list(events(answering(HEAD + START + line + b"\n")))


def test_numbers_that_are_none_are_sent_as_null(answering):
    token = b'{"event":"token","arm":0,"id":5,"text":"x","scalars":{"o":[1.5,null]}}\n'
    _, token, done = events(answering(HEAD + START + token + b'{"event":"done","seconds":1,"tokens":1}'))
    assert token.scalars["o"].tolist() == pytest.approx([1.5, float("nan")], nan_ok=True)
    assert done.tokens == 1


@pytest.mark.parametrize("wrong", [{"model": 5}, {"layers": "24"}, {"layers": -1}, {"status": "gone"}, {"active": 1.5},
                                   {"organisms": {"o": [{"name": "a", "layer": None, "module": "m"}]}},
                                   {"organisms": []}, {"error": None}, {"context": 10**400}])  # fmt: skip
def test_health_of_other_values_is_recognised(answering, wrong):
    health = {"status": "ready", "model": "m", "organisms": {}, **wrong}
    with pytest.raises(WorkerError, match="is no worker of this version"):
        answering(HEAD + json.dumps(health).encode()).health()


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH\r\n", b""])
def test_what_speaks_no_http_is_a_broken_connection(answering, reply):
    with pytest.raises(WorkerError, match=r"the connection to the worker at http://127.0.0.1:\d+ broke"):
        answering(reply).health()


def test_a_worker_that_dies_in_the_middle_is_an_error_after_what_it_said(answering):
    stream = events(answering(HEAD + START))
    assert next(stream) == Start("1", ("a",), ("a",))
    with pytest.raises(WorkerError, match="in the middle of the answer"):
        next(stream)
    cut = events(answering(HEAD + START + b'{"event":"tok'))
    assert isinstance(next(cut), Start)
    with pytest.raises(WorkerError):
        next(cut)


def test_silence_is_an_error_in_the_end(answering, monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 0.3)
    stream = events(answering(HEAD + START, close=False))
    next(stream)
    started = time.perf_counter()
    with pytest.raises(WorkerError, match="does not answer"):
        next(stream)
    assert time.perf_counter() - started < 2


def test_closing_hangs_up_at_once(answering):
    stream = events(answering(HEAD + START, close=False))
    next(stream)
    stream.close()
    peer = answering.opened[-1]
    peer.settimeout(0.5)
    assert peer.recv(1) == b""


def test_a_request_that_is_too_large_is_not_sent(monkeypatch):
    monkeypatch.setattr(client, "MAX_BODY", 1000)
    with pytest.raises(WorkerError, match="use fewer arms"):
        next(Worker("http://127.0.0.1:1").generate("x" * 1000, [Arm("a")]))
