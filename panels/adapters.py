"""What the pages about adapters share: which are shown and what they are called, and their scalars by class.

Numbers of many tokens are read and put into bins once a build; a changed class only counts again. It refuses to know
what a page draws.
"""

from __future__ import annotations

from urllib.parse import urlencode

import numpy as np
import polars as pl
import streamlit as st
from numpy.typing import NDArray

from backend.analysis.probes.specialisation import Axis, auc_table
from backend.analysis.scalars.histograms import Binned, binned
from backend.records import InputError
from backend.study import Study
from panels.classes import Classes
from panels.frame import per_study

MEAN, LARGEST, SMALLEST, SHARE = "mean", "max", "min", "share above"
STATISTICS = (MEAN, LARGEST, SMALLEST, SHARE)
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
    return str(st.sidebar.selectbox("Read by", readers, key=f"{page}_reader", bind="query-params"))


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


def largest(table: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most so many adapters, those that write the most per unit of scalar, in their own order."""
    if table.height <= most:
        return table
    size = (pl.col("scaling").abs() * pl.col("write_norm")).fill_nan(0)
    return table.filter(size.rank("ordinal", descending=True) <= most)


def short_labels(table: pl.DataFrame) -> pl.Series:
    """`L15` where every layer has one adapter, the module behind it where a layer has several."""
    alone = table["layer"].is_unique().all()
    names = [
        f"L{layer}" if alone else f"L{layer} {module}" + (f" #{component}" if component else "")
        for layer, module, component in table.select("layer", "module", "component").iter_rows()
    ]
    return pl.Series("label", names)


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


@per_study
def response_scalars(
    study: Study, reader: str, adapters: tuple[str, ...], statistic: str = MEAN, threshold: float = 0.0
) -> pl.DataFrame:
    """One row a response with answer tokens, one column an adapter: the statistic over its answer tokens."""
    if statistic == SHARE:
        wide = study.scalar_shares(reader, adapters, threshold)
    else:
        wide = study.scalar_statistic(reader, adapters, statistic)
    if wide.is_empty():
        raise InputError(f"{reader} has read no answer tokens in {study.name}: choose another reader.")
    return wide


def axis_of(scalars: pl.DataFrame, classes: Classes) -> Axis:
    """The labelled rows of `response_scalars`, named after the contrast."""
    rows = classes.rows.select("response", "label", "question_id").join(scalars, on="response", maintain_order="left")
    if rows.is_empty():
        raise InputError("None of the chosen responses was read: choose other responses.")
    values = rows.drop("response", "label", "question_id").to_numpy()
    return Axis(classes.contrast.name, values, rows["label"].to_numpy(), rows["question_id"].to_numpy())


@per_study
def separations(
    study: Study, reader: str, adapters: tuple[str, ...], key: tuple[str, str], _classes: Classes
) -> pl.DataFrame:
    """How well the mean scalar of a response tells the classes with that key apart: adapter, value, low, high."""
    axis = axis_of(response_scalars(study, reader, adapters), _classes)
    found = auc_table(axis.values, axis.labels, axis.groups)
    return found.select(pl.Series("adapter", adapters), "value", "low", "high")


@per_study
def readings(study: Study, reader: str) -> pl.DataFrame:
    """What `reader` read, read once a build: response, n_prompt, n_answer."""
    return study.readings(reader)


@per_study
def answer_bins(study: Study, reader: str, adapter: str) -> Binned:
    """The scalar of an adapter at every answer token, in bins by reading."""
    column = study.scalar_column(reader, adapter)
    return binned(column.values, column.reading, readings(study, reader).height)


def class_codes(study: Study, reader: str, classes: Classes) -> NDArray[np.int8]:
    """The class of every reading, (reading,): 0 the positive, 1 the negative, -1 neither."""
    code = pl.when("label").then(0).otherwise(1).cast(pl.Int8)
    placed = readings(study, reader).join(
        classes.rows.select("response", code=code), on="response", how="left", maintain_order="left"
    )
    codes: NDArray[np.int8] = placed["code"].fill_null(-1).to_numpy()
    return codes
