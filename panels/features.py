"""The widgets that choose what a probe reads: scalars at tokens or of responses, residual means or their projections.

Rows keep the index of their response, so that classes are dealt to hundreds of thousands of tokens at once. It refuses
to know what the rows are told apart by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import streamlit as st
from numpy.typing import NDArray

from backend.analysis.probes.probe import SIGNIFICANT
from backend.records import BASE, InputError
from backend.study import Study, build_command
from panels.adapters import SHARE, choose_statistic, largest, response_scalars
from panels.classes import Classes
from panels.frame import per_study, responses_of
from panels.gains import SUGGESTED

TOKEN, RESPONSE = "Scalars at each token", "Scalars of each response"
RESIDUAL, PROJECTION = "Mean residual of each response", "Mean residual along directions"
ALL_TOKENS, SIGNIFICANT_TOKENS, PLACED_TOKENS = "all", "high significance", "position"
MOST_NUMBERS = 30_000_000  # tokens x adapters that a page reads at once
MOST_ADAPTERS = 1000  # features of responses
NUMBERS = "answer tokens × adapters"


@dataclass(frozen=True, eq=False)
class Features:
    """The rows a probe may be trained on."""

    values: NDArray[Any]  # (row, feature)
    response: NDArray[Any]  # (row,), index into `responses`
    responses: tuple[str, ...]
    names: tuple[str, ...]  # (feature,)
    what: str  # in words
    unit: str = "responses"  # what a row is
    layer: int | None = None  # of a residual stream, where the features are its dimensions
    basis: NDArray[Any] | None = None  # (feature, d_model), where they are projections on these unit vectors
    made_of: Mapping[str, Any] = field(default_factory=dict)  # everything that decides the values, for a saved recipe

    @property
    def by_token(self) -> bool:
        """Whether several rows come from one response."""
        return self.unit != "responses"


@dataclass(frozen=True, eq=False)
class Rows:
    """Features and labels of the same rows."""

    values: NDArray[Any]  # (row, feature)
    labels: NDArray[Any]  # (row,) True: positive
    response: NDArray[Any]  # (row,) index into the responses of the features
    questions: NDArray[Any]  # (row,) index of the question


def labelled(features: Features, classes: Classes) -> Rows:
    """The rows of either class."""
    labels = classes.rows.select("response", "label", "question_id").unique("response", maintain_order=True)
    placed = pl.DataFrame({"response": features.responses}).join(
        labels, on="response", how="left", maintain_order="left"
    )
    sides = placed["label"].cast(pl.Int8).fill_null(-1).to_numpy()[features.response]
    kept = np.flatnonzero(sides >= 0)
    question = placed["question_id"].fill_null("").rank("dense").to_numpy()
    response = features.response[kept]
    values = features.values if len(kept) == len(sides) else features.values[kept]
    return Rows(values, sides[kept] == 1, response, question[response])


def count_rows(features: Features, classes: Classes) -> tuple[int, int]:
    """How many rows the positive class has, and how many the negative one."""
    sizes = np.bincount(features.response, minlength=len(features.responses))
    counted = pl.DataFrame({"response": features.responses, "n": sizes}).join(
        classes.rows.select("response", "label"), on="response"
    )
    return int(counted.filter("label")["n"].sum()), int(counted.filter(~pl.col("label"))["n"].sum())


# --- reading ---------------------------------------------------------------------------------------------------------


@per_study
def token_scalars(study: Study, reader: str, adapters: tuple[str, ...], significant: bool = False) -> Features:
    """The scalars of every answer token, or of those with a high significance alone."""
    table = study.scalar_tokens(reader, adapters, min_significance=SIGNIFICANT if significant else None)
    if not len(table.values):
        raise InputError("No answer token has a log significance of 0.5 or more: train on all tokens.")
    which = "answer token of high significance" if significant else "answer token"
    what = f"scalars of {len(adapters)} adapters at each {which}"
    made_of = {"adapters": list(adapters), "tokens": SIGNIFICANT_TOKENS if significant else ALL_TOKENS}
    unit = which.replace("token", "tokens")
    return Features(table.values, table.response, table.responses, adapters, what, unit, made_of=made_of)


@per_study
def placed_scalars(study: Study, reader: str, adapters: tuple[str, ...], first: int, last: int) -> Features:
    """The scalars of the answer tokens from one place to another, both included; the first token is 1."""
    table = study.scalar_tokens(reader, adapters)
    starts = responses_of(study).select("response", "n_prompt")
    placed = pl.DataFrame({"response": table.responses}).join(starts, on="response", maintain_order="left")
    place = table.position - placed["n_prompt"].to_numpy()[table.response] + 1
    kept = (place >= first) & (place <= last)
    if not kept.any():
        raise InputError(f"No answer has a token from {first} to {last}: choose smaller positions.")
    what = f"scalars of {len(adapters)} adapters at answer tokens {first} to {last}"
    made_of = {"adapters": list(adapters), "tokens": PLACED_TOKENS, "first": first, "last": last}
    return Features(
        table.values[kept], table.response[kept], table.responses, adapters, what, "answer tokens", made_of=made_of
    )


@per_study
def has_significance(study: Study, reader: str) -> bool:
    """Whether tokens that `reader` read have a significance."""
    try:
        study.scalar_tokens(reader, [study.adapters(reader)["name"][0]], responses=[], min_significance=SIGNIFICANT)
    except InputError:
        return False
    return True


def of_responses(study: Study, reader: str, adapters: tuple[str, ...], statistic: str, threshold: float) -> Features:
    """One statistic of every answer's scalars."""
    wide = response_scalars(study, reader, adapters, statistic, threshold)
    named = f"share of tokens above {threshold:g} of the" if statistic == SHARE else statistic
    what = f"{named} scalars of {len(adapters)} adapters over each answer"
    made_of = {"adapters": list(adapters), "statistic": statistic, "threshold": threshold}
    values = wide.select(adapters).to_numpy()
    return Features(values, np.arange(wide.height), tuple(wide["response"]), adapters, what, made_of=made_of)


