"""How the intervals of a setting fared, and tables of that in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from tests.simulations.methods import Ends


@dataclass
class Counted:
    """How the intervals of one setting fared."""

    runs: int = 0
    held: int = 0
    width: float = 0.0
    clear: int = 0

    def add(self, ends: Ends, truth: float) -> None:
        """Count one interval."""
        low, high = ends
        self.runs += 1
        self.held += low - 1e-9 <= truth <= high + 1e-9
        self.width += min(high, 1) - max(low, -1)
        self.clear += low > 0 or high < 0

    @property
    def coverage(self) -> float:
        """In per cent."""
        return 100 * self.held / self.runs

    @property
    def clears(self) -> float:
        """How many leave out zero, in per cent."""
        return 100 * self.clear / self.runs

    @property
    def points(self) -> float:
        """The mean width in points."""
        return 100 * self.width / self.runs

    @property
    def error(self) -> float:
        """Two standard errors of a coverage of 95 %, in per cent."""
        return 200 * float(np.sqrt(0.05 * 0.95 / self.runs))

    def covered(self) -> str:
        """Coverage and width, bold where it is surely below 95 %."""
        text = f"{self.coverage:.1f}" if self.coverage >= 95 - self.error else f"**{self.coverage:.1f}**"
        return f"{text} ({self.points:.0f})"

    def falsely(self) -> str:
        """How many are clear where nothing is there, bold where they are surely over 5 %."""
        return f"{self.clears:.1f}" if self.clears <= 5 + self.error else f"**{self.clears:.1f}**"


@dataclass
class Table:
    """A Markdown table."""

    first: str
    columns: Iterable[str]
    rows: list[str] = field(default_factory=list)

    def add(self, name: str, cells: Iterable[object]) -> None:
        """A row."""
        self.rows.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")

    def __str__(self) -> str:
        columns = list(self.columns)
        return "\n".join(
            [f"| {self.first} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|", *self.rows]
        )
