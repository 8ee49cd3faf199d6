"""Probes: train a linear probe on adapter scalars or residuals in the browser, and see whether it beats chance."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from backend.analysis.probes.probe import ProbeSettings, evaluate_probe
from backend.analysis.probes.saved import SavedProbe, load_probe, save_probe
from backend.records import Direction, InputError
from backend.study import Study
from backend.tables.features import Features
from backend.tables.rows import labelled
from backend.worker.client import WorkerError
from panels.classes import Classes, choose_classes
from panels.features import choose_features, choose_reader
from panels.frame import choose_judge, current_study, explained, plain
from panels.gains import suggest
from panels.opening import opening
from panels.probe_controls import LEAK, choose_paper, choose_settings, chosen_controls, shortage
from panels.probe_report import show_growing, show_paper, show_report
from panels.probe_training import FITTED, Fitted, begin, recipe_of
from panels.promoted import asked_lens, show_promoted
from panels.stacks import send_direction


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
        show_probe_lens(direction)
    if "adapters" in fitted.features.made_of:
        clear = fitted.report.coefficients.filter("stands")
        contrast = fitted.classes.contrast
        for name, side in ((contrast.positive_name, pl.col("coefficient") > 0), (contrast.negative_name, None)):
            chosen = clear.filter(side if side is not None else pl.col("coefficient") < 0)["feature"].to_list()
            suggest(fitted.reader, f"the probe's clear coefficients towards {name}", chosen)


def show_probe_lens(direction: Direction) -> None:
    """Which tokens the probe's direction promotes, asked of the worker, whose model must be the study's."""
    if not st.toggle("Which tokens does its direction promote?", key="probes_lens", bind="query-params"):
        return
    try:
        lens = asked_lens(direction)
    except WorkerError as error:
        st.caption(plain(error))
        return
    with st.columns([2, 3])[0]:
        show_promoted(lens, key="probes_pushed", of="The direction")


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


def show_saved(study: Study, features: Features, classes: Classes, settings: ProbeSettings) -> None:
    """Load a saved probe, say what it is made of, and try it on the rows that are chosen now."""
    with st.expander("A saved probe", icon=":material/folder_open:"):
        given = st.file_uploader("A file that this page saved", "json", key="probes_load")
        if given is None:
            return
        saved = load_probe(given.getvalue())
        st.caption(plain(saved.made_of.get("recipe", "Its recipe is not told.")))
        told = saved.metrics.get("auc")
        if told is not None:
            ends = f" ({told.low:.2f} to {told.high:.2f})" if isfinite(told.low) else ""
            st.markdown(f"Where it was trained, held out: AUC {told.value:.2f}{ends}.")
        restore(study, saved)
        offer_saved_direction(saved, features)
        if saved.probe.names != features.names:
            raise InputError(
                f"It reads {len(saved.probe.names)} features ({', '.join(saved.probe.names[:3])} …), the controls "
                f"choose {len(features.names)} others: set the controls as they were to try it here."
            )
        if short := shortage(features, classes):
            raise InputError(short)
        rows = labelled(features, classes.rows)
        found = evaluate_probe(saved.probe, rows.values, rows.labels, rows.questions)
        table = pl.DataFrame(
            [(name, e.value, e.low, e.high) for name, e in found.items()],
            ["metric", "value", "low", "high"],
            orient="row",
        )
        st.dataframe(
            table.fill_nan(None), hide_index=True, key="probes_saved_metrics", alt="The saved probe on these rows"
        )
        st.caption(
            f"On {len(rows.labels):,} {plain(features.unit)} to {len(np.unique(rows.questions))} questions chosen now, "
            "without training; ends are 95 %, for questions like these. Where it was trained on these rows, the "
            "figures flatter it."
        )


def restore(study: Study, saved: SavedProbe) -> None:
    """A button that sets the controls as they were, where this is the study and they still exist."""
    wanted = saved.made_of.get("controls", {})
    here = isinstance(wanted, dict) and saved.made_of.get("study") == study.name
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
opening(
    "Probes",
    "Do the scalars of an answer tell which of two classes it is of, on questions that the probe never saw?",
    current,
)
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
        short = shortage(features, classes)
        go = st.button(
            "Train",
            type="primary",
            key="probes_train",
            icon=":material/model_training:",
            width="stretch",
            disabled=short is not None,
        )
    with results, explained():
        if settings.split == "token":
            st.warning(LEAK, title="This split leaks", icon=":material/warning:")
        if short:
            st.warning(plain(short), title="Too few responses to judge a probe", icon=":material/warning:")
        elif go:
            with st.spinner("Training"):
                begin(current, reader, features, classes, settings, chosen_controls())
        fitted = st.session_state.get(FITTED)
        if fitted is None and not short:
            st.caption(f"Ready to train on {plain(classes.counts)}: {plain(features.what)}.")
        elif fitted is not None:
            if fitted.recipe != recipe_of(current.name, reader, features, classes, settings):
                st.caption(":orange[The controls have changed since this probe was trained:] train again.")
            if fitted.training.done:
                show_report(fitted)
                offer(fitted, current)
            else:
                show_growing(fitted)
            if paper and fitted.features.by_token and fitted.training.latest is not None:
                with explained():
                    show_paper(fitted)
    with results, explained():
        show_saved(current, features, classes, settings)
