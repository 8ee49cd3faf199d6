"""A click on a mark, as the parameter of a chart that carries what was clicked.

It refuses to know what a click does.
"""

from __future__ import annotations

import altair as alt

Drawn = alt.Chart | alt.LayerChart
PICK = "pick"  # the name of the parameter, by which the page reads what was clicked


def picking(*fields: str) -> alt.Parameter:
    """The parameter that makes marks clickable and gives the page these fields of the one that was clicked."""
    return alt.selection_point(name=PICK, fields=list(fields))
