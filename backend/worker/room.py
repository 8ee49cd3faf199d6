"""How much memory the texts being written may take together, and whether one more fits.

Rows of one batch are padded to the longest, so that the bound is rows x longest text x what one token of one row takes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from backend.subject.key_values import cache_bytes, new_cache
from backend.subject.load import Subject

SHARE = 4  # of the free memory: a batch that grows is copied, and a pass takes some of its own
UNKNOWN = 8 * 2**30  # bytes, on a system that does not say what is free


@dataclass(frozen=True)
class Room:
    """Bytes that one token of one row takes, and bytes that there are for all."""

    token: int
    memory: int

    @classmethod
    def of(cls, subject: Subject) -> Self:
        """Of a model, which is asked what one token takes, and the free memory of its device."""
        cache = new_cache()
        with torch.inference_mode():
            ids = torch.zeros((1, 1), dtype=torch.long, device=subject.device)
            subject.model(input_ids=ids, past_key_values=cache, use_cache=True)
        return cls(cache_bytes(cache), _free(subject.device) // SHARE)

    def holds(self, rows: int, longest: int) -> bool:
        """Whether so many rows have room, the longest of so many tokens."""
        return rows * longest * self.token <= self.memory

    def refusal(self, rows: int, longest: int) -> str:
        """Why they have none even alone."""
        answers = "an answer" if rows == 1 else f"{rows} answers"
        return (
            f"{answers} of up to {longest:,} tokens may take {rows * longest * self.token / 2**20:,.0f} MB, and "
            f"{self.memory / 2**20:,.0f} are there for all: ask for fewer answers or tokens, or shorten the prompt"
        )


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return UNKNOWN
