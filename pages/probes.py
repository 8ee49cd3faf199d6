"""Probes: train a linear probe on adapter scalars or residuals in the browser, and see whether it beats chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import streamlit as st
from numpy.typing import NDArray

from backend.analysis.probes import ProbeReport, ProbeSettings, train_probe
from backend.charts.probes import coefficient_chart, metric_chart, metric_table, roc_chart
from backend.records import BASE, InputError
from backend.study import Study
from pages.contrast import Classes, choose_classes
from pages.edits import send_direction
from pages.frame import choose_judge, current_study, explained, per_study, plain

TOKEN, MEAN, RESIDUAL = "Scalars at each token", "Mean scalars of each response", "Mean residual of each response"
SPLITS = {
    "question": "held-out rows answer questions that the probe has not seen",
    "response": "held-out rows are unseen responses, to questions that the probe may have seen",
    "token": "held-out rows are random tokens, as in the paper",
}
LEAK = (
    "Tokens of one response fall on both sides of this split, so a probe that only recognises responses scores high: "
    "look at the shuffled labels. Use it to compare with the paper, and *question* to learn what carries over."
)
FITTED = "fitted_probe"  # session state: the last probe of this session


@dataclass(frozen=True, eq=False)
class Features:
    """The rows a probe may be trained on."""

    values: NDArray[Any]  # (row, feature)
    responses: NDArray[Any]  # (row,) names
    names: tuple[str, ...]  # (feature,)
    what: str  # in words
    unit: str = "responses"  # what a row is
    layer: int | None = None  # of a residual stream


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained probe and what it was trained on."""

    report: ProbeReport
    features: Features
    classes: Classes
    settings: ProbeSettings
    study: str
    reader: str

    @property
    def recipe(self) -> str:
        """Everything that decides the result, in words."""
        return recipe_of(self.study, self.reader, self.features, self.classes, self.settings)


def recipe_of(study: str, reader: str, features: Features, classes: Classes, settings: ProbeSettings) -> str:
    """Everything that decides a result, in words."""
    return (
        f"Study {study}: {features.what}, read by {reader}; {settings.penalty.upper()} penalty, C = {settings.C:g}, "
        f"split by {settings.split}, seed {settings.seed}. {classes.recipe}"
    )


@per_study
def token_scalars(study: Study, reader: str, adapters: tuple[str, ...]) -> Features:
    """The scalars of every answer token."""
    table = study.scalar_tokens(reader, adapters)
    responses = np.asarray(table.responses)[table.response]
    what = f"scalars of {len(adapters)} adapters at each answer token"
    return Features(table.values, responses, adapters, what, "answer tokens")


@per_study
def mean_scalars(study: Study, reader: str, adapters: tuple[str, ...]) -> Features:
    """The mean scalars of every answer."""
    rows = study.scalar_summary(reader).filter(pl.col("segment") == "answer", pl.col("adapter").is_in(adapters))
    wide = rows.pivot("adapter", index="response", values="mean")
    what = f"mean scalars of {len(adapters)} adapters over each answer"
    return Features(wide.select(adapters).to_numpy(), wide["response"].to_numpy(), adapters, what)


@per_study
def mean_residuals(study: Study, reader: str, layer: int) -> Features:
    """The mean residual of every answer after one block."""
    means = study.residual_means(reader, layer)
    names = tuple(f"dimension {at}" for at in range(means.means.shape[1]))
    what = f"mean residual of each answer after block {layer} ({len(names)} dimensions)"
    return Features(means.means, np.asarray(means.responses), names, what, layer=layer)


def choose_reader(study: Study) -> str:
    """The organism that read the answers. Raises InputError where none did."""
    readers = study.readers()
    if not readers:
        raise InputError(
            f"Study {study.name} holds no traces, so there is nothing to train on. Build a study with traces: "
            "python -m backend build."
        )
    start = next((at for at, name in enumerate(readers) if name != BASE), 0)
    help_text = "The organism that read the answers again; its adapters, or its residual stream, are the features."
    return str(st.selectbox("Read by", readers, index=start, key="probes_reader", bind="query-params", help=help_text))


def choose_features(study: Study, reader: str) -> Features:
    """What the probe reads. Raises InputError where the study lacks it or no adapter is left."""
    adapters, layers = study.adapters(reader), study.residual_layers(reader)
    kinds = [*((TOKEN, MEAN) if adapters.height else ()), *((RESIDUAL,) if layers else ())]
    if not kinds:
        raise InputError(f"{reader} has neither adapters nor residual means in {study.name}: choose another reader.")
    kind = st.selectbox("Features", kinds, key="probes_features", bind="query-params")
    if kind == RESIDUAL:
        middle = len(layers) // 2
        layer = st.selectbox("After block", layers, index=middle, key="probes_layer", bind="query-params")
        return mean_residuals(study, reader, int(layer))  # type: ignore[no-any-return]
    chosen = choose_adapters(adapters)
    return (token_scalars if kind == TOKEN else mean_scalars)(study, reader, chosen)  # type: ignore[no-any-return]


def choose_adapters(adapters: pl.DataFrame) -> tuple[str, ...]:
    """Adapters by layer and module. Raises InputError where none is left."""
    for column in ("layer", "module"):
        options = adapters[column].unique().sort().to_list()
        if len(options) > 1:
            kept = st.multiselect(
                f"Adapters of {column}", options, key=f"probes_{column}s", bind="query-params", placeholder="all"
            )
            adapters = adapters.filter(pl.col(column).is_in(kept or options))
    if not adapters.height:
        raise InputError("No adapter is of these layers and modules: clear one of the two filters.")
    return tuple(adapters["name"])


