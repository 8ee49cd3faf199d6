"""The lens on a vector: which tokens it promotes and suppresses, as stored or as the worker's model has it.

It refuses to know where the vector comes from.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import streamlit as st

from backend.charts.write_vectors import push_chart
from backend.records import Direction
from backend.worker.client import Worker
from panels.figures import show_chart


def asked_lens(direction: Direction) -> pl.DataFrame:
    """The lens of a direction by the worker's model, asked once: side, rank, token, value. Raises WorkerError."""
    return _asked(Worker().url, direction.layer, direction.vector.tobytes())


@st.cache_resource(max_entries=64, show_spinner=False)
def _asked(url: str, layer: int, vector: bytes) -> pl.DataFrame:
    [pushed] = Worker(url).lenses([Direction("asked", layer, np.frombuffer(vector, dtype=np.float32))])
    sides = (("top", pushed.top), ("bottom", pushed.bottom))
    rows = [(side, rank, token, value) for side, found in sides for rank, (token, value) in enumerate(found, 1)]
    return pl.DataFrame(rows, schema=["side", "rank", "token", "value"], orient="row")


def show_promoted(lens: pl.DataFrame, *, key: str, of: str, more: str = "") -> None:
    """The promoted and the suppressed tokens of what `of` names, with what the numbers are; `more` is said behind."""
    show_chart(st, push_chart(lens), key=key, alt="Promoted and suppressed tokens")
    st.caption(
        f"{of} at norm 1, times the gain of the final norm, through the unembedding; logits less their mean, in "
        f"standard deviations over the vocabulary. A random vector's strongest token of 50,000 is at about 4.{more}"
    )
