"""What files of earlier builds say by a name alone: the only place that reads a name as data.

Files of today say it: a direction's provenance its origin, a study's `controls_by_name` which organisms are controls, a
sweep's `tokens` how long its unedited answers are. Where they say nothing, an earlier build named things so that it
could be read: "random 0 like NAME", "good-medical", "baseline, 40 tokens".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from backend.records import BASELINE, RANDOM, SHUFFLED_OVER_ALL, SUBSPACE, Origin

_CONTROL = re.compile(r"(?P<kind>random subspace|random|shuffled)(?: (?P<seed>\d+))? like (?P<like>.+)")
_KINDS = {"random": RANDOM, "random subspace": SUBSPACE, "shuffled": SHUFFLED_OVER_ALL}
_MADE = {"method", "control"}  # a provenance with one of them says how the direction was made


def origin(name: str, provenance: Mapping[str, Any], organisms: Iterable[str] = ()) -> Origin:
    """What a direction was made as: what its provenance says, and its name where that says nothing.

    The organism of a nameless one is the longest of `organisms` that its name, or that of its `like`, holds.
    """
    said = Origin.of(provenance)
    named = _CONTROL.fullmatch(name)
    if named and not _MADE & provenance.keys():
        seed = None if named["seed"] is None else int(named["seed"])
        said = replace(said, kind=_KINDS[named["kind"]], like=named["like"], seed=seed)
    return said if said.organism is not None else replace(said, organism=_held(said.like or name, organisms))


def controls_by_name(organisms: Iterable[str]) -> tuple[str, ...]:
    """The organisms that were trained on good advice, going by their names."""
    return tuple(organism for organism in organisms if re.match(r"good\b", organism))


def tokens(condition: str) -> int | None:
    """What the answers under a condition without edits were cut to."""
    found = re.fullmatch(rf"{BASELINE}, (\d+) tokens", condition)
    return int(found[1]) if found else None


def _held(name: str, organisms: Iterable[str]) -> str | None:
    held = [organism for organism in organisms if re.search(rf"(?<![\w-]){re.escape(organism)}(?![\w-])", name)]
    return max(held, key=len, default=None)
