"""A chart as a file: SVG and PNG without a browser, of a width, with what it shows written above it.

Takes a chart, or a specification as Vega-Lite reads it. Drawing runs inside this process and may fetch nothing. An
SVG's ink is `currentColor`, so that it is dark on a light page and light on a dark one; a PNG is on white.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl
import vl_convert
from markupsafe import Markup, escape

from backend.charts.palette import CATEGORIES, INKS, NEUTRAL, ON_DEEP
from backend.charts.pick import Drawn
from backend.records import InputError

WIDTH, NARROW = 680, 340  # pixels of a figure on its own, and on a telephone
SHARPER = 2.0  # pixels of a PNG for one of the chart
_VERSION = "6.4"  # of Vega-Lite, the one that Altair writes
_PAPER = ON_DEEP
_INK = INKS["light"]
_FONT = "sans-serif"
_ASKED = "containerSize()[0]"  # what backend/charts/narrow.py asks of a page; a file has no page
_TAG = re.compile(r"<svg [^>]*>")
_SHEET = re.compile(rf'<rect width="[\d.]+" height="[\d.]+" fill="{_PAPER}"[^>]*(?:/>|>\s*</rect>)')


def titled(spec: Mapping[str, Any], title: str, lines: Sequence[str] = ()) -> dict[str, Any]:
    """The same chart with a title and lines below it; a title that it had stands first among the lines."""
    had = spec.get("title")
    own = had.get("text", "") if isinstance(had, Mapping) else had
    under = [*filter(None, [own]), *lines]
    head = {"text": title, "anchor": "start", "frame": "group", "offset": 12}
    return {**spec, "title": head | ({"subtitle": under} if under else {})}


def svg(spec: Mapping[str, Any], *, width: int = WIDTH, alt: str = "") -> Markup:
    """The chart as an <svg> element; `alt` says what is seen. Raises InputError where it cannot be drawn."""
    drawn = _asked(vl_convert.vegalite_to_svg, spec, width)
    drawn = _SHEET.sub("", drawn, count=1)
    for ink in (_INK, _INK.lower()):
        drawn = drawn.replace(f'"{ink}"', '"currentColor"')
    tag = _TAG.search(drawn)
    if tag is None:
        raise InputError("this chart was drawn as no SVG: report it with the chart's Vega-Lite file")
    label = escape(alt)
    said = Markup(' role="img" aria-label="{}"><title>{}</title>').format(label, label) if alt else Markup(">")
    return Markup(tag.group(0)[:-1]) + said + Markup(drawn[tag.end() :])


def png(spec: Mapping[str, Any], *, width: int = WIDTH) -> bytes:
    """The chart as a PNG on white. Raises InputError where it cannot be drawn."""
    drawn: bytes = _asked(vl_convert.vegalite_to_png, spec, width, scale=SHARPER)
    return drawn


def _asked(draw: Any, spec: Mapping[str, Any], width: int, **options: float) -> Any:
    try:
        return draw(_sized(spec, width), vl_version=_VERSION, allowed_base_urls=[], **options)
    except ValueError as error:
        why = " ".join(str(error).split()[:30])
        raise InputError(f"this chart cannot be drawn as a file ({why}): take its CSV instead") from error


def _sized(spec: Mapping[str, Any], width: int) -> dict[str, Any]:
    """The chart as a page of that width would have it."""
    sized: dict[str, Any] = json.loads(json.dumps(spec).replace(_ASKED, str(width)))
    if "layer" in sized or "mark" in sized:
        sized |= {"width": width, "autosize": {"type": "fit", "contains": "padding"}}
    return sized | {"background": _PAPER, "config": _themed(sized.get("config") or {})}


def _themed(own: Mapping[str, Any]) -> dict[str, Any]:
    """Ink, lines and letters, as the app's theme has them; what a chart sets itself stays."""
    words = {
        "labelColor": _INK,
        "titleColor": _INK,
        "labelFont": _FONT,
        "titleFont": _FONT,
        "titleFontWeight": "normal",
    }
    lines = {"gridColor": NEUTRAL, "gridOpacity": 0.25, "domainColor": NEUTRAL, "tickColor": NEUTRAL}
    usual: dict[str, Any] = {
        "font": _FONT,
        "aria": False,  # said once, of the whole
        "view": {"stroke": None},
        "axis": words | lines,
        "legend": words,
        "header": words,
        "title": {"color": _INK, "subtitleColor": _INK, "font": _FONT, "subtitleFont": _FONT, "fontSize": 14},
        "text": {"color": _INK},
        "range": {"category": list(CATEGORIES)},
    }
    merged = dict(own)
    for name, value in usual.items():
        mine = own.get(name)
        merged[name] = {**value, **mine} if isinstance(value, dict) and isinstance(mine, Mapping) else mine or value
    return merged


