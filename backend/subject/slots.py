"""The edits of many rows at one place, as tensors: all rows at once, each at its own tokens.

A slot is the n-th step of every row after one block, or the n-th surgery of every row's scalars at one module. Rows
without one have zeros there. Refuses to know hooks: it is handed what a block or a module gave, and gives it edited.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from backend.edits import EVERY, Span, When, Where
from backend.records import FloatArray
from backend.subject.compiled import RowEdits, Step, Surgery, gate_key
from backend.subject.ledger import Ledger, Member
from backend.subject.sites import Site

Gate = tuple[int, int]  # layer, and which of its gates


class Pass:
    """One forward pass: which tokens it reads, which gates have opened so far, and who keeps receipts."""

    def __init__(self, span: Span | None, special: Collection[int], ledger: Ledger | None) -> None:
        self.span = span
        self.ledger = ledger
        self.open: dict[Gate, torch.Tensor] = {}  # (row, token)
        self._special = special
        self._held: dict[tuple[int, torch.device], tuple[torch.Tensor | None, bool]] = {}

    def held(self, wheres: tuple[Where | None, ...], device: torch.device) -> tuple[torch.Tensor | None, bool]:
        """(row, token) where rows are edited, None for everywhere; and whether there is any such token."""
        key = id(wheres), device
        if key not in self._held:
            held, some = self._asked(wheres)
            self._held[key] = None if held is None else held.to(device), some
        return self._held[key]

    def _asked(self, wheres: tuple[Where | None, ...]) -> tuple[torch.Tensor | None, bool]:
        if self.span is None:
            if all(where in (None, EVERY) for where in wheres):
                return None, True
            raise TypeError("edits by position need to know which tokens the pass reads: give a span")
        acting = np.zeros(self.span.ids.shape, dtype=bool)
        for where in dict.fromkeys(where for where in wheres if where is not None):
            rows = [row for row, other in enumerate(wheres) if other == where]
            acting[rows] = where.holds(self.span, self._special)[rows]
        concerned = [row for row, where in enumerate(wheres) if where is not None]
        if acting[concerned].all():
            return None, True
        return torch.from_numpy(acting), bool(acting.any())


@dataclass(eq=False)
class Acting:
    """At which tokens each row of a slot is edited."""

    wheres: tuple[Where | None, ...]  # one a row; equal ones of a batch are one object
    gates: Sequence[tuple[Gate, torch.Tensor]]  # and the rows, (row, 1), that it decides for

    def at(self, now: Pass, device: torch.device) -> tuple[torch.Tensor | None, bool]:
        """(row, token), None for everywhere; and whether there may be any such token."""
        held, some = now.held(self.wheres, device)
        if some:
            for gate, rows in self.gates:
                rows = rows.to(device)
                opened = now.open[gate].to(device) | ~rows
                held = opened if held is None else held & opened
        return held, some


@dataclass(eq=False)
class Gates:
    """The n-th gate of every row at one layer."""

    unit: torch.Tensor  # (row, d_model, 1); zero where a row has none
    threshold: torch.Tensor  # (row, 1)
    sign: torch.Tensor  # (row, 1), -1 where it opens under the threshold

    def read(self, hidden: torch.Tensor) -> torch.Tensor:
        """(row, token), where it is open."""
        self.unit, self.threshold, self.sign = (each.to(hidden) for each in (self.unit, self.threshold, self.sign))
        along = (hidden @ self.unit)[..., 0]
        return along * self.sign > self.threshold * self.sign


@dataclass(eq=False)
class Slot:
    """The n-th step of every row after one block."""

    acting: Acting
    basis: torch.Tensor | None  # (row, k, d_model)
    low: torch.Tensor | None  # (row, 1, k)
    high: torch.Tensor | None  # (row, 1, k)
    offset: torch.Tensor | None  # (row, 1, d_model)
    members: Sequence[Member]

    def edited(self, layer: int, hidden: torch.Tensor, now: Pass) -> torch.Tensor:
        """The residual stream (row, token, d_model) after this step."""
        held, some = self.acting.at(now, hidden.device)
        if not some:
            return hidden
        change = self._change(hidden)
        if held is not None:
            change = change * held[..., None]
        if now.ledger is not None:
            size = change.float().norm(dim=-1).expand(hidden.shape[:2])
            now.ledger.note(layer, self.members, size > 0, size, hidden.float().norm(dim=-1))
        return hidden + change

    def _change(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.basis is None:
            assert self.offset is not None
            self.offset = self.offset.to(hidden)
            return self.offset
        self.basis = self.basis.to(hidden)
        assert self.low is not None
        assert self.high is not None
        self.low, self.high = self.low.to(hidden), self.high.to(hidden)
        inside = hidden @ self.basis.transpose(1, 2)
        change = (torch.clamp(inside, self.low, self.high) - inside) @ self.basis
        if self.offset is not None:
            self.offset = self.offset.to(hidden)
            change = change + self.offset
        return change


@dataclass(eq=False)
class SurgerySlot:
    """The n-th surgery of every row at one module."""

    acting: Acting
    low: torch.Tensor  # (row, 1, component)
    high: torch.Tensor  # (row, 1, component)
    given: Sequence[tuple[int, slice, FloatArray, str]]  # row, components, (component, token) of a part of its text
    noise: Sequence[tuple[int, slice, slice, Surgery]]  # row, components, its adapters that they are
    members: Sequence[Member]

    def edited(self, scalar: torch.Tensor, now: Pass) -> torch.Tensor:
        """The scalars (row, token, component) after this surgery."""
        held, some = self.acting.at(now, scalar.device)
        if not some:
            return scalar
        self.low, self.high = self.low.to(scalar), self.high.to(scalar)
        changed = torch.clamp(scalar, self.low, self.high)
        for row, here, values, part in self.given:
            changed[row, :, here] = _given(changed[row, :, here], values, _known(now).place(part)[row])
        for row, here, adapters, surgery in self.noise:
            changed[row, :, here] += _drawn(surgery, _known(now).position[row])[:, adapters].to(scalar)
        return changed if held is None else torch.where(held[..., None], changed, scalar)


def _known(now: Pass) -> Span:
    if now.span is None:
        raise TypeError("edits by position need to know which tokens the pass reads: give a span")
    return now.span


def _given(scalar: torch.Tensor, values: FloatArray, place: np.ndarray) -> torch.Tensor:
    """(token, component): the given values at these places of a part, what there is where none is given."""
    inside = (place >= 0) & (place < values.shape[1])
    taken = np.full((len(place), len(values)), np.nan, dtype=np.float32)
    taken[inside] = values[:, place[inside]].T
    found = torch.from_numpy(taken).to(scalar)
    return torch.where(found.isnan(), scalar, found)


def _drawn(surgery: Surgery, position: np.ndarray) -> torch.Tensor:
    """(token, adapter) noise; zero at padding, and for adapters that are left."""
    assert surgery.noise is not None
    drawn = np.zeros((len(position), len(surgery.low)), dtype=np.float32)
    for token, at in enumerate(position):
        if at >= 0:
            drawn[token, surgery.chosen] = surgery.noise.drawn(int(at), len(surgery.low))[list(surgery.chosen)]
    return torch.from_numpy(drawn)


# --- rows brought together --------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Slots:
    """Every slot and gate of a batch of rows."""

    rows: Sequence[RowEdits]
    d_model: int
    steps: dict[int, list[Slot]] = field(default_factory=dict)  # layer -> in the order in which they act
    gates: dict[int, list[Gates]] = field(default_factory=dict)  # layer
    _gate: dict[tuple[int, Hashable], Gate] = field(default_factory=dict)  # (row, key) -> where it is read
    _wheres: dict[tuple[Where | None, ...], tuple[Where | None, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._read_gates()
        for layer in sorted({layer for row in self.rows for layer in row.steps}):
            steps = [row.steps.get(layer, ()) for row in self.rows]
            self.steps[layer] = [
                self._slot([own[n] if n < len(own) else None for own in steps]) for n in range(max(map(len, steps)))
            ]

    def surgeries(self, site: Site) -> list[SurgerySlot]:
        """Those of the scalars of one module."""
        own = [[each for each in row.surgeries if _concerns(each, site)] for row in self.rows]
        return [
            self._surgery(site, [each[n] if n < len(each) else None for each in own])
            for n in range(max(map(len, own), default=0))
        ]

    def _slot(self, steps: Sequence[Step | None]) -> Slot:
        bases = [None if step is None else step.basis for step in steps]
        basis = low = high = offset = None
        if any(each is not None for each in bases):
            stacked = stacked_bases(bases, self.d_model)
            bounds = np.full((2, *stacked.shape[:2]), np.inf, dtype=np.float32)
            bounds[0] *= -1
            for row, step in enumerate(steps):
                if step is not None and step.basis is not None:
                    bounds[0, row, : len(step.basis)], bounds[1, row, : len(step.basis)] = step.low, step.high
            basis = torch.from_numpy(stacked)
            low, high = (torch.from_numpy(each[:, None]) for each in bounds)
        if any(step is not None and step.offset is not None for step in steps):
            zero = np.zeros(self.d_model, dtype=np.float32)
            vectors = [zero if step is None or step.offset is None else step.offset for step in steps]
            offset = torch.from_numpy(np.stack(vectors)[:, None])
        members = [
            (row, edit, size)
            for row, step in enumerate(steps)
            if step is not None
            for edit, size in zip(step.edits, step.sizes or [None] * len(step.edits), strict=True)
        ]
        return Slot(self._acting(steps), basis, low, high, offset, members)

    def _surgery(self, site: Site, surgeries: Sequence[Surgery | None]) -> SurgerySlot:
        bounds = np.full((2, len(self.rows), 1, len(site.read)), np.inf, dtype=np.float32)
        bounds[0] *= -1
        given, noise, members = [], [], []
        for row, surgery in enumerate(surgeries):
            if surgery is None:
                continue
            here, adapters = site.components(surgery.organism)
            bounds[0, row, 0, here], bounds[1, row, 0, here] = surgery.low[adapters], surgery.high[adapters]
            if surgery.given is not None:
                given.append((row, here, surgery.given[adapters], surgery.where.part))
            if surgery.noise is not None:
                noise.append((row, here, adapters, surgery))
            members.append((row, surgery.edit, None))
        low, high = (torch.from_numpy(each) for each in bounds)
        return SurgerySlot(self._acting(surgeries), low, high, given, noise, members)

    def _acting(self, each: Sequence[Step | None] | Sequence[Surgery | None]) -> Acting:
        wheres = tuple(None if one is None else one.where for one in each)
        wheres = self._wheres.setdefault(wheres, wheres)
        rows: dict[Gate, torch.Tensor] = {}
        for row, one in enumerate(each):
            if one is not None and one.when is not None:
                gate = self._gate[row, gate_key(one.when)]
                rows.setdefault(gate, torch.zeros((len(self.rows), 1), dtype=torch.bool))[row] = True
        return Acting(wheres, list(rows.items()))

    def _read_gates(self) -> None:
        found: dict[int, list[dict[int, When]]] = {}  # layer -> n -> row -> its n-th gate there
        for row, edits in enumerate(self.rows):
            every = [one.when for steps in edits.steps.values() for one in steps]
            every += [surgery.when for surgery in edits.surgeries]
            for when in every:
                if when is None or (row, gate_key(when)) in self._gate:
                    continue
                there = found.setdefault(when.layer, [])
                n = next((n for n, known in enumerate(there) if row not in known), len(there))
                if n == len(there):
                    there.append({})
                there[n][row] = when
                self._gate[row, gate_key(when)] = (when.layer, n)
        for layer, there in found.items():
            self.gates[layer] = [self._gates_of(known) for known in there]

    def _gates_of(self, known: dict[int, When]) -> Gates:
        unit = np.zeros((len(self.rows), self.d_model, 1), dtype=np.float32)
        threshold = np.zeros((len(self.rows), 1), dtype=np.float32)
        sign = np.ones_like(threshold)
        for row, when in known.items():
            unit[row, :, 0], threshold[row] = when.direction.unit, when.threshold
            sign[row] = -1 if when.under else 1
        return Gates(*(torch.from_numpy(each) for each in (unit, threshold, sign)))


def _concerns(surgery: Surgery, site: Site) -> bool:
    """Whether it edits a component of the site."""
    _, adapters = site.components(surgery.organism)
    return bool(set(surgery.chosen) & set(range(adapters.start, adapters.stop)))


def stacked_bases(bases: Sequence[FloatArray | None], d_model: int) -> FloatArray:
    """(row, k, d_model), padded with zero vectors, which take nothing away."""
    depth = max(len(basis) for basis in bases if basis is not None)
    stacked: Any = np.zeros((len(bases), depth, d_model), dtype=np.float32)
    for row, basis in zip(stacked, bases, strict=True):
        if basis is not None:
            row[: len(basis)] = basis
    return np.asarray(stacked, dtype=np.float32)
