"""What the pages about adapters share: which are shown, what stands for a response, and their scalars by class.

Numbers of many tokens are read and put into bins once a build; a changed class only counts again. It refuses to know
what a page draws.
"""

from __future__ import annotations

from urllib.parse import urlencode

import numpy as np
import polars as pl
import streamlit as st
from numpy.typing import NDArray

from backend.records import InputError
from backend.study import Study
from backend.tables import adapters as tables
from backend.tables.adapters import MEAN, SHARE, STATISTICS, axis_of, largest, short_labels
from panels.asked import choose_linked
from panels.classes import Classes
from panels.frame import per_study

STATISTIC_HELP = (
    "What stands for a response: the mean, the largest or the smallest scalar over its answer tokens, or the share of "
    "its answer tokens with a scalar above a threshold."
)


def choose_scalar_reader(study: Study, page: str) -> str:
    """An organism with scalars, chosen in the sidebar. Raises InputError where there is none."""
    counts = dict(study.organisms().select("organism", "n_adapters").iter_rows())
    readers = [name for name in study.readers() if counts[name]]
    if not readers:
        raise InputError(
            f"Study {study.name} holds no scalars: no organism with adapters has read its responses. "
            "Build it again with an organism that has adapters."
        )
    return choose_linked(st.sidebar.selectbox, "Read by", readers, key=f"{page}_reader", what="organism")


def choose_adapters(study: Study, reader: str, *, page: str, most: int) -> pl.DataFrame:
    """The adapters of the reader that pass the layer and module filters, with a short label each.

    Past `most`, those with the largest write vectors. Raises InputError where none is left.
    """
    table = study.adapters(reader)
    layers, modules = sorted(table["layer"].unique()), table["module"].unique(maintain_order=True).to_list()
    left, right = st.columns([3, 2], gap="large")
    low, high = layers[0], layers[-1]
    if low < high:
        low, high = left.slider("Layers", low, high, (low, high), key=f"{page}_layers", bind="query-params")
    chosen = right.multiselect("Modules", modules, default=modules, key=f"{page}_modules", bind="query-params")
    kept = table.filter(pl.col("layer").is_between(low, high), pl.col("module").is_in(chosen))
    if not kept.height:
        raise InputError(
            f"No adapter of {reader} is in layers {low} to {high} with a chosen module: widen the filters."
        )
    shown = largest(kept, most)
    text = f"{shown.height} of {table.height} adapters"
    more = ", those with the largest write vectors: narrow the layers or modules to see others."
    st.caption(text + (more if shown.height < kept.height else "."))
    return shown.with_columns(label=short_labels(shown))


def link_to(study: Study, reader: str, adapter: str) -> str:
    """The address of an adapter's own page."""
    query = {"study": study.name, "adapter_reader": reader, "adapter_name": adapter}
    return f"one_adapter?{urlencode(query)}"


# --- numbers ---------------------------------------------------------------------------------------------------------


def choose_statistic(page: str) -> tuple[str, float]:
    """What stands for a response, and the threshold of a share."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    chosen = left.segmented_control(
        "Scalar of a response",
        STATISTICS,
        default=MEAN,
        required=True,
        key=f"{page}_statistic",
        bind="query-params",
        help=STATISTIC_HELP,
    )
    if chosen != SHARE:
        return str(chosen), 0.0
    return SHARE, float(right.number_input("Threshold", value=0.0, step=0.5, key=f"{page}_above", bind="query-params"))


# Read once a build.
response_scalars = per_study(tables.response_scalars)
answer_bins = per_study(tables.answer_bins)


@per_study
def class_separations(
    study: Study, reader: str, adapters: tuple[str, ...], key: tuple[str, str], _classes: Classes
) -> pl.DataFrame:
    """How well the mean scalar of a response tells the classes with that key apart: adapter, value, low, high."""
    scalars = response_scalars(study, reader, adapters)
    return tables.separations(adapters, axis_of(_classes.contrast.name, scalars, _classes.rows))


@per_study
def readings(study: Study, reader: str) -> pl.DataFrame:
    """What `reader` read: response, n_prompt, n_answer."""
    return study.readings(reader)


def reading_classes(study: Study, reader: str, classes: Classes) -> NDArray[np.int8]:
    """The class of every reading, (reading,): 0 the positive, 1 the negative, -1 neither."""
    return tables.class_codes(readings(study, reader), classes.rows)
