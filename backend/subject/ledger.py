"""Receipts as they grow: what every edit of every row changed, pass by pass, told by the hooks.

Knows tokens and sizes. Refuses to know hooks and edits' arithmetic. Costs nothing where nobody asks for receipts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from backend.edits import Receipt, Span
from backend.edits.where import BoolArray
from backend.subject.compiled import RowEdits

Member = tuple[int, int, float | None]  # row, edit, and what it changes at a token where that is known beforehand


@dataclass(eq=False)
class _Sum:
    """What one edit of one row changed so far."""

    layers: set[int] = field(default_factory=set)
    prompt: int = 0  # tokens
    answer: int = 0  # tokens
    places: int = 0
    changed: float = 0.0
    stream: float = 0.0


class Tally:
    """What the edits of one row changed so far."""

    def __init__(self, row: RowEdits) -> None:
        self.row = row
        self.sums = [_Sum() for _ in row.edits]

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """One an edit that changes anything, in their order."""
        return tuple(
            Receipt(
                edit.row.kind,
                edit.row.about,
                tuple(sorted(one.layers)),
                one.prompt,
                one.answer,
                one.places,
                one.changed,
                one.stream,
            )
            for edit, one in zip(self.row.edits, self.sums, strict=True)
            if edit.changes
        )


Counting = Sequence[tuple[Tally, int | None]]  # tallies that a row counts for: at tokens before a position, or at all


@dataclass(eq=False)
class _Note:
    layer: int
    members: Sequence[Member]
    acted: torch.Tensor  # (row, token), where anything changed
    change: torch.Tensor | None  # (row, token); None where it has no size in the stream
    stream: torch.Tensor | None  # (row, token)


class Ledger:
    """What is told in one forward pass. `into` has, for each row of the pass, the tallies that it counts for.

    A tally may count the tokens before some position alone: the others it gets from a later pass.
    """

    def __init__(self, span: Span, into: Sequence[Counting]) -> None:
        self._span = span
        self._into = into
        self._notes: list[_Note] = []
        self.streams: dict[int, torch.Tensor] = {}  # layer -> (row, token), of layers whose modules told of changes

    def note(
        self,
        layer: int,
        members: Sequence[Member],
        acted: torch.Tensor,
        change: torch.Tensor | None,
        stream: torch.Tensor | None = None,
    ) -> None:
        """Members changed the stream where they `acted`. Without `stream` it is looked up when the layer has run."""
        self._notes.append(_Note(layer, members, acted, change, stream))

    def close(self) -> None:
        """The pass is over: everything goes to the tallies."""
        live = self._span.live
        answer = self._span.answer
        union: dict[tuple[int, int], BoolArray] = {}
        for note in self._notes:
            acted = note.acted.cpu().numpy() & live
            stream = note.stream if note.stream is not None else self.streams.get(note.layer)
            sizes, norms = (None if each is None else each.float().cpu().numpy() for each in (note.change, stream))
            for row, edit, size in note.members:
                if not acted[row].any():
                    continue
                known = union.setdefault((row, edit), np.zeros(acted.shape[1], dtype=bool))
                known |= acted[row]
                for tally, before in self._into[row]:
                    counted = self._before(row, acted[row], before)
                    if not counted.any():
                        continue
                    one, places = tally.sums[edit], int(counted.sum())
                    one.layers.add(note.layer)
                    if sizes is None:
                        continue  # of a module that does not write to the stream: it acted, by no residual units
                    one.places += places
                    one.changed += float(sizes[row][counted].sum()) if size is None else size * places
                    one.stream += 0.0 if norms is None else float(norms[row][counted].sum())
        for (row, edit), acted_row in union.items():
            for tally, before in self._into[row]:
                counted = self._before(row, acted_row, before)
                tally.sums[edit].prompt += int((counted & ~answer[row]).sum())
                tally.sums[edit].answer += int((counted & answer[row]).sum())

    def _before(self, row: int, acted: BoolArray, before: int | None) -> BoolArray:
        """(token,), those of a row that stand before some position; all for None."""
        return acted if before is None else np.asarray(acted & (self._span.position[row] < before))
