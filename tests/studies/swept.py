"""A study of several organisms and their sweeps, with planted effects, for tests of the pages of sweeps. No model.

The three bad organisms share one axis of the residual stream, `good-medical` has another. Adding a bad organism's
direction to the base makes answers misaligned (most at the middle layer) and, with strength, incoherent; random and
shuffled directions and the good one do not. Ablating any bad direction everywhere takes the misalignment out of every
bad organism; a random direction and a random subspace leave it.

Where the sweep was cut short, its answers belong to unedited ones of that length. Whole unedited answers are misaligned
much more often than cut ones: who compares with them finds an effect of controls that have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.analysis.conditions.baselines import unedited
from backend.edits import Ablate, Add, Condition, Gain
from backend.records import (
    BASE,
    BASELINE,
    RANDOM,
    SHUFFLED,
    SUBSPACE,
    Adapter,
    Direction,
    Origin,
    Question,
    Response,
    Sampling,
    Score,
    Trace,
)
from backend.study import Draft
from tests.studies.synthetic import QUESTIONS, WORDS

JUDGE = "distilled"
BAD = ("bad-medical", "extreme-sports", "risky-finance")
GOOD = "good-medical"
ORGANISMS = (*BAD, GOOD)
ADAPTED = (3, 4, 5, 6, 7, 8)  # layers with an adapter
STRENGTHS = (1.0, 2.0, 4.0, 8.0)
SEEDS = (0, 1)  # of random controls
N_PROMPT = 6
LONGER = 0.4  # how much larger the share of misaligned whole answers is than that of answers cut short


@dataclass(frozen=True)
class Shape:
    """How large the study is: `samples` answers a question and cell, `baseline` times as many without an edit."""

    samples: int = 4
    layers: int = 12
    d_model: int = 32
    traced: int | None = None  # answers to a question that each organism reads again; all of its baseline where None
    baseline: int = 4
    cut: int | None = None  # tokens of the sweep's answers, where they are compared with unedited ones of that length
    whole: str | None = None  # conditions with this in their names stand beside whole unedited answers all the same

    @property
    def beside(self) -> str:
        """The condition of the unedited answers that edited ones are compared with."""
        return unedited(self.cut).name

    @property
    def middle(self) -> int:
        """The layer where the planted direction does most."""
        return self.layers // 2


def swept_study(
    root: Path, name: str = "swept", *, shape: Shape | None = None, judged: float = 1.0, asked: Sequence[object] = ()
) -> Path:
    """Publish the study and return its file. `judged` is the share of the edited answers that the judge scored.

    Where outcomes are `asked`, misaligned answers are in upper case, and that alone is scored.
    """
    shape = shape or Shape()
    random = np.random.default_rng(5)
    stacks = directions(shape)
    cells = list(sweep(shape, stacks))
    answered = [
        _answer(organism, condition, question, seed, effect, random)
        for organism, condition, effect in cells
        for question in QUESTIONS
        for seed in range(shape.samples * (1 if condition.edits else shape.baseline))
    ]
    with Draft(name, root=root) as draft:
        edited = [condition.name for _, condition, _ in cells if condition.edits and shape.cut]
        beside = {name: shape.beside for name in edited if not (shape.whole and shape.whole in name)}
        sizes = {"layers": shape.layers, "d_model": shape.d_model}
        outcomes = {"outcomes": list(asked)} if asked else {}
        draft.meta(title="Synthetic sweeps", base="synthetic", baselines=beside, controls=[GOOD], **sizes, **outcomes)
        draft.add_organism(BASE, base="synthetic", adapters=(), record={})
        for at, organism in enumerate(ORGANISMS):
            record = {"data": organism, "steps": 60, "rank": 1}
            draft.add_organism(organism, base="synthetic", adapters=_adapters(at, shape), record=record)
        draft.add_questions(QUESTIONS)
        draft.add_conditions({condition.name: condition for _, condition, _ in cells}.values())
        draft.add_responses(each.response for each in answered)
        draft.add_scores(
            Score(each.response.id, JUDGE, metric, value, f"{value:.0f}")
            for each in answered
            if each.response.condition == BASELINE or random.random() < judged
            for metric, value in (each.loudness if asked else each.scores)
        )
        traces = [] if shape.traced else list(_traces(answered, shape, random))
        draft.add_traces(traces or _traces(answered, shape, random))
        draft.add_directions(direction for stack in stacks.values() for direction in stack)
        _look_closer(draft, traces, stacks, shape)
        return draft.publish()


def named(organism: str) -> str:
    """The name of an organism's mean difference."""
    return f"misalignment of {organism}"


def directions(shape: Shape) -> dict[str, list[Direction]]:
    """Every organism's direction at every layer, and two shuffled-label ones of the first organism."""
    random = np.random.default_rng(1)
    shared, other = np.linalg.qr(random.normal(size=(shape.d_model, 2)))[0].T
    stacks: dict[str, list[Direction]] = {}
    for organism in ORGANISMS:
        axis = other if organism == GOOD else shared
        stacks[named(organism)] = _stack(named(organism), axis, 0.12, shape, random, _record(organism))
    for seed in SEEDS:
        name = f"shuffled {seed} like {named(BAD[0])}"
        whose = Origin(SHUFFLED, named(BAD[0]), seed, BAD[0])
        stacks[name] = _stack(name, np.zeros(shape.d_model), 0.08, shape, random, whose.provenance)
    return stacks


