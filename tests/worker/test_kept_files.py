"""A history's folder as it may be found: odd files, other names, full disks; and what a worker's end leaves in it."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from backend.records import InputError
from backend.worker import generations as generations_module
from backend.worker import history as history_module
from backend.worker.generations import Generations
from backend.worker.history import History
from backend.worker.protocol import INTERRUPTED, Busy, Done, End, Failed, Start, Token, event_to_line
from tests.worker.conftest import wait
from tests.worker.scripted import WORDS, ScriptedEngine
from tests.worker.test_history import ASKED, asked, asking, over, served

EVENTS = (Start("1", ("a",), ("a", "b")), Token(0, 1, "Hel"), Token(1, 1, "x"), End(0, "stop"), End(1, "stop"))
WHOLE = (*EVENTS, Done(1.0, 2))
HEAD = {"format": 1, "kind": "live", "created": 1.5, "request": ASKED}


def kept(folder, id, *, head=HEAD, events=WHOLE, tail=b""):
    """A file of the history."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(head).encode() + b"\n", *map(event_to_line, events), tail]
    (folder / f"{id}.jsonl").write_bytes(b"".join(lines))
    return id


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "history"


# --- odd files ---


def odd(folder):
    """Each odd name, by what is odd about it."""
    names = {}

    def name(what):
        names[what] = f"{len(names):032x}"
        return names[what]

    kept(folder, name("sound"))
    (folder / f"{name('a folder')}.jsonl").mkdir()
    os.mkfifo(folder / f"{name('a pipe')}.jsonl")
    (folder / f"{name('a link to nothing')}.jsonl").symlink_to("nowhere")
    (folder / f"{name('a loop')}.jsonl").symlink_to(f"{names['a loop']}.jsonl")
    for what, created in (
        ("no time", "NaN"),
        ("no such time", "1e400"),
        ("a long time", "9" * 400),
        ("a flag", "true"),
    ):
        text = json.dumps(HEAD).replace("1.5", created)
        (folder / f"{name(what)}.jsonl").write_text(text + "\n")
    deep = '{"a":' * 100_000
    (folder / f"{name('deep')}.jsonl").write_text(deep + "\n")
    kept(folder, name("of a list"), head=[HEAD])
    kept(folder, name("another format"), head={**HEAD, "format": [["x" * 10_000]]})
    kept(folder, name("another request"), head={**HEAD, "request": {"prompt": "\ud800", "arms": [{"name": "a"}]}})
    return names


def lines_that_are_no_events():
    return (
        b'{"event":"token","arm":0,"id":5,"text":"x","scalars":[]}',
        b'{"event":"token","arm":0,"id":5,"text":"x","scalars":{"o":[[1]]}}',
        b'{"event":"token","arm":99,"id":5,"text":"x","scalars":{}}',
        b'{"event":"token","arm":-1,"id":5,"text":"x","scalars":{}}',
        b'{"event":"token","arm":0,"id":5,"text":7,"scalars":{}}',
        b'{"event":"token","arm":0,"id":5,"text":"\\ud800","scalars":{}}',
        b'{"event":"end","arm":7,"reason":"stop"}',
        b'{"event":"end","arm":0,"reason":"stop","receipts":[{"kind":"a","about":"v","layers":[1],"places":-1}]}',
        b'{"event":"error","message":["x"]}',
        b'{"event":"done","seconds":NaN,"tokens":1}',
        b"[[[[",
        b"[" * 200_000,
        b"\xff\xfe",
        b"null",
    )


def test_odd_files_are_left_out_and_said_and_the_others_are_there(folder, caplog):
    folder.mkdir()
    names = odd(folder)
    generations = Generations(History(folder))
    assert [line["id"] for line in generations.summaries()] == [names["sound"]]
    assert generations.find(names["sound"]).whole()["answers"][0]["text"] == "Hel"
    for what, id in names.items():
        if what != "sound":
            assert f"{id}.jsonl" in caplog.text, what
            with pytest.raises(InputError, match=f"{id}.jsonl"):
                generations.find(id)
    generations.close()
    with served(ScriptedEngine(), folder) as worker, asking(worker) as client:
        assert [line["id"] for line in client.get("/v1/generations").json()["data"]] == [names["sound"]]
        for what, id in names.items():
            reply = client.get(f"/v1/generations/{id}")
            assert reply.status_code == (200 if what == "sound" else 404), what
            assert what == "sound" or id in reply.json()["error"]["message"]


