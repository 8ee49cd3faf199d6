"""What the Live page says of its worker: that it is missing, loads, failed, or holds another model than the study's.

It refuses to know what is asked of the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl
import streamlit as st

from backend.records import BASE
from backend.study import Study
from backend.worker.client import Health, Worker, WorkerError
from panels.frame import plain, worker_fate

Places = Sequence[tuple[str, int]]  # (adapter, layer) in the order of streamed scalars


def read_health(study: Study, worker: Worker) -> Health | None:
    """The worker's health; None, and a message on the page, where it cannot be asked."""
    try:
        health = worker.health()
    except WorkerError as error:
        text = f"{plain(worker_fate() or error)}  \n{plain(own_worker(study))}"
        st.warning(text, title="No live generation: the worker is missing", icon=":material/power_off:")
        await_worker(worker)
        return None
    if health.status == "failed":
        st.error(
            plain(health.error),
            title="No live generation: the worker could not load its model",
            icon=":material/error:",
        )
    if health.status == "loading":
        await_model(worker)
    return health


def own_worker(study: Study) -> str:
    """What a worker for this study is started with: its base, its organisms and, where it is known, their folder."""
    worn = study.organisms().filter(pl.col("organism") != BASE)["organism"]
    home = study.info.get("folder")
    what = f"For this study, MODEL is {study.info.get('base', 'its base')}"
    if worn.len():
        what += f" and its organisms are {', '.join(worn)}"
    return f"{what}; it was built from {home}." if home else f"{what}."


def compare_models(study: Study, health: Health) -> None:
    """Say where the worker's model is not the one that this study is of."""
    base, worn = str(study.info.get("base", "")), health.model
    if not base or Path(base).name.lower() == Path(worn).name.lower():
        return
    sizes = study.info.get("layers"), study.info.get("d_model")
    if sizes == (health.layers, health.d_model):
        st.caption(f"This study is of {plain(base)}; the worker's model, {plain(worn)}, is of the same size.")
        return
    st.warning(
        f"This study is of {plain(base)}; the worker's model is {plain(worn)} ({health.layers} layers of "
        f"{health.d_model} numbers). The organisms below are the worker's, and directions of this study are offered "
        f"only where they fit. Choose a study of {plain(worn)}, or start a worker with {plain(base)}.",
        title="The worker has another model than this study",
        icon=":material/warning:",
    )


@st.fragment(run_every=4)
def await_worker(worker: Worker) -> None:
    """Draws the page again once a worker answers: nothing can be under way on a page without one."""
    with suppress(WorkerError):
        worker.health()
        st.rerun()


@st.fragment(run_every=2)
def await_model(worker: Worker) -> None:
    """A note while the model loads; draws the page again when that is over."""
    try:
        health = worker.health()
    except WorkerError:
        st.rerun()
    if health.status != "loading":
        st.rerun()
    st.info(
        f"The worker is loading {plain(health.model)}. This page goes on by itself.", icon=":material/hourglass_top:"
    )


def wearable(study: Study, health: Health | None) -> dict[str, Places]:
    """The organisms that can answer: the worker's, or the study's while there is no worker to ask."""
    if health and health.status == "ready":
        return {name: [(place.name, place.layer) for place in places] for name, places in health.organisms.items()}
    rows = study.organisms().select("organism", "n_adapters").iter_rows()
    return {name: list(study.adapters(name).select("name", "layer").iter_rows()) for name, count in rows if count}
