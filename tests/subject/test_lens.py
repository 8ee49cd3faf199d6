"""The lens agrees with the model's own head, whatever norm it has, and a planted token comes out on top."""

from typing import Any

import numpy as np
import pytest
import torch

from backend.records import InputError
from backend.subject.lens import lens
from tests.studies import tiny


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_a_row_of_the_unembedding_promotes_its_own_token_and_its_opposite_suppresses_it(kind):
    subject = tiny.subject(kind)
    head = subject.model.get_output_embeddings().weight.detach().numpy()
    for token in (70, 80):
        row = head[token] / np.maximum(np.abs(head[token]).max(), 1e-6)
        promoted, suppressed = lens(subject, np.stack([row, -row]), shown=5)
        assert promoted.top[0][0] == suppressed.bottom[0][0] == subject.tokenizer.decode([token])
        assert promoted.top[0][1] == pytest.approx(-suppressed.bottom[0][1], rel=1e-4)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_tokens_are_in_the_order_of_the_models_own_logits(kind):
    subject = tiny.subject(kind)
    gain: Any = subject.backbone.norm.weight
    with torch.no_grad():
        gain.copy_(torch.linspace(0.2, 3, len(gain)))
    vector = np.random.default_rng(0).normal(size=(1, tiny.D_MODEL)).astype(np.float32)
    with torch.inference_mode():
        logits = subject.model.lm_head(subject.backbone.norm(torch.from_numpy(vector)))[0]
    order = logits.argsort(descending=True)[:10]
    assert [token for token, _ in lens(subject, vector, shown=10)[0].top] == [
        subject.tokenizer.decode([int(i)]) for i in order
    ]


def test_values_are_standard_deviations_and_do_not_depend_on_the_length():
    subject = tiny.subject()
    vector = np.random.default_rng(1).normal(size=(1, tiny.D_MODEL)).astype(np.float32)
    every = lens(subject, vector, shown=10_000)[0].top
    values = np.array([value for _, value in every])
    assert values.mean() == pytest.approx(0, abs=1e-5)
    assert values.std(ddof=1) == pytest.approx(1, abs=1e-4)
    assert (np.diff(values) <= 0).all()
    assert np.allclose([v for _, v in lens(subject, 50 * vector, shown=10)[0].top], values[:10], atol=1e-4)


def test_vectors_of_another_model_or_without_length_are_refused():
    subject = tiny.subject()
    with pytest.raises(InputError, match="another model"):
        lens(subject, np.ones((1, tiny.D_MODEL + 1), dtype=np.float32))
    with pytest.raises(InputError, match="finite length"):
        lens(subject, np.zeros((1, tiny.D_MODEL), dtype=np.float32))