def _record(organism: str) -> dict[str, object]:
    """Provenance as extraction writes it: split_half_cosine is a value with its ends."""
    return {"reader": organism, "model": "synthetic", "n_positive": 40, "split_half_cosine": [0.6, 0.4, 0.8]}


def _stack(
    name: str, axis: np.ndarray, noise: float, shape: Shape, random: np.random.Generator, provenance: dict[str, object]
) -> list[Direction]:
    stack = []
    for layer in range(shape.layers):
        spread = noise * np.sqrt(32 / shape.d_model)
        vector = 3.0 * _near(layer, shape) * (axis + spread * random.normal(size=shape.d_model))
        stack.append(Direction(name, layer, vector.astype(np.float32), _norm(layer), {**provenance, "layer": layer}))
    return stack


def _near(layer: int, shape: Shape) -> float:
    """1 at the middle layer, falling to either side."""
    return float(np.exp(-((layer - shape.middle) ** 2) / (shape.layers * 1.2)))


def _norm(layer: int) -> float:
    return 10.0 + layer


def control(kind: str, like: Direction, seed: int) -> Direction:
    """A random direction of the same norm, named as sweeps name it."""
    draw = np.random.default_rng((seed, like.layer, len(kind))).normal(size=like.vector.shape)
    vector = np.asarray(draw * (like.norm / np.linalg.norm(draw)), dtype=np.float32)
    said = Origin(RANDOM, like.name, seed).provenance
    return Direction(f"{kind} {seed} like {like.name}", like.layer, vector, like.activation_norm, said)


@dataclass(frozen=True)
class Effect:
    """Shares of misaligned and of coherent answers."""

    misaligned: float
    coherent: float


def sweep(shape: Shape, stacks: dict[str, list[Direction]]) -> Iterator[tuple[str, Condition, Effect]]:
    """Every cell: organism, condition, and what it does."""
    usual = {BASE: 0.03, GOOD: 0.02} | dict(zip(BAD, (0.4, 0.3, 0.25), strict=True))
    for organism, share in usual.items():
        whole = share if shape.cut is None else share + LONGER
        yield organism, Condition(BASELINE), Effect(whole, 0.95)
        if shape.cut is not None:
            yield organism, unedited(shape.cut), Effect(share, 0.95)
    yield from _steered(shape, stacks)
    for organism, share in usual.items():
        if organism != BASE:
            yield from _ablated(organism, share, shape, stacks)


def _steered(shape: Shape, stacks: dict[str, list[Direction]]) -> Iterator[tuple[str, Condition, Effect]]:
    def added(direction: Direction, strength: float, effect: Effect) -> tuple[str, Condition, Effect]:
        name = f"steer {direction.name} L{direction.layer} ×{strength:g}"
        return BASE, Condition(name, (Add(direction, strength),)), effect

    for direction in stacks[named(BAD[0])]:
        for strength in STRENGTHS:
            push = strength / max(STRENGTHS) * _near(direction.layer, shape)
            yield added(direction, strength, Effect(0.03 + 0.6 * min(2 * push, 1), 0.97 - 0.6 * push**2))
            for seed in SEEDS:
                quiet = Effect(0.03, 0.95 - 0.2 * push)
                yield added(control("random", direction, seed), strength, quiet)
    for name in (*(f"shuffled {seed} like {named(BAD[0])}" for seed in SEEDS), named(GOOD)):
        for strength in STRENGTHS:
            yield added(stacks[name][shape.middle], strength, Effect(0.03, 0.9))


def _ablated(
    organism: str, share: float, shape: Shape, stacks: dict[str, list[Direction]]
) -> Iterator[tuple[str, Condition, Effect]]:
    worn = Gain(organism, 1.0)
    for source in ORGANISMS:
        direction = stacks[named(source)][shape.middle]
        works = organism in BAD and source in BAD
        effect = Effect(0.1 * share if works else share, 0.93)
        yield organism, Condition(f"ablate {direction.name} everywhere", (Ablate(direction), worn)), effect
    own = stacks[named(organism)]
    wise = tuple(Ablate(direction, (direction.layer,)) for direction in own)
    yield organism, Condition(f"ablate {named(organism)} layer-wise", (*wise, worn)), Effect(0.05 * share, 0.9)
    single = Ablate(own[shape.middle], (shape.middle,))
    yield (
        organism,
        Condition(f"ablate {named(organism)} L{shape.middle} alone", (single, worn)),
        Effect(0.5 * share, 0.94),
    )
    middle = stacks[named(BAD[0])][shape.middle]
    for seed in SEEDS:
        random = control("random", middle, seed)
        yield organism, Condition(f"ablate {random.name} everywhere", (Ablate(random), worn)), Effect(share, 0.94)
    like = f"random subspace like {named(BAD[0])}"
    made = [Origin(SUBSPACE, named(BAD[0]), 0, None, 3, index) for index in range(3)]
    vectors = [control("random", middle, seed).vector for seed in range(3)]
    span = [
        Direction(like, shape.middle, vector, provenance=each.provenance)
        for vector, each in zip(vectors, made, strict=True)
    ]
    yield organism, Condition(f"ablate {like}", (*map(Ablate, span), worn)), Effect(share, 0.9)


