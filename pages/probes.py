"""Probes: train a linear probe on adapter scalars or residuals in the browser, and see whether it beats chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import streamlit as st
from numpy.typing import NDArray

from backend.analysis.groups import shuffled
from backend.analysis.probes import SIGNIFICANT, ProbeReport, ProbeSettings, paper_protocol, train_probe
from backend.charts.probes import coefficient_chart, metric_chart, metric_table, protocol_table, roc_chart
from backend.records import BASE, InputError
from backend.study import Study
from pages.contrast import Classes, choose_classes
from pages.edits import send_direction
from pages.frame import choose_judge, current_study, explained, per_study, plain, read_by

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
ALL_TOKENS, SIGNIFICANT_TOKENS = "all", "high significance"
FITTED = "fitted_probe"  # session state: the last probe of this session
PAPER = "paper_probe"  # session state: that probe, and the paper's protocol on its rows
REPEATS = 20  # random splits of the paper's protocol
SHUFFLES, SHUFFLE_REPEATS = 5, 2  # shuffled labels of the paper's protocol, and random splits of each
QUICK = 300_000  # numbers (rows x features) that the paper's protocol gets through in about 2 s, with its shuffles


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
class Rows:
    """Features and labels of the same rows."""

    values: NDArray[Any]  # (row, feature)
    labels: NDArray[Any]  # (row,) True: positive
    responses: NDArray[Any]  # (row,) names
    questions: NDArray[Any]  # (row,) names


@dataclass(frozen=True, eq=False)
class Paper:
    """The paper's protocol on the rows of a probe, and the same under labels shuffled among responses."""

    report: ProbeReport
    chance: tuple[ProbeReport, ...]


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
def token_scalars(study: Study, reader: str, adapters: tuple[str, ...], significant: bool = False) -> Features:
    """The scalars of every answer token, or of those with a high significance alone."""
    table = study.scalar_tokens(reader, adapters, min_significance=SIGNIFICANT if significant else None)
    if not len(table.values):
        raise InputError("No answer token has a log significance of 0.5 or more: train on all tokens.")
    responses = np.asarray(table.responses)[table.response]
    which = "answer token of high significance" if significant else "answer token"
    what = f"scalars of {len(adapters)} adapters at each {which}"
    return Features(table.values, responses, adapters, what, which.replace("token", "tokens"))


@per_study
def has_significance(study: Study, reader: str) -> bool:
    """Whether tokens that `reader` read have a significance."""
    try:
        study.scalar_tokens(reader, [study.adapters(reader)["name"][0]], responses=[], min_significance=SIGNIFICANT)
    except InputError:
        return False
    return True


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
    if kind == MEAN:
        return mean_scalars(study, reader, chosen)  # type: ignore[no-any-return]
    return token_scalars(study, reader, chosen, choose_tokens(study, reader))  # type: ignore[no-any-return]


def choose_tokens(study: Study, reader: str) -> bool:
    """Whether only tokens of high significance are kept, where the study knows their significance."""
    known = has_significance(study, reader)
    kept = st.segmented_control(
        "Tokens",
        [ALL_TOKENS, SIGNIFICANT_TOKENS],
        default=ALL_TOKENS,
        required=True,
        disabled=not known,
        key="probes_tokens",
        bind="query-params",
        help="High significance: log score of 0.5 or more. The score tells how much the gap between the organism "
        "and its base depends on this token (paper, App. H).",
    )
    if not known:
        st.caption("All tokens: this study holds no token significance, so none can be singled out.")
    return known and kept == SIGNIFICANT_TOKENS


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
    """Train on the labelled rows. Raises InputError where a class is missing or too small."""
    rows = labelled(features, classes)
    if not len(rows.labels):
        raise InputError(f"{reader} has read none of the chosen responses: choose another reader or other responses.")
    report = train_probe(
        rows.values,
        rows.labels,
        rows.questions if settings.split == "question" else rows.responses,
        names=features.names,
        settings=settings,
        units=rows.responses,
    )
    return Fitted(report, features, classes, settings, study, reader)


