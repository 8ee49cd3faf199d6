"""What a link asks of a choice: it stands among the options even where the page lacks it, so that it can be refused.

Streamlit would put the first option in its place, and the page would show something else than the link names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")


def with_asked(options: Iterable[T], key: str) -> list[T]:
    """`options`, and behind them what the widget `key` is asked for by the link or holds, where they lack it."""
    offered = list(options)
    asked: Any = st.session_state[key] if key in st.session_state else st.query_params.get(key)
    return offered if asked in (None, "") or str(asked) in map(str, offered) else [*offered, asked]
