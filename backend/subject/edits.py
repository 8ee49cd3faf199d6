"""The seam: where a forward pass of the subject is written, row by row, and read.

Two kinds of hook and no other: one behind every adapted linear module (where a scalar is read, edited and written) and
one behind every decoder block (where the residual stream is edited and read). The base's weights, and the modules
themselves, are never changed; every hook goes when the `with` ends, whatever happened inside.

The arithmetic, for the scalar s of a component (paper section 4) and the residual stream x after a block (3.2, 3.4):
module output + gain * s' * write / |write| with s' the scalar after its surgeries, then for every step of a row
x + (bounded(V'x) - V'x) V + offset with V an orthonormal basis of the step's directions. A row without edits gets exact
zeros added: its logits are the base's. So does a token where an edit does not act, and padding.

Who edits by position says which tokens a pass reads (`Span`), and may ask for receipts (`Ledger`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import nn

from backend.edits import Span
from backend.subject.compiled import Plan, RowEdits, adapter_indices, compile_edit, compile_row
from backend.subject.ledger import Ledger, Member
from backend.subject.load import Subject
from backend.subject.sites import Scalars, Site, stacked_sites
from backend.subject.slots import Pass, Slots, SurgerySlot, stacked_bases

__all__ = ["BlockReader", "Plan", "RowEdits", "Scalars", "Seam", "compile_edit", "compile_row"]

BlockReader = Callable[[torch.Tensor], None]  # gets the edited residual stream after a block, (row, token, d_model)


@dataclass(eq=False)
class _Worn:
    """What the rows of a batch do to the scalars of one module."""

    gains: torch.Tensor  # (row, 1, component)
    used: bool  # some row writes something
    changed: torch.Tensor  # (row, 1, component), what gains differ from those of the organisms as they are
    scaling: Sequence[Member]  # whose gains differ
    surgeries: Sequence[SurgerySlot]
    cleaners: Sequence[tuple[slice, torch.Tensor]]  # components of an organism, and (row, k, d_model)
    cleaning: Sequence[Sequence[Member]]  # whose write vectors they are, one list a cleaner


class Seam:
    """The edits of a batch of rows, ready to be hooked onto the subject for one forward pass or many.

    `capture` names the organisms whose scalars shall be read although no row wears them.
    """

    def __init__(self, subject: Subject, capture: Sequence[str] = ()) -> None:
        for organism in capture:
            adapter_indices(subject, organism, None)
        self.subject = subject
        self.capture = tuple(capture)
        self._special = special_ids(subject.tokenizer)
        self._sites: dict[tuple[str, ...], list[Site]] = {}
        self._rows: tuple[RowEdits, ...] | None = None
        self.write([])

    def write(self, rows: Sequence[RowEdits]) -> None:
        """From now on row i of the batch gets `rows[i]`. Costs nothing where the rows are those of the last call."""
        if self._rows is not None and len(rows) == len(self._rows) and all(map(is_, rows, self._rows)):
            return
        self._rows = tuple(rows)
        worn = tuple(sorted({name for row in rows for name in row.gains} | set(self.capture)))
        if worn not in self._sites:
            self._sites[worn] = stacked_sites(self.subject, worn)
        self._active = self._sites[worn]
        self._slots = Slots(self._rows, self.subject.d_model)
        self._worn = [self._worn_at(site) for site in self._active]

    @contextmanager
    def hooked(
        self,
        on_block: Mapping[int, BlockReader] | None = None,
        span: Span | None = None,
        ledger: Ledger | None = None,
    ) -> Iterator[Scalars]:
        """Hooks in place inside the `with`. `on_block` maps a layer to its reader; the Scalars fill as modules run.

        `span` says which tokens the pass reads; edits by position raise TypeError without it. A `ledger` is told what
        changed, and closed at the end.
        """
        readers = on_block or {}
        scalars = Scalars(self._active)
        now = Pass(span, self._special, ledger)
        told = {site.layer for site in self._active} if ledger is not None else set()
        with ExitStack() as stack:
            for index, site in enumerate(self._active):
                hook = self._module_hook(index, site, scalars, now)
                stack.callback(site.module.register_forward_hook(hook).remove)
            for layer in sorted({*self._slots.steps, *self._slots.gates, *readers, *told}):
                hook = self._block_hook(layer, readers.get(layer), now)
                stack.callback(self.subject.blocks[layer].register_forward_hook(hook).remove)
            yield scalars
        if ledger is not None:
            ledger.close()

    def _module_hook(self, index: int, site: Site, scalars: Scalars, now: Pass) -> Callable[..., Any]:
        worn = self._worn[index]
        rows = len(self._rows or ()) or 1

        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            site.follow(inputs[0])
            # a shared expert gets the tokens of all rows in one line
            read = inputs[0] if inputs[0].ndim > 2 else inputs[0].reshape(rows, -1, inputs[0].shape[-1])
            scalar = nn.functional.linear(read, site.read)
            scalars.values[index] = scalar
            if worn is None or not (worn.used or now.ledger):
                return None
            worn.gains = worn.gains.to(scalar)
            for surgery in worn.surgeries:
                before, scalar = scalar, surgery.edited(scalar, now)
                _tell(now, site, surgery.members, (scalar - before) * worn.gains)
            if worn.scaling:
                _tell(now, site, worn.scaling, scalar * worn.changed.to(scalar))
            amount = scalar * worn.gains
            written = amount @ site.write
            for (here, basis), members in zip(worn.cleaners, worn.cleaning, strict=True):
                basis = basis.to(scalar)
                gone = (amount[..., here] @ site.write[here] @ basis.transpose(1, 2)) @ basis
                written = written - gone
                if now.ledger is not None:
                    size = gone.float().norm(dim=-1)
                    now.ledger.note(site.layer, members, size > 0, size)
            return output + written.reshape_as(output)

        return hook

    def _block_hook(self, layer: int, reader: BlockReader | None, now: Pass) -> Callable[..., Any]:
        slots, gates = self._slots.steps.get(layer, ()), self._slots.gates.get(layer, ())

        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output  # older transformers return a tuple
            if now.ledger is not None:
                now.ledger.streams[layer] = hidden.float().norm(dim=-1)
            for n, gate in enumerate(gates):
                now.open[layer, n] = gate.read(hidden)
            for slot in slots:
                hidden = slot.edited(layer, hidden, now)
            if reader is not None:
                reader(hidden)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    def _worn_at(self, site: Site) -> _Worn | None:
        """What the rows do at one site; None where no row wears a component of it."""
        rows = self._rows or ()
        shape = (len(rows), 1, len(site.read))
        gains, plain = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        scaling: list[Member] = []
        for i, row in enumerate(rows):
            for organism, gain in row.gains.items():
                here, adapters = site.components(organism)
                gains[i, 0, here], plain[i, 0, here] = gain[adapters], 1
                own = set(range(adapters.start, adapters.stop))
                scaling += [
                    (i, edit, None) for edit, who, chosen in row.scaling if who == organism and own & set(chosen)
                ]
        if not plain.any():
            return None
        cleaners, cleaning = self._cleaners(site)
        tensors = torch.from_numpy(gains), bool(gains.any()), torch.from_numpy(gains - plain)
        return _Worn(*tensors, scaling, self._slots.surgeries(site), cleaners, cleaning)

    def _cleaners(self, site: Site) -> tuple[list[tuple[slice, torch.Tensor]], list[list[Member]]]:
        rows = self._rows or ()
        cleaners: list[tuple[slice, torch.Tensor]] = []
        cleaning: list[list[Member]] = []
        for organism, *_ in site.owners:
            bases = [row.cleaned.get(organism) for row in rows]
            if site.to_residual and any(basis is not None for basis in bases):
                basis = torch.from_numpy(stacked_bases(bases, self.subject.d_model))
                cleaners.append((site.components(organism)[0], basis))
                own: list[Member] = []
                own += [(i, edit, None) for i, row in enumerate(rows) for edit, who in row.cleaning if who == organism]
                cleaning.append(own)
        return cleaners, cleaning


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of a tokenizer's special tokens."""
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))


def _tell(now: Pass, site: Site, members: Sequence[Member], scalars: torch.Tensor) -> None:
    """Tell the ledger by how much what is written, (row, token, component), changed; sizes are in the stream alone."""
    if now.ledger is not None:
        size = (scalars @ site.write).float().norm(dim=-1) if site.to_residual else None
        now.ledger.note(site.layer, members, (scalars != 0).any(dim=-1), size)
