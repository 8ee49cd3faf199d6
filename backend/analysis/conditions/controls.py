"""Which directions are controls, and whose direction each one is: read from its name and its provenance.

Sweeps name controls after what they stand beside: "random 0 like NAME", "shuffled 1 like NAME", "random subspace like
NAME". The direction of an organism that was trained on good advice is a control too. It refuses to know what a control
showed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

RANDOM, SUBSPACE, SHUFFLED, GOOD = "random", "random subspace", "shuffled labels", "good advice"
CONTROLS = (RANDOM, SUBSPACE, SHUFFLED, GOOD)
ITSELF = "direction"
_NAMED = re.compile(r"(?P<kind>random subspace|random|shuffled)(?: (?P<seed>\d+))? like (?P<like>.+)")
_KINDS = {"random": RANDOM, "random subspace": SUBSPACE, "shuffled": SHUFFLED}


@dataclass(frozen=True)
class Role:
    """What a direction stands for: itself, or a control of a kind beside the direction `like`."""

    kind: str  # "direction", or one of CONTROLS
    like: str  # the direction it stands beside; its own name where it is no such control
    owner: str | None  # the organism it was taken from, where that is known

    @property
    def control(self) -> bool:
        """Whether it is a control."""
        return self.kind != ITSELF


def role(name: str, organisms: Iterable[str] = (), provenance: Mapping[str, Any] | None = None) -> Role:
    """The role of a direction among the organisms of a study."""
    known = list(organisms)
    found = _NAMED.fullmatch(name)
    if found:
        return Role(_KINDS[found["kind"]], found["like"], owner(found["like"], known))
    whose = owner(name, known, provenance)
    good = re.match(r"good\b", whose or name)
    return Role(GOOD if good else ITSELF, name, whose)


def owner(name: str, organisms: Iterable[str], provenance: Mapping[str, Any] | None = None) -> str | None:
    """The organism a direction was taken from: the longest that its name holds, else the one that its record names."""
    held = [organism for organism in organisms if re.search(rf"(?<![\w-]){re.escape(organism)}(?![\w-])", name)]
    said = (provenance or {}).get("reader")
    return max(held, key=len) if held else None if said is None else str(said)


def kind_of(name: str, whose: str | None) -> str:
    """What a direction is apart from whose it is, so that those of several organisms can be set side by side."""
    return name.replace(whose, "…") if whose else name
