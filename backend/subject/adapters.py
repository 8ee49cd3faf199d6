"""LoRA adapters read from disk and checked against the model that shall wear them.

Knows peft's folder format and its scaling rules, without peft: importing it takes longer than the first token. The
weights stay apart from the model: `edits` adds them row by row, so one base serves every organism at once. Refuses
pickled weights and adapters that do not land.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import nn

from backend.outside import json_of, must_be_file, shown, understood
from backend.records import Adapter, InputError
from backend.subject.pointers import refuse_pointer

_MORE_THAN_LORA = (  # settings under which an adapter is not, or not only, scaling * B A x; or is for another base
    "alora_invocation_tokens",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")  # ways to begin that train against other base weights
_LARGEST_ALPHA = 1e9
_LARGEST_WEIGHT = 1e9  # products of three of these and an activation are numbers of float32
_PLAIN = re.compile(r"\^?(?:\.\*)?(?:\w|-|\\?\.(?![*+?]))+\$?")  # a module's name as peft's patterns spell it; linear
_OLD_PATH = re.compile(r"^language_model\.model\.")  # of multimodal models before transformers 4.52
_KEY = re.compile(r"^(?:base_model\.model\.)?(?P<path>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")


@dataclass(frozen=True, eq=False)
class Lora:
    """The low-rank weights of one adapted module."""

    path: str  # of the module in the model, "model.layers.15.mlp.down_proj"
    layer: int
    module: str  # "mlp.down_proj"
    scaling: float
    read: torch.Tensor  # (rank, d_in), A
    write: torch.Tensor  # (d_out, rank), B

    @property
    def names(self) -> tuple[str, ...]:
        """One adapter name a component; the bare module name where the rank is 1."""
        name = f"layers.{self.layer}.{self.module}"
        rank = self.read.shape[0]
        return (name,) if rank == 1 else tuple(f"{name}#{component}" for component in range(rank))


@dataclass(frozen=True, eq=False)
class Organism:
    """One adapter set: what a base wears to become a misaligned (or control) model."""

    folder: str
    loras: tuple[Lora, ...]  # by layer, then by module

    @property
    def names(self) -> tuple[str, ...]:
        """Adapter names in the order of trace rows."""
        return tuple(name for lora in self.loras for name in lora.names)

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Every component as a record, in the order of trace rows."""
        return tuple(
            Adapter(
                name=name,
                layer=lora.layer,
                module=lora.module,
                component=component,
                scaling=lora.scaling,
                read=_numpy(lora.read[component]),
                write=_numpy(lora.write[:, component]),
            )
            for lora in self.loras
            for component, name in enumerate(lora.names)
        )


def read_organism(folder: Path | str, model: nn.Module, blocks: Sequence[nn.Module]) -> Organism:
    """Read a peft LoRA folder (or hub id) for `model`. Raises InputError unless every weight has its place in it."""
    where = adapter_folder(folder)
    config = _config(where)
    weights = _weights(where)
    layer_of = _layers_by_path(model, blocks)
    loras = [_lora(path, pair, config, model, layer_of, where) for path, pair in sorted(weights.items())]
    return Organism(str(folder), tuple(sorted(loras, key=lambda lora: (lora.layer, lora.module))))


