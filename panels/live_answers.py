"""The lanes' answers on the page: those that a link names, drawn as they grow, each with what it was asked with.

It refuses to know how lanes are chosen.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from backend.charts.strip import legend, plain_text, token_strip
from backend.outcomes import Outcome
from backend.records import InputError
from backend.worker.client import Generation, Waiting, Worker, WorkerError
from panels.asked import linked
from panels.following import follow
from panels.frame import plain
from panels.lanes import LETTERS, VIEW
from panels.live_worker import Places
from panels.run import LiveAnswer, LiveRun, scale_of
from panels.scoring import rate_words, score_words

REDRAW = 0.1  # seconds between two drawings of growing answers
SHOWN = "live_run"  # query parameter: the ids of the generations that are shown, with dots between them
LAST = "live_last"  # session state: what the parameter was when this session left the page
KNOWN = "live_known"  # session state: the runs of this session, by id
MOST_KNOWN = 32
EXCERPT = 400  # characters of a prompt that is said again
FEW = 3  # samples of a lane that are shown at their full height
TALL = 620  # pixels that more of them take

View = tuple[str, int]  # organism and adapter whose scalars colour the tokens


def begin(worker: Worker, asked: Sequence[Generation], user: str) -> None:
    """Ask for these generations, and put them into the link. Raises WorkerError; those that were begun go on."""
    ids: list[str] = []
    try:
        for request in asked:
            id = worker.begin(request, user)
            ids.append(id)
            _remember(LiveRun(id, request, time.time()))
    finally:
        if ids:
            show(ids)


def show(ids: Sequence[str]) -> None:
    """Let the page show these generations, now and when this session comes back to it."""
    st.query_params[SHOWN] = st.session_state[LAST] = ".".join(ids)


def shown_runs(worker: Worker | None) -> list[LiveRun]:
    """The runs that the link names; without a worker, those that this session knows.

    Raises InputError where the worker does not keep one, and WorkerError.
    """
    named = linked(SHOWN)
    if named is None and LAST in st.session_state:
        named = st.query_params[SHOWN] = st.session_state[LAST]
    ids = [id for id in (named or "").split(".") if id]
    if len(ids) > len(LETTERS) or any(re.fullmatch(r"[0-9a-f]{32}", id) is None for id in ids):
        raise InputError(f"The link names answers by {SHOWN}, which holds no ids of generations: nothing is shown.")
    if worker is None:
        return [run for id, run in st.session_state.get(KNOWN, {}).items() if id in ids]
    runs = [_known(worker, id) for id in dict.fromkeys(ids)]
    if named:
        st.session_state[LAST] = named
    return runs


def _known(worker: Worker, id: str) -> LiveRun:
    known: dict[str, LiveRun] = st.session_state.setdefault(KNOWN, {})
    if id not in known:
        found = worker.kept(id)
        if found is None:
            raise InputError(
                f"The link names the generation {id}, which this worker does not keep, so nothing is shown in its "
                "place: it was made with another worker, or before this one was started again without --history FOLDER."
            )
        line, request = found
        _remember(LiveRun(id, request, line.created))
    return known[id]


def run_of(worker: Worker, id: str) -> LiveRun:
    """A kept generation as it is now, to its end if it has one. Raises WorkerError."""
    found = worker.kept(id)
    if found is None:
        raise WorkerError(f"the worker does not keep the generation {id}")
    line, request = found
    run = LiveRun(id, request, line.created)
    with closing(worker.events(id, len(run.answers))) as events:
        for number, event in events:
            run.take(number, event)
            if isinstance(event, Waiting):  # all that there is so far
                break
    return run


def _remember(run: LiveRun) -> None:
    known: dict[str, LiveRun] = st.session_state.setdefault(KNOWN, {})
    known[run.id] = run
    for id in list(known)[:-MOST_KNOWN]:
        del known[id]


def ask_on(worker: Worker, runs: Sequence[LiveRun], user: str) -> None:
    """A place for what is said next to every lane, which goes on with its own conversation, as it was asked."""
    samples = max(len(run.answers) for run in runs)
    text = "Ask on: each lane goes on with its own answer" + (", its first sample" if samples > 1 else "")
    words = st.chat_input(text, key="live_on")
    if words and words.strip():
        try:
            begin(worker, [run.followed(words) for run in runs], user)
        except WorkerError as error:
            st.error(plain(error), icon=":material/error:")
        else:
            st.rerun()


def stop(worker: Worker, runs: Sequence[LiveRun]) -> None:
    """Stop what is still written of these."""
    for run in runs:
        if not run.over:
            try:
                worker.cancel(run.id)
            except WorkerError as error:
                run.error = str(error)


def watch(worker: Worker, runs: Sequence[LiveRun], draw: Callable[[], None]) -> None:
    """Draw the runs as they grow, to their end. Whatever leaves this, the worker writes on."""
    drawn = 0.0
    with closing(follow(worker, runs)) as told:
        for _ in told:
            if time.monotonic() - drawn > REDRAW:
                draw()
                drawn = time.monotonic()


def choose_view(organisms: Mapping[str, Places], worn: Sequence[str]) -> View:
    """The adapter whose scalars colour the tokens: at first one of an organism that is worn."""
    adapters = [(name, at, place[0]) for name, places in organisms.items() for at, place in enumerate(places)]
    views = {f"{name}: {adapter}": (name, at) for name, at, adapter in adapters}
    start = next((at for at, (name, _) in enumerate(views.values()) if name in worn), 0)
    text = "Tokens show the scalar of"
    label = st.selectbox(text, list(views), index=start, key=VIEW, bind="query-params", width=270)
    return views.get(label or "", ("", 0))


def draw_lanes(runs: Sequence[LiveRun], slots: Sequence[DeltaGenerator], view: View, outcome: Outcome) -> None:
    """Every lane as it is now, on one scale; of several samples, how many are hits of the outcome."""
    scale, same = scale_of(runs, *view), len({run.prompt for run in runs}) == 1
    for run, slot in zip(runs, slots, strict=True):
        with slot.container(gap="xsmall"):
            st.markdown(f"**{plain(run.name)}**")
            _draw_turns(run, same=same)
            if len(run.answers) > 1:
                st.markdown(plain(rate_words(run, outcome)))
                with st.container(height=TALL if len(run.answers) > FEW else "content", border=False, gap="xsmall"):
                    for at, answer in enumerate(run.answers):
                        _draw_answer(run, answer, view, scale, f"Sample {at + 1}: ", score_words(answer, outcome))
            else:
                _draw_answer(run, run.answers[0], view, scale)
            if run.error:
                st.error(plain(run.error), title="The generation ended early" if run.over else None)
            st.caption(plain(run.settings))


def draw_nothing_yet(names: Sequence[str], slots: Sequence[DeltaGenerator]) -> None:
    """What stands in the place of the answers before the first generation."""
    for name, slot in zip(names, slots, strict=True):
        with slot.container(border=True, gap="xsmall"):
            st.markdown(f"**{plain(name)}**")
            st.caption("Nothing written yet.")


def _draw_answer(
    run: LiveRun, answer: LiveAnswer, view: View, scale: float, called: str = "", scored: str = ""
) -> None:
    with st.container(border=True, gap="xsmall"):
        tokens, values = answer.printed(*view)
        st.html(token_strip(tokens, values, scale=scale))
        waits = not answer.pieces and answer.reason is None
        st.caption(plain(called + (run.state if waits else answer.state) + (f"; {scored}" if scored else "")))
        if answer.effects:
            st.caption("  \n".join(plain(line) for line in answer.effects))


def _draw_turns(run: LiveRun, *, same: bool) -> None:
    """What was said before the answers: folded, but for a question that the lanes do not share."""
    before = run.request.messages[:-1]
    if before:
        with st.expander(f"{len(before)} earlier messages"):
            for message in before:
                st.caption(plain(message["role"]))
                st.html(plain_text(message["content"]))
    if not same:
        st.caption(plain(f"Asked: {excerpt(run.prompt)}"))


def excerpt(text: str) -> str:
    """A text, or its beginning where it is long."""
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]} … ({len(text)} characters)"


def show_legend(runs: Sequence[LiveRun], organisms: Mapping[str, Places], view: View) -> None:
    """Whose scalars the tokens show, and what was asked."""
    organism, adapter = view
    places = organisms.get(organism, ())
    if adapter < len(places):
        name = f"scalar of {organism} {places[adapter][0]}, before any gain"
        st.html(legend(scale_of(runs, *view), name))
    table = st.toggle("Values as a table", key="live_table", help="The first answer of each lane, token by token.")
    if table:
        for run, column in zip(runs, st.columns(len(runs)), strict=True):
            tokens, values = run.answers[0].printed(*view)
            column.caption(plain(run.name))
            column.dataframe({"token": tokens, "scalar": values}, hide_index=True, height=300)
    st.caption(
        f"Asked: {plain(excerpt(runs[0].prompt))}  \nThe scalar shown on a token was read at that token; the last one "
        "has none yet."
    )
