"""Long computations beside the pages: they run in threads that all visitors share; a page shows what they said last.

It refuses to know what is computed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import streamlit as st

T = TypeVar("T")
AT_ONCE = 2  # computations; others wait for their turn


class Running(Generic[T]):
    """A generator that is run to its end in a thread. What it yields replaces what it yielded before."""

    def __init__(self, steps: Iterator[T]) -> None:
        self._steps = steps
        self._said: list[T] = []
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self.done = False
        _pool().submit(self._run)

    @property
    def latest(self) -> T | None:
        """What it said last, None before that. Raises what ended it."""
        if self._error is not None:
            raise self._error
        return self._said[-1] if self._said else None

    def wait(self, seconds: float, *, to_the_end: bool = False) -> T | None:
        """What it said last, once it has said anything or ended (or, `to_the_end`, ended), or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.done or (bool(self._said) and not to_the_end), seconds)
        return self.latest

    def stop(self) -> None:
        """End it at its next step; what it said stays."""
        self._stopped = True

    def _run(self) -> None:
        try:
            for said in self._steps:
                with self._changed:
                    self._said[:] = [said]
                    self._changed.notify_all()
                if self._stopped:
                    break
        except BaseException as error:  # handed to whoever asks for the latest
            self._error = error
        finally:
            with self._changed:
                self.done = True
                self._changed.notify_all()


@st.cache_resource(show_spinner=False)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="computation")
