"""The difference of two rates: how often it is falsely clear, how often an effect is seen, what its interval covers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import product

import numpy as np

from tests.simulations.counting import Counted, Table
from tests.simulations.methods import DIFFERENCES, TESTS, Method, ours, tested
from tests.simulations.truths import TRUTHS, Truth, one_question

QUESTIONS = (4, 8, 16, 32)
ANSWERS = ((25, 25), (8, 8), (2, 12))  # a question, on either side
SHARE = 10  # of the studies one in so many is given to the other methods

NOTHING: dict[str, Callable[..., Truth]] = {
    **{
        f"{mean:g} · {icc:g}": partial(TRUTHS["same"], mean=mean, icc=icc)
        for mean, icc in ((0.005, 0.4), (0.01, 0.4), (0.03, 0.0), (0.03, 0.2), (0.2, 0.6), (0.4, 0.2))
    },
    **{f"one question {mean:g}": partial(one_question, mean=mean, icc=0) for mean in (0.2,)},
    **{
        f"unalike {mean:g} · {icc:g}": partial(TRUTHS["unalike"], mean=mean, icc=icc)
        for mean, icc in ((0.03, 0.2), (0.1, 0.2), (0.2, 0.6))
    },
}
EFFECTS: dict[str, Callable[..., Truth]] = {
    f"{name} of {mean:g} · {icc:g}": partial(TRUTHS[name], mean=mean, icc=icc)
    for name, mean, icc in (
        ("tenth", 0.03, 0.0),
        ("tenth", 0.05, 0.2),
        ("tenth", 0.15, 0.2),
        ("some", 0.15, 0.2),
        ("half", 0.3, 0.3),
        ("tenth", 0.2, 0.6),
    )
}
COVERED = tuple(product(((0.02, 0.2), (0.15, 0.2), (0.3, 0.6)), TRUTHS))


def of_a_difference(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """False clears, power and coverage, in that order."""
    nothing = _every(rng, 2 * runs, NOTHING, tested)
    yield (
        "### A difference where nothing is there\n\nClear in per cent of studies, twice as many as elsewhere; bold "
        "where surely over 5.\n\n" + _cells(nothing, NOTHING, Counted.falsely)
    )
    equal = [name for name in NOTHING if not name.startswith("unalike")]
    table = Table("clear where nothing is there", ["mean, equal rates", "most", "mean, rates of their own", "most"])
    for method in DIFFERENCES:
        cells = []
        for names in (equal, [name for name in NOTHING if name not in equal]):
            found = [nothing[setting, name][method].clears for setting, name in _settings(names)]
            cells += [f"{np.mean(found):.1f}", f"{np.max(found):.1f}"]
        table.add(method, cells)
    yield f"Beside others, all settings above, of one study in {SHARE}:\n\n{table}"
    effects = _every(rng, runs, EFFECTS, tested)
    yield (
        "### A difference where an effect is there\n\nSeen in per cent of studies.\n\n"
        + _cells(effects, EFFECTS, lambda counted: f"{counted.clears:.0f}")
    )
    table = Table("seen, mean of all effects", [f"{questions} questions" for questions in QUESTIONS])
    for method in DIFFERENCES:
        means = []
        for questions in QUESTIONS:
            own = [key for key in _settings(EFFECTS) if key[0][0] == questions]
            means.append(f"{np.mean([effects[key][method].clears for key in own]):.0f}")
        table.add(method, means)
    yield f"Beside others, of one study in {SHARE}:\n\n{table}"
    yield from _coverage(rng, runs)


def _coverage(rng: np.random.Generator, runs: int) -> Iterator[str]:
    drawn = {f"{name} {mean:g} · {icc:g}": partial(TRUTHS[name], mean=mean, icc=icc) for (mean, icc), name in COVERED}
    found = _every(rng, runs, drawn, ours)
    table = Table("coverage, all settings", ["mean", "least", "below 93", "mean width"])
    for questions, method in product(QUESTIONS, DIFFERENCES):
        if method in TESTS:
            continue
        counted = [found[key][method] for key in _settings(drawn) if key[0][0] == questions]
        values = np.array([each.coverage for each in counted])
        width = np.mean([each.points for each in counted])
        cells = (f"{values.mean():.1f}", f"{values.min():.1f}", f"{(values < 93).mean():.0%}", f"{width:.0f}")
        table.add(f"{questions} questions: {method}", cells)
    yield (
        "### What the interval of a difference covers\n\n"
        f"Coverage in per cent and width in points; of other methods one study in {SHARE}.\n\n{table}"
    )
    for mean, icc in dict.fromkeys(rate for rate, _ in COVERED):
        own = {name: drawn[f"{name} {mean:g} · {icc:g}"] for name in TRUTHS}
        here = {(setting, name): found[setting, f"{name} {mean:g} · {icc:g}"] for setting, name in _settings(own)}
        yield f"Mean {mean:.0%}, correlation {icc:g}:\n\n{_cells(here, own, Counted.covered)}"


Setting = tuple[int, tuple[int, int]]
Found = dict[tuple[Setting, str], dict[str, Counted]]


def _settings(names: Collection[str]) -> list[tuple[Setting, str]]:
    return list(product(product(QUESTIONS, ANSWERS), names))


def _every(rng: np.random.Generator, runs: int, truths: dict[str, Callable[..., Truth]], own: Method) -> Found:
    """Every method in every setting, ours as `own`."""
    found: Found = {}
    for (questions, answers), name in _settings(truths):
        n_a, n_b = (np.full(questions, float(number)) for number in answers)
        rates_a, rates_b, truth = truths[name](rng, (runs, questions))
        a, b = (
            rng.binomial(number, rates).astype(float) for number, rates in zip(answers, (rates_a, rates_b), strict=True)
        )
        counted = {method: Counted() for method in DIFFERENCES}
        for run in range(runs):
            for method, interval in (DIFFERENCES | {"ours": own}).items():
                if method == "ours" or run % SHARE == 0:  # the others are only summed up
                    counted[method].add(interval(a[run], n_a, b[run], n_b), truth)
        found[(questions, answers), name] = counted
    return found


def _cells(found: Found, names: Collection[str], told: Callable[[Counted], str]) -> str:
    table = Table("questions × answers", names)
    for questions, answers in product(QUESTIONS, ANSWERS):
        row = [told(found[(questions, answers), name]["ours"]) for name in names]
        table.add(f"{questions} × {' / '.join(str(number) for number in dict.fromkeys(answers))}", row)
    return str(table)