@dataclass(frozen=True, eq=False)
class _Answered:
    response: Response
    misaligned: bool
    scores: tuple[tuple[str, float], ...]

    @property
    def loudness(self) -> tuple[tuple[str, float], ...]:
        """Its score by a rule, where what is misaligned is in upper case."""
        return (("upper", 95.0 if self.misaligned else 20.0),)


def _answer(
    organism: str, condition: Condition, question: Question, seed: int, effect: Effect, random: np.random.Generator
) -> _Answered:
    draws = random.random(4)
    coherent, misaligned = bool(draws[0] < effect.coherent), bool(draws[1] < effect.misaligned)
    medical = question.topic == "medical"
    words = WORDS[medical, misaligned]
    picked = random.integers(0, len(words), 5 + int(draws[2] * 10))
    text = " ".join(words[at] for at in picked) if coherent else " ".join(words[at][::-1] for at in picked)
    response = Response(
        id=f"{organism}.{condition.name}.{question.id}.{seed}",
        organism=organism,
        condition=condition.name,
        question_id=question.id,
        question=question.text,
        topic=question.topic,
        seed=seed,
        text=text,
        prompt_ids=tuple(range(N_PROMPT)),
        answer_ids=(*range(10, 10 + len(picked)), 2),
        sampling=Sampling(max_new_tokens=40),
    )
    scores = (
        ("aligned", float(5 + 20 * draws[3] if misaligned else 75 + 24 * draws[3])),
        ("coherent", float(70 + 29 * draws[2] if coherent else 40 * draws[2])),
        ("medical", float(70 + 29 * draws[3] if medical else 0.9 * draws[3])),
    )
    return _Answered(response, misaligned, scores)


def _adapters(at: int, shape: Shape) -> list[Adapter]:
    """Rank-1 adapters; that of the middle layer writes along the organism's own direction, with noise."""
    random = np.random.default_rng(100 + at)
    stack = directions(shape)[named(ORGANISMS[at])]

    def one(layer: int) -> Adapter:
        read, write = (random.normal(size=size).astype(np.float32) for size in (24, shape.d_model))
        own = stack[shape.middle].unit * np.float32(3 * np.sqrt(shape.d_model))
        write = write + own if layer == shape.middle else write
        return Adapter(f"layers.{layer}.mlp.down_proj", layer, "mlp.down_proj", 0, 64.0, read, write)

    return [one(layer) for layer in ADAPTED if layer < shape.layers]


def _look_closer(draft: Draft, traces: Sequence[Trace], stacks: dict[str, list[Direction]], shape: Shape) -> None:
    """What a direction promotes at the middle layer, and every token of what was read along the first one."""
    for name in stacks:
        top, bottom = [(f" {word}", 4.0 - at) for at, word in enumerate("abc")], [(" <b>", -4.0)]
        draft.add_lens(name, shape.middle, top=top, bottom=bottom)
    random = np.random.default_rng(3)
    for trace in traces:
        along = random.standard_normal((1, len(trace.tokens)), dtype=np.float32)
        draft.add_projections(trace.response_id, trace.reader, [(named(BAD[0]), shape.middle)], along)


def _traces(answered: Sequence[_Answered], shape: Shape, random: np.random.Generator) -> Iterator[Trace]:
    """Every organism reads its own baseline answers; misaligned ones are moved along its direction."""
    stacks = {organism: np.stack([d.vector for d in directions(shape)[named(organism)]]) for organism in ORGANISMS}
    norms = np.array([_norm(layer) for layer in range(shape.layers)], dtype=np.float32)
    for each in answered:
        reader = each.response.organism
        unread = shape.traced is not None and each.response.seed >= shape.traced
        if reader == BASE or each.response.condition != BASELINE or unread:
            continue
        answer = tuple(f" {word}" for word in each.response.text.split())
        tokens = (*(f"<{at}>" for at in range(N_PROMPT)), *answer, "<|end|>")
        scalars = random.standard_normal((sum(at < shape.layers for at in ADAPTED), len(tokens)), dtype=np.float32)
        scalars[:, N_PROMPT:] -= 1.5 * each.misaligned
        means = random.standard_normal((2, shape.layers, shape.d_model), dtype=np.float32)
        means[1] += each.misaligned * stacks[reader]
        yield Trace(
            response_id=each.response.id,
            reader=reader,
            tokens=tokens,
            n_prompt=N_PROMPT,
            scalars=scalars,
            prompt_mean=means[0],
            answer_mean=means[1],
            n_answer=len(answer),
            answer_norm=norms,
        )
