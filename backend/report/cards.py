"""The story's claims as cards: one card a step, with a part for every outcome that the story is told of.

It refuses to know how a claim is made, and how a card is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

from backend.charts.story import Card, Part
from backend.tables.claims import STEPS, Claim, called

ANCHOR = "story-{}"  # of a step's figure


def story_cards(told: Sequence[Sequence[Claim]]) -> list[Card]:
    """A card a step; `told` are the claims of one outcome each."""
    alone = len(told) == 1
    return [
        Card(title, ANCHOR.format(step), [_part(claims[at], alone=alone) for claims in told])
        for at, (step, title) in enumerate(STEPS.items())
    ]


def headed_name(claim: Claim, *, alone: bool) -> str:
    """The claim's outcome where a story is told of more than one."""
    name = "" if alone else called(claim.outcome)
    return name[:1].upper() + name[1:]


def _part(claim: Claim, *, alone: bool) -> Part:
    name = headed_name(claim, alone=alone)
    return Part(name, claim.verdict, claim.said, claim.figure, claim.about, claim.bars)
