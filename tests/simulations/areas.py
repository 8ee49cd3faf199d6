"""AUCs of judges, adapters, directions and probes: how often clear where nothing is told, and what intervals cover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from scipy.special import ndtri

from backend.analysis.aucs import auc_table
from backend.analysis.estimates import expanded_percentile
from backend.analysis.groups import Bools, Floats, Ints, group_draws
from tests.simulations.counting import Counted, Table
from tests.simulations.methods import Ends
from tests.simulations.truths import beta

QUESTIONS = (4, 8, 16, 32)
ANSWERS = 25  # a question
SHARE = 10  # of the studies one in so many is given to the other methods
Labels = Callable[[np.random.Generator, int], tuple[Bools, Ints]]  # of so many questions: labels and question (row,)


def drawn(mean: float, icc: float, unequal: bool = False) -> Labels:
    """Labels of answers, with this mean and correlation within a question; or 2 to 60 answers a question."""

    def labels(rng: np.random.Generator, questions: int) -> tuple[Bools, Ints]:
        sizes = rng.integers(2, 61, questions) if unequal else np.full(questions, ANSWERS)
        codes = np.repeat(np.arange(questions), sizes)
        return rng.random(len(codes)) < beta(rng, (1, questions), mean, icc)[0][codes], codes

    return labels


def concentrated(rng: np.random.Generator, questions: int) -> tuple[Bools, Ints]:
    """Six in ten answers to one question, one in fifty of all others."""
    codes = np.repeat(np.arange(questions), ANSWERS)
    return rng.random(len(codes)) < np.where(codes == 0, 0.6, 0.02), codes


def topics(share: float) -> Labels:
    """Labels of whole questions, as a topic is: this share of them, two at least."""

    def labels(rng: np.random.Generator, questions: int) -> tuple[Bools, Ints]:
        codes = np.repeat(np.arange(questions), ANSWERS)
        return codes < max(round(share * questions), 2), codes

    return labels


LABELS: dict[str, Labels] = {
    "0.03 · 0": drawn(0.03, 0.0),
    "0.1 · 0.2": drawn(0.1, 0.2),
    "0.1 · 0.6": drawn(0.1, 0.6),
    "0.3 · 0.3": drawn(0.3, 0.3),
    "0.5 · 0, unequal n": drawn(0.5, 0.0, unequal=True),
    "0.3 · 0.3, unequal n": drawn(0.3, 0.3, unequal=True),
    "one question": concentrated,
    "topics, half": topics(0.5),
    "topics, a fifth": topics(0.2),
}
SCORES = ((0.0, 0.0), (0.3, 0.0), (0.6, 0.0), (0.0, 0.3))  # shares of variance: of the question, of its classes


def scores(rng: np.random.Generator, labels: Bools, codes: Ints, area: float, own: float, classed: float) -> Floats:
    """Normal scores whose AUC is `area` on questions drawn anew; shares of variance as in SCORES."""
    size = int(codes.max()) + 1
    of_question = np.sqrt(own) * rng.standard_normal(size)[codes]
    of_class = np.sqrt(classed) * rng.standard_normal((size, 2))[codes, labels.astype(int)]
    noise = np.sqrt(1 - own - classed) * rng.standard_normal(len(codes))
    return of_question + of_class + noise + np.sqrt(2) * float(ndtri(area)) * labels


def of_an_auc(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """False clears, then coverage, each beside two bootstraps."""
    columns, runs = [f"{own:g} + {classed:g}" for own, classed in SCORES], max(runs // 2, 1)
    beside: dict[tuple[float, int], dict[str, list[Counted]]] = {}
    falsely = Table("labels, questions", columns)
    for (name, labels), questions in product(LABELS.items(), QUESTIONS):
        cells = []
        for own, classed in SCORES:
            for area in (0.5, 0.75, 0.95):
                counted = _studies(rng, runs, labels, questions, (area, own, classed))
                if area == 0.5:
                    told = counted["ours"].falsely() if counted["ours"].runs >= runs / 10 else "–"
                    cells.append(f"{told} ({100 * (1 - counted['ours'].runs / runs):.0f})")
                if counted["ours"].runs >= runs / 2:
                    for method, each in counted.items():
                        beside.setdefault((area, questions), {}).setdefault(method, []).append(each)
        falsely.add(f"{name}, {questions}", cells)
    yield (
        f"### An AUC where scores say nothing of labels\n\n{runs} studies a setting: the interval leaves out one half, "
        "in per cent of studies (in brackets: how many are refused, fewer than three questions holding a class); "
        f"{ANSWERS} answers a question. *Labels*: mean · correlation within a question; *one question*: 60 % there "
        "and 2 % elsewhere; "
        "*topics*: labels of whole questions. *Columns*: shares of the variance of scores that belong to the question "
        f"+ to each class within it. –: fewer than one study in ten is left.\n\n{falsely}"
    )
    table = Table("AUC, questions", ["covers: ours, mean", "least", "width", "clear", *_HEADS])
    for (area, questions), methods in sorted(beside.items()):
        ours = methods["ours"]
        cells = [
            f"{np.mean([each.coverage for each in ours]):.1f}",
            f"{min(each.coverage for each in ours):.1f}",
            f"{np.mean([each.points for each in ours]) / 100:.2f}",
            f"{np.mean([each.clears for each in ours]):.0f}",
        ]
        for method in OTHERS:
            found = [each.coverage for each in methods[method] if each.runs]
            cells += [f"{np.mean(found):.0f}", f"{np.mean([each.clears for each in methods[method] if each.runs]):.0f}"]
        table.add(f"{area:g}, {questions}", cells)
    yield (
        "### What the interval of an AUC covers\n\nIn per cent over all settings above where at most half of the "
        f"studies are refused, width in AUC, clear of one half; other methods are given one study in {SHARE}.\n\n"
        f"{table}"
    )


def _studies(
    rng: np.random.Generator, runs: int, labels: Labels, questions: int, of: tuple[float, float, float]
) -> dict[str, Counted]:
    """How every method fares, less one half."""
    counted = {name: Counted() for name in ("ours", *OTHERS)}
    for run in range(runs):
        truth, codes = labels(rng, questions)
        if truth.all() or not truth.any():
            continue
        values = scores(rng, truth, codes, *of)
        row = auc_table(values[:, None], truth, codes).row(0, named=True)
        if row["low"] is None:
            continue
        counted["ours"].add((row["low"] - 0.5, row["high"] - 0.5), of[0] - 0.5)
        if SHARE and run % SHARE == 0:
            merged, draws = group_draws(codes, rng)
            each = auc_draws(values, truth, merged, draws)
            for name, method in OTHERS.items():
                low, high = method(row["value"], each, truth, merged)
                counted[name].add((low - 0.5, high - 0.5), of[0] - 0.5)
    return counted


# --- methods that fare worse ------------------------------------------------------------------------------------------


def auc_draws(values: Floats, labels: Bools, codes: Ints, counts: Floats) -> Floats:
    """The AUC of every bootstrap draw over questions, (draw,); NaN where a draw holds one class only."""
    bins = np.unique(values, return_inverse=True)[1]
    size, width = counts.shape[1], int(bins.max()) + 1
    cells = codes * width + bins
    table = [np.bincount(cells[side], minlength=size * width).reshape(size, width) for side in (labels, ~labels)]
    positive, negative = (counts @ side for side in table)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(1) * negative.sum(1)
    each = np.full(len(counts), np.nan)
    np.divide((positive * below).sum(1), pairs, out=each, where=pairs > 0)
    return each


def percentiles(value: float, each: Floats, labels: Bools, codes: Ints) -> Ends:
    """Expanded percentiles of the bootstrap over questions."""
    low, high = expanded_percentile(each, int(codes.max()) + 1)
    return min(low, value), max(high, value)


def guarded(value: float, each: Floats, labels: Bools, codes: Ints) -> Ends:
    """The same as if of the questions with the rarer class alone, and not narrower than independent rows leave it."""
    held = min(len(np.unique(codes[side])) for side in (labels, ~labels))
    low, high = expanded_percentile(each, held)
    positive, negative = int(labels.sum()), int((~labels).sum())
    one, other = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (positive - 1) * (one - value**2) + (negative - 1) * (other - value**2)
    reach = 1.96 * np.sqrt(max(spread, 0.0) / (positive * negative))
    return max(min(low, value - reach), 0.0), min(max(high, value + reach), 1.0)


def naive(value: float, each: Floats, labels: Bools, codes: Ints) -> Ends:
    """Answers as if independent (Hanley and McNeil)."""
    return guarded(value, np.full(10, value), labels, codes)


OTHERS: dict[str, Callable[[float, Floats, Bools, Ints], Ends]] = {
    "bootstrap over questions": percentiles,
    "the same with two guards": guarded,
    "answers as independent": naive,
}
_HEADS = [head for name in OTHERS for head in (f"covers: {name}", "clear")]