def choose_settings(features: Features) -> ProbeSettings:
    """Penalty and split."""
    left, right = st.columns(2)
    penalty = left.segmented_control(
        "Penalty",
        ["l2", "l1"],
        default="l2",
        required=True,
        format_func=str.upper,
        key="probes_penalty",
        bind="query-params",
        help="L2 shares weight among features that say the same; L1 keeps few of them.",
    )
    strength = right.select_slider(
        "C",
        [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
        0.1,
        key="probes_c",
        bind="query-params",
        help="Smaller penalises more.",
    )
    splits = list(SPLITS) if len(features.responses) > len(set(features.responses)) else list(SPLITS)[:2]
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
    return ProbeSettings(penalty=penalty, C=strength, split=split, seed=seed or 0)  # type: ignore[arg-type]


def train(features: Features, classes: Classes, settings: ProbeSettings, *, study: str, reader: str) -> Fitted:
    """Join features and labels, and train. Raises InputError where a class is missing or too small."""
    labelled = classes.rows.select("response", "label", "question_id")
    rows = pl.DataFrame({"response": features.responses}).with_row_index().join(labelled, on="response")
    rows = rows.sort("index")
    if not rows.height:
        raise InputError(f"{reader} has read none of the chosen responses: choose another reader or other responses.")
    groups = rows["question_id" if settings.split == "question" else "response"].to_numpy()
    report = train_probe(
        features.values[rows["index"].to_numpy()],
        rows["label"].to_numpy(),
        groups,
        names=features.names,
        settings=settings,
        units=rows["response"].to_numpy(),
    )
    return Fitted(report, features, classes, settings, study, reader)


def headline(fitted: Fitted) -> str:
    """What the probe can do, in one sentence."""
    real, chance = fitted.report.metrics["auc"], fitted.report.shuffled["auc"]
    verdict = "above chance" if real.low > chance.high else "not clearly above chance"
    return (
        f"**AUC {real.value:.2f}** ({real.low:.2f} to {real.high:.2f}) on held-out {fitted.settings.split}s; "
        f"{chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f}) under shuffled labels: **{verdict}**."
    )


def show_metrics(fitted: Fitted) -> None:
    """The metrics beside chance, the ROC curve, and what they are of."""
    report, contrast = fitted.report, fitted.classes.contrast
    st.markdown(headline(fitted))
    left, right = st.columns([3, 2])
    left.altair_chart(metric_chart(metric_table(report)), key="probes_metrics", alt="Held-out metrics beside chance")
    right.altair_chart(roc_chart(report.roc), key="probes_roc", alt="ROC curve over held-out rows")
    positive, negative = report.n_per_class
    unit = "question" if fitted.settings.split == "question" else "response"
    st.caption(
        f"{report.n_rows:,} {fitted.features.unit} ({positive:,} {plain(contrast.positive_name)}, {negative:,} "
        f"{plain(contrast.negative_name)}) in {report.n_groups} {unit}s, {report.folds} folds, classes weighted alike. "
        f"Lines: 95 %, bootstrap over {unit}s; for shuffled labels the range that holds 95 % of shuffles. "
        f"{plain(fitted.recipe)}"
    )
    for note in report.notes:
        st.caption(f":orange[Note] {plain(note)}")


def show_coefficients(fitted: Fitted) -> None:
    """Which feature pushes which way."""
    contrast = fitted.classes.contrast
    st.subheader("Coefficients")
    chart = coefficient_chart(
        fitted.report.coefficients, positive=contrast.positive_name, negative=contrast.negative_name
    )
    st.altair_chart(chart, key="probes_coefficients", alt="Coefficient of every feature with its interval")
    st.caption(
        f"Per standard deviation of the feature, on all rows; {plain(fitted.features.what)}, read by "
        f"{plain(fitted.reader)}. Filled: the 95 % interval leaves out 0. Adapters that move together share "
        "their weight arbitrarily, and the sign of a scalar depends on the sign of its write vector."
    )


def offer_direction(fitted: Fitted) -> None:
    """The weights of a probe on residuals are a direction: one click takes it to the live page."""
    layer = fitted.features.layer
    if layer is None:
        return
    contrast = fitted.classes.contrast
    name = f"probe {contrast.positive_name} over {contrast.negative_name} ({fitted.study}, {fitted.settings.penalty})"
    norm = current.activation_norm(fitted.reader)[layer]
    direction = fitted.report.probe.direction(name, layer, activation_norm=float(norm))
    if st.button("Send its direction to Live", key="probes_send", icon=":material/send:"):
        send_direction({layer: direction}, layer)


current = current_study()
st.title("Probes")
judge = choose_judge(current)
with explained():
    classes = choose_classes(current, judge, page="probes")
    controls, results = st.columns([2, 5], gap="medium")
    with controls:
        reader = choose_reader(current)
        features = choose_features(current, reader)
        settings = choose_settings(features)
        go = st.button("Train", type="primary", key="probes_train", icon=":material/model_training:", width="stretch")
    with results, explained():
        if settings.split == "token":
            st.warning(LEAK, title="This split leaks", icon=":material/warning:")
        if go:
            with st.spinner("Training"):
                st.session_state[FITTED] = train(features, classes, settings, study=current.name, reader=reader)
        fitted = st.session_state.get(FITTED)
        if fitted is None:
            st.caption(f"Ready to train on {plain(classes.counts)}: {plain(features.what)}.")
        else:
            if fitted.recipe != recipe_of(current.name, reader, features, classes, settings):
                st.caption(":orange[The controls have changed since this probe was trained:] train again.")
            show_metrics(fitted)
            show_coefficients(fitted)
            offer_direction(fitted)
