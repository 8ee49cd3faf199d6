"""Convergence: do the directions of different organisms agree, more than their controls, and as far as they could?"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import streamlit as st

from backend.analysis.conditions.controls import GOOD, SHUFFLED, Role, kind_of
from backend.analysis.directions.answers import MATCHED
from backend.analysis.directions.convergence import CEILING, PAIRS, Stacks, against, ceilings, cosine_ranges, summary
from backend.analysis.directions.cosines import chance, comparable, cosine_matrix
from backend.charts.cosines import agreement_chart, layer_lines, pair_cosine_chart
from backend.charts.tradeoffs import series_legend
from backend.records import FloatArray, InputError
from backend.study import Study
from backend.tables.convergence import Agreement, agreement_by_kind, agreements, roles_of, stacks_of
from panels.agreement import agreement_in_words, balances_in_words
from panels.asked import choose_linked
from panels.figures import show_chart
from panels.frame import current_study, explained, per_study, plain
from panels.opening import opening
from panels.stacks import send_buttons

START = 7  # directions drawn before the reader chooses


@per_study
def stacks(study: Study) -> Stacks:
    """The study's directions by name."""
    return stacks_of(study)


@per_study
def compared(study: Study, reference: str) -> pl.DataFrame:
    """Norm, share and cosine with the reference, of every direction at every layer."""
    return against(stacks(study), reference)


@per_study
def _ranges(study: Study) -> pl.DataFrame:
    """Least, median and greatest cosine of every pair."""
    return cosine_ranges(stacks(study))


def choose_reference(study: Study) -> tuple[str, list[str]]:
    """The reference and the directions beside it. Raises InputError where none is chosen."""
    names = list(stacks(study))
    most = max(len(stacks(study)[name]) for name in names)
    likely = [name for name in names if len(stacks(study)[name]) == most]
    readers = tuple(study.readers())
    first = next((name for name in likely if readers and _roles(study)[name].owner in readers), likely[0])
    left, right = st.columns([1, 2])
    key, start_at = "convergence_reference", names.index(first)
    reference = choose_linked(left.selectbox, "Compare with", names, index=start_at, key=key, what="direction")
    about = {name: kind_of(name, each.owner) for name, each in _roles(study).items()}
    alike = [name for name in likely if about[name] == about[reference]]
    end = reference.rpartition(" ")[2]
    named = [name for name in likely if name.endswith(f" {end}") and "chat-read" not in name]
    start = list(dict.fromkeys([reference, *alike, *named, *likely]))[:START]
    chosen = right.multiselect("Directions", names, default=start, key="convergence_names", bind="query-params")
    if not chosen:
        raise InputError("No direction is left: choose at least one to compare.")
    return reference, chosen


# --- do organisms converge? -----------------------------------------------------------------------------------------


@per_study
def _roles(study: Study) -> dict[str, Role]:
    """What every stored direction stands for, by name."""
    return roles_of(study, stacks(study))


@per_study
def agreed(study: Study) -> dict[str, Agreement]:
    """Every kind of direction that several organisms have."""
    return agreements(study, stacks(study))


def with_ceilings(study: Study, found: Agreement) -> pl.DataFrame:
    """[layer, a, b, group, cosine] of every two of the directions, and what their stability allows."""
    bad = [name for name in found.names if _roles(study)[name].kind != GOOD]
    own = found.pairs.select("layer", "a", "b", "group", "cosine")
    return pl.concat([own, ceilings(halves(study), bad)])


@per_study
def halves(study: Study) -> dict[str, dict[int, float]]:
    """The cosine between halves of the data behind a direction, where its record has it: name, layer."""
    found: dict[str, dict[int, float]] = {}
    for name, stack in stacks(study).items():
        for each in stack:
            half = each.provenance.get("split_half_cosine")  # its value, and the ends of its interval
            if isinstance(half, Sequence) and half and half[0] is not None:
                found.setdefault(name, {})[each.layer] = float(half[0])
    return found


