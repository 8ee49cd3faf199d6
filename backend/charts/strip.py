"""Token strips: text whose background is a number at every token, as HTML that is safe to show.

Vermillion is positive, blue is negative, zero is transparent, and no colour hides the text in a light or a dark page.
What is no Markup is escaped where it is put into Markup, so nothing of a model's text is interpreted. It refuses to
know what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

from backend.charts.palette import NEGATIVE, NEUTRAL, POSITIVE, css
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
    return css(POSITIVE if value > 0 else NEGATIVE, min(abs(value) / scale, 1.0) * MOST_ALPHA)


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

    A token that is tapped has the focus, and a page's style may show its value then. `name` is what a tooltip calls the
    value, `first` the position of the first token, `chosen` a token to outline.
    """
    span = Markup(
        '<span class="token" tabindex="-1" style="{}background:{};border-radius:2px;padding:0.1em 0" {}>{}</span>'
    )
    spans = []
    for at, (token, value) in enumerate(zip(tokens, values, strict=True)):
        said = _said(f"{name} {value:+.3f}" if np.isfinite(value) else f"{name}: no value", token, first + at)
        mark = "outline:1.5px solid currentColor;" if at == chosen else ""
        spans.append(span.format(mark, colour(value, scale), said, _shown(token)))
    return Markup('<div style="{};line-height:1.75">{}</div>').format(_TEXT, _joined(spans))


def heat_strip(tokens: Sequence[str], rows: Mapping[str, FloatArray], *, scale: float, first: int = 0) -> str:
    """Text that wraps, with a stack of coloured cells below every token, one for each row; a row is (token,)."""
    stack = np.stack([np.asarray(row) for row in rows.values()], axis=1)  # (token, row)
    names, height = list(rows), ROW * len(rows)
    block = Markup(
        '<span style="display:inline-block;min-width:0.8em;vertical-align:top" {}>'
        '<span style="display:block;white-space:pre;line-height:1.3">{}</span>'
        '<span style="display:block;height:{}px;background:{}"></span></span>'
    )
    blocks = [_heat_labels(names)]
    for at, (token, column) in enumerate(zip(tokens, stack, strict=True)):
        said = _said("\n".join(_named(names, column)), token, first + at)
        blocks.append(block.format(said, _shown(token, breaks=False), height, _cells(column, scale)))
        if "\n" in token:
            blocks.append(Markup("<br>"))
    return Markup('<div style="font-size:0.85rem;line-height:{}px">{}</div>').format(height + 30, _joined(blocks))


def legend(scale: float, name: str = "scalar") -> str:
    """The shared scale of the strips of a view."""
    stops = ",".join(colour(scale * share, scale) for share in (-1, -0.5, 0, 0.5, 1))
    bar = Markup(
        '<span style="display:inline-block;width:150px;height:11px;border:1px solid {};border-radius:2px;'
        'background:linear-gradient(90deg,{})"></span>'
    ).format(css(NEUTRAL, 0.45), stops)
    past = "stronger values get no stronger colour"
    return Markup(
        '<div style="display:flex;gap:0.5em;align-items:center;font-size:0.8rem;flex-wrap:wrap" role="img" '
        'aria-label="{name} −{end} to +{end}; {past}"><span>−{end}</span>{bar}<span>+{end}</span>'
        '<span style="{faint}">{name}; {past}</span></div>'
    ).format(name=name, end=f"{scale:.2f}", past=past, bar=bar, faint=_FAINT)


def plain_text(text: str) -> str:
    """A model's text as it is: nothing in it is interpreted."""
    return Markup('<div style="{};line-height:1.6">{}</div>').format(_TEXT, text)


def token_table(rows: Sequence[Mapping[str, object]], *, scale: float) -> str:
    """Tokens in their context, one a row; a row has the keys value, before, token, after, note, link."""
    return Markup(
        '<table style="width:100%;table-layout:fixed;border-collapse:collapse;font-size:0.84rem;border:0">'
        '<colgroup><col style="width:4.6em"><col></colgroup><tbody>{}</tbody></table>'
    ).format(_joined(_token_row(row, scale) for row in rows))


def _token_row(row: Mapping[str, object], scale: float) -> Markup:
    value = float(str(row["value"]))
    before, token, after = (_shown(str(row[part]), breaks=False) for part in ("before", "token", "after"))
    return Markup(
        '<tr title="{note}"><td style="{line};text-align:right;font-variant-numeric:tabular-nums">'
        '<a href="{link}" style="color:inherit;text-decoration:underline dotted" target="_blank">{value}</a></td>'
        '<td style="{line};overflow-wrap:anywhere"><span style="{faint}">{before}</span>'
        '<span style="background:{tint};border-radius:2px;font-weight:600;white-space:pre-wrap">{token}</span>'
        '<span style="{faint}">{after}</span></td></tr>'
    ).format(
        note=row["note"],
        link=row["link"],
        value=f"{value:+.2f}",
        before=before,
        token=token,
        after=after,
        tint=colour(value, scale),
        line=f"border:0;border-bottom:1px solid {css(NEUTRAL, 0.22)};padding:0.22em 0.4em",
        faint=_FAINT,
    )


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _shown(token: str, *, breaks: bool = True) -> Markup:
    return escape(token.replace("\n", "↵\n" if breaks else "↵") or "∅")


def _said(values: str, token: str, position: int) -> Markup:
    text = f"{values}\ntoken {token!r} at {position}"
    return Markup('title="{0}" aria-label="{0}"').format(text)


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


def _heat_labels(names: Sequence[str]) -> Markup:
    line = Markup('<span style="display:block;height:{0}px;line-height:{0}px;font-size:10px">{1}</span>')
    return Markup(
        '<span style="display:inline-block;vertical-align:top;padding-right:0.6em;{}">'
        '<span style="display:block;line-height:1.3">&nbsp;</span>{}</span>'
    ).format(_FAINT, _joined(line.format(ROW, name) for name in names))
