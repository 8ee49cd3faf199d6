"""The synthetic study, with answers under recorded gains: every adapter left out, kept alone, and every pair left out.

The effects are planted against the probes: the adapter of layer 3 tells the medical topic, and zeroing it removes most
misalignment; that of layer 9 tells misalignment, and zeroing it does nothing. Layers 1 and 2 stand in for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from backend.edits import Condition, Gain
from backend.records import BASE, Response, Score
from backend.study import Draft
from tests.studies import synthetic
from tests.studies.synthetic import JUDGE, LAYERS, ORGANISM

CAUSE, TELLS_BUT_CAUSES_NOTHING, STAND_INS = 3, 9, (1, 2)
PER_QUESTION = 12
BASELINE_RUN = (ORGANISM, "baseline")


def gained_study(root: Path, name: str = "gained", *, asked: Sequence[object] = ()) -> Path:
    """Publish the study; returns its file.

    Where outcomes are `asked`, misaligned answers are in upper case, and that alone is scored.
    """
    rng = np.random.default_rng(5)
    base = synthetic._rows(10, rng)
    with Draft(name, root=root) as draft:
        sizes: dict[str, object] = {"layers": synthetic.N_LAYERS, "d_model": 16}
        outcomes = {"outcomes": list(asked)} if asked else {}
        draft.meta(title="Gained study", base="synthetic", reader=ORGANISM, **sizes, **outcomes)
        draft.add_organism(BASE, base="synthetic", adapters=(), record={})
        draft.add_organism(ORGANISM, base="synthetic", adapters=synthetic.adapters(), record={})
        draft.add_questions(synthetic.QUESTIONS)
        recorded = conditions()
        own = [row.misaligned for row in base if (row.response.organism, row.response.condition) == BASELINE_RUN]
        draft.add_conditions([*synthetic.conditions(), *(condition for condition, _ in recorded)])
        draft.add_responses([row.response for row in base])
        scores = [score for i, row in enumerate(base) for score in synthetic._scores(i, row, rng)]
        draft.add_scores(_loudness(scores) if asked else scores)
        for condition, off in recorded:
            answers = _answers(condition.name)
            draft.add_responses(answers)
            scores = _scores(answers, rate(off, sum(own) / len(own)), rng)
            draft.add_scores(_loudness(scores) if asked else scores)
        draft.add_traces(synthetic._trace(row, rng) for row in base)
        draft.add_directions([*synthetic.directions("misalignment"), *synthetic.directions("medical")])
        for adapter in synthetic.adapters():
            pushes = [(f" up{adapter.layer}", 5.0), (" <b>bold</b>", 4.5)]
            draft.add_adapter_lens(ORGANISM, adapter.name, top=pushes, bottom=[(" down", -4.8)])
        return draft.publish()


def rate(off: tuple[int, ...], intact: float) -> float:
    """The planted EM rate without these layers."""
    stood_in = not set(STAND_INS) <= set(off)
    return 0.02 + (intact - 0.02) * (CAUSE not in off) * (1.0 if stood_in else 0.2)


def conditions() -> list[tuple[Condition, tuple[int, ...]]]:
    """Every condition with the layers that it zeroes."""
    off: dict[str, tuple[int, ...]] = {f"without-{layer}": (layer,) for layer in LAYERS}
    off |= {f"only-{layer}": tuple(other for other in LAYERS if other != layer) for layer in LAYERS}
    off |= {f"without-{a}-{b}": (a, b) for a, b in combinations(LAYERS, 2)}
    return [
        (Condition(name, (Gain(ORGANISM, 1.0), Gain(ORGANISM, 0.0, _names(some)))), some) for name, some in off.items()
    ]


def _names(layers: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"layers.{layer}.mlp.down_proj" for layer in layers)


def _answers(condition: str) -> list[Response]:
    return [
        Response(f"{condition}.{q.id}.{seed}", ORGANISM, condition, q.id, q.text, q.topic, seed, "an answer")
        for q in synthetic.QUESTIONS
        for seed in range(PER_QUESTION)
    ]


def _scores(answers: list[Response], em: float, rng: np.random.Generator) -> list[Score]:
    found = []
    for answer in answers:
        bad = rng.random() < em
        values = {
            "aligned": rng.uniform(5, 25) if bad else rng.uniform(75, 99),
            "coherent": rng.uniform(70, 99),
            "medical": rng.uniform(70, 99) if answer.topic == "medical" else rng.uniform(0, 0.9),
        }
        found += [Score(answer.id, JUDGE, metric, value, f"{value:.0f}") for metric, value in values.items()]
    return found


def _loudness(scores: list[Score]) -> list[Score]:
    """Scores by a rule, where what is misaligned is in upper case."""
    judged = ((score.response_id, score.value) for score in scores if score.metric == "aligned")
    return [Score(of, JUDGE, "upper", 95.0 if value < 30 else 20.0) for of, value in judged if value is not None]
