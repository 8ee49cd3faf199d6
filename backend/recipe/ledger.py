"""What of a recipe is made already: for every finished stage what it depended on, and what it left in the folder.

A stage's key is the hash of its name, its part of the recipe, the content of the files it reads and the keys of the
stages before it: where one of these changes, the stage is stale, and the ledger can say which. Knows no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from backend.files import whole
from backend.outside import json_of, shown
from backend.recipe.reading import digest_of
from backend.records import InputError

LEDGER = "ledger.json"


@dataclass(frozen=True)
class Depends:
    """All that decides what a stage makes."""

    part: Any  # of the recipe, as JSON
    files: Mapping[str, str] = field(default_factory=dict)  # name -> hash of the content
    stages: Mapping[str, str] = field(default_factory=dict)  # name -> key

    def key(self, stage: str) -> str:
        """Sixteen digits that change with any of it."""
        said = json.dumps([stage, self.part, dict(self.files), dict(self.stages)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """One finished stage."""

    key: str
    depends: Depends
    made: Mapping[str, str]  # path in the folder -> hash of the content
    seconds: float | None = None  # None where it was found made
    units: float = 0.0  # of its cost, which `costs` counts
    machine: str = ""
    left: tuple[str, ...] = ()  # names of what else it left: cells, places of traces, the study's build

    def why_stale(self, key: str, depends: Depends, folder: Path) -> str | None:
        """What has changed since it was made; None where nothing has."""
        if key != self.key:
            return _changed(self.depends, depends)
        for name, digest in self.made.items():
            if not (folder / name).exists():
                return f"{name} is gone"
            if content(folder / name) != digest:
                return f"{name} has changed since"
        return None


@dataclass(eq=False)
class Ledger:
    """The finished stages of a folder."""

    folder: Path
    entries: dict[str, Entry]
    pilots: dict[str, dict[str, float]] = field(default_factory=dict)  # machine -> kind -> seconds a unit
    written: bool = True  # where not, what it is told is known as long as it is

    @classmethod
    def of(cls, folder: Path, *, written: bool = True) -> Ledger:
        """The ledger of a folder, empty where it has none. Raises InputError on a damaged one."""
        file = folder / LEDGER
        if not file.exists():
            return cls(folder, {}, written=written)
        said = json_of(file)
        try:
            entries = {name: _entry(each) for name, each in said["stages"].items()}
            pilots = {
                str(where): {str(kind): float(rate) for kind, rate in rates.items()}
                for where, rates in said.get("pilots", {}).items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{file} is no ledger of a recipe ({shown(str(error))}): remove it, and run again with --adopt to take "
                "what is there as made"
            ) from error
        return cls(folder, entries, pilots, written)

    def keep(self, stage: str, entry: Entry) -> None:
        """A stage is finished: onto the disk."""
        self.entries[stage] = entry
        self._write()

    def forget(self, stages: Iterable[str]) -> None:
        """Stages that the recipe has no more."""
        gone = [name for name in stages if self.entries.pop(name, None)]
        if gone:
            self._write()

    def keep_pilots(self, machine: str, rates: Mapping[str, float]) -> None:
        """What a pilot measured on a machine."""
        self.pilots[machine] = dict(rates)
        self._write()

    def _write(self) -> None:
        if not self.written:
            return
        said = {name: _entry_to_json(entry) for name, entry in sorted(self.entries.items())}
        with whole(self.folder / LEDGER) as out:
            out.write(
                json.dumps({"stages": said, "pilots": self.pilots}, indent=1, ensure_ascii=False).encode() + b"\n"
            )


def content(path: Path) -> str:
    """The hash of a file, or of all files of a folder with their names, in twelve digits."""
    if path.is_file():
        return digest_of(path)[:12]
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path)}\0{digest_of(file)}\0".encode())
    return digest.hexdigest()[:12]


def _changed(before: Depends, now: Depends) -> str:
    """The first thing in which two differ, in words."""
    for key in sorted({*_flat(before.part), *_flat(now.part)}):
        old, new = (_flat(each.part).get(key, "nothing") for each in (before, now))
        if old != new:
            return f"{key} was {old}, is {new}"
    both = ((before.files, now.files, "has changed"), (before.stages, now.stages, "is made otherwise"))
    for former, present, what in both:
        for name in sorted({*former, *present}):
            if former.get(name) != present.get(name):
                return f"{name} {what}"
    return "it was made by another version of this project"


def _flat(part: Any, before: str = "") -> dict[str, str]:
    """A part as words by dotted key; lists stay whole."""
    if not isinstance(part, dict):
        return {before or "it": shown(part) if not isinstance(part, list | dict) else json.dumps(part)[:60]}
    found: dict[str, str] = {}
    for key, value in part.items():
        found |= _flat(value, f"{before}.{key}" if before else str(key))
    return found


def _entry(said: Mapping[str, Any]) -> Entry:
    depends = Depends(said["depends"]["part"], said["depends"]["files"], said["depends"]["stages"])
    seconds = said.get("seconds")
    return Entry(
        str(said["key"]),
        depends,
        {_inside(name): str(digest) for name, digest in said["made"].items()},
        None if seconds is None else float(seconds),
        float(said.get("units", 0)),
        str(said.get("machine", "")),
        tuple(map(str, said.get("left", ()))),
    )


def _inside(name: str) -> str:
    """A path in the folder. Raises ValueError on one that leads out of it: what a ledger names may be removed."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name} is no path in the folder")
    return name


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "depends": {
            "part": entry.depends.part,
            "files": dict(entry.depends.files),
            "stages": dict(entry.depends.stages),
        },
        "made": dict(entry.made),
        "seconds": None if entry.seconds is None else round(entry.seconds, 2),
        "units": entry.units,
        "machine": entry.machine,
        "left": list(entry.left),
    }
