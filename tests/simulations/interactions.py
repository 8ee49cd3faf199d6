"""Interactions of two changes, and families of cells, where nothing is there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from backend.analysis.estimates import expanded_percentile
from backend.analysis.groups import group_draws
from backend.analysis.rates.families import q_values
from backend.analysis.rates.interactions import interaction_interval
from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, difference_interval
from tests.simulations.counting import Counted, Table
from tests.simulations.truths import Floats, beta

_SIGNS = np.array([1.0, -1.0, -1.0, 1.0])


def of_an_interaction(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Falsely clear, ours and the bootstrap over questions alone; and seen where each stands in for the other."""
    columns = ["0.01 · 0.2", "0.03 · 0", "0.1 · 0.2", "0.3 · 0.3", "seen, 0.3 · 0.3"]
    table = Table("questions × answers", columns)
    for questions, answers in product((4, 8, 16), ((25, 25), (2, 12), (8, 8))):
        cells = []
        for column in columns:
            mean, icc = (float(part) for part in column.removeprefix("seen, ").split(" · "))
            rates = beta(rng, (runs, questions), mean, icc)
            both = 0.1 if column.startswith("seen") else 1.0
            counted = Counted(), Counted()
            n = np.array([np.full(questions, float(number)) for number in (*answers[:1] * 3, answers[1])])
            for run in range(runs):
                own = np.stack([both * rates[run], rates[run], rates[run], rates[run]])
                hits = rng.binomial(n.astype(int), own).astype(float)
                _, low, high, _ = interaction_interval(hits, n, rng)
                if low is not None and high is not None:
                    counted[0].add((low, high), (both - 1) * mean)
                counted[1].add(_bootstrap(hits, n, rng), (both - 1) * mean)
            cells.append(f"{counted[0].falsely() if both == 1 else round(counted[0].clears)} ({counted[1].clears:.1f})")
        table.add(f"{questions} × {' / '.join(str(number) for number in dict.fromkeys(answers))}", cells)
    yield (
        "### Interactions of two changes\n\nClear in per cent of studies (in brackets: a bootstrap over questions "
        f"alone, as before). 2 / 12: the intact organism has the more answers.\n\n{table}"
    )


def of_families(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Families of 51 cells against one baseline, none of which does anything."""
    table = Table("16 questions × answers, rate · correlation", ["clear alone, mean of 51", "any alone", "any stands"])
    for (n_a, n_b), (mean, icc) in product(((25, 25), (2, 12)), ((0.03, 0.2), (0.15, 0.2))):
        alone = some = stands = 0
        families = max(runs // 20, 10)
        for rates in beta(rng, (families, 16), mean, icc):
            p = _family(rng, rates, n_a, n_b)
            alone += int((p < 0.05).sum())
            some += bool((p < 0.05).any())
            stands += bool((q_values(p) < 0.05).any())
        cells = (f"{alone / families:.1f}", *(f"{100 * part / families:.0f} %" for part in (some, stands)))
        table.add(f"{n_a} / {n_b}, {mean:g} · {icc:g}", cells)
    yield f"### Families of cells\n\n{table}"


def _family(rng: np.random.Generator, rates: Floats, n_a: int, n_b: int) -> Floats:
    """p-values of 51 cells without an effect."""
    sides = np.full(16, float(n_a)), np.full(16, float(n_b))
    before = rng.binomial(n_b, rates).astype(float)
    cells = rng.binomial(n_a, rates, (51, 16)).astype(float)
    return np.array([difference_interval(a, sides[0], before, sides[1], SIMILAR_QUESTIONS)[3] for a in cells])


def _bootstrap(hits: Floats, n: Floats, rng: np.random.Generator) -> tuple[float, float]:
    _, draws = group_draws(np.arange(hits.shape[1]), rng)
    summed = _SIGNS @ ((draws @ hits.T) / (draws @ n.T)).T
    return expanded_percentile(summed, hits.shape[1])