@pytest.mark.parametrize("line", lines_that_are_no_events(), ids=lambda line: line[:60].decode(errors="replace"))
def test_lines_that_are_no_events_are_left_out(folder, line):
    id = kept(folder, "a" * 32, events=(*EVENTS[:2], Failed("x")), tail=line + b"\n" + event_to_line(Done(1.0, 1)))
    with served(ScriptedEngine(), folder) as worker, asking(worker) as client:
        [listed] = client.get("/v1/generations").json()["data"]
        found = client.get(f"/v1/generations/{id}").json()
        assert (listed["status"], found["status"]) == ("finished", "finished")
        assert (found["tokens"], found["answers"][0]["text"]) == (1, "Hel")
        assert client.get(f"/v1/generations/{id}/events").text.count("data: ") == 4


def test_a_list_is_made_without_reading_tokens_and_says_the_same(folder):
    generations = Generations(History(folder))
    made = [generations.submit(ScriptedEngine(), asked(), "live", "").id for _ in range(3)]
    wait(lambda: all(generations.find(id).over for id in made))
    before = generations.summaries()
    generations.close()
    again = Generations(History(folder))
    assert again.summaries() == before
    assert before[0]["tokens"] == 2 * len(WORDS)
    again.close()


# --- other names ---


def test_one_folder_has_one_worker_whatever_it_is_called(folder, tmp_path, monkeypatch):
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    first = History(tmp_path / "link")
    monkeypatch.chdir(folder)
    for name in (folder, Path(), Path("../link"), Path("../history/../history")):
        with pytest.raises(InputError, match="writing this history"):
            History(name)
    first.close()
    History(Path()).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history", "link"]


def test_a_folder_that_is_none_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "file/in", "loop", "n" * 300):
        with pytest.raises(InputError, match="cannot be written"):
            History(tmp_path / name)


# --- full disks ---


def test_one_whose_end_the_disk_did_not_take_is_over_for_its_readers(folder, monkeypatch):
    generations = Generations(History(folder))
    record = generations.submit(ScriptedEngine(pause=0.02), asked(), "live", "")
    true = history_module.extend

    def full(handle, data):
        if handle == record.handle and b"token" in data:
            raise OSError(28, os.strerror(28))
        true(handle, data)

    monkeypatch.setattr(history_module, "extend", full)
    wait(lambda: record.over)
    with generations._lock:
        del generations._records[record.id]  # as when more of them have come since
    found = generations.find(record.id)
    assert found.over
    assert found.status == "interrupted"
    generations.close()


def test_a_mark_that_the_disk_does_not_take_hides_nothing(folder, monkeypatch, caplog):
    id = kept(folder, "a" * 32, events=EVENTS[:3])

    def full(handle, data):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(history_module, "extend", full)
    generations = Generations(History(folder))
    assert "No space left" in caplog.text
    assert generations.interrupted == [id]
    assert [(line["id"], line["status"], line["tokens"]) for line in generations.summaries()] == [
        (id, "interrupted", 2)
    ]
    assert generations.find(id).over
    generations.close()


# --- memory ---


def test_what_is_over_stays_in_memory_by_its_size(monkeypatch):
    monkeypatch.setattr(generations_module, "KEPT_BYTES", 100_000)
    generations = Generations()
    engine = ScriptedEngine(words=("x" * 10,) * 20)  # of two arms: 20 kB and more of events
    made = [generations.submit(engine, asked(), "live", "") for _ in range(12)]
    wait(lambda: all(record.over for record in made) and len(generations.summaries()) < 5)
    sizes = {record.id: record.size for record in made}
    assert all(20_000 < size < 40_000 for size in sizes.values())
    left = [line["id"] for line in generations.summaries()]
    assert sum(sizes[id] for id in left) <= 100_000
    generations.close()


def test_the_newest_is_there_however_large_it_is(monkeypatch):
    monkeypatch.setattr(generations_module, "KEPT_BYTES", 1)
    generations = Generations()
    made = []
    for _ in range(3):
        made.append(generations.submit(ScriptedEngine(), asked(), "live", ""))
        wait(lambda: made[-1].over)
    wait(lambda: [line["id"] for line in generations.summaries()] == [made[-1].id])
    generations.close()