def matrix_at(study: Study, names: list[str], layer: int) -> tuple[FloatArray, list[str]]:
    """Cosines at one layer of the directions that have it, of the base model that most are of."""
    here = {name: each for name in names for each in stacks(study)[name] if each.layer == layer}
    alike = {name: [other for other, each in here.items() if comparable(here[name], each)] for name in here}
    kept = max(alike.values(), key=len, default=[])
    return cosine_matrix([here[name] for name in kept]), kept


def choose_kind(found: dict[str, Agreement]) -> Agreement:
    """The directions of one kind; at first, matched ones where there are any."""
    start = next((at for at, each in enumerate(found.values()) if set(each.made["balance"]) == {MATCHED}), 0)
    label = "Directions of every organism"
    return found[
        choose_linked(st.selectbox, label, list(found), index=start, key="convergence_kind", what="kind of direction")
    ]


def show_organisms(study: Study) -> None:
    """Whether the organisms' directions agree, beside controls."""
    found = agreed(study)
    if not found:
        st.info(
            "No kind of direction of this study comes from two organisms, so there is nothing to converge. Train a "
            "second organism and build the study again; below, any two directions can be compared.",
            icon=":material/info:",
        )
        return
    answer = st.container()
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        chosen = choose_kind(found)
    table = with_ceilings(study, chosen)
    if not table.height:
        st.info(
            "These directions share no layer, or are of different base models or widths, so they cannot be compared."
        )
        return
    layers = sorted(table["layer"].unique())
    middle = len(layers) // 2
    layer = choose_linked(right.selectbox, "Layer", layers, index=middle, key="convergence_layer", what="layer")
    answer.markdown(agreement_in_words(chosen, layer))
    width = stacks(study)[chosen.names[0]][0].d_model
    within = chosen.means.filter(pl.col("group") == PAIRS)
    chart = agreement_chart(table, chance=chance(width), chosen=layer, mean=within)
    show_chart(st, chart, key="convergence_organisms", alt="Cosine of every two organisms' directions at every layer")
    st.caption(cosines_in_words(table, within, width))
    missing = lacking(study, chosen.names)
    if missing:
        st.caption(f"Partial: {missing}.")
    show_tables(found, chosen, layer)
    show_matrix(study, chosen, layer)


def show_tables(found: dict[str, Agreement], chosen: Agreement, layer: int) -> None:
    """Every kind of direction beside its shuffled labels, and every pair of the chosen kind."""
    numbers = dict.fromkeys(
        ("cosine", "shuffled", "chance", "low", "high"), st.column_config.NumberColumn(format="%.2f")
    )
    st.markdown(f"**Every kind of direction at layer {layer}, means over pairs**")
    table = agreement_by_kind(found, layer)
    st.dataframe(table, hide_index=True, column_config=numbers, alt="Agreement by kind of direction")
    balances = balances_in_words(found.values())
    st.caption(
        "low, high: where 95 % of further shuffles put that mean; above: it is larger, which labels that tell nothing "
        "within a question reach in 2.5 of 100 studies; both: questions with both classes behind a direction, least "
        f"and most. {f'Balance: {balances}.' if balances else ''}"
    )
    with st.expander("Every pair, and what each direction is made of"):
        here = chosen.pairs.filter(pl.col("layer") == layer).drop("layer", "pairs").rename({"control": "labels"})
        st.dataframe(here, hide_index=True, column_config=numbers, alt="Agreement of every pair")
        st.dataframe(chosen.made, hide_index=True, alt="What each direction is made of")


def show_matrix(study: Study, chosen: Agreement, layer: int) -> None:
    """Every two of the directions at a layer; each can be sent on."""
    matrix, kept = matrix_at(study, list(chosen.names), layer)
    st.markdown(f"**Every two at layer {layer}**")
    show_chart(
        st, pair_cosine_chart(matrix, kept), key="convergence_matrix", alt=f"Cosine of every two at layer {layer}"
    )
    every = [{each.layer: each for each in stacks(study)[name]} for name in chosen.names]
    send_buttons(every, layer, key="convergence")


def lacking(study: Study, names: Sequence[str]) -> str:
    """The directions that lack layers which others have, in words."""
    words = []
    every = {each.layer for name in names for each in stacks(study)[name]}
    for name in names:
        absent = sorted(every - {each.layer for each in stacks(study)[name]})
        if absent:
            words.append(f"{plain(name)} has no layer {ranges_of(absent)}")
    return "; ".join(words)


