"""Generations are kept, whole and in order; readers come back to them; a killed worker's are said to be interrupted."""

import json
import os
import signal
import threading

import httpx2
import pytest

from backend.records import InputError
from backend.worker import history as history_module
from backend.worker.generations import KEPT, Generations
from backend.worker.history import History
from tests.worker.conftest import serving, wait
from tests.worker.scripted import WORDS, FailingEngine, ScriptedEngine
from tests.worker.test_main import model, start  # noqa: F401 (fixtures)

ASKED = {"prompt": "hello there", "arms": [{"name": "a"}, {"name": "b"}], "seed": 4}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "history"


def served(engine, folder=None, **options):
    return serving(lambda: engine, history=History(folder) if folder else None, **options)


def asking(worker):
    return httpx2.Client(base_url=worker.url, timeout=20)


def lines(text):
    """(number, event) of server-sent events."""
    found = []
    for block in filter(None, text.split("\n\n")):
        said = dict(line.split(": ", 1) for line in block.splitlines())
        if "data" in said:  # else a comment: the model is at work
            found.append((int(said["id"]), json.loads(said["data"])))
    return found


def begun(client, **changes):
    reply = client.post("/v1/generations", json={**ASKED, **changes})
    assert reply.status_code == 201, reply.text
    assert reply.headers["location"] == f"/v1/generations/{reply.json()['id']}"
    return reply.json()["id"]


def over(client, id):
    wait(lambda: client.get(f"/v1/generations/{id}").json()["status"] not in ("waiting", "writing"))
    return client.get(f"/v1/generations/{id}").json()


@pytest.mark.parametrize("kept", [False, True])
def test_events_are_numbered_and_followed_from_any_number_on(folder, kept):
    with (
        served(ScriptedEngine(pause=0.01), folder if kept else None) as worker,
        asking(worker) as client,
    ):
        id = begun(client)
        whole = lines(client.get(f"/v1/generations/{id}/events").text)
        assert [number for number, _ in whole] == list(range(1 + 2 * len(WORDS) + 3))
        assert [event["event"] for _, event in whole] == ["start", *["token"] * 8, "end", "end", "done"]
        for last in (0, 5, 10, 99):
            rest = client.get(f"/v1/generations/{id}/events", headers={"Last-Event-ID": str(last)}).text
            assert lines(rest) == whole[last + 1 :]
            assert client.get(f"/v1/generations/{id}/events?after={last}").text == rest
        assert client.get(f"/v1/generations/{id}/events?after=-1").status_code == 400


def test_a_generation_goes_on_without_its_reader_and_can_be_asked_again(folder):
    with served(ScriptedEngine(pause=0.05), folder) as worker, asking(worker) as client:
        id = begun(client, user="me")
        with client.stream("GET", f"/v1/generations/{id}/events") as reply:
            next(reply.iter_lines())
        found = over(client, id)
        assert (found["status"], found["tokens"]) == ("finished", 8)
        assert [answer["text"] for answer in found["answers"]] == ["Hello world"] * 2
        assert found["question"] == "hello there"
        again = client.post("/v1/generations", json=found["request"])
        assert over(client, again.json()["id"])["request"] == found["request"]
        listed = client.get("/v1/generations").json()["data"]
        assert [line["id"] for line in listed] == [again.json()["id"], id]
        page = client.get("/v1/generations?limit=1").json()
        assert (len(page["data"]), page["has_more"]) == (1, True)
        assert [line["id"] for line in client.get(f"/v1/generations?after={listed[0]['id']}").json()["data"]] == [id]
        assert client.get("/v1/generations?status=failed").json()["data"] == []


def test_a_cancelled_one_keeps_what_was_written(folder):
    with served(ScriptedEngine(pause=0.1), folder) as worker, asking(worker) as client:
        id = begun(client)
        wait(lambda: client.get(f"/v1/generations/{id}").json()["tokens"] >= 2)
        assert client.post(f"/v1/generations/{id}/cancel").json() == {"id": id, "cancelled": True}
        found = over(client, id)
        assert found["status"] == "cancelled"
        assert found["answers"][0]["text"].startswith("Hel")


def test_chats_and_live_answers_are_kept_too_and_failures_say_why(folder):
    with served(ScriptedEngine(), folder) as worker, asking(worker) as client:
        client.post("/generate", json=ASKED)
        said = client.post("/v1/chat/completions", json={"model": "o", "messages": [{"role": "user", "content": "x"}]})
        kinds = {line["id"]: line["kind"] for line in client.get("/v1/generations").json()["data"]}
        assert sorted(kinds.values()) == ["chat", "live"]
        assert kinds[said.json()["id"].removeprefix("chatcmpl-")] == "chat"
    with served(FailingEngine(), folder) as worker, asking(worker) as client:
        found = over(client, begun(client))
        assert (found["status"], found["error"]) == ("failed", "out of memory")
        assert len(client.get("/v1/generations").json()["data"]) == 3


@pytest.mark.parametrize("path", ["zz", "../history", "..%2f..%2fetc%2fpasswd", "0" * 32])
def test_what_is_not_there_is_404(folder, path):
    with served(ScriptedEngine(), folder) as worker, asking(worker) as client:
        for route in (f"/v1/generations/{path}/events", f"/v1/generations/{path}/x"):
            assert client.get(route).status_code == 404
        for query in ("limit=0", "limit=1e3", "limit=101", "status=x", "after=x"):
            reply = client.get(f"/v1/generations?{query}")
            assert reply.status_code == 400
            assert reply.json()["error"]["param"] == query.partition("=")[0]


