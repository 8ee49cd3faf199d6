"""Live: one prompt, two answers streamed side by side, the second with edits, each token on its scalar."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from backend.charts.strip import legend, token_strip
from backend.edits import Edit, Gain
from backend.records import BASE, USUAL, InputError, Sampling
from backend.study import Study
from backend.worker.client import Arm, End, Event, Health, Token, Waiting, Worker, WorkerError
from panels.edits import choose_direction_edits
from panels.frame import current_study, explained, plain
from panels.gains import mix_adapters
from panels.run import LiveAnswer, LiveRun
from panels.stacks import all_stacks

REDRAW = 0.1  # seconds between two drawings of a growing answer
PLAY = ":material/play_arrow:"
RUN = "live_run"  # session state: the last generation of this session
VIEW = "live_scalar"

View = tuple[str, int]  # organism and adapter whose scalars colour the tokens
Places = Sequence[tuple[str, int]]  # (adapter, layer) in the order of streamed scalars


def read_health(worker: Worker) -> Health | None:
    """The worker's health; None, and a message on the page, where it cannot be asked."""
    try:
        health = worker.health()
    except WorkerError as error:
        st.warning(plain(error), title="No live generation: the worker is missing", icon=":material/power_off:")
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


def choose_arms(study: Study, organisms: Mapping[str, Places], layers: int) -> tuple[Arm, Arm]:
    """The plain arm and the edited one."""
    names = [BASE, *organisms]
    left, right = st.columns(2)
    worn_left = left.selectbox("Left, unedited", names, key="live_plain", bind="query-params")
    edited = right.selectbox(
        "Right, edited",
        names,
        index=len(names) - 1,
        key="live_edited",
        bind="query-params",
        on_change=st.session_state.pop,
        args=(VIEW, None),  # tokens show an adapter of the one that is chosen now
    )
    edits = choose_direction_edits(all_stacks(study), layers=layers)
    worn: Sequence[Edit] = ()
    if edited != BASE:
        with st.expander(f"Gain of each adapter of {edited}", icon=":material/tune:", expanded=True):
            worn = mix_adapters(edited, organisms[edited])
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


def check(prompt: str, arms: Sequence[Arm], health: Health) -> None:
    """Raise InputError where the worker's model cannot take the prompt or an edit."""
    if not prompt.strip():
        raise InputError("The prompt is empty: write one, or start from an evaluation question.")
    for direction in (direction for arm in arms for edit in arm.edits for direction in edit.directions):
        width = direction.vector.size
        if width != health.d_model or direction.layer >= health.layers:
            raise InputError(
                f"{direction.name!r} has {width} numbers at layer {direction.layer}; the worker's model, "
                f"{health.model}, has {health.d_model} and {health.layers} layers. It comes from another model: choose "
                f"a study of {health.model}, or start a worker with this study's base."
            )


def start_run(
    prompt: str, arms: Sequence[Arm], sampling: Sampling, seed: int, organisms: Mapping[str, Places]
) -> LiveRun:
    """An empty run with its settings in words."""
    edits = "; ".join(edit.words for edit in arms[1].edits) or "no edits"
    drawn = f"Temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    settings = f"{edits}. {drawn}, at most {sampling.max_new_tokens} tokens, seed {seed}."
    adapters = {name: tuple(adapter for adapter, _ in places) for name, places in organisms.items()}
    return LiveRun(prompt, settings, tuple(LiveAnswer(arm.name) for arm in arms), adapters)


def take(run: LiveRun, event: Event) -> None:
    """One event of the worker into the run."""
    match event:
        case Waiting():
            run.ahead = event.ahead
        case Token():
            run.answers[event.arm].token(event.text, event.scalars)
        case End():
            run.answers[event.arm].reason = event.reason


def draw_answers(run: LiveRun, slots: Sequence[DeltaGenerator], view: View) -> None:
    """Both answers as they are now, on one scale."""
    scale = run.scale(*view)
    for answer, slot in zip(run.answers, slots, strict=True):
        with slot.container(border=True, gap="xsmall"):
            st.markdown(f"**{plain(answer.name)}**")
            tokens, values = answer.printed(*view)
            st.html(token_strip(tokens, values, scale=scale))
            st.caption(f"Waiting: {run.ahead} requests come first." if run.ahead and not tokens else answer.state)


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


def show_run(run: LiveRun, slots: Sequence[DeltaGenerator], view: View) -> None:
    """A finished or stopped generation with its settings."""
    draw_answers(run, slots, view)
    if run.error:
        st.error(plain(run.error), title="The generation ended early", icon=":material/error:")
    if not run.prompt:
        return
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
health = read_health(worker)
ready = health is not None and health.status == "ready"
organisms = wearable(study, health)

settings, page = st.columns([2, 5], gap="medium")
with explained():
    with settings:
        deepest = max((layer for places in organisms.values() for _, layer in places), default=0)
        arms = choose_arms(study, organisms, health.layers if health and ready else deepest + 1)
    with page:
        prompt = write_prompt(study)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            asked = st.button("Generate", type="primary", key="live_go", disabled=not ready, icon=PLAY)
            st.button("Stop", key="live_stop", icon=":material/stop:", help="What was written so far stays.")
            sampling, seed = choose_sampling()
            view = choose_view(organisms, st.session_state.get("live_edited"))
        slots = [column.empty() for column in st.columns(2)]
        with explained():
            if asked and health:
                check(prompt, arms, health)
                run = st.session_state[RUN] = start_run(prompt, arms, sampling, seed, organisms)
                events = worker.generate(prompt, arms, sampling, seed, tuple(organisms))
                follow(run, events, partial(draw_answers, run, slots, view))
        shown = st.session_state.get(RUN)
        if shown:
            shown.close()  # Stop starts this script again, perhaps before the one that wrote has ended
        show_run(shown or nothing_yet(arms), slots, view)
