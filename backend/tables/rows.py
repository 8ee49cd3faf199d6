"""Labelled rows: features of tokens or responses, and the class of the response that each belongs to.

It refuses to know what is trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.tables.features import Features


@dataclass(frozen=True, eq=False)
class Rows:
    """Features and labels of the same rows."""

    values: NDArray[Any]  # (row, feature)
    labels: NDArray[Any]  # (row,) True: positive
    response: NDArray[Any]  # (row,) index into the responses of the features
    questions: NDArray[Any]  # (row,) index of the question
    names: tuple[str, ...]  # (feature,)


def labelled(features: Features, classes: pl.DataFrame) -> Rows:
    """The rows of either class; `classes` has the columns response, label (True: positive), question_id."""
    labels = classes.select("response", "label", "question_id").unique("response", maintain_order=True)
    placed = pl.DataFrame({"response": features.responses}).join(
        labels, on="response", how="left", maintain_order="left"
    )
    sides = placed["label"].cast(pl.Int8).fill_null(-1).to_numpy()[features.response]
    kept = np.flatnonzero(sides >= 0)
    question = placed["question_id"].fill_null("").rank("dense").to_numpy()
    response = features.response[kept]
    values = features.values if len(kept) == len(sides) else features.values[kept]
    return Rows(values, sides[kept] == 1, response, question[response], features.names)


def count_rows(features: Features, classes: pl.DataFrame) -> tuple[int, int]:
    """How many rows the positive class has, and how many the negative one."""
    sizes = np.bincount(features.response, minlength=len(features.responses))
    counted = pl.DataFrame({"response": features.responses, "n": sizes}).join(
        classes.select("response", "label"), on="response"
    )
    return int(counted.filter("label")["n"].sum()), int(counted.filter(~pl.col("label"))["n"].sum())
