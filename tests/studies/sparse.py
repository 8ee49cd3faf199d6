"""A study whose scalars are planted sparse features: two fire at each token, feature 0 in misaligned answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.pipeline.measured import Measurement
from backend.records import Adapter, Question, Response, Score, Trace
from backend.study import Draft, Study, open_study

ADAPTERS, PLANTED, QUESTIONS, ANSWERS, TOKENS = 8, 10, 10, 6, 40
ATOMS = np.random.default_rng(5).standard_normal((PLANTED, ADAPTERS))
ATOMS /= np.linalg.norm(ATOMS, axis=1, keepdims=True)


def sparse_study(root: Path, measured: Sequence[Measurement] = ()) -> Study:
    """The study "sparse" under `root`, with measurements where there are some."""
    rng = np.random.default_rng(0)
    adapters = [
        Adapter(f"layers.{i}.mlp.down_proj", i, "mlp.down_proj", 0, 1.0, np.ones(3, np.float32), np.ones(4, np.float32))
        for i in range(ADAPTERS)
    ]
    responses, scores, traces = [], [], []
    for q in range(QUESTIONS):
        for n in range(ANSWERS):
            name, bad = f"q{q}-{n}", n % 2 == 0
            responses.append(Response(name, "organism", "baseline", f"q{q}", f"question {q}", "first-plot", n, "text"))
            scores += [Score(name, "j", "aligned", 10.0 if bad else 90.0), Score(name, "j", "coherent", 90.0)]
            found = np.zeros((TOKENS, PLANTED))
            for token in found:
                first = 0 if bad and rng.random() < 0.3 else int(rng.integers(1, PLANTED))
                token[np.array([first, int(rng.integers(1, PLANTED))])] = rng.uniform(1, 3, 2)
            scalars = (found @ ATOMS + 0.02 * rng.standard_normal((TOKENS, ADAPTERS))).T.astype(np.float32)
            words = tuple(f"w{int(row.argmax())} " for row in found)
            none = np.zeros((0, 0), np.float32)
            traces.append(Trace(name, "organism", words, 0, scalars, none, none, TOKENS, np.zeros(0, np.float32)))
    with Draft("sparse", root=root) as draft:
        draft.meta(title="Sparse", base="tiny", measured={each.kind: {each.name: each.record} for each in measured})
        draft.add_organism("organism", base="tiny", adapters=adapters, record={})
        draft.add_questions([Question(f"q{q}", f"question {q}", "first-plot") for q in range(QUESTIONS)])
        draft.add_responses(responses)
        draft.add_scores(scores)
        draft.add_traces(traces)
        for each in measured:
            draft.add_measured(each.kind, each.name, each.frame)
        draft.publish()
    return open_study("sparse", root)
