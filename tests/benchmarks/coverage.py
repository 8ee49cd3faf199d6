"""`python -m tests.benchmarks.coverage`: how often 95 % intervals hold the truth, into docs/statistics.md.

Draws studies whose true rate is known, asks `analysis/rates/intervals.py` and the usual alternatives for an interval,
and counts. One core, a quarter of an hour; `--runs 200` for a look (the Monte-Carlo error is sqrt(0.05 / runs)).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr
from scipy.stats import t as student

from backend.analysis.rates import intervals
from backend.analysis.rates.intervals import SIMILAR_QUESTIONS, THESE_QUESTIONS, difference_interval, rate_interval

Floats = NDArray[np.float64]
DOCUMENT = Path(__file__).parents[2] / "docs" / "statistics.md"
TABLES = "<!-- below: written by python -m tests.benchmarks.coverage -->"
PAPER = np.array([0.46, 0.30, 0.22, 0.12, 0.08, 0.04, 0.02, 0.0])  # EM by question, the nine-adapter organism

QUESTIONS = (4, 8, 16)
ANSWERS = ((4, 4), (12, 12), (50, 50), (25, 4), (None, None))  # a question, on either side; None: 1 to 20 at random
RATES = ((0.05, 0.2), (0.15, 0.05), (0.15, 0.2), (0.3, 0.3), (0.5, 0.2))  # mean, correlation of a question's answers


# --- truths: question rates on both sides, (run, question), and the difference of their means -------------------------

Truth = tuple[Floats, Floats, float]


def _same(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
    rates = beta(rng, shape, mean, icc)
    return rates, rates, 0.0


def _times(factor: float) -> Callable[..., Truth]:
    def truth(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
        rates = beta(rng, shape, mean, icc)
        return rates, factor * rates, (1 - factor) * mean

    return truth


def _joined(together: float) -> Callable[..., Truth]:
    def truth(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
        one, other = rng.standard_normal((2, *shape))
        other = together * one + np.sqrt(1 - together**2) * other
        size = (1 - icc) / icc
        return *(betaincinv(mean * size, (1 - mean) * size, ndtr(z)) for z in (one, other)), 0.0

    return truth


def _in_half_of_the_questions(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Truth:
    rates = beta(rng, shape, mean, icc)
    return rates, np.where(rng.random(shape) < 0.5, 0.0, rates), mean / 2


TRUTHS = {
    "same": _same,
    "half": _times(0.5),
    "tenth": _times(0.1),
    "alike": _joined(0.7),
    "unalike": _joined(0.0),
    "some": _in_half_of_the_questions,
}


def beta(rng: np.random.Generator, shape: tuple[int, int], mean: float, icc: float) -> Floats:
    """Question rates with that mean, and that correlation of answers to one question."""
    size = (1 - icc) / icc
    return rng.beta(mean * size, (1 - mean) * size, shape)


def _two_kinds(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.where(rng.random(shape) < 0.5, 0.0, 0.6)


SHAPES = {
    **{
        f"{mean:g} · {icc:g}": (mean, partial(beta, mean=mean, icc=icc))
        for mean, icc in ((0.02, 0.2), (0.05, 0.2), (0.15, 0.05), (0.15, 0.2), (0.15, 0.4), (0.3, 0.3), (0.5, 0.2))
    },
    "the paper's": (PAPER.mean(), lambda rng, shape: rng.choice(PAPER, shape)),
    "0 or 60 %": (0.3, _two_kinds),
}


# --- methods ---------------------------------------------------------------------------------------------------------

Ends = tuple[float, float]


def _ours(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    return difference_interval(hits_a, n_a, hits_b, n_b, SIMILAR_QUESTIONS)[1:3]


def _mover(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Zou and Donner (2008) from the same two intervals and the correlation of the shares as it was found."""
    shares = hits_a / n_a, hits_b / n_b
    known = len(n_a) >= 5 and np.ptp(shares[0]) > 0 and np.ptp(shares[1]) > 0
    together = np.corrcoef(*shares)[0, 1] if known else 0.0
    sides = []
    for hits, n in ((hits_a, n_a), (hits_b, n_b)):
        value, (low, high) = hits.sum() / n.sum(), rate_interval(hits, n, SIMILAR_QUESTIONS)
        sides.append((value, value - low, high - value))
    (a, down_a, up_a), (b, down_b, up_b) = sides
    below, above = (np.sqrt(max(x * x + y * y - 2 * together * x * y, 0)) for x, y in ((down_a, up_b), (up_a, down_b)))
    return a - b - below, a - b + above


