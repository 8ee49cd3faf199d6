"""The colours of the project: Okabe-Ito, which readers with any colour vision can tell apart.

It knows which colour stands for what, so that an organism or a class has one colour on every page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import altair as alt

from backend.records import BASE

POSITIVE, NEGATIVE, NEUTRAL = "#D55E00", "#0072B2", "#8A8F98"  # vermillion, blue, grey; read in light and in dark
CHOSEN = "#CC79A7"  # reddish purple: what the reader picked
POSITIVE_RGB, NEGATIVE_RGB = (213, 94, 0), (0, 114, 178)

_BASE_COLOUR = "#56B4E9"
_ORGANISM_COLOURS = ("#D55E00", "#009E73", "#E69F00", "#CC79A7", "#0072B2", "#B8A900", "#882255", "#44AA99")


def organism_scale(drawn: Iterable[str], every: Iterable[str] = ()) -> alt.Scale:
    """One colour an organism, the base always the same; past eight organisms colours repeat.

    `every` are the organisms of the study: in their order, an organism has one colour whatever else is drawn.
    """
    names = list(dict.fromkeys(drawn))
    worn = [name for name in dict.fromkeys([*every, *names]) if name != BASE]
    colours = {name: _ORGANISM_COLOURS[at % len(_ORGANISM_COLOURS)] for at, name in enumerate(worn)}
    return alt.Scale(domain=names, range=[colours.get(name, _BASE_COLOUR) for name in names])


def class_scale(positive: str, negative: str) -> alt.Scale:
    """Two classes: vermillion for the positive one, blue for the other."""
    return alt.Scale(domain=[positive, negative], range=[POSITIVE, NEGATIVE])


def shape_scale(conditions: Sequence[str]) -> alt.Scale:
    """One shape a condition."""
    shapes = ("circle", "triangle-up", "square", "diamond", "cross", "triangle-down")
    return alt.Scale(domain=list(conditions), range=[shapes[at % len(shapes)] for at in range(len(conditions))])
