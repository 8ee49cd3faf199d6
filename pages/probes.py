"""Probes: train a linear probe on adapter scalars or residuals in the browser, and see whether it beats chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from backend.analysis.groups import shuffled
from backend.analysis.probes.paper_protocol import paper_protocol
from backend.analysis.probes.probe import (
    GRID,
    ProbeReport,
    ProbeSettings,
    evaluate_probe,
    probe_progress,
    train_probe,
)
from backend.analysis.probes.rivals import LENGTH, WORDS, length_features, topic_word_features
from backend.analysis.probes.saved import SavedProbe, load_probe, save_probe
from backend.charts.one_adapter import push_chart
from backend.charts.probes import (
    calibration_chart,
    coefficient_chart,
    metric_chart,
    metric_table,
    protocol_table,
    rival_table,
    roc_chart,
)
from backend.records import Direction, InputError
from backend.study import Study
from backend.tables.features import Features
from backend.tables.rows import Rows, count_rows, labelled
from backend.worker.client import Worker, WorkerError
from panels.classes import Classes, choose_classes, sides_text
from panels.edits import send_direction
from panels.features import choose_features, choose_reader
from panels.frame import choose_judge, current_study, explained, plain, responses_of
from panels.gains import suggest
from panels.running import Running

SPLITS = {
    "question": "held-out rows answer questions that the probe has not seen",
    "response": "held-out rows are unseen responses, to questions that the probe may have seen",
    "token": "held-out rows are random tokens, as in the paper",
}
LEAK = (
    "Tokens of one response fall on both sides of this split, so a probe that only recognises responses scores high: "
    "look at the shuffled labels. Use it to compare with the paper, and *question* to learn what carries over."
)
PENALTIES = {"l2": "L2", "l1": "L1", "elasticnet": "elastic net"}
CHOSEN = "chosen"  # in place of a number for C
FITTED = "fitted_probe"  # session state: the last probe of this session
PAPER = "paper_probe"  # session state: that probe, and the paper's protocol on its rows
REPEATS = 20  # random splits of the paper's protocol
SHUFFLES, SHUFFLE_REPEATS = 5, 2  # shuffled labels of the paper's protocol, and random splits of each
QUICK = 300_000  # numbers (rows x features) that the paper's protocol gets through in about 2 s, with its shuffles
BOOTSTRAPS, PERMUTATIONS = 100, 99
SMALL = 0.05  # p-value up to which an AUC whose interval lies above the shuffled ones is called above chance
PATIENCE = 4.0  # seconds that a page waits for the first figures before it goes on without
EVERY = 0.7  # seconds between two drawings of a probe in progress


@dataclass(frozen=True, eq=False)
class Told:
    """What is known of a probe so far."""

    report: ProbeReport
    rivals: Mapping[str, ProbeReport | str]  # poorer probes on the same rows, or why one could not be trained


@dataclass(frozen=True, eq=False)
class Paper:
    """The paper's protocol on the rows of a probe, and the same under labels shuffled among responses."""

    report: ProbeReport
    chance: tuple[ProbeReport, ...]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A probe that is being trained, or was, and what on."""

    training: Running[Told]
    features: Features
    classes: Classes
    settings: ProbeSettings
    study: str
    reader: str
    controls: Mapping[str, Any]  # the widgets' values, to set them so again

    @property
    def report(self) -> ProbeReport:
        """What is known of it so far. Raises InputError where it could not be trained."""
        told = self.training.latest
        assert told is not None, "asked before the first figures"
        return told.report

    @property
    def recipe(self) -> str:
        """Everything that decides the result, in words."""
        return recipe_of(self.study, self.reader, self.features, self.classes, self.settings)

    @property
    def made_of(self) -> dict[str, Any]:
        """Everything that decides the result, as values."""
        return {
            "study": self.study,
            **self.features.made_of,
            "contrast": self.classes.contrast.name,
            "sides": sides_text(self.classes.contrast),
            "bands": [asdict(b) for b in (*self.classes.contrast.positive, *self.classes.contrast.negative)],
            "responses": self.classes.recipe,
            "recipe": self.recipe,
            "controls": dict(self.controls),
        }


def recipe_of(study: str, reader: str, features: Features, classes: Classes, settings: ProbeSettings) -> str:
    """Everything that decides a result, in words."""
    penalty = PENALTIES[settings.penalty]
    if settings.penalty == "elasticnet":
        penalty += f" ({settings.l1_ratio:.0%} L1)"
    strength = "C chosen by cross-validation" if settings.C is None else f"C = {settings.C:g}"
    return (
        f"Study {study}: {features.what}, read by {reader}; {penalty} penalty, {strength}, "
        f"split by {settings.split}, seed {settings.seed}. {classes.recipe}"
    )


# --- choosing --------------------------------------------------------------------------------------------------------


def choose_settings(features: Features) -> ProbeSettings:
    """Penalty and split."""
    penalty = st.segmented_control(
        "Penalty",
        list(PENALTIES),
        default="l2",
        required=True,
        format_func=lambda name: PENALTIES[name].upper() if len(name) == 2 else PENALTIES[name],
        key="probes_penalty",
        bind="query-params",
        help="L2 shares weight among features that say the same; L1 keeps few of them; an elastic net does both.",
    )
    ratio = 0.5
    if penalty == "elasticnet":
        ratio = st.slider("Share of L1", 0.05, 0.95, 0.5, 0.05, key="probes_ratio", bind="query-params")
    strength = st.select_slider(
        "C",
        [CHOSEN, *GRID],
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
        C=None if strength == CHOSEN else strength,
        split=split,  # type: ignore[arg-type]
        seed=seed or 0,
        shuffles=PERMUTATIONS,
        bootstraps=BOOTSTRAPS,
        l1_ratio=ratio,
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


def controls() -> dict[str, Any]:
    """The values of this page's widgets that a link could hold."""
    plain_kinds = str | int | float | bool | list | tuple
    buttons = ("probes_train", "probes_send", "probes_save", "probes_load", "probes_restore", "probes_saved_send")
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in st.session_state.items()
        if isinstance(key, str) and key.startswith("probes_") and isinstance(value, plain_kinds) and key not in buttons
    }


