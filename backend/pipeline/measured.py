"""Measurements of a study folder: what one run measured with the model, as a record and a table of numbers.

    measured/KIND/NAME.json     how it was measured
    measured/KIND/NAME.parquet  its numbers, in the columns of `study.parquet.MEASURED`
    measured/dictionary/NAME/   the weights of a dictionary, in the form of sae-lens

It refuses to know what the numbers mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from backend.files import lock, whole
from backend.outside import json_of, shown
from backend.records import InputError
from backend.study.parquet import read_measured, write_measured


@dataclass(frozen=True, eq=False)
class Measurement:
    """One run."""

    kind: str
    name: str
    record: Mapping[str, Any]
    frame: pl.DataFrame  # in the columns of `study.parquet.MEASURED`


def keep(folder: Path, found: Measurement) -> Path:
    """Put it into a study folder, in the place of what had its name; returns the record's file.

    Raises InputError on a name that no file can have.
    """
    target = folder / "measured" / found.kind / f"{found.name}.json"
    if target.parent != folder / "measured" / found.kind or target.name.startswith("."):
        raise InputError(f"{found.name!r} cannot name a file: choose a name without / and leading dot")
    with lock(target, f"writing the measurement {found.name!r}"), whole(target) as out:
        out.write(json.dumps(dict(found.record), indent=1, ensure_ascii=False).encode())
        write_measured(target.with_suffix(".parquet"), found.frame)
    return target


def measurements(folder: Path) -> list[Measurement]:
    """All of a study folder, by kind and name. Raises InputError on a file that is not what its place says."""
    found = []
    for file in sorted(folder.glob("measured/*/*.json")):  # written last: without it a run was killed half-way
        record = json_of(file)
        if not isinstance(record, dict):
            raise InputError(f"{file} must be a JSON object, not {shown(record)}: measure again, or remove it")
        frame = read_measured(file.with_suffix(".parquet"))
        found.append(Measurement(file.parent.name, file.stem, record, frame))
    return found
