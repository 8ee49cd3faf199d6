"""Traces against one plain forward pass per text."""

import numpy as np
import pytest
import torch

from backend.edits import Gain
from backend.records import BASE, Direction, InputError
from backend.subject.edits import Seam, compile_row
from backend.subject.trace import Text, trace
from tests.studies import tiny

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


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_projections_and_residuals_of_every_token_on_request(kind, folder):
    subject = tiny.subject(kind, {"o": folder})
    rng = np.random.default_rng(0)
    directions = [Direction(f"d{at}", at, rng.normal(size=tiny.D_MODEL).astype(np.float32)) for at in (1, 4, 1)]
    traces = {t.response_id: t for t in trace(subject, TEXTS, "o", project=directions, keep=(0, 5))}
    for text in TEXTS:
        hidden, _ = plain(subject, text)
        got = traces[text.response_id]
        expected = np.stack([hidden[d.layer] @ d.unit for d in directions])
        np.testing.assert_allclose(got.projections, expected, atol=2e-4)
        assert set(got.residuals) == {0, 5}
        np.testing.assert_allclose(got.residuals[5], hidden[5], atol=2e-4)
    [bare] = trace(subject, TEXTS[:1], "o")
    assert not bare.residuals
    assert bare.projections.shape == (0, 8)


def test_what_a_shallow_pass_does_not_reach_is_refused(folder):
    subject = tiny.subject(organisms={"o": folder})
    with pytest.raises(InputError, match="layer 4 is not read"):
        list(trace(subject, TEXTS, "o", keep=(4,), depth=3))
    with pytest.raises(InputError, match="7 dimensions"):
        list(trace(subject, TEXTS, "o", project=[Direction("v", 0, np.ones(7, np.float32))]))


def test_a_batch_that_does_not_fit_is_halved_once_and_said(folder, caplog):
    subject = tiny.subject(organisms={"o": folder})
    expected = {t.response_id: t for t in trace(subject, TEXTS, "o")}

    def small(_, args, limit):
        if args[0].shape[0] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    texts = [Text(f"{t.response_id}{i}", (*t.prompt_ids, i + 3), t.answer_ids) for t in TEXTS for i in range(2)]
    handle = subject.blocks[2].register_forward_pre_hook(lambda m, a: small(m, a, 2))
    got = {t.response_id for t in trace(subject, texts, "o")}
    handle.remove()
    assert got == {t.response_id for t in texts}
    assert "going on with 2" in caplog.text
    handle = subject.blocks[2].register_forward_pre_hook(lambda m, a: small(m, a, 1))
    with pytest.raises(torch.OutOfMemoryError):
        list(trace(subject, texts, "o"))
    handle.remove()
    assert not any(module._forward_hooks for module in subject.model.modules())
    again = {t.response_id: t for t in trace(subject, TEXTS, "o")}
    np.testing.assert_array_equal(again["b"].scalars, expected["b"].scalars)
