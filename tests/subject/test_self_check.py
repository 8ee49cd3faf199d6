"""A fault planted in the seam is found when an organism is loaded, and named; sound ones load in a blink."""

import time

import pytest
import torch
from torch import nn

from backend.records import InputError
from backend.subject import edits
from backend.subject.load import dress
from backend.subject.self_check import check_arithmetic
from tests.studies import tiny

MODULES = ("mlp.down_proj", "mlp.up_proj", "self_attn.q_proj")
SIZES = {"mlp.down_proj": {}, "mlp.up_proj": {"d_in": 32, "d_out": 48}, "self_attn.q_proj": {"d_in": 32, "d_out": 32}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
@pytest.mark.parametrize("module", MODULES)
def test_sound_adapters_load(tmp_path, kind, module, dtype):
    folder = tiny.adapter(tmp_path / "o", modules=(module,), rank=4, **SIZES[module])
    subject = dress("tiny", tiny.model(kind).to(dtype), tiny.tokenizer(), {"o": folder})
    assert list(subject.organisms) == ["o"]
    assert not any(each._forward_hooks for each in subject.model.modules())


def test_an_untrained_adapter_loads(tmp_path):
    folder = tiny.adapter(tmp_path / "o")
    subject = dress("tiny", tiny.model(), tiny.tokenizer(), {"o": folder})
    for lora in subject.organisms["o"].loras:
        lora.write.zero_()
    check_arithmetic(subject, "o")


def twice(site):
    site.read = site.read * 2


def transposed(site):  # as fan_in_fan_out would be misread: read and write swap sides where both are square
    site.read, site.write = site.write, site.read


def other_write(site):
    site.write = site.write.roll(1, dims=1)


def slightly(site):
    site.read = site.read * 1.1


@pytest.mark.parametrize("fault", [twice, transposed, other_write, slightly])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrong_hook_is_refused_by_organism_and_module(tmp_path, monkeypatch, fault, dtype):
    module = "self_attn.q_proj"
    folder = tiny.adapter(tmp_path / "o", modules=(module,), rank=2, **SIZES[module])
    right = edits.stacked_sites

    def wrong(subject, organisms):
        sites = right(subject, organisms)
        for site in sites:
            fault(site)
        return sites

    model = tiny.model().to(dtype)
    monkeypatch.setattr(edits, "stacked_sites", wrong)
    with pytest.raises(InputError, match=r"'o' cannot be worn by tiny: its module model\.layers\.1\.self_attn\.q_proj"):
        dress("tiny", model, tiny.tokenizer(), {"o": folder})
    assert not any(each._forward_hooks for each in model.modules())
    monkeypatch.setenv("EM_SELF_CHECK", "0")
    assert list(dress("tiny", model, tiny.tokenizer(), {"o": folder}).organisms) == ["o"]


class Named(nn.Module):
    """Calls its layer by the argument's name, as remote code may: a hook finds no first input."""

    def __init__(self, inner):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj, self.act_fn = (
            inner.gate_proj,
            inner.up_proj,
            inner.down_proj,
            inner.act_fn,
        )

    def forward(self, x):
        return self.down_proj(input=self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def test_a_module_whose_input_is_not_where_the_seam_looks_is_refused(tmp_path, monkeypatch):
    model = tiny.model()
    for block in model.model.layers:
        block.mlp = Named(block.mlp)
    monkeypatch.setattr("backend.subject.load.altered", lambda *arguments: frozenset())
    with pytest.raises(InputError, match=r"'o' .* its module model\.layers\.1\.mlp\.down_proj cannot be read or writ"):
        dress("tiny", model, tiny.tokenizer(), {"o": tiny.adapter(tmp_path / "o")})


def test_it_costs_little(tmp_path):
    subject = dress("tiny", tiny.model(), tiny.tokenizer(), {"o": tiny.adapter(tmp_path / "o", rank=8)})
    start = time.process_time()
    check_arithmetic(subject, "o")
    assert time.process_time() - start < 0.3
