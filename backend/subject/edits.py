"""The seam: where a forward pass of the subject is written, row by row, and read.

Two kinds of hook and no other: one behind every adapted linear module (where a scalar is read, scaled and written) and
one behind every decoder block (where the residual stream is ablated, added to and read). The base's weights, and the
modules themselves, are never changed; every hook goes when the `with` ends, whatever happened inside.

The arithmetic, for the scalar s of a component (paper section 4) and the residual stream x after a block (3.2, 3.4):
module output + gain * s * write / |write|, then x - V V'x with V an orthonormal basis of the row's ablated directions,
then x + the sum of strength * direction. A row without edits gets exact zeros added: its logits are the base's.

What is edited at generated tokens alone needs no mask: whoever reads a prompt writes `RowEdits.reading` of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import singledispatch
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import nn

from backend.edits import Ablate, AblateWrite, Add, Edit, Gain
from backend.records import RESIDUAL_WRITERS, Direction, FloatArray, InputError
from backend.subject.load import Subject

BlockReader = Callable[[torch.Tensor], None]  # gets the edited residual stream after a block, (row, token, d_model)


@dataclass(frozen=True, eq=False)
class RowEdits:
    """The edits of one row, checked against a subject and summed up."""

    offsets: Mapping[int, FloatArray]  # layer -> (d_model,), what is added
    bases: Mapping[int, FloatArray]  # layer -> (k, d_model), orthonormal, what is projected out
    gains: Mapping[str, FloatArray]  # organism -> (adapter,), in trace order
    cleaned: Mapping[str, FloatArray]  # organism -> (k, d_model), orthonormal, what its write vectors lack
    at_prompt: RowEdits | None = None  # those that hold at prompt tokens too, where they are not all

    @property
    def reading(self) -> RowEdits:
        """What holds while the prompt is read."""
        return self.at_prompt or self


def compile_row(subject: Subject, edits: Sequence[Edit]) -> RowEdits:
    """Check `edits` against the subject and sum them up.

    Raises InputError on a layer, width, organism or adapter that it lacks.
    """
    everywhere = [edit for edit in edits if edit.at_prompt]
    at_prompt = _compiled(subject, everywhere) if len(everywhere) < len(edits) else None
    return _compiled(subject, edits, at_prompt)


def _compiled(subject: Subject, edits: Sequence[Edit], at_prompt: RowEdits | None = None) -> RowEdits:
    sums = Sums()
    for edit in edits:
        compile_edit(edit, subject, sums)
    return RowEdits(
        sums.offsets,
        {layer: _orthonormal(vectors) for layer, vectors in sums.ablated.items()},
        sums.gains,
        {organism: _orthonormal(vectors) for organism, vectors in sums.cleaned.items()},
        at_prompt,
    )


@dataclass(eq=False)
class Sums:
    """What the edits of a row come to, while they are summed up: as in RowEdits, with bases not yet orthonormal."""

    offsets: dict[int, FloatArray] = field(default_factory=dict)
    ablated: dict[int, list[FloatArray]] = field(default_factory=dict)
    gains: dict[str, FloatArray] = field(default_factory=dict)
    cleaned: dict[str, list[FloatArray]] = field(default_factory=dict)


@singledispatch
def compile_edit(edit: Edit, subject: Subject, sums: Sums) -> None:
    """Check one edit against the subject and add it to `sums`; every class of edits registers its own way.

    Raises InputError where the subject cannot take it.
    """
    raise InputError(f"nothing here says how a model is edited by {edit.kind!r}: register it with compile_edit")


@compile_edit.register
def _add(edit: Add, subject: Subject, sums: Sums) -> None:
    vector = _fits(subject, edit.direction) * np.float32(edit.strength)
    for layer in _exist(subject, edit.layers):
        sums.offsets[layer] = sums.offsets[layer] + vector if layer in sums.offsets else vector


@compile_edit.register
def _ablate(edit: Ablate, subject: Subject, sums: Sums) -> None:
    _fits(subject, edit.direction)
    for layer in _exist(subject, range(len(subject.blocks)) if edit.layers is None else edit.layers):
        sums.ablated.setdefault(layer, []).append(edit.direction.unit)


@compile_edit.register
def _ablate_write(edit: AblateWrite, subject: Subject, sums: Sums) -> None:
    _fits(subject, edit.direction)
    _adapters(subject, edit.organism, None)
    changed = [lora.path for lora in subject.organisms[edit.organism].loras if lora.path in subject.altered]
    if changed:
        raise InputError(
            f"{subject.name} changes what {changed[0]} writes, as by a norm, before it reaches the residual stream: "
            f"no direction leaves it with the write vectors of {edit.organism!r}. Ablate it at the layers instead"
        )
    sums.cleaned.setdefault(edit.organism, []).append(edit.direction.unit)


@compile_edit.register
def _gain(edit: Gain, subject: Subject, sums: Sums) -> None:
    chosen = _adapters(subject, edit.organism, edit.adapters)
    every = len(subject.organisms[edit.organism].names)
    gain = sums.gains.setdefault(edit.organism, np.ones(every, dtype=np.float32))
    gain[chosen] *= np.float32(edit.factor)


@dataclass(eq=False)
class _Site:
    """One adapted module with the components of every organism in use, stacked.

    Its tensors go to the device where the module runs, once: an offloaded module only has one while it runs.
    """

    module: nn.Module
    to_residual: bool  # its output goes to the residual stream as it is
    read: torch.Tensor  # (component, d_in), times scaling and |write|: x @ read.T is the scalar
    write: torch.Tensor  # (component, d_out), unit vectors
    owners: tuple[tuple[str, int, int], ...]  # organism, first adapter index, one past the last; in component order

    def follow(self, like: torch.Tensor) -> None:
        """Be where `like` is."""
        if self.read.device != like.device or self.read.dtype != like.dtype:
            self.read, self.write = self.read.to(like), self.write.to(like)


@dataclass(eq=False)
class Scalars:
    """What the adapters of one forward pass read: (row, token, component) a site, before any gain."""

    sites: Sequence[_Site]
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    def of(self, organism: str) -> torch.Tensor:
        """(row, token, adapter) of one organism, in trace order, float32 on the CPU; NaN where a module did not run."""
        shape = next(iter(self.values.values())).shape[:-1]
        adapters = sum(last - first for site in self.sites for owner, first, last in site.owners if owner == organism)
        read = torch.full((*shape, adapters), torch.nan)
        for index, values in self.values.items():
            start = 0
            for owner, first, last in self.sites[index].owners:
                if owner == organism:
                    read[..., first:last] = values[..., start : start + last - first]
                start += last - first
        return read


class Seam:
    """The edits of a batch of rows, ready to be hooked onto the subject for one forward pass or many.

    `capture` names the organisms whose scalars shall be read although no row wears them.
    """

    def __init__(self, subject: Subject, capture: Sequence[str] = ()) -> None:
        for organism in capture:
            _adapters(subject, organism, None)
        self.subject = subject
        self.capture = tuple(capture)
        self._sites: dict[tuple[str, ...], list[_Site]] = {}
        self._rows: tuple[RowEdits, ...] | None = None
        self.write([])

    def write(self, rows: Sequence[RowEdits]) -> None:
        """From now on row i of the batch gets `rows[i]`. Costs nothing where the rows are those of the last call."""
        if self._rows is not None and len(rows) == len(self._rows) and all(map(is_, rows, self._rows)):
            return
        self._rows = tuple(rows)
        worn = sorted({name for row in rows for name, gain in row.gains.items() if gain.any()} | set(self.capture))
        self._active = self._sites.setdefault(tuple(worn), self._stack(worn))
        self._gains = [self._site_gains(site, rows) for site in self._active]
        self._cleaners = [self._site_cleaners(site, rows) for site in self._active]
        layers = {layer for row in rows for layer in (*row.offsets, *row.bases)}
        self._offsets = {layer: self._offset(layer, rows) for layer in layers}
        self._bases = {layer: self._basis(layer, rows) for layer in layers}

    @contextmanager
    def hooked(self, on_block: Mapping[int, BlockReader] | None = None) -> Iterator[Scalars]:
        """Hooks in place inside the `with`. `on_block` maps a layer to its reader; the Scalars fill as modules run."""
        readers = on_block or {}
        scalars = Scalars(self._active)
        with ExitStack() as stack:
            for index, site in enumerate(self._active):
                hook = self._module_hook(index, site, scalars)
                stack.callback(site.module.register_forward_hook(hook).remove)
            for layer in sorted({*self._offsets, *readers}):
                hook = self._block_hook(layer, readers.get(layer))
                stack.callback(self.subject.blocks[layer].register_forward_hook(hook).remove)
            yield scalars

    def _module_hook(self, index: int, site: _Site, scalars: Scalars) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            site.follow(inputs[0])
            # a shared expert gets the tokens of all rows in one line
            read = (
                inputs[0]
                if inputs[0].ndim > 2
                else inputs[0].reshape(len(self._rows or ()) or 1, -1, inputs[0].shape[-1])
            )
            scalar = nn.functional.linear(read, site.read)
            scalars.values[index] = scalar
            gain = self._gains[index]
            if gain is None:
                return None
            gain = self._gains[index] = gain.to(scalar)
            amount = scalar * gain
            written = amount @ site.write
            for start, end, basis in self._cleaners[index]:
                basis = basis.to(scalar)
                written = written - (amount[..., start:end] @ site.write[start:end] @ basis.transpose(1, 2)) @ basis
            return output + written.reshape_as(output)

        return hook

    def _block_hook(self, layer: int, reader: BlockReader | None) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output  # older transformers return a tuple
            basis, offset = self._bases.get(layer), self._offsets.get(layer)
            if basis is not None:
                basis = self._bases[layer] = basis.to(hidden)
                hidden = hidden - (hidden @ basis.transpose(1, 2)) @ basis
            if offset is not None:
                offset = self._offsets[layer] = offset.to(hidden)
                hidden = hidden + offset
            if reader is not None:
                reader(hidden)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    def _stack(self, organisms: Sequence[str]) -> list[_Site]:
        parts: dict[str, list[tuple[str, int, torch.Tensor, torch.Tensor]]] = {}
        for organism in organisms:
            first = 0
            for lora in self.subject.organisms[organism].loras:
                norm = lora.write.norm(dim=0)  # (rank,)
                read = lora.read * (norm * lora.scaling)[:, None]
                write = (lora.write / norm.clamp_min(torch.finfo(norm.dtype).tiny)).T
                parts.setdefault(lora.path, []).append((organism, first, read, write))
                first += lora.read.shape[0]
        return [
            _Site(
                module=self.subject.model.get_submodule(path),
                to_residual=path.rpartition(".")[2] in RESIDUAL_WRITERS and path not in self.subject.altered,
                read=torch.cat([read for *_, read, _ in stacked]).contiguous(),
                write=torch.cat([write for *_, write in stacked]).contiguous(),
                owners=tuple((organism, first, first + len(read)) for organism, first, read, _ in stacked),
            )
            for path, stacked in parts.items()
        ]

    def _site_gains(self, site: _Site, rows: Sequence[RowEdits]) -> torch.Tensor | None:
        """(row, 1, component), or None where no row wears a component of this site."""
        gains = np.zeros((len(rows), 1, len(site.read)), dtype=np.float32)
        for i, row in enumerate(rows):
            start = 0
            for organism, first, last in site.owners:
                if organism in row.gains:
                    gains[i, 0, start : start + last - first] = row.gains[organism][first:last]
                start += last - first
        return torch.from_numpy(gains) if gains.any() else None

    def _site_cleaners(self, site: _Site, rows: Sequence[RowEdits]) -> list[tuple[int, int, torch.Tensor]]:
        """First component, one past the last, and (row, k, d_model) basis, of every organism that is cleaned here."""
        cleaners, start = [], 0
        for organism, first, last in site.owners:
            end = start + last - first
            bases = [row.cleaned.get(organism) for row in rows]
            if site.to_residual and any(basis is not None for basis in bases):
                cleaners.append((start, end, torch.from_numpy(_stacked(bases, self.subject.d_model))))
            start = end
        return cleaners

    def _offset(self, layer: int, rows: Sequence[RowEdits]) -> torch.Tensor | None:
        """(row, 1, d_model), or None where no row adds here."""
        if not any(layer in row.offsets for row in rows):
            return None
        zero = np.zeros(self.subject.d_model, dtype=np.float32)
        return torch.from_numpy(np.stack([row.offsets.get(layer, zero) for row in rows])[:, None])

    def _basis(self, layer: int, rows: Sequence[RowEdits]) -> torch.Tensor | None:
        """(row, k, d_model), padded with zero vectors, or None where no row ablates here."""
        bases = [row.bases.get(layer) for row in rows]
        if all(basis is None for basis in bases):
            return None
        return torch.from_numpy(_stacked(bases, self.subject.d_model))


def _stacked(bases: Sequence[FloatArray | None], d_model: int) -> FloatArray:
    """(row, k, d_model), padded with zero vectors, which take nothing away."""
    depth = max(len(basis) for basis in bases if basis is not None)
    stacked = np.zeros((len(bases), depth, d_model), dtype=np.float32)
    for row, basis in zip(stacked, bases, strict=True):
        if basis is not None:
            row[: len(basis)] = basis
    return stacked


def _fits(subject: Subject, direction: Direction) -> FloatArray:
    """Its vector."""
    if len(direction.vector) != subject.d_model:
        raise InputError(
            f"direction {direction.name!r} has {len(direction.vector)} dimensions, the residual stream of "
            f"{subject.name} has {subject.d_model}: it comes from another model"
        )
    return direction.vector


def _exist(subject: Subject, layers: Sequence[int] | range) -> Sequence[int]:
    for layer in layers:
        if not 0 <= layer < len(subject.blocks):
            raise InputError(f"layer {layer} does not exist: {subject.name} has layers 0 to {len(subject.blocks) - 1}")
    return layers


def _adapters(subject: Subject, organism: str, names: Sequence[str] | None) -> list[int]:
    """Indices of an organism's adapters, all of them for None."""
    if organism not in subject.organisms:
        loaded = ", ".join(sorted(subject.organisms)) or "none"
        raise InputError(f"no organism named {organism!r} is loaded: there is {loaded}")
    index = {name: i for i, name in enumerate(subject.organisms[organism].names)}
    unknown = [name for name in names or () if name not in index]
    if unknown:
        raise InputError(f"organism {organism!r} has no adapter {unknown[0]!r}: it has {', '.join(list(index)[:12])}")
    return list(index.values()) if names is None else [index[name] for name in names]


def _orthonormal(vectors: Sequence[FloatArray]) -> FloatArray:
    """An orthonormal basis (k, d_model) of the span, so that removing it leaves no projection on any of them."""
    if len(vectors) == 1:
        return vectors[0][None]
    _, sizes, basis = np.linalg.svd(np.stack(vectors).astype(np.float64), full_matrices=False)
    return np.asarray(basis[sizes > 1e-6 * sizes[0]], dtype=np.float32)
