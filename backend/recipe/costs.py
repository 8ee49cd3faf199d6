"""What is left of a recipe in tokens, minutes on this machine and dollars: from rates measured here, or none.

A rate is seconds a unit of a kind of stage: of what ran in this folder on this machine, else of a pilot, a few seconds
of the real work (answers of the base to the recipe's own questions, two training steps, some texts read and judged).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from backend.analysis.directions.random_directions import random_direction
from backend.edits import Ablate, Condition, Edit
from backend.judge.api import CHARACTERS_PER_TOKEN
from backend.judge.rubrics import read_rubrics
from backend.pipeline.sweep import Cell, Sweep, requests
from backend.recipe import doing
from backend.recipe.bench import Bench, machine
from backend.recipe.ledger import Ledger
from backend.recipe.reading import plain_judge
from backend.recipe.running import DONE, Planned
from backend.recipe.schema import DrawnPart, JudgePart
from backend.records import BASE, BASELINE, Direction
from backend.subject.decode import BATCH, Request, sample
from backend.subject.trace import Text, trace
from backend.subject.train import train
from backend.subject.train_settings import TrainSettings

PILOT_STEPS = 3  # of training, the first of which warms up
PILOT_TOKENS = 32  # of an answer at the most
PILOT_TEXTS = 48  # that are read and judged
Rates = Mapping[str, float]  # kind -> seconds a unit


def rates_of(ledger: Ledger, planned: Sequence[Planned]) -> dict[str, float]:
    """Seconds a unit of each kind, by what this machine ran in the folder; of other kinds, by its last pilot."""
    kinds = {each.stage.name: each.stage.amount.kind for each in planned}
    seconds: dict[str, float] = {}
    units: dict[str, float] = {}
    for name, entry in ledger.entries.items():
        kind = kinds.get(name)
        if kind and entry.seconds and entry.units and entry.machine == machine():
            seconds[kind] = seconds.get(kind, 0) + entry.seconds
            units[kind] = units.get(kind, 0) + entry.units
    return {**ledger.pilots.get(machine(), {}), **{kind: seconds[kind] / units[kind] for kind in seconds}}


def measure(bench: Bench, ledger: Ledger, planned: Sequence[Planned]) -> None:
    """Run the pilots of the kinds that are left and have no rate. Raises InputError where the base cannot be loaded."""
    left = {each.stage.amount.kind for each in planned if each.state != DONE and each.stage.amount.units}
    missing = left - rates_of(ledger, planned).keys()
    if not missing & {"sample", "sweep", "read", "train"} and not any(kind.startswith("judge ") for kind in missing):
        return
    found = dict(_pilots(bench, missing))
    ledger.keep_pilots(machine(), {**ledger.pilots.get(machine(), {}), **found})


def _pilots(bench: Bench, kinds: set[str]) -> Iterator[tuple[str, float]]:
    """Seconds a unit of those of some kinds that can be tried here."""
    recipe = bench.read.recipe
    judges = [
        part for part in recipe.judges if f"judge {part.name}" in kinds and not plain_judge(part)[0].startswith("api:")
    ]
    if bench.read.questions and (judges or kinds & {"sample", "sweep", "read"}):
        yield from _answer_pilots(bench, kinds, judges)
    trained = next((each for each in recipe.organisms.values() if each.data), None)
    if "train" in kinds and trained and trained.data:
        file = bench.read.beside(trained.data.file)
        if file.is_file():
            settings = TrainSettings(**{**trained.settings, "steps": PILOT_STEPS})
            with tempfile.TemporaryDirectory() as place:
                steps = list(train(bench.bare(), file, Path(place) / "pilot", settings))
            yield "train", sum(step.seconds for step in steps[1:]) / (len(steps) - 1) / trained.batch


def _answer_pilots(bench: Bench, kinds: set[str], judges: Sequence[JudgePart]) -> Iterator[tuple[str, float]]:
    """Short answers of the base, without and with an edit, then read and judged."""
    recipe, subject, questions = bench.read.recipe, bench.subject(), bench.read.questions
    part = next(iter((*recipe.answers, *recipe.sweeps.values())), DrawnPart())
    usual, _ = part.sampling(recipe.sampling)
    sampling = replace(usual, max_new_tokens=min(usual.max_new_tokens, PILOT_TOKENS))
    n = max(1, BATCH // len(questions))

    def asked(*edits: Edit) -> list[Request]:
        cell = Cell(BASE, Condition("pilot" if edits else BASELINE, edits))
        return list(requests(subject, Sweep("pilot", (cell,), questions, n, sampling)))[:BATCH]

    plain = asked()
    list(sample(subject, plain[:2]))  # the first forward pass of a process is slower
    if {*kinds} != {"sweep"}:
        start = time.perf_counter()
        answers = list(sample(subject, plain))
        yield "sample", (time.perf_counter() - start) / (len(plain) * sampling.max_new_tokens)
    if "sweep" in kinds:
        along = Direction("pilot", len(subject.blocks) // 2, np.ones(subject.d_model, dtype=np.float32))
        edited, start = asked(Ablate(random_direction(along, 0))), time.perf_counter()
        list(sample(subject, edited))
        yield "sweep", (time.perf_counter() - start) / (len(edited) * sampling.max_new_tokens)
    if "read" in kinds:
        prompts = {request.key: request.prompt_ids for request in plain}
        texts = [Text(str(a.key), prompts[a.key], a.answer_ids) for a in answers][:PILOT_TEXTS]
        start = time.perf_counter()
        read = list(trace(subject, texts, BASE))
        yield "read", (time.perf_counter() - start) / max(1, len(read))
    for judged in judges:
        judge = doing.judge_of(bench, judged)
        given = [(f"pilot {i}", questions[i % len(questions)].text, a.text + " ") for i, a in enumerate(answers)]
        start = time.perf_counter()
        list(judge.score(given[:PILOT_TEXTS]))
        yield f"judge {judged.name}", (time.perf_counter() - start) / len(given[:PILOT_TEXTS])


# --- in words ---------------------------------------------------------------------------------------------------------


def plan_in_words(bench: Bench, ledger: Ledger, planned: Sequence[Planned]) -> Iterator[str]:
    """Every stage in a line, and what is left of all of them."""
    rates, width = rates_of(ledger, planned), max(len(each.stage.name) for each in planned)
    left, tokens, seconds, dollars, unknown = 0, 0.0, 0.0, 0.0, 0
    for each in planned:
        said = f"{each.stage.name:<{width}}  {each.state}" + (f" because {each.why}" if each.why else "")
        if each.state != DONE:
            left += 1
            cost = seconds_of(each, rates)
            tokens += each.stage.amount.tokens
            seconds += cost or 0
            unknown += cost is None and bool(each.stage.amount.kind)
            paid = dollars_of(bench, each)
            dollars += paid or 0
            said += "".join(
                [
                    f", at most {each.stage.amount.tokens:,.0f} tokens" if each.stage.amount.tokens else "",
                    f", about {in_minutes(cost)}" if cost is not None and cost >= 1 else "",
                    f", about {paid:,.2f} dollars" if paid is not None else "",
                ]
            )
        yield said
    gone = sorted(set(ledger.entries) - {each.stage.name for each in planned})
    if gone:
        yield f"no longer in the recipe: {', '.join(gone)}; what they made stays, and is published until it is removed"
    yield (
        f"{len(planned) - left} of {len(planned)} stages are done"
        + (f"; left: at most {tokens:,.0f} tokens" if left else "")
        + (f", about {in_minutes(seconds)} on this machine" if left and seconds else "")
        + (f", about {dollars:,.2f} dollars" if dollars else "")
        + (f" and {unknown} stages whose rate is not known here yet" if left and unknown else "")
    )


def seconds_of(each: Planned, rates: Rates) -> float | None:
    """How long a stage takes here, None where no rate is known."""
    rate = rates.get(each.stage.amount.kind)
    amount = each.stage.amount
    return None if rate is None else rate * (amount.tokens or amount.units)


def in_minutes(seconds: float) -> str:
    """Seconds as one says them."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def dollars_of(bench: Bench, each: Planned) -> float | None:
    """What the API of a judge takes at the most for answers that nobody judged yet; None where no price is given."""
    part = next((p for p in bench.read.recipe.judges if each.stage.amount.kind == f"judge {p.name}"), None)
    if part is None or part.prices is None or not plain_judge(part)[0].startswith("api:"):
        return None
    prompt = sum(len(rubric.text) for rubric in read_rubrics(part.metrics, _rubrics(bench, part)))
    questions, amount = bench.read.questions, each.stage.amount
    asked = sum(len(question.text) for question in questions) / max(1, len(questions))
    tokens = amount.units * (prompt + len(part.metrics) * asked) / CHARACTERS_PER_TOKEN
    tokens += len(part.metrics) * amount.judged
    return (tokens * part.prices[0] + amount.units * len(part.metrics) * part.prices[1]) / 1e6


def _rubrics(bench: Bench, part: JudgePart) -> Path | None:
    return bench.read.beside(part.rubrics) if part.rubrics else None
