"""The story's claims as cards of HTML, a claim's rates as bars, and two studies' rates beside each other.

Takes sentences and tables and draws them. It refuses to know what a claim is about. A card is HTML, so that all of them
are there at once, at any width and in both themes; its text is text, and bars are hidden from readers of screens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import polars as pl
from markupsafe import Markup

from backend.charts.narrow import lane_axis, room
from backend.charts.palette import CLAIM_BARS, INK, NEUTRAL, css, named_scale, organism_scale
from backend.charts.shares import with_room

LANE, FURNITURE = 26, 62  # pixels of height a bar gets, and the axis
ENDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)  # of a card's scale

_GRID = Markup(
    '<div role="list" style="display:grid;gap:0.6rem;'
    'grid-template-columns:repeat(auto-fill,minmax(min(100%,18.5rem),1fr))">{}</div>'
)
_CARD = Markup(
    '<div role="listitem" style="border:1px solid {line};border-radius:6px;padding:0.5rem 0.75rem 0.6rem;'
    'display:flex;flex-direction:column;gap:0.3rem">'
    '<div style="display:flex;flex-wrap:wrap;justify-content:space-between;align-items:baseline;gap:0 0.6rem">'
    '<a href="#{anchor}" style="font-weight:600;color:inherit">{number}. {title}</a>{headline}</div>{parts}</div>'
)
_HEADLINE = Markup('<span style="font-weight:650;font-size:1.12rem">{}</span>')
_PART = Markup('<div style="display:flex;flex-direction:column;gap:0.15rem">{name}{said}{lanes}{scale}{about}</div>')
_NAME = Markup(
    '<div style="font-size:0.82rem;display:flex;justify-content:space-between;gap:0.5rem">'
    "<b>{}</b><span>{}</span></div>"
)
_SAID = Markup('<div style="font-size:0.82rem;line-height:1.32;overflow-wrap:anywhere">{}</div>')
_ABOUT = Markup('<div style="font-size:0.72rem;line-height:1.25;opacity:0.8">{}</div>')
_LANE = Markup(
    '<div style="display:grid;grid-template-columns:minmax(0,6fr) minmax(3rem,5fr) 6.3rem;align-items:center;'
    'gap:0.4rem;font-size:0.78rem;line-height:1.2"><span style="overflow-wrap:anywhere">{lane}</span>'
    '<span aria-hidden="true" style="position:relative;height:0.95rem;border-left:1px solid {line};'
    'border-right:1px solid {line}">{bar}</span><span>{text}</span></div>'
)
_INTERVAL = Markup(
    '<span style="position:absolute;top:0.42rem;height:0.14rem;left:{left:.2f}%;width:{width:.2f}%;'
    'background:{colour}"></span>'
)
_DOT = Markup(
    '<span style="position:absolute;top:0.22rem;width:0.55rem;height:0.55rem;margin-left:-0.27rem;border-radius:50%;'
    'left:{left:.2f}%;background:{colour}"></span>'
)
_SCALE = Markup(
    '<div aria-hidden="true" style="display:grid;grid-template-columns:minmax(0,6fr) minmax(3rem,5fr) 6.3rem;'
    'gap:0.4rem;font-size:0.7rem;line-height:1"><span></span><span style="display:flex;justify-content:space-between">'
    "<span>0</span><span>{}</span></span><span></span></div>"
)


@dataclass(frozen=True, eq=False)
class Part:
    """What one claim puts into the card of its step."""

    name: str  # of the outcome; empty where a study has one
    verdict: str
    said: str
    figure: str
    about: str  # n, questions, intervals and judge; empty where there is no rate
    bars: pl.DataFrame  # lane, kind, value, low, high, n, note


@dataclass(frozen=True, eq=False)
class Card:
    """One step of the story."""

    title: str
    anchor: str  # of the figure below
    parts: Sequence[Part]


def cards_html(cards: Sequence[Card]) -> str:
    """All cards beside each other, as many a row as there is room for."""
    line = css(NEUTRAL, 0.45)
    drawn = []
    for at, card in enumerate(cards, start=1):
        alone = len(card.parts) == 1
        headline = _HEADLINE.format(card.parts[0].figure) if alone and card.parts[0].figure else Markup()
        parts = Markup().join(_part(part, line, alone=alone) for part in card.parts)
        drawn.append(
            _CARD.format(line=line, anchor=card.anchor, number=at, title=card.title, headline=headline, parts=parts)
        )
    return _GRID.format(Markup().join(drawn))


def _part(part: Part, line: str, *, alone: bool) -> Markup:
    end = _end(part.bars)
    lanes = Markup().join(_lane(row, end, line) for row in part.bars.iter_rows(named=True))
    name = Markup() if alone else _NAME.format(part.name, part.figure)
    plain = all(_is_plain(row) for row in part.bars.iter_rows(named=True))
    scale = _SCALE.format(f"{end:g}" if plain else f"{100 * end:.0f} %") if part.bars.height else Markup()
    said = part.said if part.verdict == "shown" else f"{part.verdict.capitalize()}: {part.said}"
    about = _ABOUT.format(part.about) if part.about else Markup()
    return _PART.format(name=name, lanes=lanes, scale=scale, said=_SAID.format(said), about=about)


def _end(bars: pl.DataFrame) -> float:
    most = max((float(bars[name].max() or 0) for name in ("value", "high")), default=0.0)  # type: ignore[arg-type]
    return next((end for end in ENDS if end >= most - 1e-9), 1.0)


def _lane(row: dict[str, object], end: float, line: str) -> Markup:
    def place(value: object) -> float:
        return 100 * min(max(float(str(value)), 0.0), end) / end

    colour, bar = CLAIM_BARS[str(row["kind"])], Markup()
    if row["low"] is not None and row["high"] is not None:
        left = place(row["low"])
        bar += _INTERVAL.format(left=left, width=place(row["high"]) - left, colour=colour)
    bar += _DOT.format(left=place(row["value"]), colour=colour)
    return _LANE.format(lane=row["lane"], line=line, bar=bar, text=_value(row))


def _is_plain(row: dict[str, object]) -> bool:
    """Whether a bar is no rate: a cosine, a share of a norm, an AUC."""
    return row["low"] is None or "AUC" in (row["note"], str(row["lane"])[:3])


def _value(row: dict[str, object]) -> str:
    value = float(str(row["value"]))
    return f"{value:.2f}" if _is_plain(row) else f"{100 * value:.1f} % (n {row['n']})"


def bar_chart(bars: pl.DataFrame, *, title: str, chance: float | None = None) -> alt.LayerChart:
    """A point and its interval for every bar of a claim; `bars` as those of a card.

    On a scale of shares, or with `chance` of AUCs, which are at chance there.
    """
    shares = chance is None
    texts = [f"{100 * value:.1f}%" if shares else f"{value:.2f}" for value in bars["value"]]
    rows = bars.with_columns(text=pl.Series(texts, dtype=pl.String))
    most = max(float(rows[name].max() or 0) for name in ("value", "high"))  # type: ignore[arg-type]
    least = min(float(rows["value"].min() or 0), 0.0)  # type: ignore[arg-type]
    scale = alt.Scale(domain=[least, max(most, 0.02) * 1.4 if shares else 1.15], nice=False)
    axis = alt.Axis(format="~%" if shares else ".1f", tickCount=5, labelFlush=False)
    base = alt.Chart(rows).encode(
        y=alt.Y(
            "lane:N",
            sort=rows["lane"].to_list(),
            title=None,
            axis=lane_axis(rows["lane"]),
        ),
        color=alt.Color("kind:N", scale=named_scale(CLAIM_BARS), legend=None),
        tooltip=["lane:N", *(alt.Tooltip(f"{n}:Q", format=".1%") for n in ("value", "low", "high")), "n:Q", "note:N"],
    )

    def place(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=title, scale=scale, axis=axis)

    text = base.transform_calculate(end="datum.high === null ? datum.value : max(datum.high, datum.value)")
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.65).encode(x=place("low"), x2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(x=place("value")),
        text.mark_text(align="left", dx=9, fontSize=11).encode(x=place("end"), text="text:N", color=alt.value(INK)),
    ]
    if chance is not None:
        at = alt.Chart(pl.DataFrame({"at": [chance]})).mark_rule(color=NEUTRAL, strokeDash=[3, 3])
        layers.insert(0, at.encode(x=place("at")))
    return alt.layer(*layers).properties(height=LANE * rows.height + FURNITURE)


def beside_chart(table: pl.DataFrame, *, title: str, sides: Sequence[str]) -> alt.LayerChart:
    """The same rates of two sides on one axis: a point and its interval a side, lane by lane.

    `table` has the columns lane, side (one of `sides`), value, low, high (shares), n; lanes keep their order.
    """
    rows = table.with_columns(text=pl.format("{}% (n = {})", (100 * pl.col("value")).round(1), "n"))
    scale, axis = with_room(rows)
    lanes = rows["lane"].unique(maintain_order=True).to_list()
    base = alt.Chart(rows).encode(
        y=alt.Y(
            "lane:N",
            sort=lanes,
            title=None,
            axis=lane_axis(lanes),
        ),
        yOffset=alt.YOffset("side:N", sort=list(sides)),
        color=alt.Color(
            "side:N",
            scale=organism_scale(sides),
            legend=alt.Legend(title=None, orient="top", columns=1, labelLimit=room(260, 900)),
        ),
        tooltip=["lane:N", "side:N", *(alt.Tooltip(f"{n}:Q", format=".1%") for n in ("value", "low", "high")), "n:Q"],
    )

    def share(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=title, scale=scale, axis=axis)

    return alt.layer(
        base.mark_rule(strokeWidth=2, opacity=0.65).encode(x=share("low"), x2="high:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(x=share("value")),
        base.mark_text(align="left", dx=8, fontSize=11).encode(x=share("high"), text="text:N", color=alt.value(INK)),
    ).properties(height=2.4 * LANE * len(lanes) + FURNITURE + 40)
