"""The service on a real socket: it answers while the model loads, refuses in plain words, frees what nobody reads."""

import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from backend.edits import Ablate
from backend.records import Direction, InputError, Sampling
from backend.worker.access import Admission
from backend.worker.client import Arm, Done, Token, Worker, WorkerError
from backend.worker.protocol import MAX_BODY, generation_to_json
from tests.worker.conftest import direction, endless, serving, wait

LONG = Sampling(max_new_tokens=2000)
FREED = 0.5  # seconds


def ask(worker, method="GET", path="/health", body=None, **headers):
    """Status and JSON of one plain request."""
    parts = urlsplit(worker.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def post(worker, body, **headers):
    return ask(worker, "POST", "/generate", body, **{"Content_Type": "application/json", **headers})


def request(arms=None, sampling=LONG):
    return json.dumps(generation_to_json("hello", arms or [Arm("a"), Arm("b")], sampling, 0, [])).encode()


@pytest.fixture
def busy(subject, engines):
    """A worker whose answers do not end by themselves."""
    with serving(lambda: engines(endless(subject))) as worker:
        wait(lambda: worker.health().status == "ready")
        yield worker


# --- health ---


def test_health_answers_while_the_model_loads_and_generate_says_so(subject, engines):
    go = threading.Event()

    def load():
        go.wait(10)
        return engines(subject)

    with serving(load) as worker:
        health = worker.health()
        assert (health.status, health.model, health.layers, health.organisms) == ("loading", "tiny", 0, {})
        with pytest.raises(WorkerError, match="tiny is still loading: try again"):
            next(worker.generate("hello", [Arm("a")]))
        go.set()
        wait(lambda: worker.health().status == "ready")
        health = worker.health()
        assert (health.layers, health.d_model, health.context, health.active) == (6, 32, 4096, 0)
        assert [(p.name, p.layer, p.module) for p in health.organisms["o"]] == [
            (f"layers.{layer}.mlp.down_proj", layer, "mlp.down_proj") for layer in (1, 2, 4)
        ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("no adapter at 'x': neither here nor there"), "no adapter at 'x': neither here nor there"),
        (MemoryError("too large"), "tiny could not be loaded (MemoryError: too large)"),
    ],
)
def test_a_failed_load_is_reported_and_the_service_stays(error, message):
    def load():
        raise error

    with serving(load) as worker:
        wait(lambda: worker.health().status == "failed")
        assert worker.health().error == message
        with pytest.raises(WorkerError) as caught:
            next(worker.generate("hello", [Arm("a")]))
        assert str(caught.value) == message


# --- what is refused ---

BODIES = {
    "not JSON": (b"{", "not JSON"),
    "not text": (b"\xff\xfe{}", "not JSON"),
    "a bomb": (b"[" * 200_000, "not JSON"),
    "long number": (b'{"seed":' + b"9" * 5000 + b"}", "not JSON"),
    "no request": (b"[1]", "must be a JSON object"),
    "empty": (b"", "not JSON"),
    "too large": (b" " * (MAX_BODY + 1), "larger than 8 MB"),
}


@pytest.mark.parametrize(("body", "message"), BODIES.values(), ids=BODIES)
def test_hostile_bodies_are_422_with_a_sentence(ready, body, message):
    status, reply = post(ready, body)
    assert status == 422
    assert message in reply["error"]
    assert ready.health().status == "ready"


def test_what_the_model_lacks_is_422_with_a_sentence(ready):
    for arm in (Arm("x", (direction_edit(layer=6),)), Arm("x", (direction_edit(width=7),))):
        status, reply = post(ready, request([arm]))
        assert status == 422
        assert reply["error"].startswith("arm 'x': ")


def direction_edit(**shape):
    made = direction(**shape)
    return Ablate(made, (made.layer,))


def test_a_body_must_say_that_it_is_json(ready):
    status, reply = post(ready, request(), Content_Type="text/plain")
    assert status == 422
    assert "Content-Type: application/json" in reply["error"]


def test_errors_of_the_web_framework_are_json_too(ready):
    assert ask(ready, path="/")[0] == 404
    assert ask(ready, "PUT", "/generate")[0] == 405
    status, reply = ask(ready, "DELETE", "/generate/none")
    assert (status, list(reply)) == (404, ["error"])


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1", "[::1", "localhost.evil"]
)
def test_a_foreign_host_header_is_refused(ready, host):
    status, reply = ask(ready, Host=host)
    assert status == 403
    assert "--host" in reply["error"]


def test_any_host_is_served_where_that_was_asked_for(subject, engines):
    with serving(lambda: engines(subject), admission=Admission(any_host=True)) as worker:
        assert ask(worker, Host="evil.example")[0] == 200


def test_nothing_is_allowed_across_origins(ready):
    parts = urlsplit(ready.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request("OPTIONS", "/generate", headers={"Origin": "https://evil.example"})
    reply = connection.getresponse()
    assert reply.status == 403
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]
    connection.close()


def test_a_full_queue_is_429_and_says_when_to_come_back(subject, engines):
    with serving(lambda: engines(endless(subject), capacity=1, queue=1)) as worker:
        wait(lambda: worker.health().status == "ready")
        running, waiting = (worker.generate("hello", [Arm("a")], LONG) for _ in range(2))
        assert isinstance(first(running, Token), Token)
        next(waiting)
        status, reply = post(worker, request([Arm("a")]))
        assert status == 429
        assert "try again" in reply["error"]
        assert next(waiting).ahead == 0
        running.close()
        assert isinstance(first(waiting, Token), Token)
        waiting.close()


# --- what nobody reads ---


def first(events, kind):
    return next(event for event in events if isinstance(event, kind))


def freed(worker):
    """Seconds until no row is active."""
    return wait(lambda: worker.health().active == 0)


