"""Tiny random models, a byte-level tokenizer and random adapters, all built from configs: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from backend.subject.load import Subject, dress

D_MODEL, D_MLP, N_LAYERS = 32, 48, 6
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> Any:
    """Bytes as tokens, with chat markers; 259 tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet])}
    plain = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
    )


SIZES = {
    "vocab_size": 259,
    "hidden_size": D_MODEL,
    "intermediate_size": D_MLP,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda **c: LlamaConfig(**SIZES | c),
    "qwen2": lambda **c: Qwen2Config(**SIZES | c),
    "mistral": lambda **c: MistralConfig(**SIZES | c, sliding_window=16),
    "gemma3": lambda **c: Gemma3TextConfig(**SIZES | c, sliding_window=16, query_pre_attn_scalar=8),
}


def model(kind: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A random causal language model with weights large enough that its logits differ."""
    torch.manual_seed(seed)
    built = AutoModelForCausalLM.from_config(CONFIGS[kind](**changes))
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn_like(weight) * (0.5 if "embed" in name else 1.0) / weight.shape[1] ** 0.5)
    return built.float().eval()


def adapter(
    folder: Path,
    *,
    layers: tuple[int, ...] = (1, 2, 4),
    modules: tuple[str, ...] = ("mlp.down_proj",),
    rank: int = 1,
    alpha: int = 64,
    rslora: bool = True,
    d_in: int = D_MLP,
    d_out: int = D_MODEL,
    seed: int = 1,
    base: str = "tiny",
) -> Path:
    """A peft folder with random weights; `d_in` and `d_out` are those of down_proj unless given."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    weights = {}
    for layer in layers:
        for module in modules:
            path = f"base_model.model.model.layers.{layer}.{module}"
            weights[f"{path}.lora_A.weight"] = torch.randn(rank, d_in) / d_in**0.5
            weights[f"{path}.lora_B.weight"] = torch.randn(d_out, rank) * 0.01
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": rslora,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({module.rpartition(".")[2] for module in modules}),
        "layers_to_transform": list(layers),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def subject(kind: str = "llama", organisms: dict[str, Path] | None = None, **changes: Any) -> Subject:
    """A tiny subject wearing `organisms`."""
    return dress("tiny", model(kind, **changes), tokenizer(), organisms or {})
