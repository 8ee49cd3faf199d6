"""What every page stands in: the study it shows, the judge it trusts, the worker's state, and errors in plain words.

It refuses to know what a page shows. Every page calls `current_study()` first, and the rest where it needs it.
"""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar

import polars as pl
import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.pages_manager import PagesManager

from backend.hosts import APP_TOKEN, BEHIND, bracketed, is_loopback, named
from backend.outcomes import EM, Outcome
from backend.records import InputError
from backend.study import STUDIES, Study, build_command, list_studies, newest, open_study
from backend.study.outcome_json import named_outcome, outcomes_of
from backend.tables.rates import drawn_by
from backend.worker.client import Health, Worker, WorkerError
from panels.figures import begin_page, judged_by

PATIENCE = 0.25  # seconds a page waits for the worker's health before it goes on without
FRESH = 1.0  # seconds that what the worker said of itself is shown again
EVERY = 2  # seconds between two looks at the worker, on a page that nobody touches too: its end is said 3 s after it
KEPT = "EM_WORKER_KEPT"  # environment: the file in which the launcher says what became of the worker
GLOSSARY = Path(__file__).parents[1] / "docs" / "glossary.md"
NO_TEXT = "(not in this study)"
_POOL = ThreadPoolExecutor(2, thread_name_prefix="worker-health")

P = ParamSpec("P")
R = TypeVar("R")


def per_study(of: Callable[P, R]) -> Callable[P, R]:
    """Keep what a function of a study gives by the study's file: a new build has a new path, so nothing stale is shown.

    What it gives is not copied: do not change it. An argument whose name begins with _ does not tell calls apart.
    """
    # an outcome by its words: Streamlit takes two dataclasses of equal fields, `Is` and `IsNot`, for one
    known: dict[str | type[Any], Callable[[Any], Any]] = {Study: lambda study: str(study.path), Outcome: repr}
    keep = st.cache_resource(show_spinner=False, max_entries=64, hash_funcs=known)
    return keep(of)


def current_study() -> Study:
    """The study of the sidebar (query parameter `study`). Where it cannot be opened, says why and ends the page."""
    study = study_if_any()
    if study is None:
        st.stop()
    return study


def study_if_any() -> Study | None:
    """As `current_study`, for a page that goes on without one: None, and the reason on the page."""
    _refuse_foreign_names()
    _refuse_without_door()
    _through_the_entry()
    if "study" in st.session_state:  # said again, or the page after a link would start with the usual one
        st.session_state["study"] = st.session_state["study"]
        if st.session_state["study"] != os.environ.get("EM_STUDY") and "study" not in st.query_params:
            with suppress(StreamlitAPIException):  # the select of this page writes it itself
                st.query_params["study"] = st.session_state["study"]
    root = Path(os.environ.get("EM_STUDIES") or STUDIES)
    usual, asked = os.environ.get("EM_STUDY"), st.session_state.get("study") or st.query_params.get("study")
    options = list(dict.fromkeys(name for name in (usual, *list_studies(root), asked) if name))
    with st.sidebar:
        name = st.selectbox("Study", options, key="study", bind="query-params", disabled=not options)
        worker_status()
        st.button("Words", key="glossary", type="tertiary", icon=":material/menu_book:", on_click=_show_words)
    study = None
    with explained():
        if name is None:
            raise InputError(
                f"There is no study in {root}. Build the demo with: make build, or your own with: "
                f"{build_command('mine')}"
            )
        study = _opened(newest(name, root), name, root)
    if study is not None:
        begin_page(study.name)
    if study is not None and study.info.get("left_out"):
        st.sidebar.caption(":material/functions: Figures only", help=_lacks(study))
    return study


@st.dialog("What the words mean", width="large")
def _show_words() -> None:
    text = GLOSSARY.read_text(encoding="utf-8")
    st.markdown(text.partition("\n")[2])


def lacks(study: Study, what: str) -> bool:
    """Whether the study holds figures alone, without `what` ("texts", "tokens", "vectors"); says so where it does."""
    if what not in study.info.get("left_out", ()):
        return False
    st.info(f"The {what} are not in this study. {_lacks(study)}", icon=":material/info:")
    return True


def _lacks(study: Study) -> str:
    """What a study of figures alone leaves out, and how to have it."""
    remedy = " ; ".join(study.info.get("remedy", ()))
    had = f" To have them: {plain(remedy)}" if remedy else ""
    return f"It holds figures alone: no {listed(study.info['left_out'])}, which are their authors'.{had}"