def _paired_t(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Over questions; with equal numbers of answers the CR2 variance with Satterthwaite's degrees of freedom."""
    return _t(hits_a / n_a - hits_b / n_b)


def _wild(hits_a: Floats, n_a: Floats, hits_b: Floats, n_b: Floats) -> Ends:
    """Wild cluster bootstrap-t, Rademacher signs with the null imposed (every sign of up to ten questions)."""
    gaps = hits_a / n_a - hits_b / n_b
    questions = len(gaps)
    if questions <= 10:
        signs = np.array(list(product((-1.0, 1.0), repeat=questions)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (999, questions))
    centred = gaps - gaps.mean()
    moved = signs @ centred / questions
    spread = np.sqrt(np.maximum((centred**2).mean() - moved**2, 0) / (questions - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.quantile(np.nan_to_num(np.abs(moved) / spread, nan=0.0, posinf=np.inf), 0.95, method="higher")
    error = gaps.std(ddof=1) / np.sqrt(questions)
    reach = size * error if error else 0.0
    return float(gaps.mean() - reach), float(gaps.mean() + reach)


def _t(values: Floats) -> Ends:
    reach = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def _effective(hits: Floats, n: Floats) -> Ends:
    """Wilson at the effective sample size, with Student's quantile (Dean and Pagano 2015)."""
    shares, value = hits / n, hits.sum() / n.sum()
    variance, square = shares.var(ddof=1) / len(n), student.ppf(0.975, len(n) - 1) ** 2
    size = value * (1 - value) / variance if variance else n.sum()
    centre, spread = value + square / (2 * size), np.sqrt(square * (value * (1 - value) + square / (4 * size)) / size)
    return (centre - spread) / (1 + square / size), (centre + spread) / (1 + square / size)


# --- counting --------------------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """How the intervals of one setting fared."""

    runs: int = 0
    held: int = 0
    width: float = 0.0
    clear: int = 0

    def add(self, ends: Ends, truth: float) -> None:
        """Count one interval."""
        low, high = ends
        self.runs += 1
        self.held += low - 1e-9 <= truth <= high + 1e-9
        self.width += min(high, 1) - max(low, -1)
        self.clear += low > 0 or high < 0

    @property
    def coverage(self) -> float:
        """In per cent."""
        return 100 * self.held / self.runs

    def __str__(self) -> str:
        inside = 93 <= round(self.coverage, 1) <= 97
        text = f"{self.coverage:.1f}" if inside else f"**{self.coverage:.1f}**"
        return f"{text} ({100 * self.width / self.runs:.0f})"


@dataclass
class Table:
    """A Markdown table of coverages: rows of settings, columns of truths."""

    first: str
    columns: Iterable[str]
    rows: list[str] = field(default_factory=list)

    def add(self, name: str, cells: Iterable[object]) -> None:
        """A row."""
        self.rows.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")

    def __str__(self) -> str:
        columns = list(self.columns)
        return "\n".join(
            [f"| {self.first} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|", *self.rows]
        )


def _numbers(rng: np.random.Generator, answers: int | None, questions: int) -> Floats:
    return np.full(questions, float(answers)) if answers else rng.integers(1, 21, questions).astype(float)


def of_a_rate(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Tables of the interval of one rate on questions like these."""
    table = Table("questions × answers", SHAPES)
    methods = {"ours": lambda h, n: rate_interval(h, n, SIMILAR_QUESTIONS), "effective": _effective}
    methods["t"] = lambda h, n: _t(h / n)
    beside: dict[str, list[float]] = {name: [] for name in methods}
    for questions, answers in product((*QUESTIONS, 32), (4, 12, 50, None)):
        cells = []
        for truth, draw in SHAPES.values():
            counted = {name: Counted() for name in methods}
            for rates in draw(rng, (runs, questions)):
                n = _numbers(rng, answers, questions)
                hits = rng.binomial(n.astype(int), rates).astype(float)
                for name, method in methods.items():
                    counted[name].add(method(hits, n), truth)
            cells.append(counted["ours"])
            for name, found in counted.items():
                beside[name].append(found.coverage)
        table.add(f"{questions} × {answers or '1–20'}", cells)
    yield f"### A rate on questions like these\n\n{table}"
    names = {
        "ours": "ours",
        "effective": "Wilson at the effective sample size, Student's quantile",
        "t": "t over questions",
    }
    yield "Beside others, all settings above:\n\n" + _summary((names[k], v) for k, v in beside.items())


def of_a_difference(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """Tables of the interval of a difference on questions like these."""
    methods = {"ours": _ours, "MOVER": _mover, "paired t": _paired_t, "wild cluster bootstrap": _wild}
    everywhere: dict[tuple[int, str], list[float]] = {}
    tables = []
    for mean, icc in RATES:
        table = Table("questions × answers", TRUTHS)
        for questions, answers in product(QUESTIONS, ANSWERS):
            cells = []
            for draw in TRUTHS.values():
                rates_a, rates_b, truth = draw(rng, (runs, questions), mean, icc)
                counted = {name: Counted() for name in methods}
                for run in range(runs):
                    n_a, n_b = (_numbers(rng, number, questions) for number in answers)
                    a, b = (rng.binomial(n.astype(int), p[run]) for n, p in ((n_a, rates_a), (n_b, rates_b)))
                    for name, method in methods.items():
                        if name == "ours" or run < runs // 4:  # the others are slower, and only summed up
                            counted[name].add(method(a.astype(float), n_a, b.astype(float), n_b), truth)
                cells.append(counted["ours"])
                for name, found in counted.items():
                    everywhere.setdefault((questions, name), []).append(found.coverage)
            name = " / ".join(str(number or "1–20") for number in dict.fromkeys(answers))
            table.add(f"{questions} × {name}", cells)
        tables.append(f"Mean {mean:.0%}, correlation {icc:g}:\n\n{table}")
    summary = [(f"{questions} questions: {name}", found) for (questions, name), found in everywhere.items()]
    yield (
        "### A difference on questions like these\n\n"
        "All settings below; of the other methods a quarter of the studies.\n\n" + _summary(summary)
    )
    yield from tables


def of_these_questions(rng: np.random.Generator, runs: int) -> Iterator[str]:
    """The table of both intervals about exactly these questions."""
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
            cells.append(counted)
        for names in pairs:
            counted, (a, b) = Counted(), (sides[name] for name in names)
            draws = (rng.binomial(answers, rates, (runs, 8)).astype(float) for rates in (a, b))
            for hits_a, hits_b in zip(*draws, strict=True):
                ends = difference_interval(hits_a, n, hits_b, n, THESE_QUESTIONS)[1:3]
                counted.add(ends, a.mean() - b.mean())
            cells.append(counted)
        table.add(str(answers), cells)
    yield f"### These very questions\n\nEight questions; rates, and differences of two.\n\n{table}"


def _summary(found: Iterable[tuple[str, list[float]]]) -> str:
    table = Table("", ["settings", "within 93–97", "below 93", "above 97", "least", "most", "mean"])
    for name, coverages in found:
        values = np.round(coverages, 1)
        shares = (((values >= 93) & (values <= 97)).mean(), (values < 93).mean(), (values > 97).mean())
        ends = (f"{value:.1f}" for value in (values.min(), values.max(), values.mean()))
        table.add(name, [len(values), *(f"{share:.0%}" for share in shares), *ends])
    return str(table)


def main() -> None:
    """Parse, simulate, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.coverage", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="simulated studies a setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DOCUMENT, help="the document whose tables are written anew")
    parser.add_argument(
        "--points", type=int, default=512, help="of a difference's distribution, a quarter of the usual"
    )
    options = parser.parse_args()
    intervals._POINTS = options.points  # a rougher end is off by 1 % of the width, to either side
    rng = np.random.default_rng(options.seed)
    text = options.out.read_text().split(TABLES)[0] if options.out.exists() else ""
    text += f"{TABLES}\n\n{options.runs} simulated studies a setting.\n"
    for tables in (of_a_rate, of_these_questions, of_a_difference):
        for table in tables(rng, options.runs):
            text += f"\n{table}\n"
            options.out.write_text(text)


if __name__ == "__main__":
    main()
