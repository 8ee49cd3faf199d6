"""The competitors: how each library reads a batch and steers a generation, in its own way of doing it.

A `Reader` gives the residual means of every text at every layer and every adapter's scalar at every token; a `Steerer`
writes with one direction added at one layer. Libraries are imported when they are first asked for: one that cannot be
imported raises here, and the row says so. saklas is used as an installed package; none of its code is here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from backend.subject.trace import Text
from tests.benchmarks.measure import one_line
from tests.benchmarks.setting import Batch, Setting, ids_of, padded

PACKAGES = {
    "nnsight": "nnsight",
    "transformer_lens": "transformer-lens",
    "steering_vectors": "steering-vectors",
    "repeng": "repeng",
    "saklas": "saklas",
    "nnterp": "nnterp",
}

Reader = Callable[
    [Batch], tuple[torch.Tensor, torch.Tensor]
]  # means (row, layer, d_model), scalars (row, adapter, token)
Steerer = Callable[[Batch, int], Any]  # a left-padded batch and how many tokens to write


@cache
def imported() -> dict[str, str]:
    """Every peer's module and what became of importing it: its version, or the error."""
    _saklas_home()
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module, package in PACKAGES.items():
            try:
                installed = version(package)
            except PackageNotFoundError:
                found[module] = "not installed"
                continue
            try:
                import_module(module)
                found[module] = installed
            except Exception as error:  # whatever stops a package from being imported is the finding
                found[module] = f"{installed} cannot be imported: {one_line(error)}"
    return found


