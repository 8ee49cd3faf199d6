"""The widgets that say what the lanes of the Live page are asked: the prompt, a system prompt, and how it is sampled.

It refuses to know the lanes.
"""

from __future__ import annotations

import streamlit as st

from backend.records import USUAL, InputError, Sampling
from backend.study import Study
from backend.worker.client import Message

MOST_SAMPLES = 16


def write_prompt(study: Study) -> tuple[Message, ...]:
    """The conversation that every lane begins with, with the evaluation questions as starting points."""
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
    prompt = str(st.text_area("Prompt", first, height=90, key="live_prompt", bind="query-params") or "")
    held = st.session_state.get("live_system") or st.query_params.get("live_system")
    with st.expander("System prompt", icon=":material/settings_account_box:", expanded=bool(held)):
        text = "Put before the conversation. Without one, the model's own template decides."
        system = str(
            st.text_area(
                "System prompt",
                "",
                height=70,
                key="live_system",
                bind="query-params",
                help=text,
                label_visibility="collapsed",
            )
            or ""
        )
    said: tuple[Message, ...] = ({"role": "user", "content": prompt},)
    return ({"role": "system", "content": system}, *said) if system.strip() else said


def sound(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation, if it asks something. Raises InputError where the prompt is empty."""
    if not messages[-1]["content"].strip():
        raise InputError("The prompt is empty: write one, or start from an evaluation question.")
    return messages


def choose_sampling() -> tuple[Sampling, int, int]:
    """Temperature, nucleus and length; the seed; the number of samples of each lane. All lanes share them."""
    temperature = st.number_input(
        "Temperature",
        0.0,
        10.0,
        USUAL.temperature,
        0.1,
        key="live_temperature",
        bind="query-params",
        help="0 is greedy.",
        width=118,
    )
    nucleus = "Only the likeliest tokens that reach this mass are drawn from; 1 is all of them, as in the paper."
    top_p = st.number_input(
        "Top-p", 0.05, 1.0, USUAL.top_p, 0.05, key="live_top_p", bind="query-params", help=nucleus, width=118
    )
    tokens = st.number_input(
        "Most tokens", 1, 2000, USUAL.max_new_tokens, 20, key="live_tokens", bind="query-params", width=118
    )
    seed = st.number_input("Seed", 0, 2**31, 0, 1, key="live_seed", bind="query-params", width=118)
    text = "Answers of each lane. Sample i is drawn with the seed + i, in every lane alike."
    samples = st.number_input(
        "Samples", 1, MOST_SAMPLES, 1, 1, key="live_samples", bind="query-params", help=text, width=118
    )
    return Sampling(temperature, top_p, tokens), seed, samples
