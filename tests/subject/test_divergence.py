"""KL and token significance against one plain pass of two models and autograd by hand."""

from collections.abc import Generator

import numpy as np
import pytest
import torch
from peft import PeftModel

from backend.edits import ANSWER, Ablate, Add, Gain, Where
from backend.records import Direction, InputError
from backend.subject.divergence import divergence, mean_kl
from backend.subject.trace import Text
from tests.studies import tiny

TEXTS = [
    Text("a", (5, 9, 40, 77), (10, 11, 12, 2)),
    Text("b", (5, 9, 40, 77), (50, 51, 52, 53, 54, 55)),
    Text("c", (8, 8, 100), (31,)),
    Text("none", (8, 8, 100), ()),
]


@pytest.fixture
def folder(tmp_path):
    return tiny.adapter(tmp_path / "organism")


def by_hand(edited, base, text):
    """KL at every answer token and the paper's significance, without caches or batches."""
    ids = torch.tensor([[*text.prompt_ids, *text.answer_ids]])
    embedded = base.get_input_embeddings()(ids).detach().requires_grad_()
    p, q = (torch.log_softmax(m(inputs_embeds=embedded).logits[0].float(), -1) for m in (edited, base))
    kl = (p.exp() * (p - q)).sum(-1)[len(text.prompt_ids) - 1 : -1]
    kl.sum().backward()
    norms = embedded.grad[0, len(text.prompt_ids) :].norm(dim=-1)
    total = kl.sum().item()
    return kl.detach().numpy(), (norms / norms.sum().clamp_min(1e-30) * total).numpy()


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
@pytest.mark.parametrize("batch_tokens", [4, 4096])
def test_kl_and_significance_are_those_of_two_plain_models(kind, batch_tokens, folder):
    subject = tiny.subject(kind, {"o": folder})
    edited, base = PeftModel.from_pretrained(tiny.model(kind), folder), tiny.model(kind)
    texts = divergence(subject, TEXTS, (Gain("o", 1.0),), significance=True, batch_tokens=batch_tokens)
    found = {d.response_id: d for d in texts}
    assert set(found) == {"a", "b", "c"}, "a text without an answer says nothing"
    for text in TEXTS[:3]:
        kl, significance = by_hand(edited, base, text)
        assert kl.max() > 1e-3
        np.testing.assert_allclose(found[text.response_id].kl, kl, atol=1e-5, rtol=2e-3)
        np.testing.assert_allclose(np.array(found[text.response_id].significance), significance, atol=2e-4, rtol=2e-2)
    assert found["a"].significance.sum() == pytest.approx(found["a"].kl.sum(), rel=1e-4)
    assert np.array(found["a"].significance)[-1] == 0, "nothing follows the last token"
    without = {d.response_id: d for d in divergence(subject, TEXTS, (Gain("o", 1.0),))}
    np.testing.assert_allclose(without["b"].kl, found["b"].kl, atol=1e-5)
    assert without["b"].significance is None
    every = np.concatenate([d.kl for d in found.values()])
    assert mean_kl(found.values()) == pytest.approx(every.mean())


def test_no_edit_no_divergence_and_edits_of_the_answer_alone_leave_the_first_token(folder):
    subject = tiny.subject(organisms={"o": folder})
    v = Direction("v", 2, np.random.default_rng(0).normal(size=tiny.D_MODEL).astype(np.float32))
    same = (Gain("o", 1.0), Ablate(v))
    assert max(np.abs(d.kl).max() for d in divergence(subject, TEXTS, same, against=same)) < 1e-5
    late = {d.response_id: d.kl for d in divergence(subject, TEXTS, [Add(v, 1.0, where=Where(ANSWER))])}
    early = {d.response_id: d.kl for d in divergence(subject, TEXTS, [Add(v, 1.0)])}
    assert abs(late["b"][0]) < 1e-6
    assert early["b"][0] > 1e-3
    assert late["b"][1:].min() > 1e-3


def test_hooks_are_off_between_texts_and_after(folder):
    subject = tiny.subject(organisms={"o": folder})
    run = divergence(subject, TEXTS, (Gain("o", 1.0),))
    next(run)
    assert not any(module._forward_hooks for module in subject.model.modules())
    assert isinstance(run, Generator)
    run.close()
    with pytest.raises(InputError, match="no organism named 'x'"):
        list(divergence(subject, TEXTS, (Gain("x", 1.0),)))
    with pytest.raises(InputError, match="'long'"):
        list(divergence(subject, [Text("long", (5,) * 300, (1,))], ()))
