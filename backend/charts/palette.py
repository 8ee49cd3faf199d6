"""The colours of the project, and what each stands for: the only place where a colour is spelled out.

Okabe-Ito, which readers with any colour vision can tell apart, and what fits beside it. An organism, a kind of control,
a class, a verdict, a cell of the four-way table or what an adapter tells has one colour on every page. Text is never
coloured: it is drawn in INK, which is dark on a light page and light on a dark one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import altair as alt

from backend.analysis.conditions.controls import GOOD, ITSELF, RANDOM, SHUFFLED, SHUFFLED_OVER_ALL, SUBSPACE
from backend.records import BASE

_VERMILLION, _BLUE, _GREEN, _ORANGE, _PURPLE, _SKY = "#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
_OLIVE, _WINE, _TEAL, _BROWN, _MAGENTA = "#B8A900", "#882255", "#44AA99", "#A65628", "#E0218A"
_MOSS = "#6F7D1C"

POSITIVE, NEGATIVE, NEUTRAL = _VERMILLION, _BLUE, "#8A8F98"  # NEUTRAL: no edit, chance, nothing clear
CHOSEN = "#8F5BFF"  # violet: what the reader picked, and nothing else
LOWEST = "#F4F3F0"  # nothing, on a scale of colour whose cells hold text
OUTCOMES = {"em": POSITIVE, "coherent": _GREEN}  # the full colour of a rate
TELLS = {"topic": _GREEN, "valence": POSITIVE, "both": _PURPLE, "neither": NEUTRAL}  # of an adapter
CELLS = {  # of the four-way table, whose topic and valence are medical and misaligned
    "misaligned non-medical": POSITIVE,
    "misaligned medical": _PURPLE,
    "aligned non-medical": _SKY,
    "aligned medical": _GREEN,
}
CLAIM_BARS = {"claim": POSITIVE, "beside": NEUTRAL, "control": _SKY}  # what a claim is about, no edit, controls
VERDICTS = (NEGATIVE, POSITIVE, NEUTRAL)  # in the order of an outcome's kinds: no hit, a hit, no case of it

# Ink is read at 4.5 : 1 or better on the pages' backgrounds, which no one colour is on both. Vega knows the background.
INKS = {"light": "#1C2427", "dark": "#E4E8E9"}
INK = alt.ExprRef(f"luminance(background) > 0.2 ? '{INKS['light']}' : '{INKS['dark']}'")
ON_PALE, ON_DEEP, _DEEP = "#000000", "#FFFFFF", 0.18  # text on a cell, and the luminance at which the two read alike

CATEGORIES = (_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY, NEUTRAL, _OLIVE)  # of what has no colour of its own

_BASE_COLOUR = _SKY
_ORGANISMS = (_VERMILLION, _GREEN, _ORANGE, _PURPLE, _BLUE, _OLIVE, _WINE, _TEAL)
_ROLES = {
    RANDOM: _SKY,
    SUBSPACE: _BLUE,
    SHUFFLED: _OLIVE,
    SHUFFLED_OVER_ALL: _MOSS,
    GOOD: _GREEN,
}  # controls; grey is no edit
_DIRECTIONS = (_VERMILLION, _PURPLE, _ORANGE, _WINE, _TEAL, _MAGENTA, _BROWN)
_JUDGES = (_GREEN, _ORANGE, _SKY, _WINE, _OLIVE, _TEAL)  # none is a verdict's
_CUTS = (NEUTRAL, _BLUE, _ORANGE, _VERMILLION)


def css(colour: str, opacity: float) -> str:
    """A colour of this palette for HTML, so opaque: 0 to 1."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:.3f})"


def organism_scale(drawn: Iterable[str], every: Iterable[str] = ()) -> alt.Scale:
    """One colour an organism, the base always the same; past eight organisms colours repeat.

    `every` are the organisms of the study: in their order, an organism has one colour whatever else is drawn.
    """
    names = list(dict.fromkeys(drawn))
    worn = _dealt([name for name in dict.fromkeys([*every, *names]) if name != BASE], _ORGANISMS)
    return alt.Scale(domain=names, range=[worn.get(name, _BASE_COLOUR) for name in names])


