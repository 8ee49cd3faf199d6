"""Which directions are controls, and whose direction each one is: what its origin and the study say, never its name.

Random directions and subspaces and shuffled labels stand beside a direction. The direction of an organism that the
study declares a control (one that was trained on good advice) is a control too. It refuses to know what a control
showed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from backend.records import ITSELF, RANDOM, SHUFFLED, SHUFFLED_OVER_ALL, SUBSPACE, Origin

GOOD = "good advice"
SHUFFLES = (SHUFFLED, SHUFFLED_OVER_ALL)  # what they shuffle labels within, the stricter one first
CONTROLS = (RANDOM, SUBSPACE, *SHUFFLES, GOOD)
__all__ = [
    "CONTROLS",
    "GOOD",
    "ITSELF",
    "RANDOM",
    "SHUFFLED",
    "SHUFFLED_OVER_ALL",
    "SHUFFLES",
    "SUBSPACE",
    "Role",
    "kind_of",
    "role",
    "roles",
]


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


def role(name: str, origins: Mapping[str, Origin], controls: Collection[str] = ()) -> Role:
    """The role of a direction; `origins` tells what each was made as, `controls` are the organisms declared as such.

    A control is owned by whoever owns the direction that it stands beside.
    """
    origin = origins.get(name, Origin())
    if origin.kind == ITSELF:
        return Role(GOOD if origin.organism in controls else ITSELF, name, origin.organism)
    beside = origins.get(origin.like or "", Origin())
    return Role(origin.kind, origin.like or name, beside.organism or origin.organism)


def roles(origins: Mapping[str, Origin], controls: Collection[str] = ()) -> dict[str, Role]:
    """The role of every direction, by name."""
    return {name: role(name, origins, controls) for name in origins}


def kind_of(name: str, whose: str | None) -> str:
    """What a direction is apart from whose it is, so that those of several organisms can be set side by side."""
    return name.replace(whose, "…") if whose else name
