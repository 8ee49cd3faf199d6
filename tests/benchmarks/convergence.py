"""How often two organisms' directions are said to agree though labels tell nothing, and though they tell: a table.

`python -m tests.benchmarks.convergence` prints the table of docs/directions.md. Two organisms answer the same
questions, which differ in where their answers lie, alike for both organisms, and in how often they are answered badly.
Within a question the label says nothing (`effect` 0), or moves an answer along an axis, shared by both organisms or
not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from backend.analysis.directions.answers import Answers, Balance, Means
from backend.analysis.directions.cosines import chance, row_cosines
from backend.analysis.directions.difference import MeanDifference
from backend.analysis.estimates import one_more_draw
from backend.records import FloatArray, InputError

WIDTH, SHUFFLES, LAYER = 64, 10, 0
BALANCES: tuple[Balance, ...] = ("weights", "matching")


@dataclass(frozen=True)
class Setting:
    """How the answers of a study come about."""

    questions: int = 16
    each: int = 25  # answers to a question
    rate: float = 0.2  # of bad answers, the mean over questions
    differ: float = 0.3  # correlation of labels within a question
    apart: float = 1.0  # spread of the questions' means, in spreads of the answers to one
    effect: float = 0.0  # how far a bad answer is moved, in mean spreads of the answers to one
    shared: bool = True  # along one axis in both organisms; else along one each, drawn where answers vary


SETTINGS = (
    Setting(differ=0.0),
    Setting(),
    Setting(apart=3.0),
    Setting(each=12, rate=0.1),
    Setting(questions=8, each=50),
    Setting(rate=0.1, differ=0.6, apart=3.0),
    Setting(effect=2.0),
    Setting(effect=4.0),
    Setting(apart=3.0, effect=4.0),
    Setting(each=12, rate=0.1, effect=2.0),
    Setting(each=12, rate=0.1, effect=4.0),
    Setting(effect=4.0, shared=False),
    Setting(each=12, rate=0.1, effect=4.0, shared=False),
)


def study(setting: Setting, rng: np.random.Generator) -> tuple[Answers, Answers]:
    """The answers of two organisms."""
    spread = 1 / np.sqrt(np.arange(1, WIDTH + 1))  # answers crowd into few dimensions, as real ones do
    places = setting.apart * rng.standard_normal((setting.questions, WIDTH)) * spread
    if setting.differ:
        strength = (1 - setting.differ) / setting.differ
        rates = rng.beta(setting.rate * strength, (1 - setting.rate) * strength, setting.questions)
    else:
        rates = np.full(setting.questions, setting.rate)
    axes = rng.standard_normal((2, WIDTH)) * spread
    axes *= spread.mean() / np.linalg.norm(axes, axis=1, keepdims=True)
    question = np.repeat(np.arange(setting.questions), setting.each)

    def one(axis: FloatArray) -> Answers:
        labels = rng.random(len(question)) < rates[question]
        means = places[question] + rng.standard_normal((len(question), WIDTH)) * spread
        means += setting.effect * np.outer(labels, axis)
        return Answers(Means({LAYER: means}, np.ones(len(question))), labels, question)

    return one(axes[0]), one(axes[0] if setting.shared else axes[1])


def over_all(answers: Answers, rng: np.random.Generator) -> Answers:
    """Labels dealt anew over all answers, as was done before."""
    return Answers(answers.means, rng.permutation(answers.labels), answers.groups)


def cosine(one: Answers, other: Answers, balance: Balance) -> float:
    """The cosine of two mean differences; NaN where one cannot be taken."""

    def taken(answers: Answers) -> FloatArray:
        return MeanDifference.of(answers, name="m", balance=balance).at(LAYER).vector[None]

    try:
        return float(row_cosines(taken(one), taken(other))[0])
    except InputError:
        return np.nan


def verdicts(setting: Setting, rng: np.random.Generator) -> dict[str, float] | None:
    """The cosines of a study, and which of its nulls they exceed; None where labels cannot be shuffled."""
    try:
        one, other = study(setting, rng)
        within = [(one.shuffled(rng), other.shuffled(rng)) for _ in range(SHUFFLES)]
    except InputError:
        return None
    anywhere = [(over_all(one, rng), over_all(other, rng)) for _ in range(SHUFFLES)]
    found: dict[str, float] = {}
    for balance in BALANCES:
        real = cosine(one, other, balance)
        found[f"cosine, {balance}"] = real
        found[f"random, {balance}"] = real > chance(WIDTH)
        for name, pairs in (("within", within), ("over all", anywhere)):
            drawn = np.array([cosine(*pair, balance) for pair in pairs])
            by_chance = one_more_draw(drawn[np.isfinite(drawn)])
            found[f"chance {name}, {balance}"] = by_chance.value
            found[f"{name}, {balance}"] = real > by_chance.high
    return found


def rows(first: int, runs: int, seed: int) -> Iterator[str]:
    """The table, a line a setting."""
    yield (
        "| questions × answers | rate, ICC | apart | effect | cosine | within | over all | random | "
        "matched: cosine | within | over all | random |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for at, setting in list(enumerate(SETTINGS))[first:]:
        rng = np.random.default_rng((seed, at))
        told = [found for _ in range(runs) if (found := verdicts(setting, rng)) is not None]
        mean = {key: float(np.nanmean([each[key] for each in told])) for key in told[0]}
        cells = [
            f"{setting.questions} × {setting.each}",
            f"{setting.rate:.0%}, {setting.differ:g}",
            f"{setting.apart:g}",
            f"{setting.effect:g}{'' if setting.shared else ', apart'}",
        ]
        for balance in BALANCES:
            cells.append(f"{mean[f'cosine, {balance}']:.2f} ({mean[f'chance within, {balance}']:.2f})")
            cells += [f"{100 * mean[f'{name}, {balance}']:.1f}" for name in ("within", "over all", "random")]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="setting to begin with")
    options = parser.parse_args()
    for line in rows(options.first, options.runs, options.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
