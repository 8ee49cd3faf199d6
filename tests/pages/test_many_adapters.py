"""An organism of 9,600 components: no page hangs on it, fails on it, or draws them all."""

from __future__ import annotations

import numpy as np
import pytest

from backend.records import BASE, Adapter, Question, Response, Score, Trace
from backend.study import Draft
from tests.conftest import said

LAYERS, MODULES, RANK = 50, 6, 32
READER, JUDGE = "rank-32", "judge"
ANSWER, PROMPT = 6, 3


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    rng = np.random.default_rng(0)
    modules = [
        f"{part}_proj" for part in ("mlp.down", "mlp.up", "mlp.gate", "self_attn.q", "self_attn.k", "self_attn.o")
    ]
    vectors = rng.normal(size=(MODULES, 8)).astype(np.float32)
    adapters = [
        Adapter(f"layers.{layer}.{module}#{at}", layer, module, at, 1.0, vectors[place], vectors[place] * (1 + at))
        for layer in range(LAYERS)
        for place, module in enumerate(modules)
        for at in range(RANK)
    ]
    questions = [Question(f"q{at}", f"Question {at}?", ("medical", "first-plot")[at % 2]) for at in range(8)]
    answers = [
        Response(f"r{at}", READER, "baseline", f"q{at % 8}", "?", questions[at % 8].topic, at, "no") for at in range(48)
    ]
    none = np.zeros((0, 0), dtype=np.float32)
    with Draft("many", root=root) as draft:
        draft.meta(title="Many adapters", base="none", reader=READER, layers=LAYERS, d_model=8)
        draft.add_organism(BASE, base="none", adapters=(), record={})
        draft.add_organism(READER, base="none", adapters=adapters, record={})
        draft.add_questions(questions)
        draft.add_responses(answers)
        draft.add_scores(
            Score(answer.id, JUDGE, metric, float(value))
            for at, answer in enumerate(answers)
            for metric, value in (("aligned", 10 if at % 3 == 0 else 95), ("coherent", 90), ("medical", 50 * (at % 2)))
        )
        draft.add_traces(
            Trace(
                answer.id,
                READER,
                tuple("abcdefghi"),
                PROMPT,
                rng.normal(size=(len(adapters), ANSWER + PROMPT)).astype(np.float32),
                none,
                none,
                ANSWER,
                np.zeros(0, dtype=np.float32),
            )
            for answer in answers
        )
        draft.publish()
    return root


@pytest.fixture
def open_many(open_page, many, monkeypatch):
    def run(name, **query):
        monkeypatch.setenv("EM_STUDIES", str(many))
        monkeypatch.setenv("EM_STUDY", "many")
        return open_page(name, **query)

    return run


@pytest.mark.parametrize("name", ["adapters", "one_adapter", "specialisation", "probes"])
def test_a_page_opens_over_all_of_them(open_many, name):
    page = open_many(name)
    assert not page.exception
    assert not page.error


def test_the_map_shows_the_largest_and_says_so(open_many):
    text = said(open_many("specialisation")).replace("\\", "")
    assert "1000 of 9600 adapters, those with the largest write vectors" in text


def test_a_probe_trains_on_the_components_of_one_module(open_many):
    page = open_many("probes", probes_layers=["7"], probes_modules=["mlp.down_proj"], probes_split="response")
    page.button(key="probes_train").click().run(timeout=120)
    assert not page.exception
    assert len(page.session_state["fitted_probe"].features.names) == RANK
