"""What a link asks of a page, and what it gets: obeyed, named as not there, or refused. Never quietly replaced.

Streamlit puts a widget's default in the place of a value that it does not offer. Here every query parameter is compared
with what the page made of it, once the page has run; and a choice that decides which experiment is shown is refused
until somebody chooses. It refuses to know which parameters a page has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import streamlit as st
from markupsafe import Markup
from streamlit.errors import StreamlitAPIException

from backend.records import InputError
from panels.frame import plain

T = TypeVar("T")

LINKS = "links"  # session state: the Links of the page that is open
HELD = "links_held"  # session state: the last value of a choice that its page had, by key
FRAME = {"embed", "embed_options"}  # parameters that are Streamlit's own
MOST_NAMED = 4  # options that a message names


@dataclass
class Links:
    """What links asked of one page in one session, by query parameter."""

    page: str
    last: dict[str, list[str]] = field(default_factory=dict)  # every value that was seen, so that none is judged twice
    open: dict[str, list[str]] = field(default_factory=dict)  # not compared yet: its widget has not been drawn
    replaced: dict[str, tuple[list[str], Any]] = field(default_factory=dict)  # what was asked, and what stands there
    read: set[str] = field(default_factory=set)  # those the page reads itself, and answers for
    refused: bool = False  # whether the page stopped at something that is not there, so that it did not see the rest
    spelled: dict[str, Callable[[Any], str]] = field(default_factory=dict)  # how a widget writes its values in links

    def take(self) -> None:
        """Remember what the address asks for now."""
        self.refused = False
        for key in st.query_params:
            asked = st.query_params.get_all(key)
            if key not in FRAME and self.last.get(key) != asked:
                self.last[key] = self.open[key] = asked

    def compare(self) -> None:
        """Compare with the widgets as they are."""
        for key, asked in list(self.open.items()):
            if key in self.read or self._obeyed(key, asked):
                del self.open[key]
                self.replaced.pop(key, None)
            elif key in st.session_state:
                del self.open[key]
                self.replaced[key] = asked, st.session_state[key]
        self.replaced = self.standing
        self.last |= {key: st.query_params.get_all(key) for key in st.query_params}  # corrected, which is no new wish

    @property
    def standing(self) -> dict[str, tuple[list[str], Any]]:
        """What is replaced, and nobody has chosen since."""
        return {key: pair for key, pair in self.replaced.items() if st.session_state.get(key) == pair[1]}

    def settle(self) -> None:
        """Take what stands there for chosen."""
        self.replaced = {}

    def _obeyed(self, key: str, asked: Sequence[str]) -> bool:
        """Whether the widget, or what the address became, is what was asked for."""
        if key not in st.session_state:
            return False
        if key in st.query_params and st.query_params.get_all(key) == list(asked):
            return True
        stands: Any = st.session_state[key]
        if stands is None or stands in ([], ()):
            return all(value == "" for value in asked)
        spell = self.spelled.get(key, str)
        if isinstance(stands, list):
            return all(any(_same(value, text, spell) for value in stands) for text in asked)
        values = stands if isinstance(stands, tuple) else (stands,)
        return len(values) == len(asked) and all(_same(*each, spell) for each in zip(values, asked, strict=True))


@contextmanager
def links_answered(page: str) -> Iterator[None]:
    """Run a page in this: what a link asked for and did not get is said above the page, whatever the page does."""
    links = st.session_state.get(LINKS)
    if links is None or links.page != page:
        links = st.session_state[LINKS] = Links(page)
    links.take()
    known, place = set(links.replaced), st.empty()
    yield  # a page that is stopped or drawn again is not judged: what it was asked stays open
    links.compare()
    _say_replaced(links, place, unused=not links.refused)
    if set(links.replaced) - known:
        st.rerun()  # a page that runs nothing while something is replaced is drawn so


def _same(value: Any, text: str, spell: Callable[[Any], str]) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return spell(value).casefold() == text.casefold()


def _say_replaced(links: Links, place: Any, *, unused: bool) -> None:
    lines = [
        f"The link asks for {key} = {_listed(asked)}, which is not offered here: shown is {_listed(stands)}."
        for key, (asked, stands) in links.replaced.items()
    ]
    if unused:
        lines += [
            f"The link asks for {key} = {_listed(asked)}, which this page does not use as it is now."
            for key, asked in links.open.items()
            if key not in links.read
        ]
    if not lines:
        return
    with place.container(border=True, gap="xsmall"):
        st.warning("  \n".join(plain(line) for line in lines), icon=":material/link_off:")
        if links.replaced:
            st.button("Go on with what is shown", key="links_go_on", on_click=links.settle)


def _listed(values: Any) -> str:
    if isinstance(values, str) or not isinstance(values, list | tuple):
        return "nothing" if values is None else f"{values}"
    return ", ".join(map(str, values)) or "nothing"


def replaced() -> bool:
    """Whether something that the link asked for is replaced by a default, and nobody has chosen since."""
    links = st.session_state.get(LINKS)
    return links is not None and bool(links.standing)


def spelled(key: str, words: Callable[[Any], str]) -> Callable[[Any], str]:
    """`words`, which the widget `key` calls its values by, in links too."""
    links = st.session_state.get(LINKS)
    if links is not None:
        links.spelled[key] = words
    return words


def linked(parameter: str) -> str | None:
    """The value of a query parameter that is no widget's: who reads it says so where there is no such thing."""
    _answered_by_the_page(parameter)
    return st.query_params.get(parameter)