# --- training --------------------------------------------------------------------------------------------------------


def train(features: Features, classes: Classes, settings: ProbeSettings, study: Study, reader: str) -> Fitted:
    """Begin to train on the labelled rows. Raises InputError where a class is missing or too small."""
    rows = labelled(features, classes.rows)
    if not len(rows.labels):
        raise InputError(f"{reader} has read none of the chosen responses: choose another reader or other responses.")
    texts = pl.DataFrame({"response": features.responses}).join(
        responses_of(study).select("response", "text", "n_answer"), on="response", how="left", maintain_order="left"
    )
    if (known := st.session_state.get(FITTED)) is not None:
        known.training.stop()
    training = Running(story(rows, features.names, settings, texts))
    fitted = Fitted(training, features, classes, settings, study.name, reader, controls())
    training.wait(PATIENCE)  # raises what it was refused for
    return fitted


def story(rows: Rows, names: tuple[str, ...], settings: ProbeSettings, texts: pl.DataFrame) -> Iterator[Told]:
    """The probe as it is trained: first its metrics, then what it must beat, then refits and shuffles."""
    groups = rows.questions if settings.split == "question" else rows.response
    steps = probe_progress(rows.values, rows.labels, groups, names=names, settings=settings, units=rows.response)
    yield Told(next(steps), {})
    features = {LENGTH: length_features(texts["n_answer"]), WORDS: topic_word_features(texts["text"].to_list())}
    alone = ProbeSettings("l2", 1.0, settings.split, settings.folds, settings.balance, settings.seed, 0, 0)
    rivals: dict[str, ProbeReport | str] = {}
    for name, (values, columns) in features.items():
        try:
            rivals[name] = train_probe(values[rows.response], rows.labels, groups, names=columns, settings=alone)
        except InputError as error:
            rivals[name] = str(error)
    for report in steps:
        yield Told(report, rivals)


def paper_of(fitted: Fitted) -> Running[Paper]:
    """The paper's protocol on the rows of a probe, computed once a probe."""
    known = st.session_state.get(PAPER)
    if known is None or known[0] is not fitted:
        known = st.session_state[PAPER] = (fitted, Running(by_the_paper(fitted)))
    return known[1]


def by_the_paper(fitted: Fitted) -> Iterator[Paper]:
    """The paper's protocol with real labels, and with labels shuffled among responses."""
    rows, names, seed = labelled(fitted.features, fitted.classes.rows), fitted.features.names, fitted.settings.seed
    report = paper_protocol(rows.values, rows.labels, repeats=REPEATS, names=names, seed=seed)
    rng, codes = np.random.default_rng(seed), np.unique(rows.response, return_inverse=True)[1]
    chance = (
        paper_protocol(rows.values, shuffled(rows.labels, codes, rng), repeats=SHUFFLE_REPEATS, names=names, seed=at)
        for at in range(SHUFFLES)
    )
    yield Paper(report, tuple(chance))


