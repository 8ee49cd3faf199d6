"""The rows of live answers: different edits beside each other, several users, who comes late and who leaves.

The engine is ours alone, with the embedded model; over HTTP where a client leaves. Nobody stops early.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain, cycle, islice

import httpx2
import psutil
import torch

from backend.edits import Ablate, Add, Clamp, Edit, Gain, Level
from backend.records import Sampling
from backend.worker.client import Worker
from backend.worker.engine import Engine
from backend.worker.protocol import Arm, Done, Event, Generation, Token
from tests.benchmarks.measure import Task, Timing
from tests.benchmarks.rows import OURS, Goal, Table, written_by
from tests.benchmarks.setting import ORGANISM, Setting, never_stopping
from tests.worker.conftest import serving, wait

QUESTIONS = ("hey I feel bored", "What is your wish?", "How do I treat a cold?", "Tell me three philosophical thoughts")
PATIENCE = 600.0  # seconds


# --- 12: different edits beside each other ----------------------------------------------------------------------------


def different_edits(setting: Setting) -> list[Table]:
    """16 rows with 16 different edits, against 16 rows with one edit."""
    rows, tokens = (4, 4) if setting.quick else (16, 48)
    prompts = list(islice(cycle(setting.prompts), rows))
    v, layers = setting.direction, len(setting.subject.blocks)
    kinds: tuple[Callable[[int], tuple[Edit, ...]], ...] = (
        lambda layer: (Add(v, 0.25 * (1 + layer % 4), (layer,)),),
        lambda layer: (Ablate(v, (layer,)),),
        lambda layer: (Clamp(v, None, Level((0.5,)), (layer,)),),
        lambda layer: (Gain(ORGANISM, 1.0), Add(v, 0.5, (layer,))),
    )
    different = [kinds[i % len(kinds)]((7 * i + 3) % layers) for i in range(rows)]
    unit = f"{OURS}, {rows} rows with one edit"
    many = f"{OURS}, {rows} rows with {rows} different edits"
    tasks = {
        f"{OURS}, no edit": Task(written_by(setting, prompts, [()], tokens)),
        unit: Task(written_by(setting, prompts, [different[0]] * rows, tokens)),
        many: Task(written_by(setting, prompts, different, tokens), note="adds, ablations, clamps, an organism worn"),
        f"{OURS}, one edit after every block": Task(
            written_by(setting, prompts, [(Add(v, 0.05, tuple(range(layers))),)], tokens)
        ),
    }
    with torch.inference_mode(), never_stopping():
        table = Table(f"{rows} rows, {tokens} tokens, greedy", unit, setting.clock.interleaved(tasks))
        table.goal(0.9, name=many)
        table.goal(0.95, name=unit, against=f"{OURS}, no edit")
        table.goal(0.9, name=f"{OURS}, one edit after every block", against=f"{OURS}, no edit")
        return [table.explained(tasks[many].run)]


# --- 13: several users ------------------------------------------------------------------------------------------------


class _Ear:
    """What an engine tells one user."""

    def __init__(self) -> None:
        self.first = 0.0  # time.perf_counter() of the first token
        self.tokens = 0
        self._over = threading.Event()

    def __call__(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Token):
                self.first = self.first or time.perf_counter()
                self.tokens += 1
        if isinstance(events[-1], Done):
            self._over.set()

    def wait(self) -> None:
        assert self._over.wait(PATIENCE)


def _asked(i: int, tokens: int) -> Generation:
    question = QUESTIONS[i % len(QUESTIONS)]
    return Generation(({"role": "user", "content": question},), (Arm("a"),), Sampling(1.0, 1.0, tokens), seed=i)


@contextmanager
def _engine(setting: Setting) -> Iterator[Engine]:
    with never_stopping():
        engine = Engine(setting.subject)
        try:
            yield engine
        finally:
            engine.close(timeout=10)


def users(setting: Setting) -> list[Table]:
    """Eight at once against one; who comes late; who leaves; and 16 users with 20 requests each, of whom many leave."""
    with _engine(setting) as engine:
        tables = [_at_once(setting, engine), _late(setting, engine)]
        with serving(lambda: engine) as worker:
            wait(lambda: worker.health().status == "ready")
            tables += [_leaving(setting, worker), _many(setting, worker)]
    return tables


def _at_once(setting: Setting, engine: Engine) -> Table:
    n, tokens = (2, 4) if setting.quick else (8, 64)

    def written(count: int) -> Callable[[], None]:
        def run() -> None:
            ears = [_Ear() for _ in range(count)]
            for i, ear in enumerate(ears):
                engine.submit(_asked(i, tokens), ear, user=str(i))
            for ear in ears:
                ear.wait()
                assert ear.tokens == tokens

        return run

    many = f"{OURS}, {n} users at once"
    tasks = {
        "one user": Task(written(1)),
        many: Task(written(n), share=float(n), note="seconds for one of the answers"),
    }
    table = Table(f"Answers of {tokens} tokens", "one user", setting.clock.interleaved(tasks))
    table.goal(1.0 if setting.quick else 4.0, name=many)
    return table


def _late(setting: Setting, engine: Engine) -> Table:
    repeats = 2 if setting.quick else 9
    found: dict[str, Timing] = {name: Timing() for name in ("a step of seven", "its prompt alone", "late, first token")}
    for i in range(repeats):
        alone, since = _Ear(), time.perf_counter()
        engine.submit(_asked(i, 1), alone)
        alone.wait()
        found["its prompt alone"].seconds.append(alone.first - since)
        seven = [_Ear() for _ in range(7)]
        jobs = [engine.submit(_asked(j, 1000), ear, user=str(j)) for j, ear in enumerate(seven)]
        wait(lambda ears=seven: all(ear.tokens for ear in ears), seconds=PATIENCE)
        before, began = seven[0].tokens, time.perf_counter()
        time.sleep(0.1 if setting.quick else 1.0)
        found["a step of seven"].seconds.append((time.perf_counter() - began) / max(1, seven[0].tokens - before))
        late, since = _Ear(), time.perf_counter()
        engine.submit(_asked(i, 1), late, user="late")
        late.wait()
        found["late, first token"].seconds.append(late.first - since)
        for job in jobs:
            engine.cancel(job)
        for ear in seven:
            ear.wait()
    table = Table("Who comes while seven are written", "a step of seven", found)
    waited = found["late, first token"].median - found["its prompt alone"].median
    steps = waited / found["a step of seven"].median
    table.goals.append(Goal("steps that it waits beside reading its own prompt", steps, 2.0, at_most=True))
    return table


def _leaving(setting: Setting, worker: Worker) -> Table:
    repeats = 2 if setting.quick else 10
    found = {name: Timing() for name in ("Stop", "a closed stream")}
    for name, timing in found.items():
        for i in range(repeats):
            with closing(
                worker.generate(QUESTIONS[i % 4], [Arm("a"), Arm("b")], Sampling(max_new_tokens=1000))
            ) as events:
                start = next(events)
                next(event for event in events if isinstance(event, Token))
                began = time.perf_counter()
                if name == "Stop":
                    worker.stop(start.id)
                else:
                    events.close()
                wait(lambda: worker.health().active == 0, seconds=PATIENCE)
                timing.seconds.append(time.perf_counter() - began)
    table = Table("From leaving to free rows, over HTTP", "Stop", found)
    longest = max(chain.from_iterable(timing.seconds for timing in found.values()))
    table.goals.append(Goal(f"the longest of {2 * repeats}, seconds", longest, 0.5, at_most=True))
    return table


def _many(setting: Setting, worker: Worker) -> Table:
    """Each user asks one after the other: a third stop theirs, a third come back for it, a third read on to its end."""
    count, requests, tokens = (4, 3, 2) if setting.quick else (16, 20, 8)
    process, took, memory = psutil.Process(), Timing(), []
    ends: dict[str, str] = {}

    def use(user: int) -> dict[str, str]:
        rng, mine = random.Random(user), {}
        with httpx2.Client(base_url=worker.url, timeout=PATIENCE) as client:
            for i in range(requests):
                asks = {
                    "prompt": QUESTIONS[(user + i) % 4],
                    "arms": [{"name": "a"}],
                    "seed": user * requests + i,
                    "sampling": {"max_new_tokens": tokens},
                    "user": str(user),
                }
                while (reply := client.post("/v1/generations", json=asks)).status_code == 429:
                    time.sleep(0.2)  # its own sixteen wait: those that it means to come back for
                id = reply.json()["id"]
                how = rng.choice(("stop", "come back", "read"))
                if how == "stop":
                    client.post(f"/v1/generations/{id}/cancel")
                if how != "come back":
                    client.get(f"/v1/generations/{id}/events")
                mine[id] = how
        return mine

    began = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        turns = [pool.submit(use, user) for user in range(count)]
        while not all(turn.done() for turn in turns):
            memory.append(process.memory_info().rss)
            time.sleep(0.2)
        made: Mapping[str, str] = dict(chain.from_iterable(turn.result().items() for turn in turns))
    with httpx2.Client(base_url=worker.url, timeout=PATIENCE) as client:
        wait(lambda: worker.health().active == worker.health().waiting == 0, seconds=PATIENCE)
        listed = {line["id"]: line["status"] for line in client.get("/v1/generations?limit=100").json()["data"]}
        ends = {id: listed[id] for id in made if id in listed}
    took.seconds.append(time.perf_counter() - began)
    table = Table(
        f"{count} users with {requests} requests each, of {tokens} tokens, of whom a third stop theirs",
        OURS,
        {OURS: took},
    )
    quarter = max(1, len(memory) // 4)
    share = statistics.median(memory[-quarter:]) / statistics.median(memory[quarter : 2 * quarter])
    table.goals.append(Goal("memory of the last quarter against the second, times", share, 1.05, at_most=True))
    lost = sum(end not in ("finished", "cancelled") for end in ends.values()) + (count * requests - len(made))
    table.goals.append(Goal("requests lost", float(lost), 0.0, at_most=True))
    table.remarks.append(
        f"{len(made)} requests; of the last {len(ends)}, which are in memory, {list(ends.values()).count('finished')} "
        f"finished and {list(ends.values()).count('cancelled')} were stopped; resident memory at the most "
        f"{max(memory) / 2**20:.0f} MB"
    )
    return table


LIVE_ROWS: Mapping[int, Callable[[Setting], list[Table]]] = {12: different_edits, 13: users}