def judge_scale(drawn: Sequence[str], every: Sequence[str] = ()) -> alt.Scale:
    """One colour a judge; in the order of `every`, those of the study, a judge has one whoever else is drawn."""
    colours = _dealt(list(dict.fromkeys([*every, *drawn])), _JUDGES)
    return alt.Scale(domain=list(drawn), range=[colours[name] for name in drawn])


def direction_scale(names: Sequence[str], roles: Mapping[str, str] | None = None) -> alt.Scale:
    """One colour a direction, in the order given, controls in those of their kind; past seven they repeat."""
    kinds = {name: (roles or {}).get(name, ITSELF) for name in names}
    own = _dealt([name for name in names if kinds[name] == ITSELF], _DIRECTIONS)
    return alt.Scale(domain=list(names), range=[own.get(name) or _ROLES[kinds[name]] for name in names])


def role_scale(kinds: Sequence[str], **others: str) -> alt.Scale:
    """One colour a kind of control, and that of directions themselves; `others` are colours of what is no role."""
    colours = {ITSELF: POSITIVE, **_ROLES, **others}
    return alt.Scale(domain=list(kinds), range=[colours[kind] for kind in kinds])


def class_scale(positive: str, negative: str) -> alt.Scale:
    """Two classes: vermillion for the positive one, blue for the other."""
    return alt.Scale(domain=[positive, negative], range=[POSITIVE, NEGATIVE])


def matrix_scale(drawn: Sequence[str]) -> alt.Scale:
    """The two matrices of an adapter: what it reads by, A, and what it writes, B."""
    colours = {"A": _BLUE, "B": _ORANGE}
    return alt.Scale(domain=list(drawn), range=[colours.get(name, NEUTRAL) for name in drawn])


def named_scale(colours: Mapping[str, str]) -> alt.Scale:
    """What the names stand for in this palette: CELLS, TELLS, or kinds of answers with VERDICTS."""
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def cut_scale(cuts: Sequence[str]) -> alt.Scale:
    """One colour a cut-off, from the least on."""
    return alt.Scale(domain=list(cuts), range=list(_dealt(cuts, _CUTS).values()))


def signed_scale(most: float = 1.0) -> alt.Scale:
    """From the negative colour through nothing to the positive one; past `most` no stronger."""
    ends = [NEGATIVE, LOWEST, POSITIVE]
    return alt.Scale(domain=[-most, 0, most], range=ends, clamp=True, interpolate="lab")


def share_scale(full: str, most: float = 1.0) -> alt.Scale:
    """From nothing to a full colour at `most`, and no stronger past it."""
    return alt.Scale(domain=[0, most], range=[LOWEST, full], clamp=True, interpolate="lab")


def ink_on(field: str, where: str = "true") -> dict[str, object]:
    """The colour of text on cells whose colour shows `field` of a datum, and is pale where the test `where` fails."""
    deep = f"{where} && luminance(scale('color', datum['{field}'])) < {_DEEP}"
    ink: dict[str, object] = alt.condition(deep, alt.value(ON_DEEP), alt.value(ON_PALE))
    return ink


def shape_scale(conditions: Sequence[str]) -> alt.Scale:
    """One shape a condition."""
    shapes = ("circle", "triangle-up", "square", "diamond", "cross", "triangle-down")
    return alt.Scale(domain=list(conditions), range=[shapes[at % len(shapes)] for at in range(len(conditions))])


def dash_scale(names: Sequence[str], roles: Mapping[str, str]) -> alt.Scale:
    """Whole lines for directions, dashed ones for their controls."""
    return alt.Scale(domain=list(names), range=[[1, 0] if roles.get(n, ITSELF) == ITSELF else [5, 3] for n in names])


def _dealt(names: Sequence[str], colours: Sequence[str]) -> dict[str, str]:
    """A colour a name, in order; past the last they begin anew."""
    return {name: colours[at % len(colours)] for at, name in enumerate(names)}
