"""Who may ask: names, origins, tokens, rates; what is counted and logged of it; and how a worker stops."""

import json
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import anyio
import httpx2
import pytest
from starlette.requests import Request

from backend.worker.access import Access, Admission
from backend.worker.metrics import requests_log
from backend.worker.service import Service
from tests.worker.conftest import serving, wait
from tests.worker.scripted import ScriptedEngine
from tests.worker.test_history import asked

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "a secret question"}]}


def asking(admission, **options):
    return serving(lambda: ScriptedEngine(**options), admission=admission)


def test_with_a_token_nothing_but_health_is_said_without_it():
    with asking(Admission(token=TOKEN)) as worker, httpx2.Client(base_url=worker.url) as client:
        assert client.get("/health").status_code == 200
        for path in ("/v1/models", "/openapi.json", "/metrics", "/v1/generations", "/lora-adapters"):
            for headers in (
                {},
                {"Authorization": TOKEN},
                {"Authorization": f"Basic {TOKEN}"},
                {"Authorization": "Bearer x"},
            ):
                assert client.get(path, headers=headers).status_code == 401
            assert client.get(path, headers=BEARER).status_code == 200
        refused = client.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert client.post("/v1/chat/completions", json=CHAT, headers=BEARER).status_code == 200


def test_pages_from_elsewhere_may_not_ask():
    with asking(Admission()) as worker, httpx2.Client(base_url=worker.url) as client:
        for origin in ("https://evil.example", "null", "http://localhost.evil", "http://[::1"):
            assert client.get("/v1/models", headers={"Origin": origin}).status_code == 403
        for origin in (worker.url, "http://localhost:8501"):
            assert client.get("/v1/models", headers={"Origin": origin}).status_code == 200
    with asking(Admission(any_host=True, token=TOKEN)) as worker, httpx2.Client(base_url=worker.url) as client:
        named = {**BEARER, "Host": "lab.example"}
        assert client.get("/v1/models", headers={**named, "Origin": "https://lab.example"}).status_code == 200
        assert client.get("/v1/models", headers={**named, "Origin": "http://localhost:8501"}).status_code == 403


def test_a_client_has_so_many_requests_a_minute_evenly():
    now = [0.0]
    access = Access(None, Admission(rate=6), lambda: now[0])
    assert [access._wait("a") for _ in range(6)] == [0.0] * 6
    assert access._wait("a") == pytest.approx(10.0)
    assert access._wait("b") == 0.0
    now[0] = 9.0
    assert access._wait("a") == pytest.approx(1.0)
    now[0] = 10.5
    assert access._wait("a") == 0.0
    assert access._wait("a") > 0
    now[0] = 1e6
    assert [access._wait("a") for _ in range(7)][5:] == [0.0, pytest.approx(10.0)]
    now[0] = 0.0  # a clock that went backwards costs nobody more than a minute
    assert access._wait("b") == 0.0


@pytest.mark.parametrize(("rate", "seconds"), [(1, 60), (11, 6), (50, 2), (600, 1)])
def test_who_comes_back_when_told_is_served(rate, seconds):
    now = [0.0]
    passed = []

    async def app(scope, receive, send):
        passed.append(scope)

    access = Access(app, Admission(rate=rate), lambda: now[0])
    request = Request({"type": "http", "path": "/v1/x", "headers": [(b"host", b"localhost")], "client": ("a", 1)})
    while (refused := access._refused(request)) is None:
        pass
    retry = int(refused.headers["retry-after"])
    assert retry == seconds
    assert f"in {seconds} seconds" in refused.body.decode()
    now[0] += retry
    assert access._refused(request) is None


def test_past_its_rate_a_client_is_told_when_to_come_back():
    with asking(Admission(rate=2)) as worker, httpx2.Client(base_url=worker.url) as client:
        replies = [client.get("/v1/models") for _ in range(6)]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert refused
    assert 1 <= int(refused[-1].headers["retry-after"]) <= 31
    assert refused[-1].json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(("token", "message"), [("", "sets a token"), ("short", "at least 16"), ("ä" * 20, "ASCII")])
def test_a_worker_for_others_does_not_start_without_a_token(token, message):
    command = [sys.executable, "-m", "backend.worker", "--model", "x", "--host", "0.0.0.0", "--port", "0"]
    environment = {"EM_WORKER_TOKEN": token, "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_metrics_count_requests_tokens_and_ends():
    with asking(Admission()) as worker, httpx2.Client(base_url=worker.url) as client:
        client.post("/v1/chat/completions", json={**CHAT, "n": 2})
        client.get("/v1/generations/none")
        text = client.get("/metrics").text
    for line in (
        'em_requests_total{route="/v1/chat/completions",status="200"} 1.0',
        'em_requests_total{route="/v1/generations/{id}",status="404"} 1.0',
        "em_tokens_total 8.0",
        'em_generations_total{end="done"} 1.0',
        "em_first_token_seconds_count 1.0",
        "em_rows 4.0",
    ):
        assert line in text.splitlines(), line


def test_what_the_worker_fails_on_is_counted_as_500():
    class Broken(ScriptedEngine):
        def submit(self, *arguments):
            raise RuntimeError("no")

    with serving(lambda: Broken()) as worker, httpx2.Client(base_url=worker.url) as client:
        wait(lambda: worker.health().status == "ready")
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 500
        assert 'em_requests_total{route="/v1/chat/completions",status="500"} 1.0' in client.get("/metrics").text


def test_requests_are_logged_as_json_without_what_was_said(caplog):
    requests_log.setLevel(logging.INFO)
    try:
        with asking(Admission()) as worker, httpx2.Client(base_url=worker.url) as client:
            client.post("/v1/chat/completions", json=CHAT)
    finally:
        requests_log.setLevel(logging.NOTSET)
    [line] = [json.loads(r.message) for r in caplog.records if "/v1/chat" in r.message]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/chat/completions", 200)
    assert "secret" not in caplog.text


@pytest.fixture
def draining():
    """A service without a socket, whose engine takes its time."""
    service = Service("tiny", cast(Any, lambda: ScriptedEngine(pause=0.1)))
    wait(lambda: service.engine is not None)
    yield service
    service.close()


def test_a_draining_worker_finishes_and_then_ends(draining):
    record = draining.generations.submit(draining.engine, asked(), "live", "")
    drained = threading.Thread(target=draining.drain, args=(10,))
    drained.start()
    drained.join(5)
    assert not drained.is_alive()
    assert record.status == "finished"


def test_a_draining_worker_waits_no_longer_than_it_may_and_takes_nothing_new(draining):
    record = draining.generations.submit(draining.engine, asked(), "live", "")
    draining.drain(0.1)
    assert not record.over
    scope = {"type": "http", "method": "POST", "path": "/v1/generations", "headers": [], "query_string": b""}
    with ThreadPoolExecutor(1) as aside:  # a browser test before this one may have left a loop in this thread
        reply = aside.submit(anyio.run, draining.answer, Request(scope), None).result()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert b"stopping" in reply.body
