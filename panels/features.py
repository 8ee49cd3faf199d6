"""The widgets that choose what a probe reads: scalars at tokens or of responses, residual means or their projections.

It refuses to know what the rows are told apart by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl
import streamlit as st

from backend.records import BASE, InputError
from backend.study import Study, build_command
from backend.tables import features as tables
from backend.tables.adapters import largest
from backend.tables.features import ALL_TOKENS, PLACED_TOKENS, SIGNIFICANT_TOKENS, Features
from panels.adapters import choose_statistic, response_scalars
from panels.asked import choose_linked
from panels.frame import per_study, responses_of
from panels.gains import SUGGESTED

TOKEN, RESPONSE = "Scalars at each token", "Scalars of each response"
RESIDUAL, PROJECTION = "Mean residual of each response", "Mean residual along directions"
MOST_NUMBERS = 30_000_000  # tokens x adapters that a page reads at once
MOST_ADAPTERS = 1000  # features of responses


# What a study holds of each kind, read once a build.
token_scalars = per_study(tables.token_scalars)
placed_scalars = per_study(tables.placed_scalars)
has_significance = per_study(tables.has_significance)
mean_residuals = per_study(tables.mean_residuals)


@per_study
def residuals_along(study: Study, reader: str, layer: int, directions: tuple[str, ...]) -> Features:
    """The mean residual of every answer after one block along unit directions of that layer."""
    return tables.projections(study, mean_residuals(study, reader, layer), directions)


# --- choosing --------------------------------------------------------------------------------------------------------


def choose_reader(study: Study) -> str:
    """The organism that read the answers. Raises InputError where none did."""
    readers = study.readers()
    if not readers:
        raise InputError(
            f"Study {study.name} holds no traces, so there is nothing to train on. Build it again with traces: "
            + build_command(study.name, study.info.get("folder"))
        )
    start = next((at for at, name in enumerate(readers) if name != BASE), 0)
    help_text = "The organism that read the answers again; its adapters, or its residual stream, are the features."
    key = "probes_reader"
    return choose_linked(st.selectbox, "Read by", readers, index=start, key=key, what="organism", help=help_text)


def choose_features(study: Study, reader: str) -> Features:
    """What the probe reads. Raises InputError where the study lacks it or no adapter is left."""
    adapters, layers = study.adapters(reader), study.residual_layers(reader)
    known = study.directions().filter(pl.col("layer").is_in(layers)) if layers else study.directions().clear()
    kinds = [*((TOKEN, RESPONSE) if adapters.height else ()), *((RESIDUAL,) if layers else ())]
    kinds += [PROJECTION] if known.height else []
    if not kinds:
        raise InputError(f"{reader} has neither adapters nor residual means in {study.name}: choose another reader.")
    kind = choose_linked(st.selectbox, "Features", kinds, key="probes_features", what="kind of feature")
    match kind:
        case "Scalars at each token":
            found = choose_tokens(study, reader, adapters)
        case "Scalars of each response":
            chosen = choose_feature_adapters(reader, adapters, MOST_ADAPTERS)
            statistic = choose_statistic("probes")
            found = tables.of_responses(response_scalars(study, reader, chosen, *statistic), chosen, *statistic)
        case _:
            middle = len(layers) // 2
            key = "probes_layer"
            layer = int(choose_linked(st.selectbox, "After block", layers, index=middle, key=key, what="block"))
            found = choose_residual(study, reader, layer, kind, known)
    return replace(found, made_of={"features": kind, "reader": reader, **found.made_of})


def choose_residual(study: Study, reader: str, layer: int, kind: str, known: pl.DataFrame) -> Features:
    """All dimensions of the residual at a layer, or its projections on stored directions."""
    if kind == RESIDUAL:
        return mean_residuals(study, reader, layer)
    names = known.filter(pl.col("layer") == layer)["name"].to_list()
    if not names:
        raise InputError(f"This study holds no direction at layer {layer}: choose another layer.")
    chosen = st.multiselect(
        "Along", names, key="probes_directions", bind="query-params", placeholder="all stored directions"
    )
    return residuals_along(study, reader, layer, tuple(chosen or names))


def choose_tokens(study: Study, reader: str, adapters: pl.DataFrame) -> Features:
    """Scalars at all answer tokens, at those of high significance, or at some positions."""
    tokens = int(responses_of(study)["n_answer"].sum())
    chosen = choose_feature_adapters(reader, adapters, max(MOST_NUMBERS // max(tokens, 1), 1))
    known = has_significance(study, reader)
    options = [ALL_TOKENS, *((SIGNIFICANT_TOKENS,) if known else ()), PLACED_TOKENS]
    kept = st.segmented_control(
        "Tokens",
        options,
        default=ALL_TOKENS,
        required=True,
        key="probes_tokens",
        bind="query-params",
        help="High significance: log score of 0.5 or more. The score tells how much the gap between the organism "
        "and its base depends on this token (paper, App. H). Position: from one answer token to another.",
    )
    if not known:
        st.caption("This study holds no token significance, so the tokens that matter most cannot be singled out.")
    if kept == PLACED_TOKENS:
        left, right = st.columns(2)
        first = int(left.number_input("From answer token", 1, None, 1, key="probes_from", bind="query-params"))
        last = int(right.number_input("to", first, None, max(first, 20), key="probes_to", bind="query-params"))
        return placed_scalars(study, reader, chosen, first, last)
    return token_scalars(study, reader, chosen, kept == SIGNIFICANT_TOKENS)


def choose_feature_adapters(reader: str, adapters: pl.DataFrame, most: int) -> tuple[str, ...]:
    """Adapters by group, layer and module, the largest `most` of them. Raises InputError where none is left."""
    groups = adapter_groups(reader, adapters)
    if len(groups) > 1:
        picked = st.multiselect(
            "Adapters of group", list(groups), key="probes_groups", bind="query-params", placeholder="all"
        )
        inside = {name for group in picked for name in groups[group]}
        adapters = adapters.filter(pl.col("name").is_in(list(inside))) if picked else adapters
    for column in ("layer", "module"):
        options = adapters[column].unique().sort().to_list()
        if len(options) > 1:
            kept = st.multiselect(
                f"Adapters of {column}", options, key=f"probes_{column}s", bind="query-params", placeholder="all"
            )
            adapters = adapters.filter(pl.col(column).is_in(kept or options))
    if not adapters.height:
        raise InputError("No adapter is of these groups, layers and modules: clear one of the filters.")
    shown = largest(adapters, most)
    if shown.height < adapters.height:
        st.caption(
            f"{shown.height:,} of {adapters.height:,} adapters, those with the largest write vectors: all of them at "
            "once are more than a page can read. Narrow the filters for others."
        )
    return tuple(shown["name"])


def adapter_groups(reader: str, adapters: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """Runs of neighbouring layers, and the sets that other pages found in this session."""
    layers = adapters["layer"].unique().sort().to_list()
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    names = {f"layers {run[0]}–{run[-1]}" if len(run) > 1 else f"layer {run[0]}": run for run in runs}
    found = {
        text: tuple(adapters.filter(pl.col("layer").is_in(run))["name"]) for text, run in names.items() if len(runs) > 1
    }
    known = set(adapters["name"])
    suggested: Mapping[str, tuple[str, ...]] = st.session_state.get(SUGGESTED, {}).get(reader, {})
    return found | {what: kept for what, some in suggested.items() if (kept := tuple(n for n in some if n in known))}
