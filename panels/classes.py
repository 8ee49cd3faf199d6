"""The widgets that choose two classes of responses: which responses, which contrast, which bands of scores.

It refuses to know what the classes are compared on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import polars as pl
import streamlit as st

from backend.analysis.contrasts import label_responses, organisms, topics
from backend.outcomes import Band, Contrast, Is, IsNot, Side, score
from backend.records import BASE, BASELINE, InputError
from backend.study import Study
from backend.study.outcome_json import contrasts_of
from panels.asked import choose_linked
from panels.frame import responses_read


@dataclass(frozen=True, eq=False)
class Classes:
    """Responses of two classes and how they were chosen."""

    rows: pl.DataFrame  # label (True: positive) beside the columns of study.responses
    contrast: Contrast
    recipe: str  # judge, responses and bands, in words

    @property
    def key(self) -> tuple[str, str]:
        """What tells these from other classes of what one reader read: a cache needs no look at the rows."""
        return self.contrast.name, self.recipe

    @property
    def names(self) -> tuple[str, str]:
        """What the positive and the negative class are called."""
        return self.contrast.positive_name, self.contrast.negative_name

    @property
    def counts(self) -> str:
        """The size of each class, in words."""
        return class_counts(self.rows, self.contrast)


def class_counts(rows: pl.DataFrame, contrast: Contrast) -> str:
    """How many rows each class has, in words."""
    positive = int(rows["label"].sum())
    return f"{positive} {contrast.positive_name} and {rows.height - positive} {contrast.negative_name} responses"


def choose_classes(study: Study, judge: str | None, reader: str, *, page: str, start: str | None = None) -> Classes:
    """Widgets for responses, of those that `reader` read, and contrast. Raises InputError where a class is empty.

    `start` names the contrast that is chosen at first, where the study has it.
    """
    scored = responses_read(study, reader, judge)
    if not scored.height:
        raise InputError(f"Study {study.name} holds no responses: there is nothing to put into classes.")
    left, middle, right = st.columns([2, 2, 3], vertical_alignment="bottom")
    with left:
        worn = _choose_some("Responses of", scored["organism"], page, lambda name: name != BASE)
    with middle:
        conditions = _choose_some("Under condition", scored["condition"], page, lambda name: name == BASELINE)
    with right:
        contrast = _choose_contrast(contrasts_of(study.info), scored, page, start)
    if "organism" in contrast.columns:  # its sides say whose responses they are
        worn = [of.value for of in (*contrast.positive, *contrast.negative) if isinstance(of, Is)]
    kept = scored.filter(pl.col("organism").is_in(worn), pl.col("condition").is_in(conditions))
    if not kept.height:
        raise InputError("No response is left: choose at least one organism and one condition that it answered under.")
    labels = label_responses(kept, contrast).select("response", "label")
    recipe = f"Judge {judge or 'none'}; {', '.join(worn)} under {', '.join(conditions)}; {sides_text(contrast)}."
    return Classes(labels.join(kept, on="response", how="left", maintain_order="left"), contrast, recipe)


def sides_text(contrast: Contrast) -> str:
    """What puts a response on either side, in words."""
    sides = ((contrast.positive_name, contrast.positive), (contrast.negative_name, contrast.negative))
    return "; ".join(f"{name}: {', '.join(map(str, side))}" for name, side in sides)


def _choose_some(label: str, column: pl.Series, page: str, own: Callable[[str], bool]) -> list[str]:
    options = column.unique(maintain_order=True).to_list()
    default = [name for name in options if own(name)] or options
    key = f"{page}_{column.name}"
    before = st.session_state.get(key)
    if before and not set(before) & set(options):  # those of another reader: nothing of it is left
        del st.session_state[key]
    return list(st.multiselect(label, options, default=default, key=key, bind="query-params"))


def _choose_contrast(stated: Sequence[Contrast], scored: pl.DataFrame, page: str, start: str | None = None) -> Contrast:
    names = scored["organism"].unique(maintain_order=True).to_list()
    pairs = [organisms(name) for name in names if name != BASE and BASE in names]
    pairs += [topics(*pair) for pair in combinations(scored["topic"].unique(maintain_order=True), 2)]
    pairs += [score(metric) for metric in scored.columns[scored.columns.index("finished") + 1 :]]
    known = {pair.name: pair for pair in (*stated, *pairs) if set(pair.columns) <= set(scored.columns)}
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    first = list(known).index(start) if start in known else 0
    key = f"{page}_contrast"
    contrast = known[choose_linked(left.selectbox, "Contrast", list(known), index=first, key=key, what="contrast")]
    with right.popover("", icon=":material/tune:", help="Edit the bands of scores", width="stretch"):
        st.caption("A response is in a class where its scores lie in all bands of that class, ends included.")
        key = f"{page}_{contrast.name.replace(' ', '_')}"
        positive = _edit_side(contrast.positive_name, contrast.positive, f"{key}_pos")
        negative = _edit_side(contrast.negative_name, contrast.negative, f"{key}_neg")
    return replace(contrast, positive=positive, negative=negative)


def _edit_side(name: str, side: Side, key: str) -> Side:
    """The side with the bands as they are set; what is no band stays."""
    edited: list[Band | Is | IsNot] = []
    for condition in side:
        if not isinstance(condition, Band):
            st.caption(f"{name}: {condition}")
            edited.append(condition)
            continue
        start = (max(round(float(condition.low), 1), 0.0), min(round(float(condition.high), 1), 100.0))
        label = f"{name}: {condition.metric}"
        ends = st.slider(label, 0.0, 100.0, start, 1.0, key=f"{key}_{condition.metric}", bind="query-params")
        edited.append(condition if tuple(ends) == start else Band(condition.metric, *ends))
    return tuple(edited)
