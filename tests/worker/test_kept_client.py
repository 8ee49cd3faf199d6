"""The client of kept generations, over a socket: begin, leave, come back by number, list, stop."""

import json
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from backend.worker.client import Done, Token, Worker, WorkerError, asked_to_json
from backend.worker.history import History
from backend.worker.protocol import generation_from_json
from tests.worker.conftest import serving, wait
from tests.worker.scripted import WORDS, FailingEngine, ScriptedEngine

ASKED = generation_from_json({"prompt": "why?", "arms": [{"name": "A"}, {"name": "A", "draw": 1}], "seed": 3})


@pytest.fixture
def worker():
    with serving(lambda: ScriptedEngine(pause=0.02)) as running:
        wait(lambda: running.health().status == "ready")
        yield running


def heard(worker, id, after=-1):
    with closing(worker.events(id, 2, after)) as events:
        return [(number, event) for number, event in events if type(event).__name__ != "Waiting"]


def test_a_generation_goes_on_unheard_and_is_read_from_any_number_on(worker):
    id = worker.begin(ASKED, "somebody")
    first = []
    with closing(worker.events(id, 2)) as events:
        first = [next(events) for _ in range(3)]
    whole = heard(worker, id)
    assert [number for number, _ in whole] == list(range(len(whole)))
    assert isinstance(whole[-1][1], Done)
    assert "".join(event.text for _, event in whole if isinstance(event, Token) and event.arm == 0) == "".join(WORDS)
    for number, event in first:
        if type(event).__name__ != "Waiting":
            assert type(whole[number][1]) is type(event)
    assert [number for number, _ in heard(worker, id, 4)] == list(range(5, len(whole)))


def test_what_was_asked_comes_back_as_it_was(worker):
    id = worker.begin(ASKED)
    line, request = worker.kept(id)
    assert asked_to_json(request) == asked_to_json(ASKED)
    assert (line.id, line.kind, line.arms, line.question, line.seed) == (id, "generation", ("A", "A"), "why?", 3)
    assert worker.kept("0" * 32) is None
    assert worker.kept("../health") is None


def test_the_history_is_the_newest_first_and_goes_on_behind_one(worker):
    ids = [worker.begin(ASKED) for _ in range(3)]
    wait(lambda: all(line.status == "finished" for line in worker.history()[0]))
    lines, more = worker.history(2)
    assert [line.id for line in lines] == [ids[2], ids[1]]
    assert more
    rest, more = worker.history(2, after=ids[1])
    assert [line.id for line in rest] == [ids[0]]
    assert not more


def test_one_that_is_stopped_keeps_what_it_has(worker):
    worker_slow = ScriptedEngine(pause=0.1)
    with serving(lambda: worker_slow) as slow:
        wait(lambda: slow.health().status == "ready")
        id = slow.begin(ASKED)
        slow.cancel(id)
        heard(slow, id)
        assert slow.kept(id)[0].status == "cancelled"


def test_a_failure_is_its_last_event(tmp_path):
    with serving(FailingEngine, history=History(tmp_path)) as worker:
        wait(lambda: worker.health().status == "ready")
        id = worker.begin(ASKED)
        assert heard(worker, id)[-1][1].message == "out of memory"
        assert worker.kept(id)[0].status == "failed"


def test_a_refusal_is_told_in_the_workers_words(worker):
    with pytest.raises(WorkerError, match="whose request it is"):
        worker.begin(ASKED, "x" * 500)


@contextmanager
def saying(body, kind="application/json"):
    """A server that says this to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Worker(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"\xff", b'{"data": [{}]}', b'{"judge": 3, "scores": [{}]}'])
def test_what_is_no_worker_is_said_to_be_none(body):
    with saying(body) as foreign:
        for ask in (
            lambda: foreign.begin(ASKED),
            lambda: foreign.kept("0" * 32),
            foreign.history,
            lambda: foreign.scores([("q", "a")]),
        ):
            with pytest.raises(WorkerError, match="no worker of this version"):
                ask()


@pytest.mark.parametrize("wrong", [{"created": 1e20}, {"created": -1}, {"created": True}, {"arms": []}, {}])
def test_a_line_of_no_time_or_without_an_arm_is_none(wrong):
    line = {
        **{"id": "0" * 32, "kind": "live", "created": 1.0, "status": "finished", "arms": ["A"]},
        **{"question": "q", "seed": 0, "tokens": 1, **wrong},
    }
    with saying(json.dumps({"data": [line], "has_more": False}).encode()) as foreign:
        if wrong:
            with pytest.raises(WorkerError, match="no worker of this version"):
                foreign.history()
        else:
            assert foreign.history()[0][0].arms == ("A",)


@pytest.mark.parametrize(
    "lines",
    [
        b"id: x\ndata: {}\n\n",
        b"id: 0\ndata: []\n\n",
        b'id: 0\ndata: {"event":"token","arm":9,"id":1,"text":"a","scalars":{}}\n\n',
    ],
)
def test_garbled_events_are_no_events(lines):
    with saying(lines, "text/event-stream") as foreign, pytest.raises(WorkerError, match="no worker of this version"):
        list(foreign.events("0" * 32, 2))


def test_events_that_end_early_say_so():
    line = json.dumps({"event": "token", "arm": 0, "id": 1, "text": "a", "scalars": {}}).encode()
    with saying(b"id: 0\ndata: " + line + b"\n\n", "text/event-stream") as cut:
        events = cut.events("0" * 32, 2)
        assert next(events)[0] == 0
        with pytest.raises(WorkerError, match="in the middle"):
            next(events)
