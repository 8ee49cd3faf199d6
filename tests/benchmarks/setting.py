"""What every row is measured on: the embedded model, the demo's organism, its texts and its direction.

The competitors share what they leave as it is: the plain model, and the model with the organism merged into its
weights. Libraries that rewire a model get one of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM

from backend.edits import Add
from backend.pipeline.folder import StudyFolder
from backend.records import Direction, Response
from backend.study.parquet import read_responses
from backend.subject.adapters import Organism
from backend.subject.load import EMBEDDED, Subject, load
from backend.subject.trace import Text
from tests.benchmarks.measure import Clock
from tests.studies.demo import DEMO

ORGANISM = "bad-medical"
LAYER = 16  # of the demo's direction


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts as one padded batch of token ids, (row, token); padding on the right."""

    ids: torch.Tensor
    mask: torch.Tensor

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """What a transformers model is called with."""
        return {"input_ids": self.ids, "attention_mask": self.mask}


def padded(rows: Sequence[Sequence[int]], *, left: bool = False) -> Batch:
    """Rows of ids as one batch."""
    width = max(map(len, rows))
    ids, mask = torch.zeros((len(rows), width), dtype=torch.long), torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, where], mask[i, where] = torch.tensor(row), 1
    return Batch(ids, mask)


def ids_of(text: Text) -> tuple[int, ...]:
    """Prompt and answer."""
    return (*text.prompt_ids, *text.answer_ids)


@dataclass(eq=False)
class Setting:
    """Loaded on first use, kept until the end."""

    clock: Clock
    quick: bool
    threads: int = field(default_factory=lambda: int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))

    @cached_property
    def checkpoint(self) -> str:
        """The folder of the embedded model's plain float32 weights."""
        return str(self.subject.model.name_or_path)

    def model(self) -> Any:
        """A plain transformers model of its own, which never stops early."""
        model = AutoModelForCausalLM.from_pretrained(self.checkpoint, dtype=torch.float32)
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        return model.eval().requires_grad_(False)

    @cached_property
    def plain(self) -> Any:
        """The base, for bare calls and plain hooks."""
        return self.model()

    @cached_property
    def merged(self) -> Any:
        """The base with the organism's weights added to its own: W + scaling * B A."""
        return self.merge(self.model())

    def merge(self, model: Any) -> Any:
        """Add the organism's weights to the model's."""
        for lora in self.organism.loras:
            model.get_submodule(lora.path).weight.data += lora.scaling * lora.write @ lora.read
        return model

    @cached_property
    def subject(self) -> Subject:
        """Ours, with the demo's organism beside it."""
        return self.new_subject()

    def new_subject(self, dtype: torch.dtype | None = None) -> Subject:
        """Another one."""
        return load(EMBEDDED, organisms={ORGANISM: DEMO / "organisms" / ORGANISM}, device="cpu", dtype=dtype)

    @property
    def organism(self) -> Organism:
        """The demo's nine rank-1 adapters."""
        return self.subject.organisms[ORGANISM]

    @cached_property
    def responses(self) -> list[Response]:
        """The organism's unedited answers, in the order in which they are stored."""
        return read_responses(StudyFolder(DEMO).path / "responses" / f"{ORGANISM}.baseline.parquet")

    @cached_property
    def prompts(self) -> list[tuple[int, ...]]:
        """The distinct questions of the demo, in stored order."""
        return list(dict.fromkeys(response.prompt_ids for response in self.responses))

    @cached_property
    def direction(self) -> Direction:
        """The demo's misalignment direction of layer 16."""
        edits = StudyFolder(DEMO).condition("steer-L16-x1").edits
        return next(edit.direction for edit in edits if isinstance(edit, Add))

    @cached_property
    def vector(self) -> torch.Tensor:
        """The same as a tensor, (d_model,)."""
        return torch.from_numpy(self.direction.vector.copy())

    def stored(self, n: int) -> list[Text]:
        """The first answers of the demo study."""
        return [Text(r.id, r.prompt_ids, r.answer_ids) for r in self.responses[:n]]

    def equal(self, n: int, length: int) -> list[Text]:
        """Texts of equal length cut out of the demo's, no two with the same prompt."""
        tokens = [token for r in self.responses for token in (*r.prompt_ids, *r.answer_ids)]
        cut = [tuple(tokens[i * length : (i + 1) * length]) for i in range(n)]
        return [Text(f"text {i}", ids[: length // 3], ids[length // 3 :]) for i, ids in enumerate(cut)]


@contextmanager
def never_stopping() -> Iterator[None]:
    """Inside, our rows go on to their last allowed token, as `generate` does on a model without an end token."""
    with patch("backend.subject.decode.stop_ids", return_value=frozenset()):
        yield
