"""The tokens at which an adapter's scalar is largest and smallest, in their context, each linked to its response."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import numpy as np
import polars as pl
import streamlit as st

from backend.charts.strip import common_scale, token_table
from backend.study import Study
from panels.classes import Classes
from panels.frame import lacks, per_study


def show_extremes(study: Study, reader: str, adapter: str, *, count: int, classes: Classes | None = None) -> None:
    """So many of the largest and of the smallest answer tokens, of the classes or of all that `reader` read."""
    if lacks(study, "tokens"):
        return
    key = classes.key if classes else None
    tables = [_extremes(study, reader, adapter, count, largest, key, classes) for largest in (True, False)]
    scale = common_scale(np.concatenate([table["value"].to_numpy() for table in tables]))
    for place, table, title in zip(st.columns(2), tables, ("Largest", "Smallest"), strict=True):
        place.markdown(f"**{title}**")
        place.html(token_table([_linked(study, adapter, row) for row in table.iter_rows(named=True)], scale=scale))


@per_study
def _extremes(
    study: Study,
    reader: str,
    adapter: str,
    count: int,
    largest: bool,
    key: tuple[str, str] | None,
    _classes: Classes | None,
) -> pl.DataFrame:
    """The extreme tokens of the classes with that key, in context."""
    some = None if _classes is None else _classes.rows["response"].to_list()
    return study.top_tokens(reader, adapter, k=count, largest=largest, responses=some)


def _linked(study: Study, adapter: str, row: dict[str, Any]) -> dict[str, Any]:
    """A top token with a note on where it is, and the address of its response with the strip of the adapter."""
    query = urlencode({"study": study.name, "response": row["response"], "responses_adapter": adapter})
    return {**row, "note": f"{row['response']}, token {row['position']}", "link": f"responses?{query}"}
