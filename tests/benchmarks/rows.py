"""The rows: one kind of work each, what it is measured against, and what the project wants to reach.

A row is a function of the setting that gives tables. Everything in a table was measured in one interleaved run.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from peft import get_peft_model
from transformers import TextStreamer

from backend.edits import ANSWER, PLAIN, PROMPT, Add, Clamp, Edit, Gain, Level, When, Where
from backend.records import Sampling
from backend.subject import train as training
from backend.subject.decode import Request, sample, stream
from backend.subject.load import Subject
from backend.subject.trace import Text, trace
from tests.benchmarks import peers
from tests.benchmarks.measure import Task, Timing, one_line, ratios, seconds_of
from tests.benchmarks.setting import LAYER, ORGANISM, Batch, Setting, ids_of, never_stopping, padded

OURS = "ours"
BARE = "transformers, bare"
PAPER = "paper repository's algorithm"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Goal:
    """A number and what it should reach."""

    what: str
    value: float
    reach: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.reach if self.at_most else self.value >= self.reach


@dataclass
class Table:
    """What one interleaved run found. Ratios are speeds: the unit's time through one's own."""

    title: str
    unit: str
    timings: dict[str, Timing]
    goals: list[Goal] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    profile: str = ""
    measure: str = "s"  # of the timings; "GB" where memory was measured

    @property
    def ratios(self) -> dict[str, tuple[float, float, float]]:
        """Speed of each, the unit's being 1."""
        return ratios(self.timings, self.unit)

    def goal(self, reach: float, *, against: str | None = None, name: str = OURS) -> None:
        """Ask that `name` has at least `reach` times the speed of another (of the unit)."""
        rates, against = self.ratios, against or self.unit
        if name in rates and against in rates:
            self.goals.append(Goal(f"{name} against {against}", rates[name][0] / rates[against][0], reach))

    def ahead(self, of: Sequence[str]) -> None:
        """Ask that ours is ahead of each of them."""
        rates = self.ratios
        there = {name: rates[name][0] for name in of if name in rates}
        if there and OURS in rates:
            best = max(there, key=lambda name: there[name])
            self.goals.append(Goal(f"{OURS} against the best peer ({best})", rates[OURS][0] / there[best], 1.0))

    def explained(self, run: Callable[[], Any]) -> Table:
        """The table, with a profile of ours where a goal is not met."""
        if not all(goal.met for goal in self.goals):
            self.profile = profiled(run)
        return self


def profiled(run: Callable[[], Any], top: int = 12) -> str:
    """Where the time of one run goes, by operator."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        run()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [f"{'operator':<44} {'calls':>8} {'self ms':>10} {'share':>7}"]
    for event in events[:top]:
        spent = event.self_cpu_time_total
        lines.append(f"{event.key[:44]:<44} {event.count:>8} {spent / 1000:>10.1f} {spent / total:>6.1%}")
    return "\n".join(lines)


# --- 1 to 3: reading -------------------------------------------------------------------------------------------------


def equal_lengths(setting: Setting) -> list[Table]:
    """Residual means at all layers and all scalars, 16 texts of 128 tokens."""
    n, length = (4, 64) if setting.quick else (16, 128)
    texts = setting.equal(n, length)
    table = _reading(setting, f"Means at all layers and all scalars, {n} texts x {length} tokens", texts, paper=4)
    table.goal(1.2)
    table.ahead(list(peers.READERS))
    table.goal(12, against=PAPER)
    _agreement(setting, table, texts[:4])
    return [table.explained(lambda: list(trace(setting.subject, texts, ORGANISM)))]


def stored_order(setting: Setting) -> list[Table]:
    """The same on the demo study's texts in stored order."""
    n = 4 if setting.quick else 64
    texts = setting.stored(n)
    title = f"The same on the demo study's first {n} answers in stored order (others: padded batches of 16)"
    table = _reading(setting, title, texts, paper=2)
    table.goal(1.5)
    table.remarks.append(
        f"{len({text.prompt_ids for text in texts})} distinct prompts among the {n} texts, "
        f"{sum(map(len, map(ids_of, texts)))} tokens, padded batches of 16 "
        f"hold {sum(batch.ids.numel() for batch in peers.batches(texts, 16))}"
    )
    return [table.explained(lambda: list(trace(setting.subject, texts, ORGANISM)))]