def labelled(features: Features, classes: Classes) -> Rows:
    """The rows of either class."""
    labels = classes.rows.select("response", "label", "question_id")
    rows = pl.DataFrame({"response": features.responses}).with_row_index().join(labels, on="response").sort("index")
    columns = (rows[name].to_numpy() for name in ("label", "response", "question_id"))
    return Rows(features.values[rows["index"].to_numpy()], *columns)


def choose_paper(features: Features, classes: Classes) -> bool:
    """Whether the paper's protocol is shown too; it starts on where that is quick."""
    by_token = features.unit != "responses"
    rows = pl.DataFrame({"response": features.responses}).join(classes.rows.select("response", "label"), on="response")
    smaller = min(int(rows["label"].sum()), int((~rows["label"]).sum())) if by_token and rows.height else 0
    chosen = st.toggle(
        "Beside the paper's protocol",
        2 * smaller * len(features.names) <= QUICK,
        disabled=not by_token,
        key="probes_paper",
        bind="query-params",
        help="Classes cut to one size, z-scored over all rows, 80/20 split by token, L1 with C = 0.01, mean of "
        f"{REPEATS} random splits. It needs scalars at each token.",
    )
    return by_token and chosen


def paper_of(fitted: Fitted) -> Paper:
    """The paper's protocol on the rows of a probe, computed once a probe. Raises InputError for too few rows."""
    known = st.session_state.get(PAPER)
    if known is None or known[0] is not fitted:
        with st.spinner("The paper's protocol"):
            known = st.session_state[PAPER] = (fitted, by_the_paper(fitted))
    return known[1]


def by_the_paper(fitted: Fitted) -> Paper:
    """The paper's protocol with real labels, and with labels shuffled among responses."""
    rows, names, seed = labelled(fitted.features, fitted.classes), fitted.features.names, fitted.settings.seed
    report = paper_protocol(rows.values, rows.labels, repeats=REPEATS, names=names, seed=seed)
    rng, codes = np.random.default_rng(seed), np.unique(rows.responses, return_inverse=True)[1]
    chance = (
        paper_protocol(rows.values, shuffled(rows.labels, codes, rng), repeats=SHUFFLE_REPEATS, names=names, seed=at)
        for at in range(SHUFFLES)
    )
    return Paper(report, tuple(chance))


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


def show_paper(fitted: Fitted) -> None:
    """The paper's protocol beside this probe, as a table."""
    st.subheader("Beside the paper's protocol")
    paper = paper_of(fitted)
    table = protocol_table(fitted.report, paper.report, paper.chance, split=fitted.settings.split)
    st.dataframe(
        table, hide_index=True, alt="Metrics of this probe and of the paper's protocol", key="probes_protocols"
    )
    st.caption(
        f"Both on the same {plain(fitted.features.unit)} and features. The paper's protocol cuts the classes to one "
        "size, z-scores over all rows, splits 80/20 by token and fits L1 with C = 0.01, so tokens of one response are "
        f"in training and test. Its ends hold 95 % of {REPEATS} random splits and say nothing of new responses; those "
        f"under shuffled labels (dealt to whole responses) span {SHUFFLES} shuffles. This probe's intervals are a "
        f"bootstrap over {'questions' if fitted.settings.split == 'question' else 'responses'}."
    )


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
with explained():
    above = st.container()
    controls, results = st.columns([2, 5], gap="medium")
    with controls:
        reader = choose_reader(current)
    judge = choose_judge(current, reader)
    with above:
        classes = choose_classes(current, judge, page="probes", among=read_by(current, reader))
    with controls:
        features = choose_features(current, reader)
        settings = choose_settings(features)
        paper = choose_paper(features, classes)
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
            if paper and fitted.features.unit != "responses":
                with explained():
                    show_paper(fitted)
            show_coefficients(fitted)
            offer_direction(fitted)
