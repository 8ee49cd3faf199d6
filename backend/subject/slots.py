"""The edits of many rows at one place, as tensors: all rows that have one there at once, each at its own tokens.

A slot is the n-th step of every row after one block, or the n-th surgery of every row's scalars at one module. Rows
without one are left alone. Refuses to know hooks: it is handed what a block or a module gave, and gives it edited.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from backend.edits import EVERY, Span, When, Where
from backend.edits.where import BoolArray
from backend.records import FloatArray
from backend.subject.compiled import RowEdits, Step, Surgery, gate_key
from backend.subject.ledger import Ledger, Member
from backend.subject.sites import Site

T = TypeVar("T")
IntArray = np.ndarray[Any, np.dtype[np.int64]]
Gate = tuple[int, int]  # layer, and which of its gates


class Pass:
    """One forward pass: which tokens it reads, which gates have opened so far, and who keeps receipts."""

    def __init__(self, span: Span | None, special: Collection[int], ledger: Ledger | None) -> None:
        self.span = span
        self.ledger = ledger
        self.open: dict[Gate, torch.Tensor] = {}  # (row, token)
        self._special = special
        self._held: BoolArray | None = None  # (where, row, token)

    def held(self, wheres: Sequence[Where]) -> BoolArray | None:
        """(where, row, token), at which tokens each of a batch's Wheres acts; None where all act at every token.

        The wheres are the same at every call: they are asked once.
        """
        if self._held is None and wheres != [EVERY]:
            if self.span is None:
                raise TypeError("edits by position need to know which tokens the pass reads: give a span")
            self._held = np.stack([where.holds(self.span, self._special) for where in wheres])
        return self._held


@dataclass(eq=False)
class Acting:
    """Which rows have a slot, and at which tokens each of them is edited."""

    rows: torch.Tensor  # (own,), places in the batch of the rows that have one
    all: bool  # they are the whole batch
    wheres: Sequence[Where]  # distinct ones of the whole batch
    which: IntArray  # (own,), the place of each row's own among them
    gates: Sequence[tuple[Gate, torch.Tensor | None]]  # and those, (own, 1), that it decides for; None for all

    def __post_init__(self) -> None:
        self._places = self.rows.numpy()

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """The own rows of (row, ...) values."""
        self.rows = self.rows.to(values.device)
        return values if self.all else values[self.rows]

    def put(self, values: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
        """(row, ...) values with the own rows `changed`."""
        return changed if self.all else values.index_copy(0, self.rows, changed)

    def at(self, now: Pass, device: torch.device) -> tuple[torch.Tensor | None, bool]:
        """(own, token), None for everywhere; and whether there may be any such token."""
        asked = now.held(self.wheres)
        held, some = None, True
        if asked is not None:
            acting = asked[self.which, self._places]
            if not acting.all():
                held, some = torch.from_numpy(acting).to(device), bool(acting.any())
        if some:
            for gate, decided in self.gates:
                opened = self.of(now.open[gate].to(device))
                if decided is not None:
                    opened = opened | ~decided.to(device)
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
    basis: torch.Tensor | None  # (own, k, d_model)
    low: torch.Tensor | None  # (own, 1, k)
    high: torch.Tensor | None  # (own, 1, k)
    offset: torch.Tensor | None  # (own, 1, d_model)
    members: Sequence[Member]

    def edited(self, layer: int, hidden: torch.Tensor, now: Pass) -> torch.Tensor:
        """The residual stream (row, token, d_model) after this step."""
        held, some = self.acting.at(now, hidden.device)
        if not some:
            return hidden
        own = self.acting.of(hidden)
        change = self._change(own)
        if held is not None:
            change = change * held[..., None]
        if now.ledger is not None:
            size = change.float().norm(dim=-1).expand(own.shape[:2])
            size = self.acting.put(size.new_zeros(hidden.shape[:2]), size)
            now.ledger.note(layer, self.members, size > 0, size, hidden.float().norm(dim=-1))
        return self.acting.put(hidden, own + change)

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
    low: torch.Tensor  # (own, 1, component)
    high: torch.Tensor  # (own, 1, component)
    given: Sequence[tuple[int, slice, FloatArray, str]]  # own, components, (component, token) of a part of its text
    noise: Sequence[tuple[int, slice, slice, Surgery]]  # own, components, its adapters that they are
    members: Sequence[Member]

    def edited(self, scalar: torch.Tensor, now: Pass) -> torch.Tensor:
        """The scalars (row, token, component) after this surgery."""
        held, some = self.acting.at(now, scalar.device)
        if not some:
            return scalar
        self.low, self.high = self.low.to(scalar), self.high.to(scalar)
        before = self.acting.of(scalar)
        changed = torch.clamp(before, self.low, self.high)
        rows = self.acting.rows.tolist() if self.given or self.noise else ()
        for own, here, values, part in self.given:
            place = _known(now).place(part)[rows[own]]
            changed[own, :, here] = _given(changed[own, :, here], values, place)
        for own, here, adapters, surgery in self.noise:
            changed[own, :, here] += _drawn(surgery, _known(now).position[rows[own]])[:, adapters].to(scalar)
        if held is not None:
            changed = torch.where(held[..., None], changed, before)
        return self.acting.put(scalar, changed)


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
    _wheres: list[Where] = field(default_factory=list)  # distinct ones
    _place: dict[Where, int] = field(default_factory=dict)  # each one's place among them

    def __post_init__(self) -> None:
        self._read_gates()
        for layer in sorted({layer for row in self.rows for layer in row.steps}):
            self.steps[layer] = [self._slot(each) for each in _ranked([row.steps.get(layer, ()) for row in self.rows])]

    def surgeries(self, site: Site) -> list[SurgerySlot]:
        """Those of the scalars of one module."""
        own = [[each for each in row.surgeries if _concerns(each, site)] for row in self.rows]
        return [self._surgery(site, each) for each in _ranked(own)]

    def _slot(self, steps: Mapping[int, Step]) -> Slot:
        bases = [step.basis for step in steps.values()]
        basis = low = high = offset = None
        if any(each is not None for each in bases):
            stacked = stacked_bases(bases, self.d_model)
            bounds = np.full((2, *stacked.shape[:2]), np.inf, dtype=np.float32)
            bounds[0] *= -1
            for own, step in enumerate(steps.values()):
                if step.basis is not None:
                    bounds[0, own, : len(step.basis)], bounds[1, own, : len(step.basis)] = step.low, step.high
            basis = torch.from_numpy(stacked)
            low, high = (torch.from_numpy(each[:, None]) for each in bounds)
        if any(step.offset is not None for step in steps.values()):
            zero = np.zeros(self.d_model, dtype=np.float32)
            vectors = [zero if step.offset is None else step.offset for step in steps.values()]
            offset = torch.from_numpy(np.stack(vectors)[:, None])
        members = [
            (row, edit, size)
            for row, step in steps.items()
            for edit, size in zip(step.edits, step.sizes or [None] * len(step.edits), strict=True)
        ]
        return Slot(self._acting(steps), basis, low, high, offset, members)

    def _surgery(self, site: Site, surgeries: Mapping[int, Surgery]) -> SurgerySlot:
        bounds = np.full((2, len(surgeries), 1, len(site.read)), np.inf, dtype=np.float32)
        bounds[0] *= -1
        given, noise, members = [], [], []
        for own, (row, surgery) in enumerate(surgeries.items()):
            here, adapters = site.components(surgery.organism)
            bounds[0, own, 0, here], bounds[1, own, 0, here] = surgery.low[adapters], surgery.high[adapters]
            if surgery.given is not None:
                given.append((own, here, surgery.given[adapters], surgery.where.part))
            if surgery.noise is not None:
                noise.append((own, here, adapters, surgery))
            members.append((row, surgery.edit, None))
        low, high = (torch.from_numpy(each) for each in bounds)
        return SurgerySlot(self._acting(surgeries), low, high, given, noise, members)

    def _acting(self, each: Mapping[int, Step] | Mapping[int, Surgery]) -> Acting:
        for one in each.values():
            if one.where not in self._place:
                self._place[one.where] = len(self._wheres)
                self._wheres.append(one.where)
        which = np.array([self._place[one.where] for one in each.values()])
        decided: dict[Gate, torch.Tensor] = {}
        for own, row in enumerate(each):
            when = each[row].when
            if when is not None:
                gate = self._gate[row, gate_key(when)]
                decided.setdefault(gate, torch.zeros((len(each), 1), dtype=torch.bool))[own] = True
        gates = [(gate, None if bool(own.all()) else own) for gate, own in decided.items()]
        return Acting(torch.tensor(list(each)), len(each) == len(self.rows), self._wheres, which, gates)

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


def _ranked(rows: Sequence[Sequence[T]]) -> list[dict[int, T]]:
    """For each n, the n-th of every row that has as many, by the row's place."""
    depth = max(map(len, rows), default=0)
    return [{row: own[n] for row, own in enumerate(rows) if n < len(own)} for n in range(depth)]


def stacked_bases(bases: Sequence[FloatArray | None], d_model: int) -> FloatArray:
    """(row, k, d_model), padded with zero vectors, which take nothing away."""
    depth = max(len(basis) for basis in bases if basis is not None)
    stacked: Any = np.zeros((len(bases), depth, d_model), dtype=np.float32)
    for row, basis in zip(stacked, bases, strict=True):
        if basis is not None:
            row[: len(basis)] = basis
    return np.asarray(stacked, dtype=np.float32)
