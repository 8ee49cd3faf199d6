"""What gives way in a narrow window, so that marks keep their room: names are shortened before a plot is squeezed.

A chart does not know its width when it is made, so these are expressions that Vega asks of the place it draws in.
"""

from __future__ import annotations

import altair as alt

# Pixels: a telephone's screen, or a column beside another. The plot's width adds nothing, but makes Vega ask again when
# it changes.
_NARROW = "containerSize()[0] + 0 * width < 520"


def room(narrow: float, usual: float) -> alt.ExprRef:
    """`narrow` where the chart has little room, else `usual`."""
    return alt.ExprRef(expr=f"{_NARROW} ? {narrow:g} : {usual:g}")


def across(margin: float) -> alt.ExprRef:
    """The plot's own width less a margin: text of that length squeezes nothing."""
    return alt.ExprRef(expr=f"max(width - {margin:g}, 40)")
