"""What the directions of a study were made as, and which of its organisms are controls.

It refuses to know what a control is for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from backend.records import Origin
from backend.study import earlier
from backend.study.read import Study


def origins(study: Study) -> dict[str, Origin]:
    """The origin of every direction by name: those that are kept, those of edits, and those known by a record alone.

    An organism's own name is there too: tables of gains name it where others name a direction.
    """
    organisms = study.organisms()["organism"].to_list()
    found: dict[str, Origin] = {}
    for name, provenance in _named(study):
        if name not in found:
            found[name] = earlier.origin(name, provenance, organisms)
    return {**{organism: Origin(organism=organism) for organism in organisms}, **found}


def controls(study: Study) -> tuple[str, ...]:
    """The organisms that the study declares controls."""
    declared = study.info.get("controls")
    return earlier.controls_by_name(study.organisms()["organism"]) if declared is None else tuple(declared)


def _named(study: Study) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names with their provenance, a name's own record first."""
    stored = study.directions().unique("name", keep="first", maintain_order=True)
    for name, provenance in stored.select("name", "provenance").iter_rows():
        yield name, json.loads(provenance)
    for edits in study.conditions()["edits"]:
        for edit in json.loads(edits):
            for value in edit.values():
                if isinstance(value, dict) and "name" in value:
                    yield str(value["name"]), value.get("provenance") or {}
    for said in (study.info.get("settings") or {}).values():
        if isinstance(said, dict) and said.get("direction"):
            yield str(said["direction"]), {}
