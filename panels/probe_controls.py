"""The widgets that choose how a probe is trained, and whether the paper's protocol stands beside it."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from backend.analysis.probes.probe import GRID, ProbeSettings
from backend.tables.features import Features
from backend.tables.rows import count_rows
from panels.asked import spelled
from panels.classes import Classes
from panels.probe_training import PENALTIES, REPEATS

SPLITS = {
    "question": "held-out rows answer questions that the probe has not seen",
    "response": "held-out rows are unseen responses, to questions that the probe may have seen",
    "token": "held-out rows are random tokens, as in the paper",
}
LEAK = (
    "Tokens of one response fall on both sides of this split, so a probe that only recognises responses scores high: "
    "look at the shuffled labels. Use it to compare with the paper, and *question* to learn what carries over."
)
BY_ITSELF = "chosen"  # in place of a number for C
QUICK = 300_000  # numbers (rows x features) that the paper's protocol gets through in about 2 s, with its shuffles
LEAST_RESPONSES, LEAST_QUESTIONS = 10, 4  # of each class, below which no figure of a probe is shown
BOOTSTRAPS, PERMUTATIONS = 100, 99


def choose_settings(features: Features) -> ProbeSettings:
    """Penalty and split."""
    penalty = st.segmented_control(
        "Penalty",
        list(PENALTIES),
        default="l2",
        required=True,
        format_func=spelled("probes_penalty", lambda name: PENALTIES[name]),
        key="probes_penalty",
        bind="query-params",
        help="L2 shares weight among features that say the same; L1 keeps few of them; an elastic net does both.",
    )
    ratio = 0.5
    if penalty == "elasticnet":
        ratio = st.slider("Share of L1", 0.05, 0.95, 0.5, 0.05, key="probes_ratio", bind="query-params")
    strength = st.select_slider(
        "C",
        [BY_ITSELF, *GRID],
        0.1,
        key="probes_c",
        bind="query-params",
        help="Smaller penalises more. *chosen*: by cross-validation within each training fold (nested), by its loss.",
    )
    splits = list(SPLITS) if features.by_token else list(SPLITS)[:2]
    split = st.segmented_control(
        "Split by",
        splits,
        default="question",
        required=True,
        key="probes_split",
        bind="query-params",
        help="; ".join(f"*{name}*: {text}" for name, text in SPLITS.items()),
    )
    seed = st.number_input("Seed", 0, 9999, 0, key="probes_seed", bind="query-params")
    return ProbeSettings(
        penalty=penalty,  # type: ignore[arg-type]
        C=float(strength) if isinstance(strength, float) else None,
        split=split,  # type: ignore[arg-type]
        seed=seed or 0,
        shuffles=PERMUTATIONS,
        bootstraps=BOOTSTRAPS,
        l1_ratio=ratio,
    )


def shortage(features: Features, classes: Classes) -> str | None:
    """What is missing for the figures of a probe to mean anything, with the counts; None where nothing is."""
    read = classes.rows.filter(pl.col("response").is_in(features.responses))
    counts, short = [], False
    for side, name in zip((True, False), classes.names, strict=True):
        rows = read.filter(pl.col("label") == side)
        responses, questions = rows["response"].n_unique(), rows["question_id"].n_unique()
        counts.append(f"{name}: {responses} responses to {questions} questions")
        short |= responses < LEAST_RESPONSES or questions < LEAST_QUESTIONS
    if not short:
        return None
    return (
        f"{'; '.join(counts)}. A probe is judged from {LEAST_RESPONSES} responses to {LEAST_QUESTIONS} questions of "
        "each class on: with fewer its figures are chance. Widen the bands, or choose more organisms, conditions or "
        "another contrast."
    )


def choose_paper(features: Features, classes: Classes) -> bool:
    """Whether the paper's protocol is shown too; it starts on where that is quick."""
    smaller = min(count_rows(features, classes.rows)) if features.by_token else 0
    chosen = st.toggle(
        "Beside the paper's protocol",
        2 * smaller * len(features.names) <= QUICK,
        disabled=not features.by_token,
        key="probes_paper",
        bind="query-params",
        help="Classes cut to one size, z-scored over all rows, 80/20 split by token, L1 with C = 0.01, mean of "
        f"{REPEATS} random splits. It needs scalars at each token.",
    )
    return features.by_token and chosen


def chosen_controls() -> dict[str, Any]:
    """The values of this page's widgets that a link could hold."""
    kinds = (str, int, float, bool, list, tuple)
    buttons = ("probes_train", "probes_send", "probes_save", "probes_load", "probes_restore", "probes_saved_send")
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in st.session_state.items()
        if isinstance(key, str) and key.startswith("probes_") and isinstance(value, kinds) and key not in buttons
    }
