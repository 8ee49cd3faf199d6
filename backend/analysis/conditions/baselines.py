"""What edited answers are compared with: answers without an edit, of the same length.

Knows which conditions are unedited, and which of them stands beside which edited ones. It refuses to know what the
comparison shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from backend.edits import Condition
from backend.records import BASELINE


def unedited(tokens: int | None = None) -> Condition:
    """The condition without edits: whole answers, or those cut to `tokens`, the length of a sweep's."""
    return Condition(BASELINE) if tokens is None else Condition(f"{BASELINE}, {tokens} tokens", tokens=tokens)


def is_baseline(condition: Condition) -> bool:
    """Whether answers under this condition are unedited: nothing but what is worn is said."""
    return not any(edit.changes for edit in condition.edits)


def own_baselines(frame: pl.DataFrame, edited: Sequence[str], baselines: Mapping[str, str]) -> pl.DataFrame:
    """The responses, each organism's unedited ones being those of the length that its edited answers have, by cell.

    The column `cell` is `BASELINE` for every unedited answer, and the condition for the others.

    A sweep's answers are cut short, so they are compared with unedited ones of the same length: `baselines` (a study's
    info) maps its conditions to theirs. An organism whose `edited` conditions have several lengths keeps those of the
    most answers; other edited answers of it, and all other unedited ones, are left out. An organism without edited
    answers is shown at the others' length where it has answers of that.
    """
    plain = pl.col("condition").is_in([BASELINE, *baselines.values()])
    is_edited = pl.col("condition").is_in(list(edited))
    beside = pl.col("condition").replace_strict(dict(baselines), default=BASELINE) if baselines else pl.lit(BASELINE)
    lengths = (
        frame.filter(is_edited)
        .group_by("organism", beside.alias("beside"))
        .len()
        .sort("organism", "len", "beside", descending=[False, True, False])
        .unique("organism", keep="first", maintain_order=True)
    )
    usual = lengths.group_by("beside").agg(pl.sum("len")).sort("len", "beside", descending=[True, False])["beside"]
    known = frame.filter(pl.col("condition") == (usual[0] if len(usual) else BASELINE))["organism"].unique()
    places = {
        **dict.fromkeys(known, usual[0] if len(usual) else BASELINE),
        **dict(lengths.select("organism", "beside").iter_rows()),
    }
    chosen = pl.col("organism").replace_strict(places, default=BASELINE) if places else pl.lit(BASELINE)
    kept = pl.when(plain).then(pl.col("condition") == chosen).when(is_edited).then(beside == chosen).otherwise(True)
    return frame.filter(kept).with_columns(cell=pl.when(plain).then(pl.lit(BASELINE)).otherwise("condition"))
