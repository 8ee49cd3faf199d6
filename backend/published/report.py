"""What an import found and what it left out, and why. Paths are relative to what the user named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.records import InputError

_POINTER = b"version https://git-lfs"
_PART = re.compile(r"(?P<count>\d+) of \d+ (?P<noun>rows|prompts|texts): (?P<reason>.*)", re.DOTALL)


@dataclass
class Report:
    """Grows while files are read; `lines` is what the user sees, `to_json` what the study keeps."""

    found: list[tuple[str, str, int, str]] = field(default_factory=list)  # kind, path, number of things, their noun
    skipped: list[tuple[str, str]] = field(default_factory=list)  # path, reason
    notes: list[str] = field(default_factory=list)
    copies: int = 0  # answers that an earlier file has too
    scored: int = 0  # rows with a number for aligned and coherent, copies among them

    def add(self, kind: str, path: str, count: int, noun: str) -> None:
        """One file was read: `count` things named `noun` came out of it."""
        self.found.append((kind, path, count, noun))

    def skip(self, path: str, reason: str) -> None:
        """A file, or part of one, was left out."""
        self.skipped.append((path, reason))

    def refuse(self, path: Path, shown: str, error: Exception) -> None:
        """A file could not be used; a clone without Git LFS has pointers in place of large files, which is said."""
        reason = str(error) if isinstance(error, InputError) else f"not readable ({type(error).__name__})"
        with suppress(OSError), path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                reason += "; it is a Git LFS pointer: run git lfs pull in its checkout"
        self.skip(shown, reason)

    def note(self, text: str) -> None:
        """Something a reader of the study should know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def lines(self, *, verbose: bool = False) -> Iterator[str]:
        """The report as text: what was found by kind, what was skipped by reason, then the notes.

        Every file that was skipped is named where `verbose`; else one of each reason.
        """
        files, things = Counter[str](), Counter[tuple[str, str]]()
        for kind, _, count, noun in self.found:
            files[kind] += 1
            things[kind, noun] += count
        yield "found"
        for (kind, noun), count in things.items():
            yield f"  {kind}: {count:,} {noun} in {files[kind]} file{'s' if files[kind] != 1 else ''}"
        if not things:
            yield "  nothing"
        if self.copies:
            yield f"  {self.copies:,} answers are copies of others and count once"
        if self.skipped:
            yield "skipped"
        yield from self._every_skip() if verbose else self._skips_by_reason()
        if self.notes:
            yield "notes"
        yield from (f"  {note}" for note in self.notes)

    def _every_skip(self) -> Iterator[str]:
        yield from (f"  {path}: {reason}" for path, reason in self.skipped)

    def _skips_by_reason(self) -> Iterator[str]:
        """One line a reason, with its first file, how many others there are and how many rows it took."""
        paths: dict[tuple[str, str], list[str]] = {}
        taken = Counter[tuple[str, str]]()
        for path, reason in self.skipped:
            part = _PART.fullmatch(reason)
            key = (part["noun"], part["reason"]) if part else ("", reason)
            paths.setdefault(key, []).append(path)
            taken[key] += int(part["count"]) if part else 0
        for (noun, reason), named in paths.items():
            amount = f"{taken[noun, reason]:,} {noun}: " if noun else ""
            others = f" (and {len(named) - 1:,} more)" if len(named) > 1 else ""
            yield f"  {named[0]}: {amount}{reason}{others}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for the study's own record."""
        return {
            "found": [
                {"kind": kind, "path": path, "count": count, "of": noun} for kind, path, count, noun in self.found
            ],
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
            "copies": self.copies,
            "scored": self.scored,
            "notes": list(self.notes),
        }