def _refuse_foreign_names() -> None:
    """End the page where this machine was called by a name that is not its own: another site may have rebound it.

    An app that listens on loopback is called so, or as EM_HOSTS lists (names with commas between); elsewhere EM_HOSTS
    alone decides, and without it every name is good.
    """
    host, address = st.context.headers.get("Host"), str(st.get_option("server.address") or "")
    others = [name.strip().lower() for name in os.environ.get("EM_HOSTS", "").split(",") if name.strip()]
    if host is None or not (others or is_loopback(bracketed(address))) or is_loopback(host):
        return
    with suppress(ValueError):
        if named(host) in others:
            return
    _end(
        f"This app was called {host!r}, which is not a name of this machine that it knows, so it shows nothing. "
        "Open it as 127.0.0.1 or localhost, or start it with EM_HOSTS set to the names it may be called by."
    )


def _refuse_without_door() -> None:
    """End the page where other machines reach this app, and nothing asks them for a token."""
    address = str(st.get_option("server.address") or "")
    if st.context.headers.get("Host") is None or is_loopback(bracketed(address)) or os.environ.get(BEHIND):
        return
    _end(
        f"This app listens on {address or 'every address'}, which others can reach, and asks for no token, so it shows "
        f"nothing. Start it with {APP_TOKEN} set, by: python -m backend app --host {address or '0.0.0.0'}"
    )


def _end(why: str) -> NoReturn:
    st.error(plain(why), icon=":material/error:")
    st.stop()


def _through_the_entry() -> None:
    """Run again through the entry, which a fresh server skips where its first visit is a link to a page.

    Until `st.navigation` has been called once, Streamlit takes the folder `pages` for an app without an entry.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()


@st.cache_resource(max_entries=4, show_spinner=False)
def _opened(path: Path, name: str, root: Path) -> Study:
    """Opened once for each build: `path` is what a new build changes."""
    return open_study(name, root)


def studies() -> list[str]:
    """The names of the studies that can be opened."""
    return list_studies(Path(os.environ.get("EM_STUDIES") or STUDIES))


def study_named(name: str) -> Study:
    """Another study than the sidebar's. Raises InputError where it cannot be opened."""
    root = Path(os.environ.get("EM_STUDIES") or STUDIES)
    return _opened(newest(name, root), name, root)


def choose_judge(study: Study, reader: str | None = None) -> str | None:
    """The judge whose scores the page shows (query parameter `judge`); None where nobody judged this study.

    A page on what `reader` read starts with the judge that scored most of it (query parameter `reading_judge`).
    """
    judges = study.judges()
    if not judges:
        return None
    start, key = (0, "judge") if reader is None else (judges.index(judge_of(study, reader)), "reading_judge")
    text = "Scores of different judges are never mixed."
    judge = str(st.sidebar.selectbox("Judge", judges, index=start, key=key, bind="query-params", help=text))
    judged_by(judge)
    if by := drawn_by(study, judge):
        st.sidebar.warning(f"{plain(judge)} {said_of_drawn(by)}", icon=":material/filter_alt:")
    return judge


def said_of_drawn(by: str) -> str:
    """What is to be known of a judge whose answers were drawn by the scores of another, as plain text for Markdown."""
    return (
        f"read answers that were drawn by the scores of {plain(by)}: a share of hits among them is no rate of an "
        "organism. Judges has the rates corrected by them."
    )


def choose_outcome(study: Study) -> Outcome:
    """What the page asks of the answers (query parameter `outcome`): a choice where a study asks more than EM.

    Where the study's outcomes cannot be read, says why and ends the page.
    """
    asked: tuple[Outcome, ...] = ()
    with explained():
        asked = outcomes_of(study.info)
    if not asked:
        st.stop()
    if asked == (EM,):
        return EM
    names = [outcome.name for outcome in asked]  # as they are: they stand in links
    text = "; ".join(f"{outcome.name}, {outcome.title}: {outcome}" for outcome in asked)
    return named_outcome(
        asked, st.sidebar.selectbox("Outcome", names, key="outcome", bind="query-params", help=plain(text))
    )