def _answered_by_the_page(parameter: str) -> None:
    links = st.session_state.get(LINKS)
    if links is not None:
        links.read.add(parameter)


def page_link(page: str, label: str, query: Mapping[str, str | list[str]]) -> None:
    """A link to a page of the app in a state: within the app, or by its address.

    By its address where a page runs alone, and where the state is another than that of a widget of this page: Streamlit
    takes what such a widget is bound to out of the address on the way.
    """
    if all(st.session_state.get(key, value) == value for key, value in query.items()):
        with suppress(StreamlitAPIException):
            st.page_link(f"pages/{page}.py", label=label, icon=":material/arrow_forward:", query_params=dict(query))
            return
    address = f"{page}?{urlencode(query, doseq=True)}"
    st.html(
        Markup('<a href="{}" target="_self" style="color:inherit;text-decoration:none">→ {}</a>').format(address, label)
    )


def with_asked(options: Iterable[T], key: str) -> list[T]:
    """`options`, and behind them what the widget `key` is asked for by the link or holds, where they lack it.

    Whoever offers them refuses what is not there.
    """
    _answered_by_the_page(key)
    offered = list(options)
    asked: Any = st.session_state[key] if key in st.session_state else st.query_params.get(key)
    return offered if asked in (None, "") or str(asked) in map(str, offered) else [*offered, asked]


def choose_linked(
    widget: Callable[..., Any], label: str, options: Sequence[T], *, key: str, what: str, **more: Any
) -> T:
    """One of the options, by a widget such as `st.selectbox`, where it decides which experiment is shown.

    `what` says what an option is. Raises InputError where the link names one that is not there. What was chosen by hand
    and is gone with another choice of the page (its study, its questions) falls back to the default: that was no link.
    """
    offered, held = list(options), st.session_state.setdefault(HELD, {})
    stands = st.session_state.get(key)
    if stands is not None and stands not in offered and held.get(key) == stands:
        del st.session_state[key]
        listed = offered
    else:
        listed = with_asked(offered, key)
    chosen = widget(label, listed, key=key, bind="query-params", **more)
    if chosen not in offered:
        if (links := st.session_state.get(LINKS)) is not None:
            links.refused = True
        there = ", ".join(map(str, offered[:MOST_NAMED])) + (" …" if len(offered) > MOST_NAMED else "")
        raise InputError(
            f"The link names the {what} {chosen!r}, which is not there, so nothing is shown in its place. Choose one "
            f"under “{label}”: {there}."
        )
    held[key] = chosen
    return chosen  # type: ignore[no-any-return]
