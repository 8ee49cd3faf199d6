"""What the vectors of a study promote and suppress through the unembedding, filled in at the build.

Knows which vectors are worth it: every direction but controls, and the write vectors that end in the residual stream as
they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backend.records import ITSELF, RESIDUAL_WRITERS, Adapter, Direction, FloatArray
from backend.study import Draft
from backend.study.earlier import origin
from backend.subject.lens import Lens, lens
from backend.subject.load import Subject

MOST = 2000  # of directions, and of write vectors; past it those with the largest norm


def add_lenses(draft: Draft, subject: Subject, directions: Sequence[Direction]) -> None:
    """The lens of stored directions and of the organisms' write vectors, which must have been added to the draft."""
    told = [d for d in directions if origin(d.name, d.provenance).kind == ITSELF and d.vector.size == subject.d_model]
    told = sorted(told, key=lambda d: -d.norm)[:MOST]
    for direction, found in zip(told, _lenses(subject, [d.vector for d in told]), strict=True):
        draft.add_lens(direction.name, direction.layer, top=found.top, bottom=found.bottom)
    writers = [
        (organism, adapter)
        for organism, worn in subject.organisms.items()
        for adapter in worn.adapters
        if _writes(adapter, subject.d_model) and adapter.name not in subject.altered_adapters(organism)
    ]
    writers = sorted(writers, key=lambda pair: -abs(pair[1].scaling) * pair[1].write_norm)[:MOST]
    for (organism, adapter), found in zip(writers, _lenses(subject, [a.write for _, a in writers]), strict=True):
        draft.add_adapter_lens(organism, adapter.name, top=found.top, bottom=found.bottom)


def _writes(adapter: Adapter, width: int) -> bool:
    ends = adapter.module.rpartition(".")[2] in RESIDUAL_WRITERS
    return ends and adapter.write.size == width and bool(np.any(adapter.write))


def _lenses(subject: Subject, vectors: Sequence[FloatArray]) -> list[Lens]:
    return lens(subject, np.stack(vectors)) if vectors else []