def ranges_of(numbers: Sequence[int]) -> str:
    """Ascending integers in words, those in a row as a range."""
    firsts = [at for at in numbers if at - 1 not in numbers]
    lasts = [at for at in numbers if at + 1 not in numbers]
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in zip(firsts, lasts, strict=True))


def cosines_in_words(table: pl.DataFrame, mean: pl.DataFrame, width: int) -> str:
    """The ranges of the groups and what is drawn beside them, in words."""
    said = {row["group"]: row for row in summary(table).iter_rows(named=True)}
    names = {PAIRS: "Between organisms", CEILING: "the ceiling that their stability allows", GOOD: "with good advice"}
    parts = [
        f"{text}: median {row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f}, {row['pairs']} pairs)"
        for group, text in names.items()
        if (row := said.get(group))
    ]
    lacks = [text for group, text in names.items() if group not in said and group != PAIRS]
    shuffles = mean.filter(pl.col("above").is_not_null())
    if shuffles.height:
        control = shuffles["control"][0]
        band = (
            f"Thick line: the mean over pairs of organisms; coloured band: where 95 % of further shuffles put it, of "
            f"labels {control}, at most {max(shuffles['high']):.2f}. "
            + ("" if control == SHUFFLED else "These change which questions are hit, too. ")
        )
    else:
        lacks.append("labels shuffled within questions")
        band = ""
    return (
        f"{'; '.join(parts)}; over layers and pairs. {band}Grey band: 95 % of random directions of {width} dimensions, "
        f"±{chance(width):.2f}; real activations crowd into fewer, so the other controls are stricter."
        + (
            " The ceiling is for other questions: organisms that answered the same ones share what these add, and can "
            "agree above it."
            if CEILING in said
            else ""
        )
        + (f" Not in this study: {', '.join(lacks)}." if lacks else "")
    )


def show_reference(study: Study) -> None:
    """Every direction against a chosen one: cosine, norm and share by layer."""
    st.subheader("Any direction against another")
    reference, chosen = choose_reference(study)
    table = compared(study, reference)
    st.markdown(f"**Cosine with {plain(reference)}, at the same layer**")
    shown = {name: _roles(study)[name].kind for name in chosen}
    st.html(series_legend(chosen, shown))
    chart = layer_lines(table, column="cosine", title="cosine", names=chosen, roles=shown)
    show_chart(st, chart, key="convergence_cosine", alt="Cosine with the reference at every layer")
    left, right = st.columns(2)
    with left:
        st.markdown("**Norm**")
        chart = layer_lines(
            table, column="norm", title="norm, residual units", names=chosen, roles=shown, logarithmic=True
        )
        show_chart(st, chart, key="convergence_norm", alt="Norm at every layer")
    with right:
        st.markdown("**Norm, as a share of the activation norm**")
        if table.filter(pl.col("name").is_in(chosen))["share"].is_not_null().any():
            chart = layer_lines(table, column="share", title="norm / activation norm", names=chosen, roles=shown)
            show_chart(st, chart, key="convergence_share", alt="Share of the activation norm at every layer")
        else:
            st.info("The activation norms behind these directions were not recorded.")
    with st.expander("Every pair: the range of its cosine over layers"):
        drawn = _ranges(study).filter(pl.col("a").is_in(chosen) & pl.col("b").is_in(chosen))
        cosine = st.column_config.NumberColumn(format="%.3f")
        columns = dict.fromkeys(("min", "median", "max"), cosine)
        st.dataframe(drawn, hide_index=True, column_config=columns, alt="Cosines of every pair")
    st.caption(
        "A direction is compared at equal layers only; data-diff, model-diff and both-diff are explained in "
        "each direction's provenance."
    )


study = current_study()
opening(
    "Convergence",
    "Do the directions of different organisms agree, more than those of shuffled labels do?",
    study,
    "direction",
)
with explained():
    if not stacks(study):
        raise InputError(
            f"Study {study.name} holds no directions. Make one on the Directions page, or build a study with them."
        )
    show_organisms(study)
    show_reference(study)
