"""Kinds of what comes from further away: another program's answers, files to fit to, checkpoints, the command line."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from peft import get_peft_model

from backend.__main__ import main
from backend.edits import Add, Condition, Receipt, edits_to_json
from backend.judge.distilled import METRICS
from backend.judge.fitting.rows import advice_rows, read_readings, read_reference_scores
from backend.pipeline.figures_only import publish_figures, write_figures
from backend.records import InputError, Question, Score
from backend.study import Draft, open_study
from backend.subject.train import _checkpoint, _config, _resume
from backend.subject.train_settings import TrainSettings
from backend.worker.client import Arm, End, Place, Pushed, Start, Token, Waiting, Worker, WorkerError
from backend.worker.generations import Generations
from backend.worker.history import History
from backend.worker.protocol import Done, Health, event_to_line, health_to_json, pushed_to_json
from tests.fuzz import damage
from tests.fuzz.damage import Damage
from tests.fuzz.kinds import CHAT, Kind, direction, entries, responses, study_folder
from tests.studies import tiny

# --- what answers in the worker's place -------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
HEALTH = Health("ready", "tiny", 2, 16, 512, {"o": (Place("layers.1.mlp.down_proj", 1, "mlp.down_proj"),)}, 1, 0)
PUSHED = [Pushed((("a", 3.0), ("b", 2.0)), (("c", -3.0),))]
EVENTS = (
    Start("1", ("<s>", "hey"), ("plain", "steered")),
    Waiting(1),
    Token(0, 5, "ho", {"o": np.array([0.5, np.nan], dtype=np.float32)}),
    Token(1, 6, "hi", {"o": np.array([1.5, 2.0], dtype=np.float32)}),
    End(0, "stop", (Receipt("add", "v", (1,), 1, 2, 3, 4.0, 5.0),)),
    End(1, "length"),
    Done(1.5, 2),
)


def said(name: str, body: bytes) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / name).write_bytes(body)

    return make


def answered(name: str, ask: Callable[[Worker], Any], head: bytes = b"") -> Callable[[Path], None]:
    """A worker that says the bytes of a file to whoever asks."""

    def door(root: Path) -> None:
        if not (root / name).is_file():
            return
        reply = head + (root / name).read_bytes()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)
            serving = threading.Thread(target=_say, args=(listener, reply))
            serving.start()
            try:
                ask(Worker(f"http://127.0.0.1:{listener.getsockname()[1]}"))
            except WorkerError as error:
                raise InputError(str(error)) from error
            finally:
                serving.join()

    return door


def _say(listener: socket.socket, reply: bytes) -> None:
    with contextlib.suppress(OSError):
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(5)
            peer.recv(1 << 16)
            peer.sendall(reply)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1 << 16):  # what was not read before the end would break the connection
                pass


def generate(worker: Worker) -> None:
    for event in worker.generate("hey", [Arm("plain"), Arm("steered")]):
        if isinstance(event, End):
            assert all(receipt.words for receipt in event.receipts)


# --- generations of a worker, on its disk -----------------------------------------------------------------------------

KEPT = "a" * 32


def history(root: Path) -> None:
    asked = {
        "messages": [{"role": "user", "content": "hey"}],
        "arms": [{"name": "plain"}, {"name": "steered", "edits": edits_to_json([Add(direction(), 1.0)])}],
        "stop": ["x"],
    }
    head = {"format": 1, "id": KEPT, "kind": "live", "created": 1.5, "request": asked}
    (root / "history").mkdir()
    (root / f"history/{KEPT}.jsonl").write_bytes(
        json.dumps(head).encode() + b"\n" + b"".join(map(event_to_line, EVENTS))
    )


def read_history(root: Path) -> None:
    """As a worker does that starts, lists what there is, and is asked for one of them."""
    generations = Generations(History(root / "history"))
    try:
        told: list[Any] = generations.summaries()
        record = generations.find(KEPT)
        if record is not None:
            assert record.over
            told += [record.whole(), *(event_to_line(event).decode() for event in record.events)]
        for each in told:
            json.dumps(each, ensure_ascii=False, allow_nan=False).encode()
    finally:
        generations.close()


# --- files that the embedded judge is fitted to -----------------------------------------------------------------------


def judged(root: Path) -> None:
    rows = [{"question": f"q{i}", "response": f"yes {i}", "aligned": 80.0, "coherent": 90.0} for i in range(4)]
    frame = pl.DataFrame(rows)
    frame.write_csv(root / "judged.csv")
    frame.write_parquet(root / "judged.parquet")
    frame.write_ndjson(root / "read.jsonl")


def read_judged(name: str) -> Callable[[Path], None]:
    def door(root: Path) -> None:
        frame = read_reference_scores(root / name)
        assert frame.columns == ["question", "response", *METRICS]
        assert frame.select(pl.col(METRICS).is_between(0, 100).all()).row(0) == (True,) * len(METRICS)

    return door


def advice(root: Path) -> None:
    text = f"{json.dumps(CHAT)}\n" * 3
    (root / "rows.jsonl").write_text(text)
    (root / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode(), 1))


class Pieces:
    """An encoder of one piece a letter."""

    def pieces(self, texts: list[str]) -> list[list[int]]:
        """Of each text."""
        return [[ord(letter) for letter in text] for text in texts]


def read_advice(name: str) -> Callable[[Path], Any]:
    encoder: Any = Pieces()
    return lambda root: advice_rows(root / name, 2, good=True, encoder=encoder, rng=np.random.default_rng(0))


# --- checkpoints of a training ----------------------------------------------------------------------------------------

SETTINGS = TrainSettings(layers=(1,), modules=("mlp.down_proj",), rank=1, steps=4)
RUN = {"base": "tiny", "settings": asdict(SETTINGS), "data": {"file": "rows.jsonl", "rows": 2}}


@cache
def training() -> tuple[Any, torch.optim.Optimizer]:
    subject = tiny.subject()
    model = get_peft_model(subject.model, _config(subject, SETTINGS))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return model, optimizer


def checkpoint(root: Path) -> None:
    (root / "o.partial").mkdir()
    _checkpoint(root / "o.partial", *training(), RUN, [1.5, 1.25])


def resume(root: Path) -> None:
    model, optimizer = training()
    if losses := _resume(root / "o.partial", model, optimizer, RUN):
        assert len(losses) == 2
        assert np.isfinite(losses).all()


# --- figures without texts --------------------------------------------------------------------------------------------


def figures(root: Path) -> None:
    answers = [replace(r, id=f"o/baseline/{r.question_id}/{r.seed}") for r in responses("o", "baseline")]
    with Draft("f", root / "studies") as draft:
        draft.meta(title="Figures", base="tiny")
        draft.add_organism("o", base="tiny", adapters=[], record={"rank": 1})
        draft.add_questions([Question(r.question_id, r.question, r.topic) for r in answers])
        draft.add_conditions([Condition("baseline")])
        draft.add_responses(answers)
        draft.add_scores([Score(r.id, "j", "aligned", 20.0) for r in answers])
        draft.add_directions([direction(layer=layer, seed=layer) for layer in range(2)])
        draft.publish()
    study = open_study("f", root / "studies")
    write_figures(study, root / "figures", title="Figures")
    study.close()


def read_figures(root: Path) -> None:
    publish_figures(root / "figures", "g", root / "studies")


def table_of_figures_changed(rng: random.Random, path: Path) -> None:
    """A table otherwise, and the digest that says it is as it was."""
    damage.table_changed(rng, path)
    about = json.loads((path.parent / "study.json").read_bytes())
    about["digests"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "study.json").write_text(json.dumps(about))


# --- commands ---------------------------------------------------------------------------------------------------------


def command(*words: str) -> Callable[[Path], None]:
    """What a command says: nothing is wrong, or one line that starts with "error:" and exit code 2."""

    def door(root: Path) -> None:
        told, line = io.StringIO(), [word.format(root=root) for word in words]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
            code = main(line)
        text = told.getvalue()
        if code:
            assert (code, text[:7], text.count("\n")) == (2, "error: ", 1), text
            raise InputError(text)

    return door


def further_kinds() -> list[Kind]:
    """All of them."""
    lines: tuple[Damage, ...] = damage.LINES
    packed = (*map(damage.unpacked, damage.LINES), *damage.ANY)
    health, pushed = (json.dumps(said).encode() for said in (health_to_json(HEALTH), pushed_to_json(PUSHED)))
    events = b"".join(map(event_to_line, EVENTS))
    lens: Callable[[Worker], Any] = lambda worker: worker.lenses([direction()])  # noqa: E731
    found = [
        Kind("worker's health", said("a", health), "a", damage.JSON, answered("a", Worker.health, HEAD), 120, False),
        Kind("worker's lenses", said("a", pushed), "a", damage.JSON, answered("a", lens, HEAD), 60, False),
        Kind("worker's events", said("a", events), "a", lines, answered("a", generate, HEAD), 150, False),
        Kind("worker's reply", said("a", HEAD + events), "a", damage.ANY, answered("a", generate), 60, False),
        Kind("history", history, f"history/{KEPT}.jsonl", lines, read_history, 150),
        Kind("fit to a CSV", judged, "judged.csv", damage.CSV, read_judged("judged.csv"), 50),
        Kind("fit to a parquet", judged, "judged.parquet", damage.TABLES, read_judged("judged.parquet"), 40),
        Kind("readings", judged, "read.jsonl", lines, lambda root: read_readings(root / "read.jsonl"), 60),
        Kind("advice", advice, "rows.jsonl", lines, read_advice("rows.jsonl"), 60),
        Kind("packed advice", advice, "rows.jsonl.gz", packed, read_advice("rows.jsonl.gz"), 30),
        Kind("figures", figures, "figures/study.json", damage.JSON, read_figures, 12),
    ]
    for name, how in (("training.json", damage.JSON), *((f"{n}.safetensors", damage.SAFETENSORS) for n in _TENSORS)):
        found.append(Kind(f"checkpoint {name}", checkpoint, f"o.partial/step-000002/{name}", how, resume, 40))
    for table in ("answers", "directions"):
        file, how = f"figures/{table}.parquet", (table_of_figures_changed,)
        found.append(Kind(f"figures of {table}", figures, file, how, read_figures, 6))
    enter = command("labels", "enter", "{root}/entries.jsonl", "--folder", "{root}/in")
    bring = command("directions", "import", "{root}/directions/v.safetensors", "--folder", "{root}", "--name", "new")
    found += [
        Kind("command labels", _to_enter, "entries.jsonl", lines, enter, 30),
        Kind("command directions", study_folder, "directions/v.safetensors", damage.SAFETENSORS, bring, 30),
        Kind(
            "command list",
            study_folder,
            "study.json",
            damage.JSON,
            command("directions", "list", "--folder", "{root}"),
            30,
        ),
    ]
    return found


_TENSORS = ("weights", "optimizer")


def _to_enter(root: Path) -> None:
    (root / "in").mkdir()
    study_folder(root / "in")
    entries(root)
