"""Many at once, over real sockets: connections that say nothing, users who ask and leave, a clock that goes back."""

import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from urllib.parse import urlsplit

import httpx2
import psutil

from backend.records import Sampling
from backend.worker import generations as generations_module
from backend.worker import intake
from backend.worker.client import Arm, Done, Token
from backend.worker.generations import Generations
from backend.worker.history import History
from tests.worker.conftest import endless, serving, wait
from tests.worker.scripted import WORDS, ScriptedEngine
from tests.worker.test_history import ASKED, asked, asking, over

MANY = 200  # connections
POST = "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
USERS, REQUESTS = 8, 10  # 16 x 20 is a row of the benchmarks


def test_two_hundred_connections_that_say_nothing_keep_nobody_out(monkeypatch):
    monkeypatch.setattr(intake, "HEAD_SECONDS", 1.0)
    with serving(lambda: ScriptedEngine()) as worker:
        wait(lambda: worker.health().status == "ready")
        parts, process = urlsplit(worker.url), psutil.Process()
        before = process.num_fds()
        sockets = [socket.create_connection((parts.hostname, parts.port), timeout=10) for _ in range(MANY)]
        try:
            for half in sockets[::2]:
                half.sendall(b"POST /generate HTTP/1.1\r\nHost: localhost\r\n")
            started = time.perf_counter()
            assert isinstance(list(worker.generate("hello", [Arm("a")]))[-1], Done)
            assert time.perf_counter() - started < 5
            assert all(sock.recv(1) == b"" for sock in sockets)  # each is hung up on
        finally:
            for sock in sockets:
                sock.close()
        wait(lambda: process.num_fds() <= before + 5)


def test_of_many_users_who_ask_and_leave_nothing_is_lost(tmp_path):
    """Every third leaves while it is written, every third follows to the end, the others come back for theirs."""
    engine = ScriptedEngine(pause=0.001)
    with (
        serving(lambda: engine, history=History(tmp_path / "history")) as worker,
        ThreadPoolExecutor(USERS) as users,
    ):
        wait(lambda: worker.health().status == "ready")

        def use(user):
            found = []
            with httpx2.Client(base_url=worker.url, timeout=60) as client:
                for i in range(REQUESTS):
                    asks = {**ASKED, "seed": user * REQUESTS + i, "user": f"user {user}"}
                    id = client.post("/v1/generations", json=asks).json()["id"]
                    found.append((id, asks["seed"]))
                    if i % 3 == 0:
                        with client.stream("GET", f"/v1/generations/{id}/events") as reply:
                            next(reply.iter_lines())
                        client.post(f"/v1/generations/{id}/cancel")
                    elif i % 3 == 1:
                        client.get(f"/v1/generations/{id}/events")
            return found

        made = dict(chain.from_iterable(users.map(use, range(USERS))))
        assert len(made) == USERS * REQUESTS
        with asking(worker) as client:
            for id, seed in made.items():
                found = over(client, id)
                assert found["seed"] == seed
                assert found["status"] in ("finished", "cancelled")
                texts = {answer["text"] for answer in found["answers"]}
                whole = "".join(WORDS)
                assert texts == {whole} or (found["status"] == "cancelled" and all(map(whole.startswith, texts)))
            assert client.get("/health").json()["active"] == 0


def test_a_clock_that_goes_back_hides_nothing(tmp_path, monkeypatch):
    times = count(2_000_000_000, -3600)
    monkeypatch.setattr(generations_module.time, "time", lambda: float(next(times)))
    generations = Generations(History(tmp_path / "history"))
    made = [generations.submit(ScriptedEngine(), asked(), "live", "") for _ in range(5)]
    wait(lambda: all(record.over for record in made))
    assert {line["id"] for line in generations.summaries()} == {record.id for record in made}
    generations.close()
    again = Generations(History(tmp_path / "history"))
    assert again.interrupted == []
    assert {line["id"] for line in again.summaries()} == {record.id for record in made}
    assert [again.find(record.id).whole() for record in made] == [record.whole() for record in made]
    again.close()


def test_a_reader_that_never_reads_costs_no_memory_and_no_time(tmp_path):
    words = ("x" * 2000,) * 500
    with serving(lambda: ScriptedEngine(words=words)) as worker:
        wait(lambda: worker.health().status == "ready")
        parts, body = urlsplit(worker.url), json.dumps(ASKED).encode()
        head = f"{POST}Content-Length: {len(body)}"
        lazy = []
        for _ in range(4):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect((parts.hostname, parts.port))
            sock.sendall(head.encode() + b"\r\n\r\n" + body)
            lazy.append(sock)
        with asking(worker) as client:
            wait(
                lambda: sum(line["status"] == "finished" for line in client.get("/v1/generations").json()["data"]) == 4
            )
            started = time.perf_counter()
            assert len(list(worker.generate("hello", [Arm("a")]))) > len(words)
            assert time.perf_counter() - started < 10
        for sock in lazy:
            sock.close()


def test_rows_and_passes_of_many_users_leave_nothing_behind(subject, engines):
    """The same of a model: some stop, some hang up, some read all; then nothing is held."""
    engine = engines(endless(subject, seconds=0.001))
    rng = random.Random(0)
    with serving(lambda: engine) as worker, ThreadPoolExecutor(8) as users:
        wait(lambda: worker.health().status == "ready")

        def use(user):
            ends = []
            for i in range(6):
                events = worker.generate(
                    f"question {user}", [Arm("a"), Arm("b")], Sampling(max_new_tokens=30), user * 9 + i
                )
                start = next(events)
                how = rng.choice(("stop", "hang up", "read"))
                if how == "hang up":
                    next(event for event in events if isinstance(event, Token))
                    events.close()
                    continue
                if how == "stop":
                    worker.stop(start.id)
                ends.append(list(events)[-1])
            return ends

        ends = list(chain.from_iterable(users.map(use, range(8))))
        assert all(isinstance(end, Done) for end in ends)
        wait(lambda: engine.health().active == 0)
    assert not engine._running
    assert not engine._cancelled
    assert engine._decoder._cache is None
    assert not engine._decoder._rows
