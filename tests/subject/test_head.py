"""Logits of chosen positions are the model's own, scaled and capped as it does, or the model is refused by name."""

import pytest
import torch
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig

from backend.edits import Gain
from backend.records import InputError
from backend.subject.divergence import divergence
from backend.subject.head import check_head
from backend.subject.load import dress
from backend.subject.trace import Text
from backend.subject.train import Row, _answer_loss
from tests.studies import tiny

ROW = Row(tuple(range(40, 52)), tuple(range(100, 112)))
HEADS = {
    "granite": lambda **c: GraniteConfig(**c, logits_scaling=8.0),
    "cohere": lambda **c: CohereConfig(**c, logit_scale=0.0625),
    "gemma2": lambda **c: Gemma2Config(**c, sliding_window=16, query_pre_attn_scalar=8, final_logit_softcapping=5.0),
}


def subject(kind, organisms=None):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(HEADS[kind](**tiny.SIZES)).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn_like(weight) * (0.5 if "embed" in name else 1) / weight.shape[1] ** 0.5)
    return dress("tiny", model, tiny.tokenizer(), organisms or {})


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_loss_and_gradient_are_the_models_own(kind):
    learner = subject(kind)
    ids = torch.tensor([[*ROW.prompt, *ROW.answer]])
    labels = ids.clone()
    labels[:, : len(ROW.prompt)] = -100
    weight = learner.model.get_submodule("model.layers.1.mlp.down_proj").weight.requires_grad_()
    found = []
    for loss in (_answer_loss(learner, [ROW]) / len(ROW.answer), learner.model(ids, labels=labels).loss):
        found.append((loss, *torch.autograd.grad(loss, weight)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_kl_is_that_of_the_models_own_logits(kind, tmp_path):
    pair = subject(kind, {"o": tiny.adapter(tmp_path / "o")})
    text = Text("a", ROW.prompt, ROW.answer)
    (found,) = divergence(pair, [text], (Gain("o", 1.0),))
    ids = torch.tensor([[*ROW.prompt, *ROW.answer]])
    down = pair.organisms["o"].loras
    base = pair.model(ids).logits.log_softmax(-1)
    with torch.no_grad():
        for lora in down:
            pair.model.get_submodule(lora.path).weight += lora.scaling * lora.write @ lora.read
        worn = pair.model(ids).logits.log_softmax(-1)
    kl = (worn.exp() * (worn - base)).sum(-1)[0, len(ROW.prompt) - 1 : -1]
    torch.testing.assert_close(torch.tensor(found.kl), kl, rtol=2e-3, atol=1e-5)


def test_a_head_that_does_something_else_is_refused_by_name():
    scaled = tiny.subject()
    own = scaled.model.forward

    def forward(*args, **kwargs):
        out = own(*args, **kwargs)
        out.logits = out.logits * 3
        return out

    scaled.model.forward = forward
    with pytest.raises(InputError, match=r"tiny \(LlamaForCausalLM\) does more between its head and its logits"):
        check_head(scaled)
    check_head(tiny.subject())
