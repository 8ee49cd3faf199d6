"""What a model is asked once, when it is loaded: does it do what the seam and the cache take for granted?

Two short forward passes or three. They are left out where the environment says EM_SELF_CHECK=0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from backend.records import RESIDUAL_WRITERS, InputError
from backend.subject.out_of_memory import ran_out

_ROWS, _TOKENS = 2, 3
_ALONG = 0.99  # cosine from which what reaches the residual stream is what the module wrote, half precision allowed
_ATTENTION = "attention"  # in the name of every kind of layer that keeps keys and values
_PASSES_ON = (nn.Dropout, nn.Identity)

_Hook = Callable[..., Any]


class _Reached(Exception):
    """Raised behind the block that is looked at, to end the forward pass there."""


def wanted() -> bool:
    """Whether models are asked at all."""
    return os.environ.get("EM_SELF_CHECK", "1") != "0"


@torch.no_grad()
def check_cache(name: str, model: Any, blocks: Sequence[nn.Module]) -> None:
    """Raise InputError unless every block keeps keys and values: rows share, repeat and drop those and nothing else."""
    cache = DynamicCache()
    reason = ""
    try:
        model.base_model(input_ids=_ids(model)[:1, :2], past_key_values=cache, use_cache=True)
    except Exception as error:  # a layer that looks for a state of its own in the cache fails in its own way
        if isinstance(error, RuntimeError) and ran_out(error):
            raise
        reason = f" ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    kept = [getattr(layer, "keys", None) is not None for layer in cache.layers]
    if reason or len(kept) != len(blocks) or not all(kept):
        kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
        other = ", ".join(sorted({kind for kind in kinds if _ATTENTION not in kind or "linear" in kind})) or "others"
        raise InputError(
            f"{name} ({type(model).__name__}) is no model of attention alone: it has layers of the kind {other}, whose "
            f"state cannot be shared by rows{reason}. Choose a model whose layers all keep keys and values"
        )


@torch.no_grad()
def altered(model: Any, blocks: Sequence[nn.Module], modules: Mapping[str, int]) -> frozenset[str]:
    """Those of `modules` (path -> layer) that write towards the residual stream and reach it changed, as by a norm.

    A module is probed at its lowest layer, with all that its block does beside it held still. Raises InputError on a
    module that does not see every token of every row.
    """
    kinds: dict[tuple[str, type[nn.Module]], list[str]] = {}
    for path, layer in sorted(modules.items(), key=lambda item: item[1]):
        block = blocks[layer]
        kinds.setdefault((_inner(path), type(block)), []).append(path)
    found: set[str] = set()
    for paths in kinds.values():
        block, target = blocks[modules[paths[0]]], model.get_submodule(paths[0])
        if not _reaches(model, block, target, paths[0]):
            found.update(paths)
    return frozenset(found)


def _reaches(model: Any, block: nn.Module, target: nn.Module, path: str) -> bool:
    """Whether what `target` writes is added to the stream as it is; true of modules that write elsewhere."""
    beside = [m for m in block.children() if not isinstance(m, _PASSES_ON) and target not in m.modules()]
    kept: dict[nn.Module, Any] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        kept[module] = (inputs[0], output) if module is target else output

    before = _run(model, block, dict.fromkeys((*beside, target), keep))
    _sees_all(path, kept.get(target))
    if path.rpartition(".")[2] not in RESIDUAL_WRITERS:
        return True
    written = kept[target][1]
    nudge = torch.randn(written.shape, generator=torch.Generator().manual_seed(0)).to(written)
    nudge *= written.norm(dim=-1, keepdim=True) / nudge.norm(dim=-1, keepdim=True)
    still: dict[nn.Module, _Hook] = {m: _giving(kept[m]) for m in beside if m in kept}
    after = _run(model, block, {**still, target: lambda module, inputs, output: output + nudge})
    added = (after - before).float().reshape(-1, before.shape[-1])
    along = nn.functional.cosine_similarity(added, nudge.float().reshape_as(added).to(added.device), dim=-1)
    return bool(along.median() > _ALONG)


def _giving(output: Any) -> _Hook:
    return lambda module, inputs, now: output


def _sees_all(path: str, kept: Any) -> None:
    shape = None if kept is None else tuple(kept[0].shape[:-1])
    if shape not in ((_ROWS, _TOKENS), (_ROWS * _TOKENS,)):
        raise InputError(
            f"the adapted module {path} does not read every token (of {_ROWS} rows of {_TOKENS} tokens it read "
            f"{'none' if shape is None else shape}): an expert that tokens are routed to has no scalar at each of them"
        )


def _run(model: Any, block: nn.Module, hooks: Mapping[nn.Module, _Hook]) -> torch.Tensor:
    """The residual stream behind `block`, (row, token, d_model)."""
    found: list[torch.Tensor] = []

    def reached(module: nn.Module, inputs: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise _Reached

    with ExitStack() as stack:
        for module, hook in (*hooks.items(), (block, reached)):
            stack.callback(module.register_forward_hook(hook).remove)
        with suppress(_Reached):
            model.base_model(input_ids=_ids(model), use_cache=False)
    return found[0]


def _ids(model: Any) -> torch.Tensor:
    embeddings = model.get_input_embeddings().weight
    ids = torch.arange(_ROWS * _TOKENS).reshape(_ROWS, _TOKENS) % len(embeddings)
    return ids if embeddings.device.type == "meta" else ids.to(embeddings.device)


def _inner(path: str) -> str:
    """A module's path without its layer's number."""
    return ".".join(part for part in path.split(".") if not part.isdigit())
