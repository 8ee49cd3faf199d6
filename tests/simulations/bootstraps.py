"""The bootstrap over questions of an AUC (judges, adapters, directions, probes), where scores say nothing of labels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from backend.analysis.estimates import auc, auc_draws, auc_interval, expanded_percentile
from backend.analysis.groups import group_draws
from backend.analysis.rates.judge_agreement import FEWEST_POSITIVE
from tests.simulations.counting import Counted, Table
from tests.simulations.truths import beta

ANSWERS = 25  # a question


def of_an_auc(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Falsely clear of one half, where the judges' page gives an interval at all."""
    settings = list(product(((0.03, 0.0), (0.1, 0.2), (0.3, 0.3)), (0.0, 0.3)))
    columns = [f"{mean:g} · {icc:g}, scores {share:g}" for (mean, icc), share in settings]
    table = Table("questions × answers", columns)
    for questions in (4, 8, 16, 32):
        cells = []
        for (mean, icc), share in settings:
            counted, before = Counted(), Counted()
            codes = np.repeat(np.arange(questions), ANSWERS)
            for rates in beta(rng, (runs, questions), mean, icc):
                labels = rng.random(len(codes)) < rates[codes]
                own, other = rng.standard_normal(questions)[codes], rng.standard_normal(len(codes))
                scores = np.sqrt(share) * own + np.sqrt(1 - share) * other
                if FEWEST_POSITIVE <= labels.sum() <= len(codes) - FEWEST_POSITIVE:
                    merged, draws = group_draws(codes, rng)
                    drawn, value = auc_draws(scores, labels, merged, draws), auc(scores, labels)
                    for each, ends in (
                        (counted, auc_interval(value, drawn, labels, merged)),
                        (before, expanded_percentile(drawn, questions)),
                    ):
                        each.add((min(ends[0], value) - 0.5, max(ends[1], value) - 0.5), 0.0)
            told = f"{counted.falsely()} ({before.clears:.1f})" if counted.runs >= runs / 10 else "–"
            cells.append(told)
        table.add(f"{questions} × {ANSWERS}", cells)
    yield (
        "### The bootstrap of an AUC\n\nClear of one half in per cent of studies where scores say nothing of labels "
        "(in brackets: expanded percentiles alone, as before); *scores*: the share of their variance between "
        f"questions. –: fewer than one study in ten has {FEWEST_POSITIVE} answers on either side.\n\n{table}"
    )