@per_study
def mean_residuals(study: Study, reader: str, layer: int) -> Features:
    """The mean residual of every answer after one block."""
    means = study.residual_means(reader, layer)
    names = tuple(f"dimension {at}" for at in range(means.means.shape[1]))
    what = f"mean residual of each answer after block {layer} ({len(names)} dimensions)"
    rows = np.arange(len(means.responses))
    return Features(means.means, rows, means.responses, names, what, layer=layer, made_of={"layer": layer})


@per_study
def projections(study: Study, reader: str, layer: int, directions: tuple[str, ...]) -> Features:
    """The mean residual of every answer after one block along unit directions of that layer."""
    whole = mean_residuals(study, reader, layer)
    basis = np.stack([study.direction(name, layer).unit for name in directions])
    if basis.shape[1] != whole.values.shape[1]:
        raise InputError(f"The directions have {basis.shape[1]} numbers, the residuals {whole.values.shape[1]}.")
    what = f"mean residual of each answer after block {layer} along {len(directions)} directions"
    made_of = {"layer": layer, "directions": list(directions)}
    return replace(whole, values=whole.values @ basis.T, names=directions, what=what, basis=basis, made_of=made_of)


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
    return str(st.selectbox("Read by", readers, index=start, key="probes_reader", bind="query-params", help=help_text))


def choose_features(study: Study, reader: str) -> Features:
    """What the probe reads. Raises InputError where the study lacks it or no adapter is left."""
    adapters, layers = study.adapters(reader), study.residual_layers(reader)
    known = study.directions().filter(pl.col("layer").is_in(layers)) if layers else study.directions().clear()
    kinds = [*((TOKEN, RESPONSE) if adapters.height else ()), *((RESIDUAL,) if layers else ())]
    kinds += [PROJECTION] if known.height else []
    if not kinds:
        raise InputError(f"{reader} has neither adapters nor residual means in {study.name}: choose another reader.")
    kind = str(st.selectbox("Features", kinds, key="probes_features", bind="query-params"))
    match kind:
        case "Scalars at each token":
            found = choose_tokens(study, reader, adapters)
        case "Scalars of each response":
            chosen = choose_adapters(reader, adapters, MOST_ADAPTERS)
            found = of_responses(study, reader, chosen, *choose_statistic("probes"))
        case _:
            middle = len(layers) // 2
            layer = int(st.selectbox("After block", layers, index=middle, key="probes_layer", bind="query-params"))
            found = choose_residual(study, reader, layer, kind, known)
    return replace(found, made_of={"features": kind, "reader": reader, **found.made_of})


def choose_residual(study: Study, reader: str, layer: int, kind: str, known: pl.DataFrame) -> Features:
    """All dimensions of the residual at a layer, or its projections on stored directions."""
    if kind == RESIDUAL:
        return mean_residuals(study, reader, layer)  # type: ignore[no-any-return]
    names = known.filter(pl.col("layer") == layer)["name"].to_list()
    if not names:
        raise InputError(f"This study holds no direction at layer {layer}: choose another layer.")
    chosen = st.multiselect(
        "Along", names, key="probes_directions", bind="query-params", placeholder="all stored directions"
    )
    return projections(study, reader, layer, tuple(chosen or names))  # type: ignore[no-any-return]


def choose_tokens(study: Study, reader: str, adapters: pl.DataFrame) -> Features:
    """Scalars at all answer tokens, at those of high significance, or at some positions."""
    tokens = int(responses_of(study)["n_answer"].sum())
    chosen = choose_adapters(reader, adapters, max(MOST_NUMBERS // max(tokens, 1), 1))
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
        return placed_scalars(study, reader, chosen, first, last)  # type: ignore[no-any-return]
    return token_scalars(study, reader, chosen, kept == SIGNIFICANT_TOKENS)  # type: ignore[no-any-return]


def choose_adapters(reader: str, adapters: pl.DataFrame, most: int) -> tuple[str, ...]:
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