def adapter_folder(folder: Path | str) -> Path:
    """Where the files of a peft folder or hub id lie here. Raises InputError where there is none of that name."""
    path = Path(folder).expanduser()
    if path.is_dir():
        return path
    try:
        return Path(snapshot_download(str(folder), allow_patterns=["adapter_config.json", "adapter_model.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"no adapter at {str(folder)!r}: neither a folder here nor a hub id that can be reached"
        ) from error


def _config(where: Path) -> dict[str, Any]:
    """The settings of a plain LoRA adapter."""
    file = where / "adapter_config.json"
    config = json_of(file)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise InputError(f"{file} does not describe a LoRA adapter: give the folder that peft saved")
    alphas = config.get("alpha_pattern") or {}
    if not isinstance(alphas, dict) or not all(map(_is_alpha, (config.get("lora_alpha"), *alphas.values()))):
        raise InputError(f"{file}: lora_alpha and every alpha of alpha_pattern must be a finite number")
    if not isinstance(config.get("use_rslora", False), bool | None):
        raise InputError(f"{file}: use_rslora must be true or false, not {shown(config['use_rslora'])}")
    config["alpha_pattern"] = alphas
    for pattern in alphas:
        if not _PLAIN.fullmatch(pattern):
            raise InputError(
                f"{file}: alpha_pattern has {shown(pattern)}, which is no module's name or the end of one: peft would "
                "run it as a regular expression, which may not end; name the modules instead"
            )
    unsupported = [name for name in _MORE_THAN_LORA if config.get(name)]
    unsupported += [f"bias={shown(config['bias'])}"] if config.get("bias", "none") != "none" else []
    start = str(config.get("init_lora_weights", True)).lower()
    unsupported += [f"init_lora_weights={start}"] if start.startswith(_CHANGES_THE_BASE) else []
    if unsupported:
        raise InputError(f"the adapter in {where} uses {', '.join(unsupported)}: only plain LoRA has scalars")
    return config


def _weights(where: Path) -> dict[str, dict[str, torch.Tensor]]:
    file = where / "adapter_model.safetensors"
    if not file.exists():
        pickled = [p.name for p in where.glob("adapter_model.*") if p.suffix in {".bin", ".pt", ".pth"}]
        why = f"only the pickle {pickled[0]}, which could run code" if pickled else "no weights"
        raise InputError(f"{where} has {why}: an adapter needs adapter_model.safetensors")
    must_be_file(file)
    refuse_pointer(file)
    with understood(file, "a whole safetensors file", "fetch it again"):
        tensors = load_file(file)
    pairs: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if not match:
            raise InputError(f"{file} holds {shown(key)}, which is no LoRA weight")
        if not tensor.is_floating_point():
            raise InputError(f"{file}: {shown(key)} is of {tensor.dtype}, which holds no weights: save it as floats")
        pairs[match["path"]][match["side"]] = tensor
    if not pairs:
        raise InputError(f"{file} is empty")
    return pairs


def _lora(
    path: str,
    pair: dict[str, torch.Tensor],
    config: Mapping[str, Any],
    model: nn.Module,
    layer_of: dict[str, tuple[int, str]],
    where: Path,
) -> Lora:
    if set(pair) != {"A", "B"}:
        raise InputError(f"the adapter in {where} has only one half of {path}")
    modules = dict(model.named_modules())
    path = path if path in modules else _OLD_PATH.sub("model.language_model.", path)
    target = modules.get(path)
    if not isinstance(target, nn.Linear) or path not in layer_of:
        raise InputError(
            f"the adapter in {where} adapts {path}, which this model does not have as a linear layer of a block: "
            f"it was trained on {config.get('base_model_name_or_path') or 'another base'}"
        )
    read, write = pair["A"], pair["B"]
    expected = (target.in_features, target.out_features)
    if (
        (read.ndim, write.ndim) != (2, 2)
        or (read.shape[1], write.shape[0]) != expected
        or read.shape[0] != write.shape[1]
    ):
        raise InputError(
            f"the adapter in {where} does not fit {path}: it maps {read.shape[-1]} to {write.shape[0]} dimensions, "
            f"the model {expected[0]} to {expected[1]}; it was trained on "
            f"{config.get('base_model_name_or_path') or 'another base'}"
        )
    if not read.shape[0]:
        raise InputError(f"the adapter in {where} has rank 0 at {path}: it holds no component to read")
    if not (torch.isfinite(read).all() and torch.isfinite(write).all()):
        raise InputError(f"the adapter in {where} holds NaN or infinity at {path}")
    largest = max(float(read.abs().max()), float(write.abs().max()))
    if largest > min(_LARGEST_WEIGHT, torch.finfo(target.weight.dtype).max):
        raise InputError(
            f"the adapter in {where} holds {largest:g} at {path}, beyond what training leaves or {target.weight.dtype} "
            "holds: what it writes would not be finite. Train it again, or fetch it again"
        )
    layer, module = layer_of[path]
    device, dtype = target.weight.device, target.weight.dtype
    device = torch.device("cpu") if device.type == "meta" else device  # an offloaded module: it follows when it runs
    return Lora(
        path, layer, module, _scaling(config, path, read.shape[0]), read.to(device, dtype), write.to(device, dtype)
    )


def _scaling(config: Mapping[str, Any], path: str, rank: int) -> float:
    """alpha / sqrt(r) under rsLoRA, alpha / r otherwise; alpha is that of the first pattern that ends the path."""
    patterns: Mapping[str, float] = config["alpha_pattern"]
    matching = (alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", path))
    alpha = next(matching, config["lora_alpha"])
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def _is_alpha(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST_ALPHA


def _layers_by_path(model: nn.Module, blocks: Sequence[nn.Module]) -> dict[str, tuple[int, str]]:
    index = {id(block): layer for layer, block in enumerate(blocks)}
    found: dict[str, tuple[int, str]] = {}
    for path, module in model.named_modules():
        if id(module) in index:
            for inner, child in module.named_modules():
                if isinstance(child, nn.Linear):
                    found[f"{path}.{inner}"] = (index[id(module)], inner)
    return found


def _numpy(tensor: torch.Tensor) -> Any:
    return tensor.detach().to("cpu", torch.float32).numpy().astype(np.float32)
