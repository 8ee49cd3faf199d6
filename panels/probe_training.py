"""Probes in training: what one is trained on, its figures as they grow, and the paper's protocol on the same rows.

It refuses to know how settings are chosen and how figures are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from backend.analysis.groups import shuffled
from backend.analysis.probes.paper_protocol import paper_protocol
from backend.analysis.probes.probe import ProbeReport, ProbeSettings, probe_progress, train_probe
from backend.analysis.probes.rivals import LENGTH, WORDS, length_features, topic_word_features
from backend.records import InputError
from backend.study import Study
from backend.tables.features import Features
from backend.tables.rows import Rows, labelled
from panels.classes import Classes, sides_text
from panels.frame import NO_TEXT, responses_of
from panels.running import Running

PENALTIES = {"l2": "L2", "l1": "L1", "elasticnet": "elastic net"}
FITTED = "fitted_probe"  # session state: the last probe of this session
PAPER = "paper_probe"  # session state: that probe, and the paper's protocol on its rows
REPEATS = 20  # random splits of the paper's protocol
SHUFFLES, SHUFFLE_REPEATS = 5, 2  # shuffled labels of the paper's protocol, and random splits of each
PATIENCE = 4.0  # seconds that a page waits for the first figures before it goes on without


@dataclass(frozen=True, eq=False)
class Told:
    """What is known of a probe so far."""

    report: ProbeReport
    rivals: Mapping[str, ProbeReport | str]  # poorer probes on the same rows, or why one could not be trained


@dataclass(frozen=True, eq=False)
class Paper:
    """The paper's protocol on the rows of a probe, and the same under labels shuffled within questions."""

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


def begin(
    study: Study,
    reader: str,
    features: Features,
    classes: Classes,
    settings: ProbeSettings,
    controls: Mapping[str, Any],
) -> Fitted:
    """Begin to train on the labelled rows, in the place of this session's last probe.

    Raises InputError where a class is missing or too small.
    """
    rows = labelled(features, classes.rows)
    if not len(rows.labels):
        raise InputError(f"{reader} has read none of the chosen responses: choose another reader or other responses.")
    texts = pl.DataFrame({"response": features.responses}).join(
        responses_of(study).select("response", "text", "n_answer"), on="response", how="left", maintain_order="left"
    )
    if (known := st.session_state.get(FITTED)) is not None:
        known.training.stop()
    training = Running(_steps(rows, features.names, settings, texts))
    fitted = Fitted(training, features, classes, settings, study.name, reader, controls)
    training.wait(PATIENCE)  # raises what it was refused for
    st.session_state[FITTED] = fitted
    return fitted


def _steps(rows: Rows, names: tuple[str, ...], settings: ProbeSettings, texts: pl.DataFrame) -> Iterator[Told]:
    """The probe as it is trained: first its metrics, then what it must beat, then refits and shuffles."""
    groups = rows.questions if settings.split == "question" else rows.response
    steps = probe_progress(
        rows.values, rows.labels, groups, names=names, settings=settings, units=rows.response, questions=rows.questions
    )
    yield Told(next(steps), {})
    features = {LENGTH: length_features(texts["n_answer"])}
    if (texts["text"] != NO_TEXT).any():
        features[WORDS] = topic_word_features(texts["text"].to_list())
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
        known = st.session_state[PAPER] = (fitted, Running(_by_the_paper(fitted)))
    return known[1]


def _by_the_paper(fitted: Fitted) -> Iterator[Paper]:
    """The paper's protocol with real labels, and with labels shuffled among the responses to each question."""
    rows, names, seed = labelled(fitted.features, fitted.classes.rows), fitted.features.names, fitted.settings.seed
    report = paper_protocol(rows.values, rows.labels, repeats=REPEATS, names=names, seed=seed)
    rng, codes = np.random.default_rng(seed), rows.questions
    chance = (
        paper_protocol(
            rows.values, shuffled(rows.labels, codes, rng, rows.response), repeats=SHUFFLE_REPEATS, names=names, seed=at
        )
        for at in range(SHUFFLES)
    )
    yield Paper(report, tuple(chance))