# --- showing ---------------------------------------------------------------------------------------------------------


def headline(fitted: Fitted, report: ProbeReport) -> str:
    """What the probe can do, in one sentence."""
    real = report.metrics["auc"]
    text = f"**AUC {real.value:.2f}** ({real.low:.2f} to {real.high:.2f}) on held-out {fitted.settings.split}s"
    if not report.shuffles:
        return f"{text}; shuffled labels are on their way."
    chance = report.shuffled["auc"]
    above = real.low > chance.value and report.p_value is not None and report.p_value <= SMALL
    verdict = "above chance" if above else "not clearly above chance"
    return (
        f"{text}; {chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f}) under shuffled labels: **{verdict}** "
        f"(permutation p = {report.p_value:.2g}, {report.shuffles} shuffles)."
    )


def show_metrics(fitted: Fitted, told: Told) -> None:
    """The metrics beside chance, the ROC curve, calibration, and what they are of."""
    report, contrast = told.report, fitted.classes.contrast
    st.markdown(headline(fitted, report))
    left, middle, right = st.columns([3, 2, 2])
    left.altair_chart(metric_chart(metric_table(report)), key="probes_metrics", alt="Held-out metrics beside chance")
    middle.altair_chart(roc_chart(report.roc), key="probes_roc", alt="ROC curve over held-out rows")
    chart = calibration_chart(report.calibration)
    right.altair_chart(chart, key="probes_calibration", alt="Calibration over held-out rows")
    positive, negative = report.n_per_class
    unit = "question" if fitted.settings.split == "question" else "response"
    chosen = ""
    if fitted.settings.C is None:
        folds = ", ".join(f"{C:g}" for C in report.C_by_fold)
        chosen = f" C chosen: {report.C:g} on all rows; in the folds {folds}."
    st.caption(
        f"{report.n_rows:,} {fitted.features.unit} ({positive:,} {plain(contrast.positive_name)}, {negative:,} "
        f"{plain(contrast.negative_name)}) in {report.n_groups} {unit}s, {report.folds} folds, classes weighted "
        f"alike. Lines: 95 %, bootstrap over {unit}s; for shuffled labels the range that holds 95 % of shuffles."
        f"{chosen} {plain(fitted.recipe)}"
    )
    for note in report.notes:
        st.caption(f":orange[Note] {plain(note)}")
    st.markdown("**What it must beat**")
    table = rival_table(report, told.rivals)
    st.dataframe(table, hide_index=True, alt="The probe beside poorer ones", key="probes_rivals")
    st.caption(
        "On the same rows and folds: the length of the answer alone, and counts of the paper's topic words alone. A "
        "probe that does no better has found nothing that they have not."
    )


def show_coefficients(fitted: Fitted, report: ProbeReport) -> None:
    """Which feature pushes which way."""
    contrast = fitted.classes.contrast
    st.subheader("Coefficients")
    chart = coefficient_chart(report.coefficients, positive=contrast.positive_name, negative=contrast.negative_name)
    st.altair_chart(chart, key="probes_coefficients", alt="Coefficient of every feature with its interval")
    st.caption(
        f"Per standard deviation of the feature, on all rows; {plain(fitted.features.what)}, read by "
        f"{plain(fitted.reader)}. Filled: the 95 % interval ({report.bootstraps} refits on groups drawn anew) leaves "
        "out 0. Adapters that move together share their weight arbitrarily, so a single L1 pick is unstable: read how "
        "often the refits kept it. The sign of a scalar depends on the sign of its write vector."
    )
    if fitted.settings.penalty != "l2" and report.bootstraps:
        kept = report.coefficients.select("feature", "coefficient", "low", "high", pl.col("selected").round(2))
        with st.expander("How often the refits kept each feature"):
            st.dataframe(
                kept.sort("selected", descending=True),
                hide_index=True,
                alt="Selection frequency",
                key="probes_selected",
            )


def show_told(fitted: Fitted) -> None:
    """Everything that is known of the probe so far."""
    told = fitted.training.latest
    if told is None:
        st.caption("Training. The first figures take longer than usual; this page goes on by itself.")
        return
    report = told.report
    if not report.complete:
        done = report.bootstraps + report.shuffles
        st.progress(
            done / (BOOTSTRAPS + PERMUTATIONS),
            f"{report.bootstraps} of {BOOTSTRAPS} refits, {report.shuffles} of {PERMUTATIONS} shuffles",
        )
    show_metrics(fitted, told)
    show_coefficients(fitted, report)