def scored_by(study: Study, judge: str | None, outcome: Outcome) -> str:
    """`judge`, if it scored all that the outcome needs. Raises InputError that says who did, or how to have it done."""
    if judge is None:
        raise InputError(
            f"No judge has scored the responses of {study.name}, so it has no rates. "
            "Score them with: python -m backend judge, then build the study again."
        )
    missing = [metric for metric in outcome.needs if metric not in study.metrics(judge)]
    if missing:
        able = [name for name in study.judges() if set(outcome.needs) <= set(study.metrics(name))]
        remedy = f"Choose {' or '.join(able)} in the sidebar." if able else "Score it with: python -m backend judge."
        needed = f"which {outcome.title} ({outcome}) needs"
        raise InputError(f"Judge {judge} gives no score for {' and '.join(missing)}, {needed}. {remedy}")
    return judge


@per_study
def responses_of(study: Study, judge: str | None = None) -> pl.DataFrame:
    """Every response of the study with the scores of one judge, read once a build; a text that is not there says so."""
    frame = study.responses(judge)
    return frame.with_columns(text=pl.lit(NO_TEXT)) if "texts" in study.info.get("left_out", ()) else frame


@per_study
def judge_of(study: Study, reader: str) -> str:
    """The judge that scored most of what `reader` read."""

    def scored(judge: str) -> int:
        given = pl.any_horizontal(pl.col(study.metrics(judge)).is_not_null())
        return responses_read(study, reader, judge).filter(given).height

    return max(study.judges(), key=scored)


@per_study
def read_by(study: Study, reader: str) -> tuple[str, ...]:
    """The responses that `reader` read."""
    read = study.scalar_summary(reader)["response"].unique(maintain_order=True).to_list()
    layers = study.residual_layers(reader)
    return tuple(read) or (study.residual_means(reader, layers[0]).responses if layers else ())


@per_study
def responses_read(study: Study, reader: str, judge: str | None = None) -> pl.DataFrame:
    """The rows of `responses_of` that `reader` read."""
    return responses_of(study, judge).filter(pl.col("response").is_in(list(read_by(study, reader))))


def explain(error: InputError, title: str | None = None) -> None:
    """Show what was wrong with the input, as it is."""
    st.error(plain(str(error)), title=title, icon=":material/error:")


def explained() -> AbstractContextManager[None, bool]:
    """Turn an InputError that ends the block into its message on the page; the page goes on after the block."""
    return _Explained()


class _Explained:
    """A context that may end early: said by its type, so that a checker reads on behind the block."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, InputError):
            explain(error)
        return isinstance(error, InputError)


def plain(text: Any) -> str:
    """Text for a place that reads Markdown, such that it is shown as it is."""
    return "".join("\\" + char if char in string.punctuation else char for char in str(text))


def listed(names: Iterable[Any]) -> str:
    """Names in a row, as plain text for a place that reads Markdown."""
    return ", ".join(plain(name) for name in names)


@st.fragment(run_every=EVERY)
def worker_status() -> None:
    """One line on the worker that makes live answers, kept up to date; never waits for it longer than PATIENCE."""
    worker = Worker()
    try:
        text, detail = _in_words(_asked(worker.url).result(PATIENCE))
    except TimeoutError:
        text, detail = ":gray[●] Worker does not answer yet", f"asked {worker.url}"
    except WorkerError as error:
        fate = worker_fate()
        text = ":gray[●] No worker: stored results only" if fate is None else f":red[●] {plain(fate)}"
        detail = str(error)
    st.caption(text, help=plain(detail))


def worker_fate() -> str | None:
    """What the launcher says of a worker that ended; None where it says nothing, or did not start the worker."""
    try:
        return Path(os.environ[KEPT]).read_text(encoding="utf-8").strip() or None
    except (KeyError, OSError, ValueError):
        return None


@st.cache_resource(ttl=FRESH, max_entries=4, show_spinner=False)
def _asked(url: str) -> Future[Health]:
    return _POOL.submit(Worker(url).health)


def _in_words(health: Health) -> tuple[str, str]:
    model = plain(Path(health.model).name)
    match health.status:
        case "ready":
            worn = ", ".join(health.organisms) or "no organism"
            return (
                f":green[●] Worker ready: {model}",
                f"{health.layers} layers, wears {worn}; {health.active} rows active",
            )
        case "loading":
            return f":orange[●] Worker is loading {model}", "Live answers are possible in a moment."
        case _:
            return f":red[●] Worker failed: {model}", health.error
