"""Adapters: what the scalar of each adapter responds to, by class of response and token by token."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np
import polars as pl
import streamlit as st

from backend.analysis.rates.families import of_family
from backend.charts.separation import distribution_chart, separation_chart
from backend.charts.strip import common_scale, heat_strip, legend
from backend.study import Study
from panels.adapters import (
    answer_bins,
    choose_adapters,
    choose_scalar_reader,
    class_separations,
    link_to,
    reading_classes,
)
from panels.asked import choose_linked
from panels.classes import Classes, choose_classes
from panels.extremes import show_extremes
from panels.figures import show_chart
from panels.frame import choose_judge, current_study, explained, plain
from panels.opening import opening
from panels.zeroing import show_zeroing

MOST_ADAPTERS = 24  # drawn at once; past it the layer and module filters choose
MOST_OPTIONS = 500  # responses offered in a menu
TOP = 15  # tokens on either side


def histograms(study: Study, reader: str, adapters: list[str], classes: Classes) -> pl.DataFrame:
    """[adapter, side, low, high, n, density]: each adapter's scalar over the answer tokens of each class."""
    codes = reading_classes(study, reader, classes)
    tables = [
        answer_bins(study, reader, adapter).by_class(codes, classes.names).with_columns(adapter=pl.lit(adapter))
        for adapter in adapters
    ]
    return pl.concat(tables)


def show_separation(study: Study, table: pl.DataFrame, chosen: str, classes: Classes) -> None:
    """AUC of every adapter."""
    held = min(table["groups"].drop_nulls().to_list(), default=0)
    family = of_family(table, "adapters") or f"No verdict: {table['why'][0]}."
    show_chart(st, separation_chart(table, chosen=chosen), key="scalars_auc", alt="AUC of each adapter")
    st.caption(
        f"{plain(classes.counts)}. Above one half the scalar is larger in {plain(classes.contrast.positive_name)} "
        "responses, below it is smaller; the sign of a scalar is arbitrary. Lines are 95 % intervals of one adapter "
        f"alone, for questions like these ({held} hold the class that fewer hold); ticks are "
        "what labels shuffled within questions reach. "
        f"{family} Grey: not clear after correction. "
        f"[Specialisation](specialisation?study={quote(study.name)}) asks it of two contrasts at once."
    )


def show_distributions(study: Study, reader: str, adapters: pl.DataFrame, classes: Classes) -> None:
    """A small chart for every adapter, both classes over each other."""
    positive, negative = classes.names
    table = histograms(study, reader, adapters["name"].to_list(), classes)
    with st.grid(3, min_column_width=140, gap="xsmall"):
        for name, label in adapters.select("name", "label").iter_rows():
            chart = distribution_chart(
                table.filter(pl.col("adapter") == name), positive=positive, negative=negative, title=label
            )
            show_chart(st, chart, key=f"scalars_histogram_{name}", alt=f"Distribution of the scalar of {name}")
    tokens = int(table["n"].sum()) // max(adapters.height, 1)
    st.caption(
        f":orange[■] {plain(positive)} and :blue[■] {plain(negative)}: density of the scalar over answer "
        f"tokens ({tokens:,} in all), each class with area one."
    )


def show_response_heat(study: Study, reader: str, adapters: pl.DataFrame, classes: Classes) -> None:
    """Every shown adapter at every token of one response."""
    options = classes.rows["response"].head(MOST_OPTIONS).to_list()
    response = choose_linked(st.selectbox, "Response", options, key="scalars_response", what="response")
    strip = study.strip(response, reader)
    answer = slice(strip.n_prompt, strip.n_prompt + strip.n_answer)
    values = np.stack([strip.scalars[strip.adapters.index(name)] for name in adapters["name"]])[:, answer]
    tokens = strip.tokens[answer]
    if not tokens:
        st.info("This answer has no tokens: the model ended at once.")
        return
    scale = common_scale(values)
    st.text(study.response(response).question)
    st.html(heat_strip(tokens, dict(zip(adapters["label"], values, strict=True)), scale=scale, first=strip.n_prompt))
    st.html(legend(scale))


def show_adapters(study: Study) -> None:
    """The page, once there is something to show. Raises InputError where a choice leaves nothing."""
    reader = choose_scalar_reader(study, "scalars")
    judge = choose_judge(study, reader)
    with st.container(border=True):
        adapters = choose_adapters(study, reader, page="scalars", most=MOST_ADAPTERS)
        classes = choose_classes(study, judge, reader, page="scalars")
        st.caption(plain(classes.recipe))
    told = adapters.select("label", adapter="name").join(
        class_separations(study, reader, tuple(adapters["name"]), classes.key, classes),
        on="adapter",
        how="left",
        maintain_order="left",
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.subheader("Which adapters tell the classes apart?")
        names = dict(zip(adapters["name"], adapters["label"], strict=True))
        label = "Adapter to look into"
        chosen = choose_linked(st.selectbox, label, list(names), key="scalars_adapter", what="adapter")
        show_separation(study, told, chosen, classes)
    with right:
        st.subheader("How are their scalars distributed?")
        show_distributions(study, reader, adapters, classes)
    st.subheader(f"Where is {plain(names[chosen])} large and small?")
    show_extremes(study, reader, chosen, count=TOP, classes=classes)
    text = f"The {TOP} most extreme answer tokens of both classes, with eight tokens before and after."
    st.caption(f"{text} A number links to its response.")
    st.markdown(f"[Everything about {plain(names[chosen])}]({link_to(study, reader, chosen)})")
    st.subheader("Every adapter on one response")
    show_response_heat(study, reader, adapters, classes)


study = current_study()
opening(
    "Adapters",
    "The scalar of an adapter at a token is how far it moves its module's output along its write vector. Which scalars "
    "tell two classes of answers apart, and at which tokens are they large?",
    study,
)
with explained():
    show_adapters(study)
with explained():
    show_zeroing(study)