# --- the end of a worker ---


def test_at_the_end_everybody_hears_and_the_disk_has_what_was_heard(folder):
    generations = Generations(History(folder))
    engine = ScriptedEngine(pause=0.05, words=WORDS * 100)  # as a model that is at it still when the engine is closed
    made = [generations.submit(engine, asked(), "live", "") for _ in range(3)]
    wait(lambda: all(len(record.events) > 2 for record in made))
    generations.close()
    assert [record.events[-1] for record in made] == [Failed(INTERRUPTED)] * 3
    assert [record.status for record in made] == ["interrupted"] * 3
    with pytest.raises(Busy, match="stopping"):
        generations.submit(engine, asked(), "live", "")
    assert len(list(folder.glob("*.jsonl"))) == 3
    again = Generations(History(folder))
    assert again.interrupted == []  # it was told, and written, when the worker ended
    assert [again.find(record.id).whole() for record in made] == [record.whole() for record in made]
    again.close()
    engine.cancelled.update(record.id for record in made)


def test_the_folder_is_not_given_away_while_it_is_written(folder, monkeypatch):
    generations = Generations(History(folder))
    slow = threading.Event()
    true = history_module.extend

    def late(handle, data):
        slow.wait(10)
        true(handle, data)

    record = generations.submit(ScriptedEngine(pause=0.02), asked(), "live", "")
    monkeypatch.setattr(history_module, "extend", late)
    time.sleep(0.05)
    generations.close(timeout=0.2)
    with pytest.raises(InputError, match="writing this history"):
        History(folder)
    slow.set()
    generations._thread.join(10)
    assert record.over
    History(folder).close()


# --- what comes in can be kept, and what is kept can be read ---


def edited(provenance, name="v"):
    vector = "AACAPwAAAAAAAAAAAAAAAA=="  # 1, 0, 0, 0
    direction = {"name": name, "layer": 1, "vector": vector, "provenance": provenance}
    return {"arms": [{"name": "a", "edits": [{"kind": "add", "direction": direction, "strength": 1.0}]}]}


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(edited({"a": 1})).replace("1}", "1e400}"), "past any number"),
        (json.dumps(edited({"a": 1})).replace("1}", "NaN}"), "no number of JSON"),
        (json.dumps(edited({"a": 1})).replace("1}", "-Infinity}"), "no number of JSON"),
        (json.dumps(edited({"a": "\ud800"})), "half of a surrogate"),
        (json.dumps(edited({}, name="\udfff")), "half of a surrogate"),
        (json.dumps(edited(nested(60))), "nests deeper"),
        (json.dumps(edited({"a": 1})).replace("1}", "[" * 5000 + "]" * 5000 + "}"), "nests deeper"),
        (json.dumps(edited({"a": 1, "b": 2})).replace('"b"', '"a"'), "twice"),
    ],
    ids=["infinity", "NaN", "minus infinity", "half a character", "half a name", "deep", "deeper", "twice"],
)
@pytest.mark.parametrize("path", ["/generate", "/v1/generations"])
def test_what_cannot_be_written_again_is_refused(folder, path, text, said):
    body = text.replace('{"arms"', '{"prompt":"x","arms"', 1)
    with served(ScriptedEngine(), folder) as worker, asking(worker) as client:
        reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert reply.status_code == (400 if path.startswith("/v1") else 422)
        assert said in reply.text
        assert client.get("/v1/generations").json()["data"] == []


def test_the_deepest_request_that_is_taken_is_read_again_and_sent_again(folder):
    with served(ScriptedEngine(), folder) as worker, asking(worker) as client:
        asks = [{"prompt": "x", **edited(nested(depth))} for depth in range(10, 40)]
        replies = [client.post("/v1/generations", json=each) for each in asks]
        taken = [reply.json()["id"] for reply in replies if reply.status_code == 201]
        assert 10 < len(taken) < 30
        deepest = over(client, taken[-1])
    with served(ScriptedEngine(), folder) as worker, asking(worker) as client:
        found = client.get(f"/v1/generations/{taken[-1]}").json()
        assert found == deepest
        assert client.post("/v1/generations", json=found["request"]).status_code == 201