def test_stop_ends_the_answer_and_frees_its_rows(busy):
    events = busy.generate("hello", [Arm("a"), Arm("b")], LONG)
    start = next(events)
    first(events, Token)
    assert busy.health().active == 2
    assert busy.stop(start.id)
    assert freed(busy) < FREED
    *_, end_a, end_b, done = events
    assert (end_a.reason, end_b.reason) == ("cancelled", "cancelled")
    assert isinstance(done, Done)
    assert not busy.stop(start.id)


def test_closing_the_generator_frees_the_rows(busy):
    events = busy.generate("hello", [Arm("a"), Arm("b")], LONG)
    first(events, Token)
    assert busy.health().active == 2
    events.close()
    assert freed(busy) < FREED


def test_a_generator_that_is_forgotten_frees_the_rows(busy):
    assert isinstance(first(busy.generate("hello", [Arm("a")], LONG), Token), Token)
    assert freed(busy) < FREED


@pytest.mark.parametrize("abruptly", [False, True])
def test_a_dropped_socket_frees_the_rows(busy, abruptly):
    parts = urlsplit(busy.url)
    sock = socket.create_connection((parts.hostname, parts.port), timeout=10)
    body = request()
    head = (
        f"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    sock.sendall(head.encode() + b"\r\n\r\n" + body)
    while b'"token"' not in sock.recv(65536):
        pass
    assert busy.health().active == 2
    if abruptly:  # a reset instead of a farewell
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    assert freed(busy) < FREED


def test_a_killed_reader_frees_the_rows(busy):
    code = (
        "import sys; from backend.worker.client import *; from backend.records import Sampling\n"
        "for event in Worker(sys.argv[1]).generate('hello', [Arm('a')], Sampling(max_new_tokens=2000)):\n"
        "    print(flush=True)"
    )
    reader = subprocess.Popen([sys.executable, "-c", code, busy.url], stdout=subprocess.PIPE)
    reader.stdout.readline()
    wait(lambda: busy.health().active == 1)
    reader.kill()
    assert freed(busy) < FREED
    reader.communicate()


def test_a_client_that_left_while_it_waited_is_not_served(subject, engines):
    with serving(lambda: engines(endless(subject), capacity=1)) as worker:
        wait(lambda: worker.health().status == "ready")
        running, waiting = (worker.generate("hello", [Arm("a")], LONG) for _ in range(2))
        first(running, Token)
        next(waiting)
        assert worker.health().waiting == 1
        waiting.close()
        assert wait(lambda: worker.health().waiting == 0) < FREED
        running.close()


def test_a_reader_that_does_not_read_holds_nobody_up(busy):
    lazy = busy.generate("hello", [Arm("a")] * 8, LONG, capture=["o"])
    next(lazy)
    started = time.perf_counter()
    quick = list(busy.generate("hello", [Arm("b")], Sampling(max_new_tokens=5)))
    assert isinstance(quick[-1], Done)
    assert time.perf_counter() - started < 5
    lazy.close()
    assert freed(busy) < FREED


# --- together ---


def test_eight_readers_at_once_share_the_passes(subject, engines):
    """With 20 ms a pass, eight answers of 20 tokens take nearer one answer's time than eight answers'."""
    with serving(lambda: engines(endless(subject, seconds=0.02))) as worker:
        wait(lambda: worker.health().status == "ready")
        sampling = Sampling(max_new_tokens=20)
        counts = []

        def read(seed):
            events = worker.generate("hello", [Arm("a"), Arm("b")], sampling, seed)
            counts.append(sum(isinstance(event, Token) for event in events))

        alone = timed(lambda: read(0))
        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]

        def all_of_them():
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()

        assert timed(all_of_them) < 4 * alone
        assert counts == [40] * 9


def timed(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def test_an_error_in_the_engine_reaches_the_reader_as_a_sentence(subject, engines):
    broken = threading.Event()

    def hook(module, inputs):
        if broken.is_set():
            raise RuntimeError("out of memory")

    subject.blocks[2].register_forward_pre_hook(hook)
    with serving(lambda: engines(endless(subject))) as worker:
        wait(lambda: worker.health().status == "ready")
        events = worker.generate("hello", [Arm("a")], LONG)
        first(events, Token)
        broken.set()
        with pytest.raises(WorkerError, match=r"failed while writing this answer \(RuntimeError: out of memory\)"):
            list(events)
        broken.clear()
        assert isinstance(list(worker.generate("hello", [Arm("a")], Sampling(max_new_tokens=2)))[-1], Done)


def test_the_first_token_comes_soon(ready):
    assert isinstance(ready, Worker)
    list(ready.generate("hello", [Arm("a")], Sampling(max_new_tokens=2)))
    assert timed(lambda: first(ready.generate("hello", [Arm("a"), Arm("b")], LONG), Token)) < 0.5


# --- lenses ---


def test_a_direction_made_on_a_page_has_a_lens(ready, subject):
    token = 75
    row = subject.model.lm_head.weight[token].detach().numpy()
    up, down = ready.lenses([Direction("v", 2, row), Direction("-v", 2, -row)])
    assert up.top[0][0] == down.bottom[0][0] == subject.tokenizer.decode([token])
    assert len(up.top) == len(up.bottom) == 20


def test_directions_of_another_model_and_bodies_that_are_none_are_refused(ready):
    with pytest.raises(WorkerError, match="another model"):
        ready.lenses([direction(width=7)])
    for body in (b"{}", b'{"directions": []}', b'{"directions": [{"name": "v"}]}', b"nonsense"):
        status, reply = ask(ready, "POST", "/lens", body, Content_Type="application/json")
        assert status == 422
        assert reply["error"]
    assert ask(ready, "POST", "/lens", b"{}")[0] == 422
