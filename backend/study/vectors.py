"""Directions as files: safetensors with provenance, and the control-vector GGUF of llama.cpp and repeng.

One file holds one direction by name: a vector at each of its layers. Both formats speak of the output of a block, as
this workbench does, so a layer keeps its number:

safetensors  a tensor `layer.L` a layer, (d_model,) float32, or (k, d_model) where a control is a subspace of k vectors;
             name, activation norms and provenance as JSON in the metadata. `layer_L`, as saklas has it, is read too.
GGUF         a tensor `direction.L` (d_model,) float32 a layer, with the keys general.architecture "controlvector",
             controlvector.model_hint and controlvector.layer_count. llama.cpp adds direction.L behind block L, blocks
             counted from 0 (its loader stores it at (L - 1) * n_embd and its graph reads block il at (il - 1) * n_embd,
             from il = 1: common.cpp, llama-adapter.cpp), and refuses L = 0: layer 0 cannot be written. repeng writes
             hidden_states[L + 1], which is the output of block L too. The format knows no activation norm and no
             provenance; ours goes beside it under keys of its own, which others skip.

What others wrote is checked: no pickle, and a wrong width, NaN or zero vector is refused with the layer's name.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors import deserialize, safe_open
from safetensors.numpy import save

from backend.files import whole
from backend.outside import json_in, must_be_file, shown, understood
from backend.records import Direction, FloatArray, InputError

SAFETENSORS, GGUF = ".safetensors", ".gguf"
_FORMAT = "directions 1"
_ARCHITECTURE = "controlvector"
_OWN = f"{_ARCHITECTURE}.workbench"  # key of our metadata in a GGUF
_LARGEST_NORM = 1e18
_LARGEST = 1 << 30  # bytes; a direction file of a 100-layer model of width 16,384 has 7 MB


def write_directions(path: Path, stack: Sequence[Direction], *, model: str = "") -> None:
    """Write one direction at all its layers, by the suffix of `path`: .safetensors or .gguf. Whole or not at all.

    Raises InputError where the stack has several names or widths, and on what the format cannot hold.
    """
    payload = directions_bytes(stack, path.suffix, model=model)
    with whole(path) as out:
        out.write(payload)


def directions_bytes(stack: Sequence[Direction], suffix: str, *, model: str = "") -> bytes:
    """The content of a direction file; `model` is GGUF's model hint (by default the provenance's model)."""
    _one_stack(stack)
    if stack[0].d_model != stack[0].vector.size:
        raise InputError(
            f"{stack[0].name!r} is kept as coordinates among the directions of its layer, without the "
            f"{stack[0].d_model} numbers of its vector: import the files that it is from, which have them"
        )
    match suffix:
        case ".safetensors":
            return _safetensors(stack)
        case ".gguf":
            return _gguf(stack, model)
    raise InputError(f"directions are written as {SAFETENSORS} or {GGUF}, not as {suffix or 'a file without suffix'!r}")


def read_directions(path: Path, *, width: int | None = None, layers: int | None = None) -> list[Direction]:
    """All layers of one direction file, ascending; a subspace has several directions at one layer.

    `width` and `layers` are those of the model it shall serve. Raises InputError on anything else than a whole file of
    finite, non-zero vectors that fit.
    """
    if must_be_file(path, absent="there is no direction file of that name") > _LARGEST:
        raise InputError(f"{path} is larger than a direction can be: is it a model?")
    match path.suffix:
        case ".safetensors":
            stack = _read_safetensors(path)
        case ".gguf":
            stack = _read_gguf(path)
        case suffix:
            raise InputError(f"{path}: directions are read from {SAFETENSORS} and {GGUF}, not from {suffix!r}")
    if not stack:
        raise InputError(f"{path} holds no direction")
    for direction in stack:
        if width is not None and direction.vector.size != width:
            raise InputError(
                f"{path}: the direction of layer {direction.layer} has {direction.vector.size} dimensions and the "
                f"model {width}: it was made for {direction.provenance.get('model') or 'another model'}"
            )
        if layers is not None and direction.layer >= layers:
            raise InputError(f"{path} has a direction for layer {direction.layer}: the model has layers 0-{layers - 1}")
    return stack


def _one_stack(stack: Sequence[Direction]) -> None:
    if not stack:
        raise InputError("there is no direction to write")
    for what, found in (
        ("names", {direction.name for direction in stack}),
        ("widths", {direction.vector.size for direction in stack}),
    ):
        if len(found) > 1:
            raise InputError(f"one file holds one direction, and these have the {what} {sorted(map(str, found))}")


# --- safetensors ------------------------------------------------------------------------------------------------------


def _safetensors(stack: Sequence[Direction]) -> bytes:
    by_layer: dict[int, list[Direction]] = {}
    for direction in sorted(stack, key=lambda d: d.layer):
        by_layer.setdefault(direction.layer, []).append(direction)
    tensors = {
        f"layer.{layer}": there[0].vector if len(there) == 1 else np.stack([d.vector for d in there])
        for layer, there in by_layer.items()
    }
    return bytes(save(tensors, metadata=_metadata(stack)))


def _metadata(stack: Sequence[Direction]) -> dict[str, str]:
    """Name, norms and provenance as strings; what all layers say alike stands once."""
    said = [dict(direction.provenance) for direction in stack]
    alike = {key: value for key, value in said[0].items() if all(key in s and s[key] == value for s in said)}
    own = {str(d.layer): {k: v for k, v in s.items() if k not in alike} for d, s in zip(stack, said, strict=True)}
    norms = {str(d.layer): d.activation_norm for d in stack}
    try:
        return {
            "format": _FORMAT,
            "name": stack[0].name,
            "site": "output of block L for tensor layer.L",
            "activation_norms": json.dumps(norms),
            "provenance": json.dumps(alike, ensure_ascii=False),
            "provenance_by_layer": json.dumps(own, ensure_ascii=False),
        }
    except TypeError as error:
        raise InputError(f"the provenance of {stack[0].name!r} holds what JSON cannot: {error}") from error


def _read_safetensors(path: Path) -> list[Direction]:
    with understood(path, "a whole safetensors file", "write it again"):
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            half = {name for name in file.keys() if file.get_slice(name).get_dtype() == "BF16"}  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in file.keys() if name not in half}  # noqa: SIM118
        if half:
            every = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
            tensors |= {name: _widened(said) for name, said in every if name in half}
    return _directions(path, _by_layer(path, tensors, re.compile(r"layer[._]([0-9]{1,4})")), metadata)


def _widened(said: Mapping[str, Any]) -> FloatArray:
    """A bfloat16 tensor as float32, of which it is the upper half; numpy has no such type."""
    halves = np.frombuffer(said["data"], dtype="<u2").reshape(said["shape"])
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _directions(path: Path, by_layer: Mapping[int, FloatArray], metadata: Mapping[str, str]) -> list[Direction]:
    """The directions of every layer with what the metadata says of them."""
    norms, alike, own = (
        _said(path, metadata, key) for key in ("activation_norms", "provenance", "provenance_by_layer")
    )
    name, stack = metadata.get("name") or path.stem, []
    for layer, vectors in by_layer.items():
        norm, here = norms.get(str(layer)), own.get(str(layer), {})
        sized = norm is None or (type(norm) in (int, float) and 0 <= norm < _LARGEST_NORM)
        if not sized or not isinstance(here, dict):
            raise InputError(f"{path}: the metadata of layer {layer} are damaged: write the file again")
        try:
            stack += [Direction(name, layer, vector, norm, {**alike, **here}) for vector in vectors]
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return stack


def _said(path: Path, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = json_in(metadata.get(key) or "{}")
    except ValueError as error:
        raise InputError(f"{path}: its {key} are no JSON ({error}): write the file again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: its {key} are no JSON object: write the file again")
    return value


def _by_layer(path: Path, tensors: Mapping[str, Any], named: re.Pattern[str]) -> dict[int, FloatArray]:
    """Vectors (k, d_model) by layer, ascending, of one width."""
    found: dict[int, FloatArray] = {}
    for name, tensor in tensors.items():
        match = named.fullmatch(name)
        if not match:
            raise InputError(f"{path} holds {shown(name)}, which is no direction of a layer")
        if tensor.ndim not in (1, 2) or not tensor.size or not np.issubdtype(tensor.dtype, np.floating):
            raise InputError(f"{path}: {name} must be a vector of floats, not {tensor.dtype} of shape {tensor.shape}")
        found[int(match[1])] = np.atleast_2d(np.asarray(tensor, dtype=np.float32))
    widths = {vectors.shape[1] for vectors in found.values()}
    if len(widths) > 1:
        raise InputError(f"{path} holds vectors of {sorted(widths)} dimensions: one model a file")
    return dict(sorted(found.items()))


# --- control-vector GGUF ----------------------------------------------------------------------------------------------


def _gguf(stack: Sequence[Direction], model: str) -> bytes:
    layers = [direction.layer for direction in stack]
    if len(set(layers)) < len(layers):
        raise InputError(f"{stack[0].name!r} is a subspace: a control vector has one direction a layer")
    if 0 in layers:
        raise InputError(
            "a control vector cannot hold layer 0: llama.cpp never adds one behind the first block. Leave it out"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vector.gguf")
        writer = gguf.GGUFWriter(path, _ARCHITECTURE)
        writer.add_string(f"{_ARCHITECTURE}.model_hint", model or str(stack[0].provenance.get("model", "")))
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(stack))
        writer.add_string(_OWN, json.dumps(_metadata(stack), ensure_ascii=False))
        for direction in sorted(stack, key=lambda d: d.layer):
            writer.add_tensor(f"direction.{direction.layer}", direction.vector)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def _read_gguf(path: Path) -> list[Direction]:
    with understood(path, "a whole GGUF file", "write it again"):
        reader = gguf.GGUFReader(path)
        said = {key: field.contents() for key, field in reader.fields.items() if len(field.types) == 1}
        tensors = {str(t.name): np.array(t.data) for t in reader.tensors if t.name.startswith("direction.")}
    if said.get("general.architecture") != _ARCHITECTURE:
        raise InputError(f"{path} is a GGUF of {said.get('general.architecture')!r}, not a {_ARCHITECTURE}")
    own = _said(path, {"own": str(said.get(_OWN) or "{}")}, "own")
    metadata = {str(key): str(value) for key, value in own.items()}
    if not metadata:
        hint = str(said.get(f"{_ARCHITECTURE}.model_hint") or "")
        metadata["provenance"] = json.dumps({"method": "imported control vector", "model": hint, "file": path.name})
    by_layer = _by_layer(path, tensors, re.compile(r"direction\.([0-9]{1,4})"))
    for layer, vectors in by_layer.items():
        if layer == 0 or len(vectors) != 1:
            raise InputError(f"{path}: direction.{layer} of shape {vectors.shape} is no control vector of a block")
    return _directions(path, by_layer, metadata)
