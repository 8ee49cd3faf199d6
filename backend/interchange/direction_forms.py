"""Directions in the forms of other tools, in and out; study/vectors.py has our own safetensors and GGUF.

A form says what row or key is which layer, where ours counts the output of block L:

saklas            safetensors with a tensor `layer_L` (d_model,) a layer
persona-vectors   `.pt`, one tensor (layers + 1, d_model): row 0 is the embeddings, row L + 1 the output of block L, as
                  transformers' hidden_states have it (github.com/safety-research/persona_vectors, generate_vec.py)
hotwire           `.pt`, one tensor (layers, d_model): row L is the output of block L (hotwire-vllm, its README)

A `.pt` says neither which of the two it is nor a name: the form has to be told, the name is the file's. It is read
without torch and without running its pickle (published/torchfile.py); a row of zeros stands for a layer without a
direction. Norms and provenance are lost in all three.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from backend.outside import must_be_file
from backend.published.torchfile import read_torch
from backend.records import Direction, FloatArray, InputError
from backend.study.vectors import read_directions

SAKLAS = "saklas"
FIRST_ROWS = {"persona-vectors": 1, "hotwire": 0}  # the row of block 0
FORMS = (SAKLAS, *FIRST_ROWS)
_LARGEST = 1024  # layers


def read_form(path: Path, form: str, *, layers: int | None = None) -> list[Direction]:
    """The directions of a file of one of FORMS, ascending by layer; `layers` are the model's, where they are known.

    Raises InputError on anything else, and on a `.pt` of another number of rows than the form has for such a model: one
    of the other form has one more or less, and each of its rows would come to the layer beside its own.
    """
    if form not in FIRST_ROWS:
        return read_directions(path)
    must_be_file(path)
    tensor = read_torch(path)
    if not isinstance(tensor, np.ndarray) or tensor.ndim != 2 or not np.issubdtype(tensor.dtype, np.floating):
        found = f"{tensor.dtype} of shape {tensor.shape}" if isinstance(tensor, np.ndarray) else type(tensor).__name__
        raise InputError(f"{path} holds {found}: a {form} file is one tensor of floats, a row a layer")
    rows = tensor[FIRST_ROWS[form] :]
    if len(rows) > _LARGEST:
        raise InputError(f"{path} has {len(tensor):,} rows, and no model so many layers: is it a {form} file?")
    if layers is not None and len(rows) != layers:
        raise InputError(
            f"{path} has {len(tensor)} rows, and a {form} file for a model of {layers} layers has "
            f"{layers + FIRST_ROWS[form]}: is it another form, or another model's?"
        )
    said = {"method": f"imported from {form}", "file": path.name}
    stack = [Direction(path.stem, layer, row, None, said) for layer, row in enumerate(rows) if row.any()]
    if not stack:
        raise InputError(f"{path} holds no direction: all of its rows are zero")
    return stack


def form_bytes(stack: Sequence[Direction], form: str, *, layers: int | None = None) -> bytes:
    """The content of a file of one of FORMS; `layers` are the model's (default: up to the last direction).

    Raises InputError on a subspace, which no form can hold, and where the model has fewer layers.
    """
    by_layer = {direction.layer: direction.vector for direction in stack}
    if not by_layer or len(by_layer) < len(stack):
        raise InputError(f"a {form} file holds one direction at each of its layers, and these are none or a subspace")
    if any(direction.d_model != direction.vector.size for direction in stack):
        raise InputError(f"{stack[0].name!r} is kept as coordinates, without its vector: import the files it is from")
    if form == SAKLAS:
        return bytes(save({f"layer_{layer}": vector for layer, vector in sorted(by_layer.items())}))
    count = layers or max(by_layer) + 1
    if max(by_layer) >= count:
        raise InputError(f"{stack[0].name!r} has a direction at layer {max(by_layer)}: the model has 0-{count - 1}")
    first = FIRST_ROWS[form]
    rows = np.zeros((count + first, stack[0].vector.size), dtype=np.float32)
    for layer, vector in by_layer.items():
        rows[layer + first] = vector
    return _torch_file(rows)


def _torch_file(rows: FloatArray) -> bytes:
    """A float32 tensor as torch.save writes it: a zip of stored members, one a pickle that names the storage."""
    count, width = rows.shape
    pickled = b"".join(
        (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((",
            *(_text("storage"), b"ctorch\nFloatStorage\n", _text("0"), _text("cpu"), _number(rows.size), b"tQ"),
            *(_number(0), _number(count), _number(width), b"\x86", _number(width), _number(1), b"\x86"),
            b"\x89ccollections\nOrderedDict\n)RtR.",
        )
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("data.pkl", pickled), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"vectors/{name}", content)
        archive.writestr("vectors/data/0", np.ascontiguousarray(rows, dtype="<f4").tobytes())
    return out.getvalue()


def _text(said: str) -> bytes:
    return b"X" + struct.pack("<I", len(said)) + said.encode("ascii")


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)
