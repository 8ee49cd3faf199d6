"""What an import found and what it left out, and why. Paths are relative to what the user named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """Grows while files are read; `lines` is what the user sees, `to_json` what the study keeps."""

    found: list[tuple[str, str, int, str]] = field(default_factory=list)  # kind, path, number of things, their noun
    skipped: list[tuple[str, str]] = field(default_factory=list)  # path, reason
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, path: str, count: int, noun: str) -> None:
        """One file was read: `count` things named `noun` came out of it."""
        self.found.append((kind, path, count, noun))

    def skip(self, path: str, reason: str) -> None:
        """A file, or part of one, was left out."""
        self.skipped.append((path, reason))

    def note(self, text: str) -> None:
        """Something a reader of the study should know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def lines(self) -> Iterator[str]:
        """The report as text: what was found by kind, what was skipped by reason, then the notes."""
        files, things = Counter[str](), Counter[tuple[str, str]]()
        for kind, _, count, noun in self.found:
            files[kind] += 1
            things[kind, noun] += count
        yield "found"
        for (kind, noun), count in things.items():
            yield f"  {kind}: {count:,} {noun} in {files[kind]} file{'s' if files[kind] != 1 else ''}"
        if not things:
            yield "  nothing"
        if self.skipped:
            yield "skipped"
        for path, reason in self.skipped:
            yield f"  {path}: {reason}"
        if self.notes:
            yield "notes"
        yield from (f"  {note}" for note in self.notes)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the study's own record."""
        return {
            "found": [
                {"kind": kind, "path": path, "count": count, "of": noun} for kind, path, count, noun in self.found
            ],
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
            "notes": list(self.notes),
        }
