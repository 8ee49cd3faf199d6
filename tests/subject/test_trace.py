"""Traces against one plain forward pass per text."""

import numpy as np
import pytest
import torch

from backend.records import BASE, Gain, InputError
from backend.subject.edits import Seam, compile_row
from backend.subject.trace import Text, trace
from tests import tiny

STOP = 2
TEXTS = [
    Text("a", (5, 9, 40, 77), (10, 11, 12, STOP)),
    Text("b", (5, 9, 40, 77), (50, 51, 52, 53, 54, 55)),
    Text("c", (8, 8, 100), (31, STOP)),
    Text("d", (8, 8, 100), ()),
    Text("e", (60, 61), (62, 63, STOP)),
    Text("f", (33, 34, 35, 36, 37), (38,)),
]


@pytest.fixture
def folder(tmp_path):
    return tiny.adapter(tmp_path / "organism", rank=2)


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
@pytest.mark.parametrize("batch_tokens", [8, 4096])
def test_scalars_and_means_equal_a_plain_pass(kind, batch_tokens, folder):
    subject = tiny.subject(kind, {"o": folder})
    traces = {t.response_id: t for t in trace(subject, TEXTS, "o", batch_tokens=batch_tokens)}
    assert set(traces) == set("abcdef")
    for text in TEXTS:
        hidden, scalars = plain(subject, text)
        got, n_prompt = traces[text.response_id], len(text.prompt_ids)
        counted = [i for i, token in enumerate(text.answer_ids) if token != STOP]
        np.testing.assert_allclose(got.scalars, scalars, atol=2e-4)
        np.testing.assert_allclose(got.prompt_mean, hidden[:, :n_prompt].mean(1), atol=1e-4)
        assert got.n_answer == len(counted)
        assert len(got.tokens) == n_prompt + len(text.answer_ids)
        if counted:
            answer = hidden[:, [n_prompt + i for i in counted]]
            np.testing.assert_allclose(got.answer_mean, answer.mean(1), atol=1e-4)
            np.testing.assert_allclose(got.answer_norm, np.linalg.norm(answer, axis=-1).mean(1), atol=1e-4)
        else:
            assert not got.answer_mean.any()


def plain(subject, text):
    seam = Seam(subject)
    seam.write([compile_row(subject, [Gain("o", 1.0)])])
    layers = {}
    keep = {i: (lambda h, i=i: layers.__setitem__(i, h[0].numpy().copy())) for i in range(tiny.N_LAYERS)}
    with torch.inference_mode(), seam.hooked(keep) as scalars:
        subject.model(torch.tensor([[*text.prompt_ids, *text.answer_ids]]), use_cache=False)
    return np.stack([layers[i] for i in range(tiny.N_LAYERS)]), scalars.of("o")[0].T.numpy()


def test_the_base_reads_without_scalars_and_depth_ends_the_pass_early(folder):
    subject = tiny.subject(organisms={"o": folder})
    full = {t.response_id: t for t in trace(subject, TEXTS, BASE)}
    touched = []
    handle = subject.blocks[3].register_forward_hook(lambda *_: touched.append(1))
    shallow = {t.response_id: t for t in trace(subject, TEXTS, BASE, depth=3)}
    handle.remove()
    assert not touched
    assert full["a"].scalars.shape == (0, 8)
    np.testing.assert_allclose(shallow["b"].answer_mean, full["b"].answer_mean[:3], atol=1e-5)
    worn = {t.response_id: t for t in trace(subject, TEXTS, "o", depth=3)}
    assert np.isfinite(worn["a"].scalars).all(axis=1).tolist() == [True] * 4 + [False] * 2, "the last sits in block 4"


def test_texts_that_cannot_be_read_are_named():
    subject = tiny.subject()
    with pytest.raises(InputError, match="'long'"):
        list(trace(subject, [Text("long", tuple([5] * 300), ())], BASE))
    with pytest.raises(InputError, match="no organism named 'o'"):
        list(trace(subject, TEXTS, "o"))
    with pytest.raises(InputError, match="depth 9"):
        list(trace(subject, TEXTS, BASE, depth=9))
