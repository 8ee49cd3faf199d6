"""Live: one prompt, two answers streamed side by side, the second with edits, each token on its scalar."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from backend.charts.strip import legend, token_strip
from backend.edits import Edit, Gain, edits_to_json
from backend.records import BASE, USUAL, InputError, Sampling
from backend.study import Study
from backend.worker.client import Arm, End, Event, Health, Token, Waiting, Worker, WorkerError
from panels.asked import replaced, with_asked
from panels.edits import choose_direction_edits
from panels.frame import current_study, explain, explained, plain, worker_fate
from panels.gains import mix_adapters
from panels.means import mean_streams
from panels.run import LiveAnswer, LiveRun
from panels.stacks import all_stacks

REDRAW = 0.1  # seconds between two drawings of a growing answer
PLAY = ":material/play_arrow:"
RUN = "live_run"  # session state: the last generation of this session
VIEW = "live_scalar"

View = tuple[str, int]  # organism and adapter whose scalars colour the tokens
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


def choose_arms(
    study: Study, organisms: Mapping[str, Places], layers: int, width: int | None
) -> tuple[Arm, Arm] | None:
    """The plain arm and the edited one; None where the choice is unfinished or cannot be had, which the panel says."""
    left, right = st.columns(2)
    names = [BASE, *organisms]
    worn_left = left.selectbox("Left, unedited", with_asked(names, "live_plain"), key="live_plain", bind="query-params")
    edited = right.selectbox(
        "Right, edited",
        with_asked(names, "live_edited"),
        index=len(names) - 1,
        key="live_edited",
        bind="query-params",
        on_change=st.session_state.pop,
        args=(VIEW, None),  # tokens show an adapter of the one that is chosen now
    )
    lost = [name for name in dict.fromkeys((worn_left, edited)) if name not in names]
    for name in lost:
        explain(
            InputError(
                f"The organism {name!r} is asked for, and the worker does not wear it: start a worker with --organism "
                f"{name}=FOLDER, or choose {' or '.join(names)}."
            )
        )
    means = partial(mean_streams, study)
    edits = choose_direction_edits(all_stacks(study), layers=layers, width=width, means=means)
    worn: Sequence[Edit] = ()
    if edited in organisms:
        with st.expander(f"Gain of each adapter of {edited}", icon=":material/tune:", expanded=True):
            worn = mix_adapters(edited, organisms[edited])
    if lost or edits is None:
        return None
    unedited = () if worn_left == BASE else (Gain(worn_left, 1.0),)
    return Arm(f"{worn_left}, unedited", unedited), Arm(f"{edited}, edited", (*worn, *edits))


def choose_sampling() -> tuple[Sampling, int]:
    """Temperature, nucleus, length and seed, which both answers share."""
    temperature = st.number_input(
        "Temperature",
        0.0,
        10.0,
        USUAL.temperature,
        0.1,
        key="live_temperature",
        bind="query-params",
        help="0 is greedy.",
        width=125,
    )
    nucleus = "Only the likeliest tokens that reach this mass are drawn from; 1 is all of them, as in the paper."
    top_p = st.number_input(
        "Top-p", 0.05, 1.0, USUAL.top_p, 0.05, key="live_top_p", bind="query-params", help=nucleus, width=125
    )
    tokens = st.number_input(
        "Most tokens", 1, 2000, USUAL.max_new_tokens, 20, key="live_tokens", bind="query-params", width=125
    )
    seed = st.number_input("Seed", 0, 2**31, 0, 1, key="live_seed", bind="query-params", width=125)
    return Sampling(temperature, top_p, tokens), seed


def write_prompt(study: Study) -> str:
    """The prompt, with the evaluation questions as starting points."""
    questions = study.questions()
    texts = questions["text"].to_list() if questions.height else []

    def fill() -> None:
        st.session_state["live_prompt"] = st.session_state["live_question"] or st.session_state["live_prompt"]

    st.selectbox(
        "Start from an evaluation question",
        texts,
        index=None,
        key="live_question",
        on_change=fill,
        placeholder="Start from an evaluation question",
        label_visibility="collapsed",
    )
    first = texts[0] if texts else ""
    return str(st.text_area("Prompt", first, height=90, key="live_prompt", bind="query-params") or "")


def asked_of(prompt: str, arms: Sequence[Arm], sampling: Sampling, seed: int) -> Any:
    """All that decides the answers, as values that can be compared."""
    return prompt, sampling, seed, [(arm.name, edits_to_json(arm.edits)) for arm in arms]


def start_run(
    prompt: str, arms: Sequence[Arm], sampling: Sampling, seed: int, organisms: Mapping[str, Places]
) -> LiveRun:
    """An empty run with its settings in words."""
    edits = "; ".join(edit.words for edit in arms[1].edits) or "no edits"
    drawn = f"Temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    settings = f"{edits}. {drawn}, at most {sampling.max_new_tokens} tokens, seed {seed}."
    adapters = {name: tuple(adapter for adapter, _ in places) for name, places in organisms.items()}
    answers = tuple(LiveAnswer(arm.name, edited=any(edit.changes for edit in arm.edits)) for arm in arms)
    return LiveRun(prompt, settings, answers, adapters, asked=asked_of(prompt, arms, sampling, seed))


def take(run: LiveRun, event: Event) -> None:
    """One event of the worker into the run."""
    match event:
        case Waiting():
            run.ahead = event.ahead
        case Token():
            run.answers[event.arm].token(event.text, event.scalars)
        case End():
            run.answers[event.arm].reason = event.reason
            run.answers[event.arm].receipts = event.receipts


def draw_answers(run: LiveRun, slots: Sequence[DeltaGenerator], view: View) -> None:
    """Both answers as they are now, on one scale."""
    scale = run.scale(*view)
    for answer, slot in zip(run.answers, slots, strict=True):
        with slot.container(border=True, gap="xsmall"):
            st.markdown(f"**{plain(answer.name)}**")
            tokens, values = answer.printed(*view)
            st.html(token_strip(tokens, values, scale=scale))
            st.caption(f"Waiting: {run.ahead} requests come first." if run.ahead and not tokens else answer.state)
            if answer.effects:
                st.caption("  \n".join(plain(line) for line in answer.effects))


def follow(run: LiveRun, events: Generator[Event], show: Callable[[], None]) -> None:
    """Draw the run as it grows. Its end, Stop, any widget and a closed tab all leave this and free the worker."""
    drawn = 0.0
    try:
        with closing(events):
            for event in events:
                take(run, event)
                if time.monotonic() - drawn > REDRAW:
                    show()
                    drawn = time.monotonic()
    except WorkerError as error:
        run.error = str(error)
    finally:
        run.close()


def choose_view(organisms: Mapping[str, Places], worn: str | None) -> View:
    """The adapter whose scalars colour the tokens: at first one of the organism that is worn."""
    adapters = [(name, at, place[0]) for name, places in organisms.items() for at, place in enumerate(places)]
    views = {f"{name}: {adapter}": (name, at) for name, at, adapter in adapters}
    start = next((at for at, (name, _) in enumerate(views.values()) if name == worn), 0)
    text = "Tokens show the scalar of"
    label = st.selectbox(text, list(views), index=start, key=VIEW, bind="query-params", width=270)
    return views.get(label or "", ("", 0))


def nothing_yet(arms: Sequence[Arm]) -> LiveRun:
    """What stands in the place of the answers before the first generation."""
    return LiveRun("", "", tuple(LiveAnswer(arm.name, reason="") for arm in arms))


def show_settings(run: LiveRun, view: View) -> None:
    """What a generation was asked, and whose scalars its tokens show."""
    organism, adapter = view
    names = run.adapters.get(organism, ())
    if adapter < len(names):
        st.html(legend(run.scale(*view), f"scalar of {organism} {names[adapter]}, before any gain"))
    st.caption(
        f"Prompt: {plain(run.prompt)}  \nRight answer: {plain(run.settings)}  \nThe scalar shown on a token was read "
        "at that token; the last one has none yet."
    )


study = current_study()
st.title("Live")
st.caption("Two answers to one prompt with one seed: they differ by the model worn and by the edits of the right one.")
worker = Worker()
health = read_health(study, worker)
ready = health is not None and health.status == "ready"
organisms = wearable(study, health)
deepest = max((layer for places in organisms.values() for _, layer in places), default=0)
layers, width = deepest + 1, None
if health and ready:
    layers, width = health.layers, health.d_model
    compare_models(study, health)

settings, page = st.columns([2, 5], gap="medium")
arms = None
with settings, explained():
    arms = choose_arms(study, organisms, layers, width)
    arms = None if replaced() else arms  # nothing runs on what a link did not ask for
with page, explained():
    prompt = write_prompt(study)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        asked = st.button("Generate", type="primary", key="live_go", disabled=not (ready and arms), icon=PLAY)
        st.button("Stop", key="live_stop", icon=":material/stop:", help="What was written so far stays.")
        sampling, seed = choose_sampling()
        view = choose_view(organisms, st.session_state.get("live_edited"))
    note = st.empty()
    slots = [column.empty() for column in st.columns(2)]
    below = st.empty()
    with explained():
        if asked and arms:
            if not prompt.strip():
                raise InputError("The prompt is empty: write one, or start from an evaluation question.")
            run = st.session_state[RUN] = start_run(prompt, arms, sampling, seed, organisms)
            note.empty()
            with below.container():
                show_settings(run, view)
            events = worker.generate(prompt, arms, sampling, seed, tuple(organisms), receipts=True)
            follow(run, events, partial(draw_answers, run, slots, view))
    shown: LiveRun | None = st.session_state.get(RUN)
    if shown:
        shown.close()  # Stop starts this script again, perhaps before the one that wrote has ended
        if arms is None or shown.asked != asked_of(prompt, arms, sampling, seed):
            note.caption(":orange[The controls have changed since these answers were written:] generate again.")
        draw_answers(shown, slots, view)
        with below.container():
            if shown.error:
                st.error(plain(shown.error), title="The generation ended early", icon=":material/error:")
            show_settings(shown, view)
    elif arms:
        draw_answers(nothing_yet(arms), slots, view)