def half_depth(setting: Setting) -> list[Table]:
    """Layers 0 to 15 only."""
    n, length = (4, 64) if setting.quick else (16, 128)
    texts, depth = setting.equal(n, length), 16
    batch = padded([ids_of(text) for text in texts])

    def ours() -> None:
        list(trace(setting.subject, texts, ORGANISM, depth=depth))

    tasks = {BARE: _bare(setting, [batch]), OURS: Task(ours)}
    for name in ("nnsight", "TransformerLens", "steering-vectors"):
        tasks[name] = _read_by(setting, name, [batch], depth=depth)
    with torch.inference_mode():
        timings = setting.clock.interleaved(tasks)
    timings["steering-vectors"].note = "cannot stop early: reads fewer layers, runs all"
    table = Table(f"Layers 0-15 only, {n} texts x {length} tokens", BARE, timings)
    table.goal(2.2)
    return [table.explained(ours)]


def _reading(setting: Setting, title: str, texts: Sequence[Text], *, paper: int) -> Table:
    sets = peers.batches(texts, 16)

    def ours() -> None:
        list(trace(setting.subject, texts, ORGANISM))

    some = texts[:: max(1, len(texts) // paper)][:paper]
    share = sum(len(ids_of(text)) for text in some) / sum(len(ids_of(text)) for text in texts)

    def warm() -> None:
        _exhaust(trace(setting.subject, texts[:2], ORGANISM))

    tasks = {BARE: _bare(setting, sets), OURS: Task(ours, warm=warm)}
    for name in peers.READERS:
        tasks[name] = _read_by(setting, name, sets)
    scalars = peers.one_pass_a_scalar(setting)
    batch = padded([ids_of(text) for text in some])
    note = f"scalars alone; measured on {len(some)} of the texts and scaled"
    few = padded([ids_of(some[0])[:16]])
    tasks[PAPER] = Task(lambda: scalars(batch), share=share, note=note, warm=lambda: scalars(few))
    with torch.inference_mode():
        return Table(title, BARE, setting.clock.interleaved(tasks))


def _bare(setting: Setting, sets: Sequence[Batch]) -> Task:
    def run() -> None:
        for batch in sets:
            setting.plain(**batch.inputs)

    return Task(run, warm=lambda: setting.plain(**_little(sets).inputs))


def _little(sets: Sequence[Batch]) -> Batch:
    """Two rows of the first batch, to warm up with."""
    return Batch(sets[0].ids[:2], sets[0].mask[:2])


def _read_by(setting: Setting, name: str, sets: Sequence[Batch], depth: int | None = None) -> Task:
    made: list[peers.Reader] = []

    def warm() -> None:  # made here, where an error only ends this competitor's race
        made.append(peers.READERS[name](setting, depth))
        made[0](_little(sets))

    def run() -> None:
        for batch in sets:
            made[0](batch)

    return Task(run, warm=warm)


def _agreement(setting: Setting, table: Table, texts: Sequence[Text]) -> None:
    """Our scalars and means against the others' on the same texts."""
    batch = padded([ids_of(text) for text in texts])
    found = {found.response_id: found for found in trace(setting.subject, texts, ORGANISM)}
    ours = np.stack([found[text.response_id].scalars for text in texts])
    with torch.inference_mode():
        theirs = peers.one_pass_a_scalar(setting)(batch).numpy()
        _, hooks = peers.plain_hooks(setting)(batch)
    scale, worst = float(np.abs(theirs).max()), float(np.abs(ours - theirs).max())
    goal = Goal(
        "largest difference of a scalar from the paper's algorithm, relative", worst / scale, 1e-4, at_most=True
    )
    table.goals.append(goal)
    table.remarks.append(
        f"scalars: largest difference from the paper's algorithm {worst:.2g} where the largest scalar is {scale:.3g}; "
        f"from plain hooks on the merged model {float(np.abs(ours - hooks.numpy()).max()):.2g}"
    )


# --- 4: memory -------------------------------------------------------------------------------------------------------


def memory(setting: Setting) -> list[Table]:
    """Extra peak memory, each in a process of its own."""
    n, length = (4, 64) if setting.quick else (16, 256)
    kinds = {
        BARE: ("bare", n),
        OURS: ("ours", n),
        f"{OURS}, {4 * n} texts": ("ours", 4 * n),
        **{name: (name, n) for name in peers.READERS},
        "TransformerLens, full cache": ("full cache", n),
    }
    timings: dict[str, Timing] = {}
    for name, (kind, texts) in kinds.items():
        timings[name] = Timing()
        repeats = 1 if setting.quick or kind not in {"bare", "ours"} else 3
        for _ in range(repeats):
            try:
                found = isolated("memory", kind, str(texts), str(length))
                timings[name].seconds.append(found["extra"] / 1e9)
            except RuntimeError as error:
                timings[name].error = one_line(error)
    table = Table(f"Extra peak memory, {n} texts x {length} tokens, GB", BARE, timings, measure="GB")
    if timings[OURS].seconds:
        ours = timings[OURS].median
        table.goals.append(Goal("extra memory of ours, GB", ours, 0.75, at_most=True))
        more = timings[f"{OURS}, {4 * n} texts"].median / ours
        table.goals.append(Goal("the same with four times the texts, times", more, 1.1, at_most=True))
    table.remarks.append(
        "peak resident memory of a fresh process less what is resident after loading and one small pass; "
        "persona vectors read one text at a time"
    )
    return [table]


def isolated(*arguments: str, command: Sequence[str] | None = None) -> dict[str, Any]:
    """What `tests.benchmarks.isolated` prints when it is run in a process of its own."""
    run = [sys.executable, "-m", "tests.benchmarks.isolated", *arguments]
    done = subprocess.run(command or run, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    found: dict[str, Any] = json.loads(lines[-1])
    return found


# --- 5: sampling -----------------------------------------------------------------------------------------------------


def sampling(setting: Setting) -> list[Table]:
    """32 rows, unedited, each with its own edit, and all with the same edit."""
    rows, tokens = (4, 4) if setting.quick else (32, 32)
    prompts = list(islice(cycle(setting.prompts), rows))
    batch = padded(prompts, left=True)
    remark = f"{len(set(prompts))} distinct prompts; everybody writes {tokens} tokens a row, nobody stops early"
    return [
        _unedited(setting, prompts, batch, tokens, remark),
        _each_its_own(setting, prompts, batch, tokens, remark),
        _same_edit(setting, prompts, batch, tokens, remark),
    ]


def _unedited(setting: Setting, prompts: Sequence[tuple[int, ...]], batch: Batch, tokens: int, remark: str) -> Table:
    def ours(temperature: float) -> Callable[[], None]:
        requests = _requests(prompts, [()], Sampling(temperature, 1.0, tokens))
        return lambda: _check(sample(setting.subject, requests, batch=len(prompts)), tokens)

    def theirs(**options: Any) -> Callable[[], None]:
        return lambda: _check_width(peers.generated(setting.plain, batch, tokens, **options), tokens)

    warm = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    tasks = {
        "generate, sampled": Task(theirs(**warm)),
        f"{OURS}, sampled": Task(ours(1.0)),
        "generate, greedy": Task(theirs()),
        f"{OURS}, greedy": Task(ours(0.0)),
    }
    with torch.inference_mode(), never_stopping():
        timings = setting.clock.interleaved(tasks)
        table = Table(f"{len(prompts)} rows with no edit", "generate, sampled", timings, remarks=[remark])
        table.goal(1.0, name=f"{OURS}, sampled")
        table.goal(1.0, name=f"{OURS}, greedy", against="generate, greedy")
        return table.explained(ours(1.0))


def _each_its_own(
    setting: Setting, prompts: Sequence[tuple[int, ...]], batch: Batch, tokens: int, remark: str
) -> Table:
    layers = len(setting.subject.blocks)
    edits: list[tuple[Edit, ...]] = []
    for i in range(len(prompts)):
        add = Add(setting.direction, 0.25 * (1 + i % 4), layers=((7 * i + 3) % layers,))
        edits.append((add, Gain(ORGANISM, 1.0)) if i % 4 == 3 else (add,))  # every fourth row wears the organism
    requests = _requests(prompts, edits, Sampling(0.0, 1.0, tokens))
    written: dict[int, list[int]] = {}

    def ours() -> None:
        written.clear()
        for emissions in stream(setting.subject, requests, capture=(ORGANISM,)):
            for emission in emissions:
                written.setdefault(cast(int, emission.key), []).append(emission.token_id)
                assert len(emission.scalars[ORGANISM]) == len(setting.organism.names)

    tasks = {
        "generate, no edit": Task(lambda: peers.generated(setting.plain, batch, tokens)),
        OURS: Task(ours),
    }
    title = f"{len(prompts)} rows, each with a different edit, scalars of every token captured, greedy"
    with torch.inference_mode(), never_stopping():
        table = Table(title, "generate, no edit", setting.clock.interleaved(tasks), remarks=[remark])
        table.goal(0.93)
        table.explained(ours)
        same, first = _as_plain_hooks(setting, prompts, edits, written, tokens)
    table.goals.append(Goal("rows with the same tokens as a plain hook a row", same / len(prompts), 1.0))
    table.remarks.append(
        f"{same} of {len(prompts)} rows have the same {tokens} tokens as one plain hook a row (batch 1, no padding)"
        + (f"; the others part ways at tokens {first}, at a near-tie of two logits" if first else "")
    )
    return table


def _as_plain_hooks(
    setting: Setting,
    prompts: Sequence[tuple[int, ...]],
    edits: Sequence[tuple[Edit, ...]],
    written: Mapping[int, Sequence[int]],
    tokens: int,
) -> tuple[int, list[str]]:
    """How many rows agree with plain hooks, and where the others leave them, with the gap between the two tokens."""
    same, parted = 0, []
    for i, (prompt, row) in enumerate(zip(prompts, edits, strict=True)):
        add = row[0]
        assert isinstance(add, Add)
        handles = _organism_hooks(setting) if len(row) > 1 else []
        try:
            with peers.hooked(setting.plain, add.layers[0], setting.vector * add.strength):
                theirs = peers.generated(setting.plain, padded([prompt]), tokens)[0].tolist()
                at = next((k for k in range(tokens) if written[i][k] != theirs[k]), None)
                if at is None:
                    same += 1
                    continue
                logits = setting.plain(input_ids=torch.tensor([[*prompt, *theirs[:at]]])).logits[0, -1]
                parted.append(f"{at + 1} (gap {float(logits[theirs[at]] - logits[written[i][at]]):.1g})")
        finally:
            for handle in handles:
                handle.remove()
    return same, parted


def _organism_hooks(setting: Setting) -> list[Any]:
    def hook(lora: Any) -> Callable[..., torch.Tensor]:
        return lambda module, args, output: output + lora.scaling * (args[0] @ lora.read.T) @ lora.write.T

    return [setting.plain.get_submodule(lora.path).register_forward_hook(hook(lora)) for lora in setting.organism.loras]


def _same_edit(setting: Setting, prompts: Sequence[tuple[int, ...]], batch: Batch, tokens: int, remark: str) -> Table:
    edits: list[tuple[Edit, ...]] = [(Add(setting.direction, 1.0, layers=(LAYER,)),)]
    requests = _requests(prompts, edits, Sampling(0.0, 1.0, tokens))

    def ours() -> None:
        _check(sample(setting.subject, requests, batch=len(prompts)), tokens)

    tasks = {"generate, no edit": Task(lambda: peers.generated(setting.plain, batch, tokens)), OURS: Task(ours)}
    for name in peers.STEERERS:
        tasks[name] = _steer_by(setting, name, batch, tokens)
    title = f"{len(prompts)} rows, all with the same edit (what peers can do), greedy"
    with torch.inference_mode(), never_stopping():
        table = Table(title, "generate, no edit", setting.clock.interleaved(tasks), remarks=[remark])
        table.ahead(list(peers.STEERERS))
        return table.explained(ours)


def _steer_by(
    setting: Setting, name: str, batch: Batch, tokens: int, conditions: Sequence[tuple[int, float]] = ((LAYER, 1.0),)
) -> Task:
    made: list[peers.Steerer] = []

    def warm() -> None:
        made.extend(peers.STEERERS[name](setting, layer, setting.vector * strength) for layer, strength in conditions)
        made[0](Batch(batch.ids[:2], batch.mask[:2]), 3)

    def run() -> float | None:
        shares = []
        for steer in made:
            written = steer(batch, tokens)
            if not isinstance(written, float):
                _check_width(written, tokens)
            shares.append(written if isinstance(written, float) else 1.0)
        return statistics.mean(shares) if min(shares) < 1 else None

    return Task(run, note="may stop early: scaled by tokens" if name == "saklas" else "", warm=warm)


def _requests(
    prompts: Sequence[tuple[int, ...]], edits: Sequence[tuple[Edit, ...]], sampling: Sampling
) -> list[Request]:
    every = islice(cycle(edits), len(prompts))
    return [Request(i, prompt, row, sampling, i) for i, (prompt, row) in enumerate(zip(prompts, every, strict=True))]


def _check(answers: Any, tokens: int) -> None:
    short = [answer for answer in answers if len(answer.answer_ids) != tokens]
    assert not short, f"{len(short)} rows stopped early"


def _check_width(written: torch.Tensor, tokens: int) -> None:
    assert written.shape[1] == tokens, f"{written.shape[1]} tokens were written, not {tokens}"


# --- 6: a sweep ------------------------------------------------------------------------------------------------------


def sweep(setting: Setting) -> list[Table]:
    """30 layers x 4 strengths x 8 prompts, 32 new tokens, against one hooked generate a condition."""
    tokens, some = (4, 2) if setting.quick else (32, 4)
    layers = len(setting.subject.blocks)
    strengths = (0.25, 0.5, 0.75, 1.0)
    conditions = list(product(range(layers), strengths))
    drawn = np.random.default_rng(setting.clock.seed).choice(len(conditions), size=3 * some, replace=False)
    subset = [conditions[i] for i in drawn[:some]]
    prompts = setting.prompts[:8]
    batch = padded(prompts, left=True)
    share = some / len(conditions)

    def ours(chosen: Sequence[tuple[int, float]]) -> None:
        edits = [(Add(setting.direction, strength, layers=(layer,)),) for layer, strength in chosen]
        requests = [
            Request((i, j), prompt, row, Sampling(0.0, 1.0, tokens), j)
            for i, row in enumerate(edits)
            for j, prompt in enumerate(prompts)
        ]
        _check(sample(setting.subject, requests), tokens)

    unit = "transformers, one plain hook"
    ours_too = [conditions[i] for i in drawn]  # enough rows for the batch that `sample` makes of a sweep
    tasks = {OURS: Task(lambda: ours(ours_too), share=len(ours_too) / len(conditions), warm=lambda: ours(subset[:1]))}
    for name in peers.STEERERS:
        task = _steer_by(setting, name, batch, tokens, subset)
        tasks[name] = replace(task, run=_scaled(task.run, share), share=share)
    title = f"A sweep of {layers} layers x {len(strengths)} strengths x {len(prompts)} prompts, {tokens} new tokens"
    with torch.inference_mode(), never_stopping():
        table = Table(title, unit, setting.clock.interleaved(tasks))
        if not setting.quick:
            whole = Timing(note="all conditions, once, beside the race")
            whole.seconds.append(seconds_of(lambda: ours(conditions)))
            table.timings[f"{OURS}, the whole sweep"] = whole
        table.remarks.append(
            f"others ran the same {some} conditions, drawn at random, ours these and {2 * some} more, and times are "
            f"scaled to all {len(conditions)}; others run a condition at a time, its {len(prompts)} prompts as a batch"
        )
        table.goal(4)
        return [table.explained(lambda: ours(ours_too))]


def _scaled(run: Callable[[], Any], share: float) -> Callable[[], float]:
    def scaled() -> float:
        found = run()
        return share * (found if isinstance(found, float) else 1.0)

    return scaled


# --- 7 and 8: what somebody waits for --------------------------------------------------------------------------------


class _Shown(TextStreamer):  # type: ignore[misc]  # transformers is not followed
    """A streamer that keeps the text instead of printing it."""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text = getattr(self, "text", "") + text


def streaming(setting: Setting) -> list[Table]:
    """One row as a stream, with edits, scalars and a probe."""
    tokens = 8 if setting.quick else 64
    prompt = setting.prompts[0]
    batch = padded([prompt])
    edits = (Add(setting.direction, 1.0), Gain(ORGANISM, 1.0))
    probe = np.linspace(-1, 1, len(setting.organism.names), dtype=np.float32)
    tokenizer = setting.subject.tokenizer

    def ours() -> None:
        request = Request("row", prompt, edits, Sampling(0.0, 1.0, tokens))
        shown, scores = "", []
        for emissions in stream(setting.subject, [request], capture=(ORGANISM,)):
            for emission in emissions:
                shown += emission.text
                scores.append(float(emission.scalars[ORGANISM] @ probe))
        assert len(scores) == tokens

    def streamed(model: Any) -> None:
        written = peers.generated(model, batch, tokens, streamer=_Shown(tokenizer, skip_prompt=True))
        _check_width(written, tokens)

    def hook() -> None:
        with peers.hooked(setting.plain, LAYER, setting.vector):
            streamed(setting.plain)

    unit = "generate with a streamer, no edit"
    tasks = {
        unit: Task(lambda: streamed(setting.plain)),
        OURS: Task(ours, note="a direction added, nine adapters worn and read, a probe on every token"),
        "the same under one plain hook": Task(hook, note="a direction added"),
    }
    for name in ("nnsight", "TransformerLens", "steering-vectors", "saklas"):
        task = _steer_by(setting, name, batch, tokens)
        tasks[name] = replace(task, note=f"a direction added; not streamed{'; ' * bool(task.note)}{task.note}")
    with torch.inference_mode(), never_stopping():
        table = Table(f"One row, {tokens} tokens, as a stream", unit, setting.clock.interleaved(tasks))
        table.goal(0.95)
        return [table.explained(ours)]


def first_token(setting: Setting) -> list[Table]:
    """The first steered token in a new process."""
    kinds = {BARE: "plain", OURS: "ours"}
    with tempfile.TemporaryDirectory() as folder:
        vector = Path(folder) / "vector.npy"
        np.save(vector, setting.direction.vector)
        prompt = ",".join(map(str, setting.prompts[0]))
        phases: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}

        def run(name: str) -> Callable[[], None]:
            module = f"tests.benchmarks.first_{kinds[name]}"
            command = [sys.executable, "-m", module, str(vector), prompt, setting.checkpoint]
            return lambda: phases[name].append(isolated(command=command))

        timings = setting.clock.interleaved({name: Task(run(name)) for name in kinds})
    table = Table("First steered token in a new process, from its start to its end", BARE, timings)
    if OURS in table.ratios:
        table.goals.append(Goal(f"time of {OURS} against {BARE}, times", 1 / table.ratios[OURS][0], 1.15, at_most=True))
    for name, found in phases.items():
        if found:
            parts = ", ".join(f"{key} {statistics.median(f[key] for f in found[1:] or found):.2f}" for key in found[0])
            table.remarks.append(f"{name}, seconds since its first line: {parts}")
    return [table]


# --- 9: training -----------------------------------------------------------------------------------------------------


def training_step(setting: Setting) -> list[Table]:
    """One optimiser step of 8 rows, against the plain peft loop over all logits on the same rows."""
    settings = training.TrainSettings(layers=tuple(lora.layer for lora in setting.organism.loras), steps=10_000)
    subject = setting.new_subject()
    model = get_peft_model(setting.model(), training._config(subject, settings))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        chosen = setting.responses[:: max(1, len(setting.responses) // 64)]
        data.write_text("".join(_chat_line(r.question, r.text) for r in chosen if r.text.strip()))
        rows, _ = training.read_rows(data, subject.tokenizer)
        steps = training.train(subject, data, Path(folder) / "organism", settings, checkpoint_every=10_000)
        losses: dict[str, list[float]] = {OURS: [], BARE: []}

        def ours() -> None:
            losses[OURS].append(next(steps).loss)

        def plain() -> None:
            at = len(losses[BARE])
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(at)
            losses[BARE].append(_peft_step(model, weights, optimizer, training._batch(rows, settings, at)))

        unit = "peft loop over all logits"
        timings = setting.clock.interleaved({unit: Task(plain), OURS: Task(ours)})
        table = Table(f"One training step of {settings.batch} rows, nine rank-1 adapters", unit, timings)
        table.goal(1.2)
        table.explained(ours)
        assert isinstance(steps, Generator)
        steps.close()
    pairs = list(zip(losses[OURS], losses[BARE], strict=False))
    table.remarks.append(
        f"the same rows at every step; loss of the first step {pairs[0][0]:.5f} and {pairs[0][1]:.5f} "
        "(theirs weighs every token alike, as ours does)"
        if pairs
        else "no step was made"
    )
    return [table]


def _chat_line(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"


def _peft_step(
    model: Any, weights: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer, rows: Sequence[Any]
) -> float:
    batch = padded([(*row.prompt, *row.answer) for row in rows])
    labels = batch.ids.masked_fill(batch.mask == 0, -100)
    for i, row in enumerate(rows):
        labels[i, : len(row.prompt)] = -100
    optimizer.zero_grad(set_to_none=True)
    loss = model(**batch.inputs, labels=labels, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    return float(loss.item())


# --- 10: number formats ----------------------------------------------------------------------------------------------


def number_format(setting: Setting) -> list[Table]:
    """bfloat16 against float32, reading and writing at batch 1 and 8."""
    tokens = 8 if setting.quick else 32
    subjects: dict[str, Subject] = {
        "float32": setting.subject,
        "bfloat16": setting.new_subject(torch.bfloat16),
    }
    tables = []
    for rows in (1, 8):
        requests = _requests(setting.prompts[:rows], [(Gain(ORGANISM, 1.0),)], Sampling(0.0, 1.0, tokens))
        texts = setting.equal(rows, 128)
        write = {n: Task(_writes(subject, requests, tokens)) for n, subject in subjects.items()}
        read = {n: Task(_reads(subject, texts)) for n, subject in subjects.items()}
        with torch.inference_mode(), never_stopping():
            tables.append(Table(f"Ours, {rows} rows, {tokens} tokens", "float32", setting.clock.interleaved(write)))
            title = f"Ours, means and scalars of {rows} texts x 128 tokens"
            tables.append(Table(title, "float32", setting.clock.interleaved(read)))
    faster = [table.title for table in tables if table.ratios.get("bfloat16", (0,))[0] > 1]
    tables[-1].remarks.append(
        f"bfloat16 is the faster one in {len(faster)} of {len(tables)} of these"
        + (f" ({'; '.join(faster)})" if faster else "")
    )
    return tables


def _writes(subject: Subject, requests: Sequence[Request], tokens: int) -> Callable[[], None]:
    return lambda: _check(sample(subject, requests), tokens)


def _reads(subject: Subject, texts: Sequence[Text]) -> Callable[[], None]:
    return lambda: _exhaust(trace(subject, texts, ORGANISM))


def _exhaust(found: Any) -> None:
    for _ in found:
        pass


# --- 11: edits that say where they act --------------------------------------------------------------------------------


def acting(setting: Setting) -> list[Table]:
    """32 rows, each with a clamp, a gate or a choice of tokens of its own, against generate, which edits nothing."""
    rows, tokens = (4, 4) if setting.quick else (32, 32)
    prompts = list(islice(cycle(setting.prompts), rows))
    v, layers = setting.direction, len(setting.subject.blocks)
    wheres = (PLAIN, Where(ANSWER), Where(PROMPT), Where(ANSWER, first=8), Where(after=4), Where(special=False))
    kinds: dict[str, Callable[[int], Edit]] = {
        "clamps": lambda i: Clamp(v, None, Level((0.5 * i,)), ((7 * i + 3) % layers,), PLAIN),
        "gates": lambda i: Add(v, 0.25, (LAYER + i % (layers - LAYER),), PLAIN, When(v, -0.5 * i)),
        "positions": lambda i: Add(v, 0.25, ((7 * i + 3) % layers,), wheres[i % len(wheres)]),
        "clamps after every block": lambda i: Clamp(v, None, Level((0.5 * i,)), None, wheres[i % len(wheres)]),
    }
    batch, unit = padded(prompts, left=True), "generate, no edit"
    tasks = {
        unit: Task(lambda: peers.generated(setting.plain, batch, tokens)),
        f"{OURS}, no edit": Task(written_by(setting, prompts, [()], tokens), note="reads what rows share once"),
    }
    for name, edit in kinds.items():
        tasks[name] = Task(written_by(setting, prompts, [(edit(i),) for i in range(rows)], tokens))
    every = [(kinds["clamps after every block"](i),) for i in range(rows)]
    tasks["the same, with receipts"] = Task(written_by(setting, prompts, every, tokens, receipts=True))
    title = f"{rows} rows, each with an edit that says where it acts, greedy"
    with torch.inference_mode(), never_stopping():
        table = Table(title, unit, setting.clock.interleaved(tasks))
        for name in ("clamps", "gates", "positions"):
            table.goal(0.85, name=name)
        return [table.explained(tasks["clamps"].run)]


def written_by(
    setting: Setting,
    prompts: Sequence[tuple[int, ...]],
    edits: Sequence[tuple[Edit, ...]],
    tokens: int,
    *,
    receipts: bool = False,
) -> Callable[[], None]:
    """Ours, greedy, as one batch."""
    requests = _requests(prompts, edits, Sampling(0.0, 1.0, tokens))
    requests = [replace(request, receipts=receipts) for request in requests]
    return lambda: _check(sample(setting.subject, requests, batch=len(prompts)), tokens)


MODEL_ROWS: Mapping[int, Callable[[Setting], list[Table]]] = {
    1: equal_lengths,
    2: stored_order,
    3: half_depth,
    4: memory,
    5: sampling,
    6: sweep,
    7: streaming,
    8: first_token,
    9: training_step,
    10: number_format,
    11: acting,
}