# --- what a chart holds -----------------------------------------------------------------------------------------------


def spec_of(chart: Drawn | Mapping[str, Any]) -> dict[str, Any]:
    """A chart as Vega-Lite reads it, with its rows in it.

    Rows are put in here and not by Altair, whose way of doing so is one for the whole process, and is changed by others
    while they draw.
    """
    if isinstance(chart, Mapping):
        return dict(chart)
    made: dict[str, Any] = _with_rows(chart.copy(deep=True)).to_dict(validate=False)
    return made


def rows_of(chart: Drawn | Mapping[str, Any]) -> pl.DataFrame:
    """The rows of the largest of the tables that a chart draws."""
    return max(tables_of(chart).values(), key=lambda table: table.height, default=pl.DataFrame())


def tables_of(chart: Drawn | Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Every table that a chart draws, each once, by a name: its place among them, and the marks that draw it."""
    found: list[tuple[pl.DataFrame, list[str]]] = []
    if isinstance(chart, Mapping):
        tables = [pl.DataFrame(rows, infer_schema_length=None) for rows in (chart.get("datasets") or {}).values()]
        found = [(table, []) for table in tables]
    else:
        _add_tables(found, chart, None)
    return {" ".join([str(at + 1), *dict.fromkeys(marks)]): table for at, (table, marks) in enumerate(found)}


def _add_tables(found: list[tuple[pl.DataFrame, list[str]]], chart: Any, above: pl.DataFrame | None) -> None:
    """Add what a chart and those in it draw; without rows of its own a chart draws those of the one above."""
    own = chart.data if isinstance(chart.data, pl.DataFrame) else above
    if own is not None:
        marks = next((marks for table, marks in found if table is own or table.equals(own)), None)
        if marks is None:
            found.append((own, marks := []))
        mark = chart._get("mark")
        kind = mark if isinstance(mark, str) else getattr(mark, "type", None)
        marks += [kind] if isinstance(kind, str) else []
    for each in _inner(chart):
        _add_tables(found, each, own)


def _parts(chart: Any) -> list[Any]:
    """A chart and all charts in it."""
    return [chart, *(part for each in _inner(chart) for part in _parts(each))]


def _inner(chart: Any) -> list[Any]:
    """The charts that a chart is made of."""
    inner = [each for name in ("layer", "hconcat", "vconcat", "concat") for each in _listed(chart, name)]
    alone = chart._get("spec")
    return [*inner, *([alone] if isinstance(alone, alt.TopLevelMixin) else [])]


def _listed(chart: Any, name: str) -> list[Any]:
    found = chart._get(name)
    return found if isinstance(found, list) else []


def _with_rows(chart: Any) -> Any:
    for part in _parts(chart):
        if isinstance(part.data, pl.DataFrame):
            floats = part.data.with_columns(pl.selectors.float().replace([float("inf"), -float("inf")], None))
            part.data = alt.InlineData(values=floats.fill_nan(None).to_dicts())
    return chart
