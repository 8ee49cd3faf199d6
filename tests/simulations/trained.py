"""Verdicts on trained probes and on held-out directions: how often clear where features say nothing of labels.

A probe is trained as its page does it, cross-validated by question; the verdict is the report's own. An answer is a
row, or several tokens that share its label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from backend.analysis.aucs import auc_table
from backend.analysis.directions.answers import Answers, Means
from backend.analysis.directions.separation import HeldOut
from backend.analysis.groups import Bools, Floats, Ints
from backend.analysis.probes.probe import FEWEST_SHUFFLES, ProbeSettings, probe_progress
from backend.records import InputError
from tests.simulations.areas import LABELS, Labels
from tests.simulations.counting import Table

QUESTIONS = (4, 8, 16)
SETTINGS = ProbeSettings(C=0.1, shuffles=FEWEST_SHUFFLES, bootstraps=0)
TOKENS = 5  # of an answer, where rows are tokens
SIGNAL = 0.5  # standard deviations that a third of the features lie apart by, where there is something to find


def in_three(rng: np.random.Generator, questions: int) -> tuple[Bools, Ints]:
    """Three in ten answers to three questions, none of the others: the fewest that a verdict is given on."""
    codes = np.repeat(np.arange(questions), 25)
    return rng.random(len(codes)) < np.where(codes < 3, 0.3, 0.0), codes


ASKED: dict[str, Labels] = {
    name: LABELS[name]
    for name in ("0.1 · 0.2", "0.3 · 0.3", "0.5 · 0, unequal n", "0.3 · 0.3, unequal n", "one question", "topics, half")
} | {"three questions": in_three}


def features(width: int, own: float = 0.0, classed: float = 0.0) -> Callable[..., Floats]:
    """Normal features; shares of variance that belong to the question, and to each class within it."""

    def drawn(rng: np.random.Generator, labels: Bools, codes: Ints) -> Floats:
        size = int(codes.max()) + 1
        of_question = np.sqrt(own) * rng.standard_normal((size, width))[codes]
        of_class = np.sqrt(classed) * rng.standard_normal((size, 2, width))[codes, labels.astype(int)]
        return np.asarray(
            of_question + of_class + np.sqrt(1 - own - classed) * rng.standard_normal((len(codes), width))
        )

    return drawn


# name -> features of answers, and tokens an answer
FEATURES: dict[str, tuple[Callable[..., Floats], int]] = {
    "9, noise": (features(9), 1),
    "9, half the question's": (features(9, 0.5), 1),
    "9, a third the class's": (features(9, 0.0, 0.3), 1),
    f"9, of {TOKENS} tokens": (features(9, 0.2), TOKENS),
    "200, a third the question's, a tenth the class's": (features(200, 0.3, 0.1), 1),
}


def of_a_trained_probe(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """False clears of probes and of directions, and what is seen of a signal."""
    runs, table = max(runs // 2, 1), Table("labels, questions", [*FEATURES, "9, a signal"])
    for (name, labels), questions in product(ASKED.items(), QUESTIONS):
        cells = [
            _said([_probe(rng, labels, questions, made, tokens) for _ in range(runs)])
            for made, tokens in FEATURES.values()
        ]
        found = [_probe(rng, labels, questions, features(9), 1, signal=True) for _ in range(runs)]
        table.add(f"{name}, {questions}", [*cells, _said(found, expected=True)])
    yield (
        f"### A trained probe where features say nothing of labels\n\n{runs} studies a setting, cross-validated by "
        f"question, L2, C {SETTINGS.C:g}, {SETTINGS.shuffles} shuffles: called clear of chance, in per cent of studies "
        "(in brackets: how many get no verdict); 25 answers a question. *Labels* as above; *three questions*: 30 % in "
        "three questions, none in the others. *Columns*: how many features, and the share of their variance that "
        f"belongs to the question or to each class within it; of tokens, {TOKENS} an answer that shares half of what "
        f"is left; *a signal*: three of nine features lie {SIGNAL:g} standard deviations apart. –: fewer than one "
        f"study in ten is left.\n\n{table}"
    )
    table = Table("labels, questions", [name for name, (_, tokens) in FEATURES.items() if tokens == 1])
    for (name, labels), questions in product(ASKED.items(), QUESTIONS):
        table.add(
            f"{name}, {questions}",
            [
                _said([_direction(rng, labels, questions, made) for _ in range(runs)])
                for made, tokens in FEATURES.values()
                if tokens == 1
            ],
        )
    yield (
        "### A held-out direction where activations say nothing of labels\n\nThe same studies, of projections on the "
        f"mean difference of the other folds.\n\n{table}"
    )


def _rows(
    rng: np.random.Generator, labels: Labels, questions: int, made: Callable[..., Floats], tokens: int, *, signal: bool
) -> tuple[Floats, Bools, Ints, Ints]:
    """Values (row, feature), labels, questions and answers (row,)."""
    truth, codes = labels(rng, questions)
    values = made(rng, truth, codes)
    if signal:
        values[:, ::3] += SIGNAL * truth[:, None]
    answers = np.repeat(np.arange(len(truth)), tokens)
    values = values[answers]
    if tokens > 1:
        values = (values + rng.standard_normal(values.shape)) / np.sqrt(2)
    return values, truth[answers], codes[answers], answers


def _probe(
    rng: np.random.Generator,
    labels: Labels,
    questions: int,
    made: Callable[..., Floats],
    tokens: int,
    *,
    signal: bool = False,
) -> bool | None:
    """Whether a trained probe is called clear of chance; None where it gets no verdict."""
    values, truth, codes, answers = _rows(rng, labels, questions, made, tokens, signal=signal)
    try:
        steps = probe_progress(values, truth, codes, settings=SETTINGS, units=answers)
        report = next(steps)
    except InputError:
        return None
    low = report.metrics["auc"].low
    if np.isnan(low):
        return None
    if low <= 0.5:
        return False  # whatever shuffles reach
    for report in steps:  # noqa: B007
        pass
    return report.above_chance


def _direction(rng: np.random.Generator, labels: Labels, questions: int, made: Callable[..., Floats]) -> bool | None:
    """Whether the held-out projections on a mean difference are called clear of chance; None without a verdict."""
    values, truth, codes, _ = _rows(rng, labels, questions, made, 1, signal=False)
    try:
        along = HeldOut.of(Answers(Means({0: values}, np.ones(len(truth))), truth, codes)).project(0)
    except InputError:
        return None
    row = auc_table(along[:, None], truth, codes).row(0, named=True)
    return None if row["low"] is None else row["low"] > 0.5 and row["p_value"] < 0.05


def _said(verdicts: list[bool | None], *, expected: bool = False) -> str:
    """Per cent clear of those with a verdict, bold where surely over 5 and nothing is there; per cent without."""
    given = [verdict for verdict in verdicts if verdict is not None]
    without = f"({100 * (1 - len(given) / len(verdicts)):.0f})"
    if len(given) < len(verdicts) / 10:
        return f"– {without}"
    share = 100 * np.mean(given)
    bold = not expected and share > 5 + 200 * np.sqrt(0.05 * 0.95 / len(given))
    return f"**{share:.1f}** {without}" if bold else f"{share:.1f} {without}"
