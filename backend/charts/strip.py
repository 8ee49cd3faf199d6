"""Token strips: text whose background is a number at every token, as HTML that is safe to show.

Vermillion is positive, blue is negative, zero is transparent, and no colour hides the text in a light or a dark page.
Every character of a model's text is escaped here. It refuses to know what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from backend.charts.palette import NEGATIVE_RGB, POSITIVE_RGB
from backend.records import FloatArray

MOST_ALPHA = 0.6
ROW = 13  # pixels a row of the heat strip takes
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;font-size:0.95rem"
_FAINT = "opacity:0.65"


def common_scale(values: FloatArray) -> float:
    """The magnitude that gets the strongest colour: the 99th percentile, so that one outlier does not pale the rest."""
    sizes = np.abs(values[np.isfinite(values)])
    return float(np.quantile(sizes, 0.99)) or 1.0 if sizes.size else 1.0


def colour(value: float, scale: float) -> str:
    """The CSS colour of one value; transparent at zero and where there is none, and no stronger past the scale."""
    if not np.isfinite(value) or value == 0:
        return "transparent"
    red, green, blue = POSITIVE_RGB if value > 0 else NEGATIVE_RGB
    return f"rgba({red},{green},{blue},{min(abs(value) / scale, 1.0) * MOST_ALPHA:.3f})"


def token_strip(
    tokens: Sequence[str],
    values: FloatArray,
    *,
    scale: float,
    name: str = "scalar",
    first: int = 0,
    chosen: int | None = None,
) -> str:
    """Text with one value at every token; `values` is (token,), NaN where there is none.

    `name` is what a tooltip calls the value, `first` the position of the first token, `chosen` a token to outline.
    """
    spans = []
    for at, (token, value) in enumerate(zip(tokens, values, strict=True)):
        said = _said(f"{name} {value:+.3f}" if np.isfinite(value) else f"{name}: no value", token, first + at)
        mark = "outline:1.5px solid currentColor;" if at == chosen else ""
        spans.append(
            f'<span style="{mark}background:{colour(value, scale)};border-radius:2px;padding:0.1em 0" {said}>'
            f"{_shown(token)}</span>"
        )
    return f'<div style="{_TEXT};line-height:1.75">{"".join(spans)}</div>'


def heat_strip(tokens: Sequence[str], rows: Mapping[str, FloatArray], *, scale: float, first: int = 0) -> str:
    """Text that wraps, with a stack of coloured cells below every token, one for each row; a row is (token,)."""
    stack = np.stack([np.asarray(row) for row in rows.values()], axis=1)  # (token, row)
    names = list(rows)
    blocks = [_heat_labels(names)]
    for at, (token, column) in enumerate(zip(tokens, stack, strict=True)):
        said = _said("\n".join(_named(names, column)), token, first + at)
        cells = f'<span style="display:block;height:{ROW * len(names)}px;background:{_cells(column, scale)}"></span>'
        word = f'<span style="display:block;white-space:pre;line-height:1.3">{_shown(token, breaks=False)}</span>'
        blocks.append(
            f'<span style="display:inline-block;min-width:0.8em;vertical-align:top" {said}>{word}{cells}</span>'
        )
        if "\n" in token:
            blocks.append("<br>")
    return f'<div style="font-size:0.85rem;line-height:{ROW * len(names) + 30}px">{"".join(blocks)}</div>'


def legend(scale: float, name: str = "scalar") -> str:
    """The shared scale of the strips of a view."""
    stops = ",".join(colour(scale * share, scale) for share in (-1, -0.5, 0, 0.5, 1))
    bar = (
        f'<span style="display:inline-block;width:150px;height:11px;border:1px solid rgba(128,128,128,.45);'
        f'border-radius:2px;background:linear-gradient(90deg,{stops})"></span>'
    )
    label = f"{escape(name)} −{scale:.2f} to +{scale:.2f}; stronger values get no stronger colour"
    return (
        f'<div style="display:flex;gap:0.5em;align-items:center;font-size:0.8rem;flex-wrap:wrap" role="img" '
        f'aria-label="{label}"><span>−{scale:.2f}</span>{bar}<span>+{scale:.2f}</span>'
        f'<span style="{_FAINT}">{escape(name)}; stronger values get no stronger colour</span></div>'
    )


def plain_text(text: str) -> str:
    """A model's text as it is: nothing in it is interpreted."""
    return f'<div style="{_TEXT};line-height:1.6">{escape(text)}</div>'


def token_table(rows: Sequence[Mapping[str, object]], *, scale: float) -> str:
    """Tokens in their context, one a row; a row has the keys value, before, token, after, note, link."""
    return (
        '<table style="width:100%;table-layout:fixed;border-collapse:collapse;font-size:0.84rem;border:0">'
        '<colgroup><col style="width:4.6em"><col></colgroup>'
        f"<tbody>{''.join(_token_row(row, scale) for row in rows)}</tbody></table>"
    )


def _token_row(row: Mapping[str, object], scale: float) -> str:
    value = float(str(row["value"]))
    note, link = (escape(str(row[part]), quote=True) for part in ("note", "link"))
    before, token, after = (_shown(str(row[part]), breaks=False) for part in ("before", "token", "after"))
    line = "border:0;border-bottom:1px solid rgba(128,128,128,.22);padding:0.22em 0.4em"
    mark = f"background:{colour(value, scale)};border-radius:2px;font-weight:600;white-space:pre-wrap"
    return (
        f'<tr title="{note}"><td style="{line};text-align:right;font-variant-numeric:tabular-nums">'
        f'<a href="{link}" style="color:inherit;text-decoration:underline dotted" target="_blank">{value:+.2f}</a></td>'
        f'<td style="{line};overflow-wrap:anywhere"><span style="{_FAINT}">{before}</span>'
        f'<span style="{mark}">{token}</span><span style="{_FAINT}">{after}</span></td></tr>'
    )


def _shown(token: str, *, breaks: bool = True) -> str:
    return escape(token).replace("\n", "↵\n" if breaks else "↵") or "∅"


def _said(values: str, token: str, position: int) -> str:
    text = escape(f"{values}\ntoken {token!r} at {position}", quote=True)
    return f'title="{text}" aria-label="{text}"'


def _named(names: Sequence[str], column: FloatArray) -> Iterator[str]:
    for name, value in zip(names, column, strict=True):
        yield f"{name} {value:+.3f}" if np.isfinite(value) else f"{name}: no value"


def _cells(column: FloatArray, scale: float) -> str:
    """One CSS background that draws all the cells of a token, a pixel of nothing between them."""
    stops = []
    for at, value in enumerate(column):
        top, tint = at * ROW, colour(value, scale)
        stops.append(f"{tint} {top}px {top + ROW - 1}px,transparent {top + ROW - 1}px {top + ROW}px")
    return f"linear-gradient(180deg,{','.join(stops)})"


def _heat_labels(names: Sequence[str]) -> str:
    lines = "".join(
        f'<span style="display:block;height:{ROW}px;line-height:{ROW}px;font-size:10px">{escape(name)}</span>'
        for name in names
    )
    top = '<span style="display:block;line-height:1.3">&nbsp;</span>'
    return f'<span style="display:inline-block;vertical-align:top;padding-right:0.6em;{_FAINT}">{top}{lines}</span>'