@st.fragment(run_every=EVERY)
def show_growing(fitted: Fitted) -> None:
    """The same while it is trained; draws the page again when that is over."""
    with explained():
        if fitted.training.done:
            st.rerun()
        show_told(fitted)


def show_paper(fitted: Fitted) -> None:
    """The paper's protocol beside this probe, as a table."""
    st.subheader("Beside the paper's protocol")
    running = paper_of(fitted)
    with st.spinner("The paper's protocol"):
        paper = running.wait(60)
    if paper is None:
        st.caption("The paper's protocol is still being computed: look again in a minute.")
        return
    table = protocol_table(fitted.report, paper.report, paper.chance, split=fitted.settings.split)
    st.dataframe(
        table, hide_index=True, alt="Metrics of this probe and of the paper's protocol", key="probes_protocols"
    )
    st.caption(
        f"Both on the same {plain(fitted.features.unit)} and features. The paper's protocol cuts the classes to one "
        "size, z-scores over all rows, splits 80/20 by token and fits L1 with C = 0.01, so tokens of one response are "
        f"in training and test. Its ends hold 95 % of {REPEATS} random splits and say nothing of new responses; those "
        f"under shuffled labels (dealt to whole responses) span {SHUFFLES} shuffles: where they lie above 0.5, that is "
        "the leak. This probe's intervals are a bootstrap over "
        f"{'questions' if fitted.settings.split == 'question' else 'responses'}."
    )


# --- what a finished probe is for ------------------------------------------------------------------------------------


def offer(fitted: Fitted, study: Study) -> None:
    """Save it, send its direction to Live, and offer its adapters wherever subsets are chosen."""
    with st.container(horizontal=True):
        st.download_button(
            "Save this probe",
            lambda: save_probe(fitted.report, fitted.settings, fitted.made_of | activation_of(fitted, study)),
            "probe.json",
            "application/json",
            key="probes_save",
            on_click="ignore",
            icon=":material/save:",
            help="Weights and the whole recipe as JSON. It can be loaded below, in this study or another.",
        )
        direction = direction_of(fitted, study)
        if direction is not None and st.button("Send its direction to Live", key="probes_send", icon=":material/send:"):
            send_direction({direction.layer: direction}, direction.layer)
    if direction is not None:
        show_lens(direction)
    if "adapters" in fitted.features.made_of:
        clear = fitted.report.coefficients.drop_nulls("low").filter(pl.col("low") * pl.col("high") > 0)
        contrast = fitted.classes.contrast
        for name, side in ((contrast.positive_name, pl.col("coefficient") > 0), (contrast.negative_name, None)):
            chosen = clear.filter(side if side is not None else pl.col("coefficient") < 0)["feature"].to_list()
            suggest(fitted.reader, f"the probe's clear coefficients towards {name}", chosen)


def show_lens(direction: Direction) -> None:
    """Which tokens the probe's direction promotes, asked of the worker, whose model must be the study's."""
    if not st.toggle("Which tokens does its direction promote?", key="probes_lens", bind="query-params"):
        return
    try:
        [pushed] = Worker().lenses([direction])
    except WorkerError as error:
        st.caption(plain(error))
        return
    rows = [
        (side, rank, token, value)
        for side, pushes in (("top", pushed.top), ("bottom", pushed.bottom))
        for rank, (token, value) in enumerate(pushes, 1)
    ]
    lens = pl.DataFrame(rows, ["side", "rank", "token", "value"], orient="row")
    with st.columns([2, 3])[0]:
        st.altair_chart(push_chart(lens), key="probes_pushed", alt="Promoted and suppressed tokens")
    st.caption(
        "The direction at norm 1, times the gain of the final norm, through the unembedding of the worker's model; "
        "logits less their mean. A random vector's strongest token of 50,000 is at about 4."
    )


def direction_of(fitted: Fitted, study: Study) -> Direction | None:
    """The probe's normal in the residual stream, where it reads one."""
    features, contrast, layer = fitted.features, fitted.classes.contrast, fitted.features.layer
    if layer is None:
        return None
    name = f"probe {contrast.positive_name} over {contrast.negative_name} ({fitted.study}, {fitted.settings.penalty})"
    norm = float(study.activation_norm(fitted.reader)[layer])
    whole = fitted.report.probe.weights / fitted.report.probe.scale
    vector = (whole if features.basis is None else whole @ features.basis).astype(np.float32)
    return Direction(name, layer, vector, norm, {"method": "probe weight"}) if vector.any() else None