def test_without_a_history_nothing_is_on_disk_and_the_last_ones_are_in_memory(tmp_path):
    with served(ScriptedEngine()) as worker, asking(worker) as client:
        ids = [begun(client) for _ in range(KEPT + 3)]
        wait(lambda: len(client.get("/v1/generations?limit=100").json()["data"]) == KEPT)
        assert client.get(f"/v1/generations/{ids[0]}").status_code == 404
        assert over(client, ids[-1])["status"] == "finished"
    assert not list(tmp_path.iterdir())


def test_with_a_history_all_are_found_and_memory_holds_the_last(folder):
    generations = Generations(History(folder))
    engine = ScriptedEngine()
    made = [generations.submit(engine, asked(), "live", "") for _ in range(KEPT + 3)]
    wait(lambda: all(record.over for record in made) and len(generations._records) == KEPT)
    assert len(generations.summaries()) == KEPT + 3
    found = generations.find(made[0].id)
    assert found is not made[0]
    assert found.whole() == made[0].whole()
    generations.close()


def asked():
    from backend.worker.protocol import generation_from_json

    return generation_from_json(ASKED)


def test_a_refused_request_leaves_nothing(folder):
    class Full(ScriptedEngine):
        def submit(self, *arguments):
            raise InputError("no")

    generations = Generations(History(folder))
    with pytest.raises(InputError):
        generations.submit(Full(), asked(), "live", "")
    assert generations.summaries() == []
    assert not list(folder.glob("*.jsonl"))
    generations.close()


def test_a_full_disk_ends_its_generation_with_a_sentence_and_no_other(folder, monkeypatch):
    generations = Generations(History(folder))
    engine = ScriptedEngine(pause=0.02)
    first, second = (generations.submit(engine, asked(), "live", "") for _ in range(2))
    true = history_module.extend

    def full(handle, data):
        if handle == first.handle and b"token" in data:
            raise OSError(28, os.strerror(28))
        true(handle, data)

    monkeypatch.setattr(history_module, "extend", full)
    wait(lambda: first.over and second.over)
    assert "No space left on device" in first.events[-1].message
    assert first.id in engine.cancelled
    assert second.status == "finished"
    generations.close()
    assert Generations(History(folder)).interrupted == [first.id]


def test_one_worker_at_a_time_has_a_folder(folder):
    first = History(folder)
    with pytest.raises(InputError, match="writing this history"):
        History(folder)
    first.close()
    History(folder).close()


def test_a_file_of_something_else_is_left_out_and_said(folder, caplog):
    folder.mkdir()
    for name, content in (("a" * 32, b"{}\n"), ("b" * 32, b""), ("c" * 32, b'{"format":1,"request":{}}\n'), ("x", b"")):
        (folder / f"{name}.jsonl").write_bytes(content)
    generations = Generations(History(folder))
    assert generations.summaries() == []
    assert caplog.text.count("remove") == 3
    generations.close()


def test_a_killed_worker_loses_at_most_the_token_in_flight(start, model, folder):  # noqa: F811
    process, worker = start("--model", model, "--history", folder)
    client = asking(worker)
    wait(lambda: worker.health().status == "ready", seconds=120)
    ids = [begun(client, sampling={"max_new_tokens": 2000, "temperature": 2.0}, seed=seed) for seed in range(4)]
    heard = {id: [] for id in ids}

    def follow(id):
        try:
            with (
                asking(worker) as own,
                own.stream("GET", f"/v1/generations/{id}/events") as reply,
            ):
                for line in reply.iter_lines():
                    if line.startswith("data: "):
                        heard[id].append(json.loads(line[6:]))
        except httpx2.HTTPError:
            pass

    readers = [threading.Thread(target=follow, args=(id,)) for id in ids]
    for reader in readers:
        reader.start()
    wait(lambda: all(len(events) > 20 for events in heard.values()), seconds=30)
    process.send_signal(signal.SIGKILL)
    for reader in readers:
        reader.join(10)
    client.close()
    process, worker = start("--model", model, "--history", folder)
    with asking(worker) as client:
        listed = client.get("/v1/generations?status=interrupted").json()["data"]
        going = {line["id"] for line in listed}
        assert going <= set(ids)
        for id in ids:
            events = [event for _, event in lines(client.get(f"/v1/generations/{id}/events").text)]
            kept = [event for event in heard[id] if event["event"] != "waiting"]
            assert events[: len(kept)] == kept  # whatever anybody heard is there
            assert events[-1]["event"] == ("error" if id in going else "done")
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    assert not going or "were interrupted" in process.stderr.read()


def test_what_is_heard_is_on_the_disk(folder):
    with served(ScriptedEngine(pause=0.02), folder) as worker, asking(worker) as client:
        id = begun(client)
        with client.stream("GET", f"/v1/generations/{id}/events") as reply:
            for line in reply.iter_lines():
                if line.startswith("data: ") and "waiting" not in line:
                    assert line[6:] in (folder / f"{id}.jsonl").read_text()
