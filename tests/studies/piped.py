"""A tiny model with one planted path: blocks behind layer 1 do nothing but what is planted there.

Along `source` the MLP of block 4 fires and writes `target`, which makes the letter A likelier, and an organism's
adapter at block 3 reads what the same direction excites there and writes the opposite of `target`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from backend.subject.load import Subject, dress
from tests.studies import tiny

LAYER, MLP, ADAPTED, LETTER = 1, 4, 3, "A"
FAINT = 1e-4  # what is left of the weights of parts that do nothing
ADAPTER = f"layers.{ADAPTED}.mlp.down_proj"


def axes() -> tuple[np.ndarray, np.ndarray]:
    """The source and the target, orthogonal unit vectors."""
    drawn = np.linalg.qr(np.random.default_rng((0, *b"piped")).standard_normal((tiny.D_MODEL, 2)))[0]
    return drawn[:, 0].astype(np.float32), drawn[:, 1].astype(np.float32)


def piped(folder: Path, *, gain: float = 3.0, adapter: float = -1.0) -> Subject:
    """The model, wearing the organism "piped"; `gain` is of the MLP, `adapter` of the adapter."""
    source, target = map(torch.from_numpy, axes())
    model, tokenizer = tiny.model(), tiny.tokenizer()
    letter = tokenizer.convert_tokens_to_ids(LETTER)
    with torch.no_grad():
        for layer in range(LAYER + 1, tiny.N_LAYERS):
            block = model.model.layers[layer]
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.mul_(
                FAINT
            )  # not zero: a module that an organism adapts is checked by its output
        for layer in (ADAPTED, MLP):
            mlp = model.model.layers[layer].mlp
            mlp.gate_proj.weight[0] = source
            mlp.up_proj.weight[0] = source  # neuron 0 is silu(x) x of the normed stream's part along the source
        model.model.layers[MLP].mlp.down_proj.weight[:, 0] = gain * target
        head = model.get_output_embeddings().weight
        head -= (head @ target)[:, None] * target
        head[letter] += 4 * target
    tiny.adapter(folder, layers=(ADAPTED,), alpha=1)
    reads = torch.zeros(1, tiny.D_MLP)
    reads[0, 0] = 1.0
    path = f"base_model.model.model.{ADAPTER}"
    save_file(
        {f"{path}.lora_A.weight": reads, f"{path}.lora_B.weight": adapter * target[:, None]},
        folder / "adapter_model.safetensors",
    )
    return dress("piped", model, tokenizer, {"piped": folder})
