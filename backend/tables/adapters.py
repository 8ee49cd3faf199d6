"""The scalars of adapters by class of response: which tell classes apart, and how they are spread over answer tokens.

Classes are a table of responses with their label (True: positive). It refuses to know what the classes mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.analysis.aucs import auc_table
from backend.analysis.probes.specialisation import Axis
from backend.analysis.rates.families import with_family
from backend.analysis.scalars.histograms import Binned, binned
from backend.records import InputError
from backend.study import Study

MEAN, LARGEST, SMALLEST, SHARE = "mean", "max", "min", "share above"
STATISTICS = (MEAN, LARGEST, SMALLEST, SHARE)


def largest(table: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most so many rows of study.adapters, those that write the most per unit of scalar, in their own order."""
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


def response_scalars(
    study: Study, reader: str, adapters: Sequence[str], statistic: str = MEAN, threshold: float = 0.0
) -> pl.DataFrame:
    """One row a response with answer tokens, one column an adapter: the statistic over its answer tokens.

    Raises InputError where `reader` has read no answer token.
    """
    if statistic == SHARE:
        wide = study.scalar_shares(reader, adapters, threshold)
    else:
        wide = study.scalar_statistic(reader, adapters, statistic)
    if wide.is_empty():
        raise InputError(f"{reader} has read no answer tokens in {study.name}: choose another reader.")
    return wide


def axis_of(contrast: str, scalars: pl.DataFrame, classes: pl.DataFrame) -> Axis:
    """The rows of `response_scalars` that have a class, named after the contrast.

    `classes` has the columns response, label (True: positive), question_id. Raises InputError where none has.
    """
    rows = classes.select("response", "label", "question_id").join(scalars, on="response", maintain_order="left")
    if rows.is_empty():
        raise InputError("None of the chosen responses was read: choose other responses.")
    values = rows.drop("response", "label", "question_id").to_numpy()
    return Axis(contrast, values, rows["label"].to_numpy(), rows["question_id"].to_numpy())


def separations(adapters: Sequence[str], axis: Axis) -> pl.DataFrame:
    """How well the scalar of each adapter tells the classes of `axis_of` apart: adapter, `auc_table` and its family."""
    return with_family(auc_table(axis.values, axis.labels, axis.groups)).insert_column(
        0, pl.Series("adapter", list(adapters))
    )


def answer_bins(study: Study, reader: str, adapter: str) -> Binned:
    """The scalar of an adapter at every answer token, in bins by reading."""
    column = study.scalar_column(reader, adapter)
    return binned(column.values, column.reading, study.readings(reader).height)


def class_codes(readings: pl.DataFrame, classes: pl.DataFrame) -> NDArray[np.int8]:
    """The class of every reading, (reading,): 0 the positive, 1 the negative, -1 neither."""
    code = pl.when("label").then(0).otherwise(1).cast(pl.Int8)
    placed = readings.join(classes.select("response", code=code), on="response", how="left", maintain_order="left")
    codes: NDArray[np.int8] = placed["code"].fill_null(-1).to_numpy()
    return codes
