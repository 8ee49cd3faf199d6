"""What gives way in a narrow window, so that marks keep their room: names are shortened before a plot is squeezed.

A chart does not know its width when it is made, so these are expressions that Vega asks of the place it draws in.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import Any

import altair as alt

FEWEST, MOST = 12, 30  # letters of a line of a lane's name, where there is little room
LETTER, SYMBOL, GAP = 6.0, 34.0, 14.0  # pixels: a letter of 11, a legend's symbol with its margins, a text's distance

# Pixels: a telephone's screen, or a column beside another. The plot's width adds nothing, but makes Vega ask again when
# it changes.
_NARROW = "containerSize()[0] + 0 * width < 520"


def room(narrow: float, usual: float) -> alt.ExprRef:
    """`narrow` where the chart has little room, else `usual`."""
    return alt.ExprRef(expr=f"{_NARROW} ? {narrow:g} : {usual:g}")


def across(margin: float) -> alt.ExprRef:
    """The plot's own width less a margin: text of that length squeezes nothing."""
    return alt.ExprRef(expr=f"max(width - {margin:g}, 40)")


def lane_axis(names: Iterable[str], *, usual: int = 44, **settings: Any) -> alt.Axis:
    """The axis of lanes, on the left of their marks, with every name whole: in two lines where there is little room.

    `usual` are the letters of a line where there is room.
    """
    every = list(names)
    short = next((n for n in range(FEWEST, MOST) if all(len(_lines(name, n)) <= 2 for name in every)), MOST)
    lines = {letters: json.dumps({name: _lines(name, letters) for name in every}) for letters in (short, usual)}
    return alt.Axis(
        ticks=False,
        domain=False,
        labelFlush=False,
        labelLimit=0,
        labelLineHeight=11,
        labelExpr=f"({_NARROW} ? {lines[short]} : {lines[usual]})[datum.value]",
        **settings,
    )


def columns_of(names: Iterable[str], most: int = 4) -> alt.ExprRef:
    """As many columns of a legend as such names have room for."""
    longest = max(map(len, names), default=1)
    each = SYMBOL + LETTER * longest
    return alt.ExprRef(expr=f"max(1, min({most}, floor(width / {each:g})))")


def behind(letters: int) -> str:
    """An expression: the share of a plot's width that is left where a text of so many letters stands behind a mark."""
    return f"max(0.3, 1 - {letters * LETTER + GAP:g} / max(width, 1))"


def title_lines(title: str, letters: int = 40) -> list[str]:
    """A title in as many lines as keep it inside of a narrow chart."""
    return _lines(title, letters)


def _lines(text: str, letters: int) -> list[str]:
    return textwrap.wrap(text, letters, break_on_hyphens=False) or [text]
