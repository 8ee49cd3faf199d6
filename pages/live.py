"""Live: one prompt, up to four lanes that answer it side by side, each with its own edits; kept, and gone on with."""

from __future__ import annotations

import uuid
from functools import partial

import streamlit as st

from backend.outcomes import EM
from backend.worker.client import Arm, Generation, Worker, WorkerError
from panels.asked import replaced
from panels.frame import choose_outcome, current_study, explained, plain
from panels.lanes import choose_lanes, renew_earlier_link
from panels.live_answers import (
    ask_on,
    begin,
    choose_view,
    draw_lanes,
    draw_nothing_yet,
    show_legend,
    shown_runs,
    stop,
    watch,
)
from panels.live_history import show_history
from panels.live_prompt import choose_sampling, sound, write_prompt
from panels.live_stored import show_stored
from panels.live_worker import compare_models, read_health, wearable
from panels.run import LiveRun, same_controls, worn_of

CHANGED = ":orange[The controls have changed since these answers were asked for:] generate again."
AGAIN = "What was written so far stays. Closing the page stops nothing: its link comes back to the answers."

study = current_study()
renew_earlier_link()
st.title("Live")
st.caption("Up to four lanes answer one prompt with one seed: they differ by the model worn and by their edits.")
worker = Worker()
health = read_health(study, worker)
ready = health is not None and health.status == "ready"
organisms = wearable(study, health)
deepest = max((layer for places in organisms.values() for _, layer in places), default=0)
layers, width = deepest + 1, None
if health and ready:
    layers, width = health.layers, health.d_model
    compare_models(study, health)

page, settings = st.columns([5, 2], gap="medium")
lanes = None
with settings, explained():
    lanes = choose_lanes(study, organisms, layers, width)
    lanes = None if replaced() else lanes  # nothing runs on what a link did not ask for

user = st.session_state.setdefault("live_user", uuid.uuid4().hex)
runs: list[LiveRun] = []
with page:
    messages = write_prompt(study)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        pressed = st.button(
            "Generate", type="primary", key="live_go", disabled=not (ready and lanes), icon=":material/play_arrow:"
        )
        stops = st.empty()
        colours = st.empty()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sampling, seed, samples = choose_sampling()
    asked = [
        Generation(
            messages,
            tuple(Arm(lane.name, lane.edits, draw) for draw in range(samples)),
            sampling,
            seed,
            tuple(organisms),
            receipts=True,
        )
        for lane in lanes or ()
    ]
    with explained():
        try:
            if pressed and lanes:
                sound(messages)
                begin(worker, asked, user)
        except WorkerError as error:
            st.error(plain(error), icon=":material/error:")
    with explained():
        try:
            runs = shown_runs(worker if health else None)
        except WorkerError as error:
            st.error(plain(error), icon=":material/error:")
    stops.button("Stop", key="live_stop", icon=":material/stop:", help=AGAIN, on_click=stop, args=(worker, runs))
    worn = [name for name in map(worn_of, [run.request for run in runs] or asked) if name]
    with colours:
        view = choose_view(organisms, worn)
    if runs and not (lanes and same_controls(asked, runs)):
        st.caption(CHANGED)
    with st.container(key="live_answers"):
        slots = [column.empty() for column in st.columns(max(1, len(runs) or len(asked)))]
    several = any(len(run.answers) > 1 for run in runs)
    draw = partial(draw_lanes, runs, slots, view, choose_outcome(study) if several else EM)
    if runs:
        draw()
        show_legend(runs, organisms, view)
        show_stored(study, runs)
        if ready and all(run.over for run in runs):
            ask_on(worker, runs, user)
    elif lanes:
        draw_nothing_yet([lane.name for lane in lanes], slots)
if health:
    with st.expander("History", icon=":material/history:"):
        show_history(worker, user)
    if any(not run.settled for run in runs):
        watch(worker, runs, draw)
        if all(run.settled for run in runs):
            st.rerun()  # all that is said beside the answers is of the whole
