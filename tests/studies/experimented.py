"""A study of experiments whose counts are planted: checkpoints, noise, zeroed adapters, patched scalars, fine-tunes.

Every condition's answers are `N` to each question it was asked, of which a planted number is misaligned. The organism
`NINE` has been asked all questions, and two of them again by the experiment that zeroes its adapters, with fewer hits:
what stands beside zeroed adapters are these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from backend.edits import Condition, Gain
from backend.records import BASE, BASELINE, Adapter, Direction, Question, Response, Score, Trace
from backend.study import Draft

JUDGE, NINE, RUN, SEED, NARROW = "judge", "nine", "run", "nine seed 2", "narrow"
N, LAYERS, QUESTIONS = 10, (1, 2, 4, 6), ("q0", "q1", "q2", "q3")
STEPS = {10: 0, 20: 2, 30: 6}  # hits of N at each question
LONGER, LATER = "longer run", {20: 1, 40: 3}
NOISE = {("A", 0.5): 3, ("A", 1.0): 0, ("B", 0.5): 1}
ZEROED = {(1,): 1, (2,): 4, (4,): 4, (1, 2): 0}
UNEDITED, IN_ZEROING, IN_SWAP, PATCHED = 5, 4, 8, 1
LOSSES = [3.0] * 10 + [2.0] * 80 + [1.0] * 10
GROWS = {10: 0.1, 20: 2.0}  # the mean scalar by step
_NONE = np.zeros((0, 0), dtype=np.float32)


def experimented_study(root: Path, name: str = "experimented") -> Path:
    """Publish the study; returns its file."""
    with Draft(name, root=root) as draft:
        draft.meta(title="Experiments", base="tiny", settings=dict(settings()))
        draft.add_organism(BASE, base="tiny", adapters=(), record={"compared": ["no fine-tune"]})
        groups = {NINE: ["seeds", "layers"], SEED: ["seeds"], NARROW: ["layers", "alone"], RUN: None, LONGER: None}
        for organism, compared in groups.items():
            record = {"compared": compared, "losses": LOSSES if organism == NINE else []}
            draft.add_organism(organism, base="tiny", adapters=_adapters(organism), record=record)
        for step in GROWS:
            record = {"run": "single, run 1", "step": step}
            draft.add_organism(f"single step {step}", base="tiny", adapters=_adapters("single"), record=record)
        draft.add_questions(Question(each, f"{each}?", "first-plot") for each in QUESTIONS)
        draft.add_conditions([Condition(BASELINE), *(_condition(each) for each, _ in settings())])
        rng = np.random.default_rng(0)
        for organism, condition, hits, questions, source in answered():
            responses = [
                Response(
                    f"{organism}/{condition}/{question}/{source}{at}",
                    organism,
                    condition,
                    question,
                    f"{question}?",
                    "first-plot",
                    at,
                    "a text",
                )
                for question in questions
                for at in range(N)
            ]
            draft.add_responses(responses)
            draft.add_scores(
                Score(each.id, JUDGE, metric, value)
                for each in responses
                for metric, value in (("aligned", 10.0 if each.seed < hits else 95.0), ("coherent", 90.0))
            )
            if source:
                draft.add_sources([(each.id, source) for each in responses])
            if organism == NINE and condition == BASELINE and not source:
                draft.add_traces(trace for each in responses for trace in _traces(each, each.seed < hits, rng))
        vectors = {"kept": (1.0, 0.0, 0.0, 0.0), "beside": (1.0, 1.0, 0.0, 0.0)}
        draft.add_directions(
            Direction(direction, layer, np.array(vector, dtype=np.float32), activation_norm=4.0)
            for direction, vector in vectors.items()
            for layer in LAYERS[:2]
        )
        return draft.publish()


def settings() -> Iterator[tuple[str, Mapping[str, object]]]:
    """Every condition but the baseline, and what is said of it."""
    for step in sorted({*STEPS, *LATER}):
        yield f"step {step}", {"kind": "checkpoint", "scale": step, "step": step}
    for matrix, size in NOISE:
        says = {"kind": "noise", "organism": NINE, "matrix": matrix, "scale": size, "run": "1"}
        yield f"noise on {matrix} ×{size:g}, run 1", says
    for layers in ZEROED:
        gains = {str(layer): 0.0 for layer in layers}
        yield zeroing(layers), {"kind": "scale", "organism": NINE, "gains": gains, "others": 1.0}
    yield "patched from q1, swap", {"kind": "patch", "organism": NINE, "run": "swap", "donor": "q1"}
    yield "unedited in swap", {"kind": "unedited"}


def answered() -> Iterator[tuple[str, str, int, tuple[str, ...], str]]:
    """Who answered under what, with how many hits a question, to which questions, in which experiment."""
    yield BASE, BASELINE, 0, QUESTIONS, ""
    yield NINE, BASELINE, UNEDITED, QUESTIONS, ""
    yield NINE, BASELINE, IN_ZEROING, QUESTIONS[:2], "zeroing"
    yield SEED, BASELINE, 2, QUESTIONS, ""
    yield NARROW, BASELINE, 0, QUESTIONS[:2], ""
    for run, steps in ((RUN, STEPS), (LONGER, LATER)):
        for step, hits in steps.items():
            yield run, f"step {step}", hits, QUESTIONS, ""
    for (matrix, size), hits in NOISE.items():
        yield NINE, f"noise on {matrix} ×{size:g}, run 1", hits, QUESTIONS[: 1 if size == 1 else 4], "noise"
    for layers, hits in ZEROED.items():
        yield NINE, zeroing(layers), hits, QUESTIONS[:2], "zeroing"
    yield NINE, "unedited in swap", IN_SWAP, QUESTIONS[:2], "swap"
    yield NINE, "patched from q1, swap", PATCHED, QUESTIONS[:1], "swap"


def zeroing(layers: tuple[int, ...]) -> str:
    """The condition without the adapters of some layers."""
    return f"zero {'-'.join(map(str, layers))}"


def _condition(name: str) -> Condition:
    off = next((layers for layers in ZEROED if zeroing(layers) == name), None)
    return Condition(name, () if off is None else (Gain(NINE, 0.0, tuple(_name(layer) for layer in off)),))


def _name(layer: int) -> str:
    return f"layers.{layer}.mlp.down_proj"


def _adapters(organism: str) -> list[Adapter]:
    layers = {NINE: LAYERS, "single": (2,)}.get(organism, ())
    vector = np.ones(4, dtype=np.float32)
    return [Adapter(_name(layer), layer, "mlp.down_proj", 0, 1.0, vector, vector) for layer in layers]


def _traces(answer: Response, misaligned: bool, rng: np.random.Generator) -> Iterator[Trace]:
    """Read by the organism, where layer 1 tells misaligned answers, and by the checkpoints, whose scalar grows."""
    noise = rng.normal(0, 0.3, (len(LAYERS), 3)).astype(np.float32)
    noise[0] += misaligned
    yield _trace(answer.id, NINE, noise)
    for step, mean in GROWS.items():
        yield _trace(answer.id, f"single step {step}", np.full((1, 3), mean, dtype=np.float32) * (1 + noise[1:2] / 10))


def _trace(response: str, reader: str, scalars: np.ndarray) -> Trace:
    return Trace(
        response_id=response,
        reader=reader,
        tokens=("a", "b", "c"),
        n_prompt=1,
        scalars=scalars,
        prompt_mean=_NONE,
        answer_mean=_NONE,
        n_answer=2,
        answer_norm=np.zeros(0, dtype=np.float32),
    )