def activation_of(fitted: Fitted, study: Study) -> dict[str, Any]:
    """The direction's layer and length of activations, which a saved probe needs to be one again."""
    direction = direction_of(fitted, study)
    if direction is None:
        return {}
    return {
        "direction": {"layer": direction.layer, "activation_norm": direction.activation_norm, "name": direction.name}
    }


def show_saved(features: Features, classes: Classes, settings: ProbeSettings) -> None:
    """Load a saved probe, say what it is made of, and try it on the rows that are chosen now."""
    with st.expander("A saved probe", icon=":material/folder_open:"):
        given = st.file_uploader("A file that this page saved", "json", key="probes_load")
        if given is None:
            return
        saved = load_probe(given.getvalue())
        st.caption(plain(saved.made_of.get("recipe", "Its recipe is not told.")))
        told = saved.metrics.get("auc")
        if told is not None:
            st.markdown(f"Where it was trained, held out: AUC {told.value:.2f} ({told.low:.2f} to {told.high:.2f}).")
        restore(saved)
        offer_saved_direction(saved, features)
        if saved.probe.names != features.names:
            raise InputError(
                f"It reads {len(saved.probe.names)} features ({', '.join(saved.probe.names[:3])} …), the controls "
                f"choose {len(features.names)} others: set the controls as they were to try it here."
            )
        rows = labelled(features, classes.rows)
        groups = rows.questions if settings.split == "question" else rows.response
        found = evaluate_probe(saved.probe, rows.values, rows.labels, groups)
        table = pl.DataFrame(
            [(name, e.value, e.low, e.high) for name, e in found.items()],
            ["metric", "value", "low", "high"],
            orient="row",
        )
        st.dataframe(
            table.fill_nan(None), hide_index=True, key="probes_saved_metrics", alt="The saved probe on these rows"
        )
        st.caption(
            f"On {len(rows.labels):,} {plain(features.unit)} chosen now, without training. Where these are the rows it "
            "was trained on, the figures flatter it."
        )


def restore(saved: SavedProbe) -> None:
    """A button that sets the controls as they were, where this is the study and they still exist."""
    wanted = saved.made_of.get("controls", {})
    here = isinstance(wanted, dict) and saved.made_of.get("study") == current.name
    values = {key: value for key, value in wanted.items() if key.startswith("probes_")} if here else {}
    st.button(
        "Set the controls as they were",
        key="probes_restore",
        on_click=st.session_state.update,
        args=(values,),
        disabled=not values,
        help="Only in the study that it was trained in.",
    )


def offer_saved_direction(saved: SavedProbe, features: Features) -> None:
    """Send a saved probe on residual dimensions to Live."""
    about = saved.made_of.get("direction")
    dimensions = all(name.startswith("dimension ") for name in saved.probe.names)
    if not isinstance(about, dict) or not dimensions:
        return
    try:
        direction = saved.probe.direction(
            str(about["name"]), int(about["layer"]), activation_norm=float(about["activation_norm"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"Its direction cannot be read ({type(error).__name__}): save the probe again.") from error
    if st.button("Send its direction to Live", key="probes_saved_send", icon=":material/send:"):
        send_direction({direction.layer: direction}, direction.layer)


current = current_study()
st.title("Probes")
with explained():
    above = st.container()
    left, results = st.columns([2, 5], gap="medium")
    with left:
        reader = choose_reader(current)
    judge = choose_judge(current, reader)
    with above:
        classes = choose_classes(current, judge, reader, page="probes")
    with left:
        features = choose_features(current, reader)
        settings = choose_settings(features)
        paper = choose_paper(features, classes)
        go = st.button("Train", type="primary", key="probes_train", icon=":material/model_training:", width="stretch")
    with results, explained():
        if settings.split == "token":
            st.warning(LEAK, title="This split leaks", icon=":material/warning:")
        if go:
            with st.spinner("Training"):
                st.session_state[FITTED] = train(features, classes, settings, current, reader)
        fitted = st.session_state.get(FITTED)
        if fitted is None:
            st.caption(f"Ready to train on {plain(classes.counts)}: {plain(features.what)}.")
        else:
            if fitted.recipe != recipe_of(current.name, reader, features, classes, settings):
                st.caption(":orange[The controls have changed since this probe was trained:] train again.")
            if fitted.training.done:
                show_told(fitted)
                offer(fitted, current)
            else:
                show_growing(fitted)
            if paper and fitted.features.by_token and fitted.training.latest is not None:
                with explained():
                    show_paper(fitted)
    with results, explained():
        show_saved(features, classes, settings)