class Weights:
    """The organism's adapters as two tensors, for those who compute its scalars themselves."""

    def __init__(self, setting: Setting) -> None:
        loras = setting.organism.loras
        self.layers = [lora.layer for lora in loras]
        norms = [float(lora.write.norm()) for lora in loras]
        self.read = torch.stack([lora.read[0] * n * lora.scaling for lora, n in zip(loras, norms, strict=True)])

    def scalars(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """From every adapted module's input (row, token, d_in) to (row, adapter, token)."""
        return torch.stack([x @ read for x, read in zip(inputs, self.read, strict=True)], dim=1)


def pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens that the mask counts, (row, d_model)."""
    return torch.einsum("btd,bt->bd", hidden, mask.to(hidden.dtype)) / mask.sum(dim=1, keepdim=True)


# --- reading ---------------------------------------------------------------------------------------------------------


def plain_hooks(setting: Setting, depth: int | None = None) -> Reader:
    """A forward hook a block and one an adapted module on the merged model; the language-model head runs."""
    model, weights = setting.merged, Weights(setting)

    def read(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        means: dict[int, torch.Tensor] = {}
        inputs: dict[int, torch.Tensor] = {}

        def after(layer: int) -> Callable[..., None]:
            def hook(module: Any, args: Any, output: Any) -> None:
                means[layer] = pooled(output, batch.mask)

            return hook

        def before(layer: int) -> Callable[..., None]:
            def hook(module: Any, args: Any) -> None:
                inputs[layer] = args[0]

            return hook

        blocks = model.model.layers
        handles = [block.register_forward_hook(after(layer)) for layer, block in enumerate(blocks)]
        handles += [blocks[layer].mlp.down_proj.register_forward_pre_hook(before(layer)) for layer in weights.layers]
        try:
            model(**batch.inputs)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(list(means.values()), dim=1), weights.scalars(list(inputs.values()))

    return read


def nnsight(setting: Setting, depth: int | None = None) -> Reader:
    """One trace; what is above the deepest layer is stopped where a depth is given."""
    model, weights = _nnsight(setting, merged=True), Weights(setting)
    layers = len(model.model.layers) if depth is None else depth
    adapted = [layer for layer in weights.layers if layer < layers]

    def read(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with model.trace(batch.inputs) as tracer:
            means, inputs = [], []
            for layer in range(layers):
                if layer in adapted:
                    inputs.append(model.model.layers[layer].mlp.down_proj.input)
                means.append(pooled(model.model.layers[layer].output, batch.mask))
            residual: Any = torch.stack(means, dim=1)  # nnsight's tensors can be saved
            scalars: Any = torch.stack([x @ a for x, a in zip(inputs, weights.read, strict=False)], dim=1)
            residual, scalars = residual.save(), scalars.save()
            if depth is not None:
                tracer.stop()
        return residual, scalars

    return read


def transformer_lens(setting: Setting, depth: int | None = None, *, full: bool = False) -> Reader:
    """`run_with_cache` of the bridge, filtered to what is needed (`full`: everything that it caches)."""
    bridge, weights = _bridge(setting, merged=True), Weights(setting)
    layers = int(bridge.cfg.n_layers) if depth is None else depth
    residual = [f"blocks.{layer}.hook_out" for layer in range(layers)]
    inputs = [f"blocks.{layer}.mlp.out.hook_in" for layer in weights.layers if layer < layers]
    wanted = None if full else {*residual, *inputs}.__contains__

    def read(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        _, cached = bridge.run_with_cache(
            batch.ids, attention_mask=batch.mask, names_filter=wanted, stop_at_layer=depth, return_type=None
        )
        means = torch.stack([pooled(cached[name], batch.mask) for name in residual], dim=1)
        return means, torch.stack([cached[n] @ a for n, a in zip(inputs, weights.read, strict=False)], dim=1)

    return read


def steering_vectors(setting: Setting, depth: int | None = None) -> Reader:
    """`record_activations` of the blocks; it reads no module inputs, so a plain hook beside it does."""
    library = import_module("steering_vectors")
    model, weights = setting.merged, Weights(setting)

    def read(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        inputs: list[torch.Tensor] = []
        modules = [model.model.layers[layer].mlp.down_proj for layer in weights.layers]
        handles = [m.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for m in modules]
        try:
            nums = None if depth is None else list(range(depth))
            with library.record_activations(model, clone_activations=False, layer_nums=nums) as recorded:
                model(**batch.inputs)
        finally:
            for handle in handles:
                handle.remove()
        means = torch.stack([pooled(recorded[layer][0], batch.mask) for layer in sorted(recorded)], dim=1)
        return means, weights.scalars(inputs)

    return read


def persona_vectors(setting: Setting, depth: int | None = None) -> Reader:
    """The persona-vectors algorithm: one text at a time, all hidden states kept; scalars from a hook beside it."""
    model, weights = setting.merged, Weights(setting)

    def read(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        means, scalars = [], []
        for row, count in zip(batch.ids, batch.mask.sum(dim=1).tolist(), strict=True):
            inputs: list[torch.Tensor] = []
            modules = [model.model.layers[layer].mlp.down_proj for layer in weights.layers]
            handles = [m.register_forward_pre_hook(lambda _, args, kept=inputs: kept.append(args[0])) for m in modules]
            try:
                output = model(input_ids=row[None, :count], output_hidden_states=True)
            finally:
                for handle in handles:
                    handle.remove()
            means.append(torch.stack([hidden[0].mean(dim=0) for hidden in output.hidden_states[1:]]))
            scalars.append(weights.scalars(inputs)[0])
        width = batch.ids.shape[1]
        return torch.stack(means), torch.stack([torch.nn.functional.pad(s, (0, width - s.shape[1])) for s in scalars])

    return read


def one_pass_a_scalar(setting: Setting) -> Callable[[Batch], torch.Tensor]:
    """The algorithm of the paper's repository, from its description (scalars alone, no residual means).

    For one text after another and one adapter after another, a full forward pass of the merged model whose
    down-projection input gives (A x) |B| alpha.
    """
    model, loras = setting.merged, setting.organism.loras

    def read(batch: Batch) -> torch.Tensor:
        found = torch.zeros((len(batch.ids), len(loras), batch.ids.shape[1]))
        for i, (row, count) in enumerate(zip(batch.ids, batch.mask.sum(dim=1).tolist(), strict=True)):
            for j, lora in enumerate(loras):
                kept: list[torch.Tensor] = []
                module = model.get_submodule(lora.path)
                handle = module.register_forward_pre_hook(lambda _, args, kept=kept: kept.append(args[0]))
                try:
                    model(input_ids=row[None, :count])
                finally:
                    handle.remove()
                found[i, j, :count] = (kept[0][0] @ lora.read.T)[:, 0] * lora.write[:, 0].norm() * lora.scaling
        return found

    return read


READERS: Mapping[str, Callable[..., Reader]] = {
    "transformers, plain hooks": plain_hooks,
    "nnsight": nnsight,
    "TransformerLens": transformer_lens,
    "steering-vectors": steering_vectors,
    "persona-vectors algorithm": persona_vectors,
}


def batches(texts: Sequence[Text], size: int) -> list[Batch]:
    """Texts in the order in which they stand, `size` at a time."""
    return [padded([ids_of(text) for text in texts[at : at + size]]) for at in range(0, len(texts), size)]


# --- steering --------------------------------------------------------------------------------------------------------


@contextmanager
def hooked(model: Any, layer: int, vector: torch.Tensor) -> Any:
    """A plain forward hook that adds the vector behind a block."""
    handle = model.model.layers[layer].register_forward_hook(lambda module, args, output: output + vector)
    try:
        yield
    finally:
        handle.remove()


def generated(model: Any, batch: Batch, tokens: int, **options: Any) -> torch.Tensor:
    """New token ids of `generate`, greedy unless the options say otherwise."""
    options = {"do_sample": False, **options}
    return model.generate(**batch.inputs, max_new_tokens=tokens, **options)[:, batch.ids.shape[1] :]


def steer_plain(setting: Setting, layer: int, vector: torch.Tensor) -> Steerer:
    """A hooked `generate`."""

    def steer(batch: Batch, tokens: int) -> torch.Tensor:
        with hooked(setting.plain, layer, vector):
            return generated(setting.plain, batch, tokens)

    return steer


def steer_nnsight(setting: Setting, layer: int, vector: torch.Tensor) -> Steerer:
    """Its traced generation, the block's output replaced at every step."""
    model = _nnsight(setting, merged=False)

    def steer(batch: Batch, tokens: int) -> torch.Tensor:
        with model.generate(batch.inputs, max_new_tokens=tokens, do_sample=False) as tracer:
            for _ in tracer.iter[0:tokens]:
                model.model.layers[layer].output = model.model.layers[layer].output + vector
            written = tracer.result.save()
        return written[:, batch.ids.shape[1] :]

    return steer


def steer_transformer_lens(setting: Setting, layer: int, vector: torch.Tensor) -> Steerer:
    """The bridge's own generation under a hook."""
    bridge = _bridge(setting, merged=False)

    def steer(batch: Batch, tokens: int) -> torch.Tensor:
        with bridge.hooks(fwd_hooks=[(f"blocks.{layer}.hook_out", lambda hidden, hook: hidden + vector)]):
            written = bridge.generate(
                batch.ids,
                attention_mask=batch.mask,
                max_new_tokens=tokens,
                do_sample=False,
                stop_at_eos=False,
                return_type="tokens",
                verbose=False,
            )
        return written[:, batch.ids.shape[1] :]

    return steer


def steer_steering_vectors(setting: Setting, layer: int, vector: torch.Tensor) -> Steerer:
    """`generate` with its vector applied."""
    steering = import_module("steering_vectors").SteeringVector({layer: vector})

    def steer(batch: Batch, tokens: int) -> torch.Tensor:
        with steering.apply(setting.plain):
            return generated(setting.plain, batch, tokens)

    return steer


def steer_saklas(setting: Setting, layer: int, vector: torch.Tensor) -> Steerer:
    """Its batched generation. It takes text, and may stop early: the time is scaled to the tokens asked for."""
    session, library = _saklas(setting)
    name = f"d{layer}x{float(vector.norm()):.4f}".replace(".", "p")
    session.steer(name, library.Profile({layer: vector}))

    def steer(batch: Batch, tokens: int) -> float:
        texts = [setting.subject.tokenizer.decode(row[mask.bool()]) for row, mask in zip(*_pair(batch), strict=True)]
        sampling = library.SamplingConfig(temperature=0.0, max_tokens=tokens)
        with torch.inference_mode(False):
            runs = session.generate_batch(texts, steering=f"1.0 {name}", sampling=sampling, raw=True)
        return sum(run.token_count for run in runs) / (len(texts) * tokens)

    return steer


STEERERS: Mapping[str, Callable[[Setting, int, torch.Tensor], Steerer]] = {
    "transformers, one plain hook": steer_plain,
    "nnsight": steer_nnsight,
    "TransformerLens": steer_transformer_lens,
    "steering-vectors": steer_steering_vectors,
    "saklas": steer_saklas,
}


# --- models of their own ---------------------------------------------------------------------------------------------


@cache
def _nnsight(setting: Setting, *, merged: bool) -> Any:
    library = import_module("nnsight")
    model = setting.merge(setting.model()) if merged else setting.model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return library.LanguageModel(model, tokenizer=setting.subject.tokenizer)


@cache
def _bridge(setting: Setting, *, merged: bool) -> Any:
    bridge = import_module("transformer_lens.model_bridge").TransformerBridge
    model = setting.merge(setting.model()) if merged else setting.model()
    return bridge.boot_transformers(
        setting.checkpoint, hf_model=model, tokenizer=setting.subject.tokenizer, device="cpu"
    )


@cache
def _saklas(setting: Setting) -> tuple[Any, Any]:
    _saklas_home()
    library = import_module("saklas")
    load = library.SaklasSession.from_pretrained
    with torch.inference_mode(False):  # it writes to its tensors in place later on
        session = load(setting.checkpoint, device="cpu", dtype=torch.float32, probes=[], max_tokens=64)
        assert session.layer_means  # both are computed on first use, which must not be during a generation
        assert session.whitener
    return session, library


def _saklas_home() -> None:
    """It keeps what it computes of a model; not in the user's home, where a real installation may have its own."""
    os.environ.setdefault("SAKLAS_HOME", str(Path(__file__).resolve().parents[2] / "cache" / "work" / "saklas"))


def _pair(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.ids, batch.mask
