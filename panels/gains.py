"""The widgets that choose a gain for every adapter of an organism: by subsets, or one by one on the Live page.

Two sets, so that one can go up while the other goes down (the paper's combined arm). It refuses to know where a
suggested set comes from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import polars as pl
import streamlit as st

from backend.analysis.conditions.causal import unit_of, units_of
from backend.edits import Gain, edits_to_json
from backend.records import InputError
from backend.study import Study
from panels.frame import plain
from panels.stacks import SENT_TO

UP, DOWN = 30.0, -10.0  # gains of the paper's combined arm (section 4.3)
MIXER_LIMIT = 24  # past so many adapters, those of one layer share a gain
SUGGESTED = "suggested_adapters"  # session state: {reader: {what it is: adapters}}, sets that other pages found


@dataclass(frozen=True)
class Plan:
    """The gain of every adapter of an organism."""

    organism: str
    adapters: tuple[tuple[str, int], ...]  # (name, layer), all of the organism's
    levels: Mapping[str, float]  # by adapter name
    what: str  # in words

    def units(self) -> list[float]:
        """The gain of every module, in the order of the adapters."""
        first = {unit_of(name): self.levels[name] for name, _ in reversed(self.adapters)}
        return [first[unit] for unit in units_of([name for name, _ in self.adapters])]


def gains_at(organism: str, levels: Mapping[str, float]) -> tuple[Gain, ...]:
    """The edits that wear an organism with its adapters at these levels, those of one level in one edit."""
    by_level: dict[float, list[str]] = {}
    for name, level in levels.items():
        by_level.setdefault(level, []).append(name)
    by_level.pop(1.0, None)
    return (Gain(organism, 1.0), *(Gain(organism, level, tuple(names)) for level, names in by_level.items()))


def suggest(reader: str, what: str, adapters: Sequence[str]) -> None:
    """Offer a set of adapters wherever subsets are chosen, in this session."""
    st.session_state.setdefault(SUGGESTED, {}).setdefault(reader, {})[what] = tuple(adapters)


def choose_plan(study: Study, organism: str, shown: pl.DataFrame, sets: Mapping[str, Sequence[str]]) -> Plan | None:
    """Two sets with a gain each, and the gain of all others; None while both are empty.

    `shown` has the columns name and label of the adapters that can be chosen, `sets` are those that can be filled in,
    by name. Raises InputError where an adapter is in both.
    """
    names = dict(zip(shown["label"], shown["name"], strict=True))
    known = {**st.session_state.get(SUGGESTED, {}).get(organism, {}), **sets}
    labels = {name: label for label, name in names.items()}
    fills = {what: [labels[name] for name in found if name in labels] for what, found in known.items()}
    left, right = st.columns(2, gap="large")
    with left:
        first, up = _choose_set("First set", "subset_first", names, fills, UP)
    with right:
        second, down = _choose_set("Second set", "subset_second", names, fills, DOWN)
    rest = st.number_input(
        "Gain of all others",
        value=0.0,
        step=0.5,
        key="subset_rest",
        bind="query-params",
        width=180,
        help="0 zeroes every adapter that is in neither set, as in the paper; 1 leaves them as they are.",
    )
    if not first and not second:
        return None
    if both := set(first) & set(second):
        raise InputError(f"{', '.join(sorted(both))} is in both sets: take it out of one.")
    table = study.adapters(organism)
    levels = dict.fromkeys(table["name"], float(rest))
    for chosen, gain in ((first, up), (second, down)):
        levels.update(dict.fromkeys((names[label] for label in chosen), gain))
    parts = [f"{', '.join(chosen)} ×{gain:g}" for chosen, gain in ((first, up), (second, down)) if chosen]
    what = "; ".join([*parts, f"others ×{rest:g}"])
    return Plan(organism, tuple(table.select("name", "layer").iter_rows()), levels, what)


def _choose_set(
    title: str, key: str, names: Mapping[str, str], fills: Mapping[str, Sequence[str]], gain: float
) -> tuple[list[str], float]:
    filled = {f"{what} ({len(found)})": list(found) for what, found in fills.items() if found}

    def fill() -> None:
        if chosen := st.session_state.get(f"{key}_from"):
            st.session_state[key] = filled.get(chosen, [])

    wide, narrow = st.columns([3, 1], vertical_alignment="bottom")
    chosen = wide.multiselect(title, list(names), key=key, bind="query-params", placeholder="no adapter")
    level = narrow.number_input("× gain", value=gain, step=1.0, key=f"{key}_gain", bind="query-params")
    st.selectbox(
        f"Fill the {title.lower()} from",
        list(filled),
        index=None,
        key=f"{key}_from",
        on_change=fill,
        placeholder=f"Fill the {title.lower()} from …" if filled else "Brush a region on the map to fill it from there",
        disabled=not filled,
        label_visibility="collapsed",
    )
    return list(chosen), float(level)


def act_on(plan: Plan, recorded: pl.DataFrame) -> str | None:
    """Send the plan to Live, or keep it as a condition to sample; the recorded condition that is the same, if any.

    `recorded` has the columns organism, condition and levels (a gain for every module).
    """
    st.markdown(f"**{plain(plan.organism)}: {plain(plan.what)}**")
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Run it on the Live page", type="primary", key="subset_send", icon=":material/send:"):
            send_gains(plan.organism, plan.adapters, plan.levels)
        st.download_button(
            "Save as a condition",
            json.dumps(edits_to_json(gains_at(plan.organism, plan.levels)), indent=1),
            f"{_slug(plan.what)}.json",
            "application/json",
            key="subset_save",
            on_click="ignore",
            icon=":material/save:",
            help="Put it into the folder conditions/ of a study folder, then: python -m backend sample --folder FOLDER "
            f"--organism {plan.organism} --condition {_slug(plan.what)}",
        )
    return recorded_as(plan, recorded)


def recorded_as(plan: Plan, recorded: pl.DataFrame) -> str | None:
    """The recorded condition with the same gains."""
    wanted = plan.units()
    for row in recorded.filter(pl.col("organism") == plan.organism).iter_rows(named=True):
        if _same(row["levels"], wanted):
            return str(row["condition"])
    return None


def _same(levels: Sequence[Any], wanted: Sequence[float]) -> bool:
    return len(levels) == len(wanted) and all(abs(a - b) < 1e-6 for a, b in zip(levels, wanted, strict=True))


def _slug(text: str) -> str:
    kept = "".join(char if char.isalnum() or char in "-." else "-" for char in text.replace("×", "x"))
    return "-".join(part for part in kept.split("-") if part)[:80]


# --- on the Live page -------------------------------------------------------------------------------------------------


def send_gains(organism: str, adapters: Sequence[tuple[str, int]], levels: Mapping[str, float]) -> NoReturn:
    """Go to the live page, where the organism answers with the gain of every adapter, given as (name, layer), set.

    Raises InputError where adapters that share one gain there have different levels.
    """
    chosen: dict[str, object] = {"live_worn_a": organism, f"live_worn_{SENT_TO}": organism, f"live_edits_{SENT_TO}": 0}
    for label, names in _groups(adapters).items():
        wanted = {levels.get(name, 1.0) for name in names}
        if len(wanted) > 1:
            raise InputError(
                f"The Live page has one gain for {label} of an organism with so many adapters, and these are to have "
                f"{len(wanted)}: choose whole layers."
            )
        chosen[gain_key(SENT_TO, label)] = f"{wanted.pop():g}"
    # The study and the judge are bound to widgets: they go along by themselves, and must not be given here.
    st.switch_page("pages/live.py", query_params={key: str(value) for key, value in chosen.items()})


def mix_adapters(lane: str, organism: str, adapters: Sequence[tuple[str, int]]) -> tuple[Gain, ...]:
    """A gain for every adapter, given as (name, layer), of the organism in a lane; the edits that wear it so."""
    groups = _groups(adapters)
    with st.container(horizontal=True, gap="xsmall"):
        _preset(lane, "All on", dict.fromkeys(groups, 1.0))
        _preset(lane, "All off", dict.fromkeys(groups, 0.0))
    with st.container(horizontal=True, gap="xsmall"):
        one = st.selectbox(
            "One adapter",
            list(groups),
            key=f"live_one_{lane}",
            bind="query-params",
            width=84,
            label_visibility="collapsed",
        )
        _preset(lane, "Keep only", {label: float(label == one) for label in groups})
        _preset(lane, "Zero", {label: float(label != one) for label in groups})
    with st.grid(3, min_column_width=60, gap="xsmall"):
        levels = {label: _gain(lane, label) for label in groups}
    return gains_at(organism, {name: levels[label] for label, names in groups.items() for name in names})


def _preset(lane: str, text: str, levels: Mapping[str, float]) -> None:
    values = {gain_key(lane, label): level for label, level in levels.items()}
    st.button(text, key=f"live_preset_{lane}_{text}", on_click=st.session_state.update, args=(values,))


def gain_key(lane: str, label: str) -> str:
    """The widget of a gain."""
    return f"live_gain_{lane}_{label}"


def _gain(lane: str, label: str) -> float:
    key = gain_key(lane, label)
    return float(st.number_input(label, value=1.0, step=0.5, format="%.2f", key=key, bind="query-params"))


def _groups(adapters: Sequence[tuple[str, int]]) -> dict[str, tuple[str, ...]]:
    """Adapters by the label of the gain they share: their own, or that of their layer where there are many."""
    layers = [layer for _, layer in adapters]
    single = len(adapters) <= MIXER_LIMIT
    groups: dict[str, tuple[str, ...]] = {}
    for name, layer in adapters:
        short = f"L{layer}" if not single or layers.count(layer) == 1 else name.removeprefix("layers.")
        groups[short] = (*groups.get(short, ()), name)
    return groups
