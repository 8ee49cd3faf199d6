"""The interval of one rate, on questions like these and on these very ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, THESE_QUESTIONS, difference_interval, rate_interval
from tests.simulations.counting import Counted, Table
from tests.simulations.methods import effective, over_questions
from tests.simulations.truths import PAPER, RATES, Floats


def of_a_rate(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Coverage of a rate on questions like these, beside two other intervals."""
    table = Table("questions × answers", RATES)
    methods = {
        "ours": lambda h, n: rate_interval(h, n, SIMILAR_QUESTIONS),
        "Wilson at the effective sample size, Student's quantile": effective,
        "t over questions": lambda h, n: over_questions(h / n),
    }
    beside: dict[str, list[float]] = {name: [] for name in methods}
    for questions, answers in product((4, 8, 16, 32), (4, 12, 50, None)):
        cells = []
        for truth, draw in RATES.values():
            counted = {name: Counted() for name in methods}
            for rates in draw(rng, (runs, questions)):
                n = _numbers(rng, answers, questions)
                hits = rng.binomial(n.astype(int), rates).astype(float)
                for name, method in methods.items():
                    counted[name].add(method(hits, n), truth)
            cells.append(counted["ours"].covered())
            for name, found in counted.items():
                beside[name].append(found.coverage)
        table.add(f"{questions} × {answers or '1–20'}", cells)
    yield f"### A rate on questions like these\n\nCoverage in per cent (mean width in points).\n\n{table}"
    summary = Table("", ["settings", "below 93", "least", "most", "mean"])
    for name, coverages in beside.items():
        values = np.array(coverages)
        ends = (f"{value:.1f}" for value in (values.min(), values.max(), values.mean()))
        summary.add(name, [len(values), f"{(values < 93).mean():.0%}", *ends])
    yield f"Beside others, all settings above:\n\n{summary}"


def of_few_hits(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """How much of an interval is the prior, where hits are few."""
    table = Table("2 of 400 in 16 questions", ["low", "high"])
    n = np.full(16, 25.0)
    places = {"in one question": [2], "in two": [1, 1]}
    for name, hits in places.items():
        found = np.array([*hits, *[0] * (16 - len(hits))], dtype=float)
        for about, words in ((SIMILAR_QUESTIONS, "questions like these"), (THESE_QUESTIONS, "these very questions")):
            table.add(f"{name}, {words}", (f"{100 * end:.2f}" for end in rate_interval(found, n, about)))
    shares = np.array([2 / 25, *[0.0] * 15])
    drawn = rng.choice(shares, (20 * runs, 16)).mean(axis=1)
    table.add("in one, bootstrap over questions", (f"{100 * end:.2f}" for end in np.quantile(drawn, [0.025, 0.975])))
    table.add("in one, Wilson at the effective sample size", (f"{100 * end:.2f}" for end in effective(25 * shares, n)))
    yield f"### Few hits\n\nThe 95 % interval of a rate in per cent.\n\n{table}"


def of_these_questions(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Coverage of both intervals about exactly these questions."""
    sides = {
        "the paper's": PAPER,
        "half of them": PAPER / 2,
        "none": 0 * PAPER,
        "even": np.full(8, 0.5),
        "high": 1 - PAPER / 10,
    }
    pairs = (("the paper's", "the paper's"), ("the paper's", "half of them"), ("the paper's", "none"), ("even", "high"))
    table = Table("answers", [*sides, *(f"{a} − {b}" for a, b in pairs)])
    for answers in (4, 50):
        n, cells = np.full(8, float(answers)), []
        for rates in sides.values():
            counted = Counted()
            for hits in rng.binomial(answers, rates, (runs, 8)).astype(float):
                counted.add(rate_interval(hits, n, THESE_QUESTIONS), rates.mean())
            cells.append(counted.covered())
        for names in pairs:
            counted, (a, b) = Counted(), (sides[name] for name in names)
            draws = (rng.binomial(answers, rates, (runs, 8)).astype(float) for rates in (a, b))
            for hits_a, hits_b in zip(*draws, strict=True):
                ends = difference_interval(hits_a, n, hits_b, n, THESE_QUESTIONS)[1:3]
                counted.add(ends, a.mean() - b.mean())
            cells.append(counted.covered())
        table.add(str(answers), cells)
    yield f"### These very questions\n\nEight questions; rates, and differences of two.\n\n{table}"


def _numbers(rng: np.random.Generator, answers: int | None, questions: int) -> Floats:
    return np.full(questions, float(answers)) if answers else rng.integers(1, 21, questions).astype(float)
