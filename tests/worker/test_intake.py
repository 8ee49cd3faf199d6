"""What comes in: refused when it is too long, too much at once, too slow; and what it took is given back."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psutil
import pytest

from backend.records import InputError
from backend.worker import intake
from backend.worker.client import Worker
from backend.worker.protocol import MAX_BODY, MAX_VALUES
from tests.studies import tiny
from tests.worker.conftest import wait

HEAD = "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def dial(worker):
    parts = urlsplit(worker.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def said(sock):
    """All that the other side says until it hangs up."""
    found = b""
    while part := sock.recv(65536):
        found += part
    return found


def post(worker, body, head=None):
    """The status, 0 where the other side hung up, and the message."""
    with dial(worker) as sock:
        sock.sendall((head or f"{HEAD}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n").encode())
        sock.sendall(body)
        reply = said(sock)
    status, _, rest = reply.partition(b"\r\n")
    return int(status.split()[1]), json.loads(rest.split(b"\r\n\r\n", 1)[1])["error"]


@pytest.mark.parametrize("chunked", [False, True], ids=["said", "not said"])
def test_a_long_body_is_refused_with_a_sentence_whether_it_says_so_or_not(ready, chunked):
    body = b" " * (MAX_BODY + 1)
    head = f"{HEAD}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else None
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    assert post(ready, sent, head) == (
        422,
        f"the request is larger than {MAX_BODY // 2**20} MB: use fewer arms or fewer directions",
    )


def test_an_impossible_length_is_refused_before_anything_is_read(ready):
    with dial(ready) as sock:
        sock.sendall(f"{HEAD}Content-Length: {10**15}\r\n\r\n".encode())
        assert b" 422 " in said(sock).partition(b"\r\n")[0]


def test_many_small_values_are_refused_unread():
    intake.from_json(b"[" + b"0," * (MAX_VALUES - 1) + b"0]")
    started = time.perf_counter()
    with pytest.raises(InputError, match=f"more than {MAX_VALUES} values"):
        intake.from_json(b'{"prompt":"a","arms":[' + b"{}," * (MAX_BODY // 4) + b"{}]}")
    assert time.perf_counter() - started < 0.5


def test_one_large_request_too_many_is_busy_and_its_room_comes_back(ready, monkeypatch):
    monkeypatch.setattr(intake, "HELD", MAX_BODY)
    monkeypatch.setattr(intake, "BODY_SECONDS", 2.0)
    monkeypatch.setattr(intake, "ROOM_SECONDS", 0.3)
    with dial(ready) as slow:
        slow.sendall(f"{HEAD}Content-Length: {MAX_BODY}\r\n\r\n".encode())
        time.sleep(0.2)
        assert post(ready, b" " * 1000)[0] == 503
        assert b" 408 " in said(slow).partition(b"\r\n")[0]
    assert post(ready, b" " * 1000)[0] == 422  # read, and no JSON


def test_a_body_that_does_not_come_is_given_up_with_a_sentence(ready, monkeypatch):
    monkeypatch.setattr(intake, "BODY_SECONDS", 0.3)
    with dial(ready) as sock:
        sock.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        reply = said(sock)
    assert b" 408 " in reply.partition(b"\r\n")[0]
    assert b"did not arrive within 0.3 seconds" in reply


@pytest.mark.parametrize("sent", [b"", b"POST /gen", HEAD.encode()], ids=["silent", "no line", "no end of headers"])
def test_a_head_that_does_not_come_is_hung_up_on(ready, monkeypatch, sent):
    monkeypatch.setattr(intake, "HEAD_SECONDS", 0.3)
    with dial(ready) as sock:
        sock.sendall(sent)
        started = time.perf_counter()
        assert said(sock) == b""
        assert 0.2 < time.perf_counter() - started < 5


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(ready, monkeypatch):
    monkeypatch.setattr(intake, "HEAD_SECONDS", 0.5)

    def drip(sock):
        for _ in range(100):
            sock.sendall(b"G")
            time.sleep(0.05)

    with dial(ready) as sock, pytest.raises(OSError, match=r"reset|pipe"):
        drip(sock)


def test_the_second_request_of_a_connection_must_arrive_too(ready, monkeypatch):
    monkeypatch.setattr(intake, "HEAD_SECONDS", 0.5)
    with dial(ready) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while b'"error":""' not in sock.recv(65536):
            pass
        sock.sendall(b"GET /hea")
        assert said(sock) == b""


def test_an_answer_takes_longer_than_a_head_may(ready, monkeypatch):
    """The clock of the head stops when the head is there."""
    monkeypatch.setattr(intake, "HEAD_SECONDS", 0.3)
    with dial(ready) as sock:
        sock.sendall(f"{HEAD}Connection: close\r\nContent-Length: 2\r\n\r\n".encode())
        time.sleep(0.8)
        sock.sendall(b"{}")
        assert b" 422 " in said(sock).partition(b"\r\n")[0]


def test_memory_comes_back_after_many_large_bodies(tmp_path):
    tiny.model().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    place = tmp_path / "ready"
    command = [sys.executable, "-m", "backend.worker", "--port", "0", "--ready-file", place]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--model", tmp_path / "model"], env=environment)
    try:
        wait(place.exists, seconds=60)
        worker = Worker(place.read_text())
        wait(lambda: worker.health().status == "ready", seconds=120)
        bodies = [
            b'{"prompt":"a","arms":[' + b"{}," * ((MAX_BODY - 100) // 3) + b"{}]}",
            b'{"prompt":"' + b"x" * (MAX_BODY - 100) + b'"}',
            b'{"prompt":"a","arms":[' + b'{"a":"' + b"y" * 60 + b'"},' * (MAX_BODY // 80) + b"{}]}",
        ]
        post(worker, b"{}")
        before, most = resident(process), 0
        with ThreadPoolExecutor(12) as pool:
            replies = [pool.submit(post, worker, body) for body in bodies * 4]
            while not all(reply.done() for reply in replies):
                most = max(most, resident(process))
                time.sleep(0.02)
        assert {reply.result()[0] for reply in replies} == {422}
        assert most < before + 400
        wait(lambda: resident(process) < 1.2 * before, seconds=10)
    finally:
        process.kill()
        process.wait()


def resident(process):
    """MB of memory."""
    return psutil.Process(process.pid).memory_info().rss / 2**20
