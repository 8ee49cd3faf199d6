"""What the seam and the cache take for granted is asked of the model when it is loaded, and the answer acted on."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    GPTNeoXConfig,
    GraniteConfig,
    GraniteMoeHybridConfig,
    Lfm2Config,
    Olmo2Config,
    Phi3Config,
    Qwen2MoeConfig,
    Qwen3_5TextConfig,
)

from backend.edits import AblateWrite, Gain
from backend.records import Direction, InputError, Sampling
from backend.subject.asked import altered
from backend.subject.decode import Request, sample
from backend.subject.edits import Seam, compile_row
from backend.subject.load import dress, find_blocks
from backend.subject.trace import Text, trace
from tests.studies import tiny

V = Direction("v", 1, np.random.default_rng(0).normal(size=tiny.D_MODEL).astype(np.float32))
NEOX = {k: v for k, v in tiny.SIZES.items() if k not in {"num_key_value_heads", "head_dim"}}
PLAIN = {
    "llama": lambda: tiny.CONFIGS["llama"](),
    "qwen2": lambda: tiny.CONFIGS["qwen2"](),
    "mistral": lambda: tiny.CONFIGS["mistral"](),
    "granite": lambda: GraniteConfig(**tiny.SIZES, residual_multiplier=0.2),
    "cohere": lambda: CohereConfig(**tiny.SIZES),
    "phi3": lambda: Phi3Config(**tiny.SIZES),
    "neox": lambda: GPTNeoXConfig(**NEOX),
}
NORMED = {
    "olmo2": lambda: Olmo2Config(**tiny.SIZES),
    "gemma3": lambda: tiny.CONFIGS["gemma3"](),
}


def built(config, seed=0):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn_like(weight) / weight.shape[1] ** 0.5)
    return model


def writers(model):
    ends = ("o_proj", "down_proj", "dense", "dense_4h_to_h")
    blocks = find_blocks(model)
    index = {id(module): layer for layer, block in enumerate(blocks) for module in block.modules()}
    named = {path: index.get(id(m)) for path, m in model.named_modules() if path.rpartition(".")[2] in ends}
    assert len(named) == 2 * len(blocks)
    return named


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", sorted(PLAIN | NORMED))
def test_a_norm_behind_a_module_is_found_and_nothing_else_is_taken_for_one(kind, dtype):
    model = built((PLAIN | NORMED)[kind]()).to(dtype)
    modules = writers(model)
    assert altered(model, find_blocks(model), modules) == (frozenset(modules) if kind in NORMED else frozenset())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("kind", sorted(NORMED))
def test_write_vectors_behind_a_norm_cannot_be_ablated(kind, tmp_path, monkeypatch):
    folder = tiny.adapter(tmp_path / "o")
    subject = dress("tiny", built(NORMED[kind]()), tiny.tokenizer(), {"o": folder})
    with pytest.raises(InputError, match=r"tiny changes what model\.layers\.1\.mlp\.down_proj writes, as by a norm"):
        compile_row(subject, [Gain("o", 1.0), AblateWrite(V, "o")])
    compile_row(subject, [Gain("o", 1.0)])
    monkeypatch.setenv("EM_SELF_CHECK", "0")
    compile_row(dress("tiny", built(NORMED[kind]()), tiny.tokenizer(), {"o": folder}), [AblateWrite(V, "o")])


HYBRID = tiny.SIZES | {"num_hidden_layers": 4}
HYBRIDS = {
    "linear_attention": lambda: Qwen3_5TextConfig(
        **HYBRID, linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=8
    ),
    "conv": lambda: Lfm2Config(**HYBRID, block_ff_dim=48, block_multiple_of=16, full_attn_idxs=[1, 3]),
    "mamba": lambda: GraniteMoeHybridConfig(
        **{k: v for k, v in HYBRID.items() if k != "head_dim"},
        num_local_experts=0,
        shared_intermediate_size=48,
        layer_types=["mamba", "attention"] * 2,
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_d_state=16,
        mamba_expand=2,
        mamba_n_groups=1,
        mamba_chunk_size=16,
    ),
}


@pytest.mark.parametrize("kind", sorted(HYBRIDS))
def test_layers_without_keys_and_values_are_refused_by_name(kind):
    with pytest.raises(InputError, match=r"tiny \(\w+\) is no model of attention alone: .* of the kind (conv|linear_)"):
        dress("tiny", AutoModelForCausalLM.from_config(HYBRIDS[kind]()), tiny.tokenizer(), {})


def experts():
    config = Qwen2MoeConfig(
        **{k: v for k, v in tiny.SIZES.items() if k != "head_dim"},
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=24,
    )
    return built(config)


def test_adapters_on_a_shared_expert_are_pefts_and_read_token_by_token(tmp_path):
    model = experts()
    config = LoraConfig(r=1, lora_alpha=16, target_modules=r".*shared_expert\.down_proj", init_lora_weights=False)
    worn = get_peft_model(copy.deepcopy(model), config).eval()
    worn.save_pretrained(tmp_path / "o")
    subject = dress("tiny", model, tiny.tokenizer(), {"o": tmp_path / "o"})
    ids = torch.stack([torch.arange(40, 60), torch.arange(60, 80)])
    seam = Seam(subject)
    seam.write([compile_row(subject, [Gain("o", 1.0)]), compile_row(subject, [])])
    with torch.inference_mode(), seam.hooked():
        logits = subject.model(ids).logits
    with torch.inference_mode():
        torch.testing.assert_close(logits[0], worn(ids).logits[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(logits[1], subject.model(ids).logits[1], atol=1e-5, rtol=1e-4)
    texts = [Text("a", (40, 41, 42), (43, 44)), Text("b", (50, 41), (42,))]
    alone = {t.response_id: t.scalars for text in texts for t in trace(subject, [text], "o")}
    for found in trace(subject, texts, "o"):
        np.testing.assert_allclose(found.scalars, alone[found.response_id], atol=1e-3, rtol=1e-4)
    warm = Sampling(temperature=0, max_new_tokens=4)
    edits = ((Gain("o", 1.0),), ())
    assert len(list(sample(subject, [Request(i, (40, 41), edits[i], warm) for i in range(2)]))) == 2
    assert not subject.altered, "the gate of the expert scales what is written, and does not turn it"
