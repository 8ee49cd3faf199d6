"""`python -m tests.simulations.calibration SCORED.parquet`: one writer's scores calibrated from 50 labels of it.

The file has a row an answer: condition, question, writer, unseen (whether no fit of the judge saw the writer),
aligned, coherent (the better judge's, on all answers), judge_aligned, judge_coherent. Of every condition 50 of the
better judge's scores are given as labels, again and again, a map from the judge's scores to them is fitted, and the
calibration error is measured on the other answers; beside it what no map can undercut:

the right map       says the mean of the better judge's scores among the answers whose own scores are nearest, and the
    better judge's scores are drawn among these: it errs nowhere, and what is measured is the few answers alone.
its level from 50   the right map, moved by the mean that 50 labels leave: the least that they can leave open.
a perfect judge     who gave the better judge's scores themselves, to the 50 answers alone: rates and means from these.

Prints the tables of docs/judge.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from backend.analysis.rates.corrected import STRATA, stratum
from backend.judge.fitting.measure import calibration
from backend.outcomes import EM
from tests.simulations.counting import Table

Floats = NDArray[np.float64]
LEVELS = 5  # parts of the judge's scores from which labels are drawn alike
NEAREST = 25  # answers whose better scores are one answer's
WORTH = 25  # labels that all other writers' together weigh in a joint map
QUIET = 4  # labels
AS_IF = 10, 20.0  # labels, and their spread in points, that say that a slope is 1


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels of one writer, and of all others: the judge's scores x, the better judge's y."""

    x: Floats
    y: Floats
    others: IsotonicRegression  # the rising map of all other writers, each of the same weight
    spread: float  # of the writers' mean differences from it, squared
    joint: tuple[Floats, Floats, Floats]  # x, y and weights of the others
    asked: tuple[NDArray[np.int64], NDArray[np.int64]]  # which question, of the labels and of what is calibrated


# --- maps from the judge's score to the better judge's ---------------------------------------------------------------


def as_it_is(given: Labelled, scores: Floats) -> Floats:
    """The judge's own scores."""
    return scores


def shifted(given: Labelled, scores: Floats) -> Floats:
    """All scores moved by the mean difference."""
    return np.clip(scores + (given.y - given.x).mean(), 0, 100)


def straight(given: Labelled, scores: Floats) -> Floats:
    """A straight line, its slope drawn to 1."""
    return _line(given.x, given.y, scores)


def straight_by_question(given: Labelled, scores: Floats) -> Floats:
    """The same, and what is left of each question's labels, as if QUIET more had left nothing."""
    left, size = given.y - straight(given, given.x), max(map(np.max, given.asked)) + 1
    sums, counts = (np.bincount(given.asked[0], part, size) for part in (left, None))
    return np.clip(straight(given, scores) + (sums / (counts + QUIET))[given.asked[1]], 0, 100)


def rising(given: Labelled, scores: Floats) -> Floats:
    """A rising map (isotonic regression)."""
    return np.asarray(IsotonicRegression(out_of_bounds="clip").fit(given.x, given.y).predict(scores))


def of_others(given: Labelled, scores: Floats) -> Floats:
    """The rising map of other writers, without a label of this one."""
    return np.asarray(given.others.predict(scores))


def of_others_moved(given: Labelled, scores: Floats) -> Floats:
    """The same, moved by the mean difference as far as its error and the spread of writers let one believe it."""
    gap = given.y - of_others(given, given.x)
    believed = given.spread / (given.spread + gap.var(ddof=1) / len(gap))
    return np.clip(of_others(given, scores) + believed * gap.mean(), 0, 100)


def of_others_and_a_line(given: Labelled, scores: Floats) -> Floats:
    """The same, and a straight line upon it."""
    return _line(of_others(given, given.x), given.y, of_others(given, scores))


def of_all(given: Labelled, scores: Floats) -> Floats:
    """A rising map of these labels and of those of others, which weigh as WORTH of these."""
    x, y, weights = given.joint
    every = np.r_[given.x, x], np.r_[given.y, y]
    ones = np.r_[np.ones(len(given.x)), weights / weights.sum() * WORTH]
    return np.asarray(IsotonicRegression(out_of_bounds="clip").fit(*every, sample_weight=ones).predict(scores))


def _line(x: Floats, y: Floats, scores: Floats) -> Floats:
    count, spread = AS_IF
    centred, gap = x - x.mean(), y - x
    slope = float((centred * (gap - gap.mean())).sum() / ((centred**2).sum() + count * spread**2))
    return np.clip(scores + gap.mean() + slope * (scores - x.mean()), 0, 100)


MAPS = {
    "none: as the judge says": as_it_is,
    "all moved by the mean difference": shifted,
    "a straight line": straight,
    "a straight line, and by question": straight_by_question,
    "a rising map": rising,
    "others' rising map, no label": of_others,
    "others' rising map, moved": of_others_moved,
    "others' rising map and a line": of_others_and_a_line,
    "a rising map of own and others' labels": of_all,
}
BY_SCORE = {"a straight line": straight, "a rising map": rising}  # fitted to labels drawn alike from LEVELS, too


# --- what is measured -------------------------------------------------------------------------------------------------


def main() -> None:
    """Parse, draw, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulations.calibration", description=__doc__)
    parser.add_argument("scored", type=Path)
    parser.add_argument("--labels", type=int, default=50)
    parser.add_argument("--draws", type=int, default=200, help="of every condition")
    options = parser.parse_args()
    parts = {
        str(name): part
        for (name,), part in pl.read_parquet(options.scored).partition_by("condition", as_dict=True).items()
    }
    for metric in EM.needs:
        rows = [row for name in parts for row in calibrated(parts, name, metric, options.labels, options.draws)]
        print(
            f"{metric}, {options.labels} labels, {options.draws} draws of each condition:\n\n{told(rows)}", flush=True
        )
    print(f"The rate, from the same labels:\n\n{rates(parts, options.labels, options.draws)}", flush=True)
    print(f"The rate, by the judge's AUC:\n\n{by_area(options.labels)}", flush=True)


def calibrated(
    parts: dict[str, pl.DataFrame], name: str, metric: str, labels: int, draws: int
) -> Iterator[tuple[str, bool, str, float, float]]:
    """(condition, unseen, map, calibration error, how far the mean is off) of every draw, in points."""
    rng, (x, y) = np.random.default_rng(1), scores_of(parts[name], metric)
    unseen, whose, near = bool(parts[name]["unseen"][0]), parts[name]["writer"][0], nearest(x)
    others = [scores_of(part, metric) for part in parts.values() if part["writer"][0] != whose]
    weights = np.concatenate([np.full(len(a), 1 / len(a)) for a, _ in others])
    joint = np.concatenate([a for a, _ in others]), np.concatenate([b for _, b in others]), weights
    prior = IsotonicRegression(out_of_bounds="clip").fit(joint[0], joint[1], sample_weight=joint[2])
    spread = float(np.var([(b - prior.predict(a)).mean() for a, b in others]))
    asked = parts[name]["question"].rank("dense").to_numpy().astype(np.int64)
    right, level = y[near].mean(1), np.argsort(np.argsort(x, kind="stable")) * LEVELS // len(x)
    for _ in range(draws):
        chosen = np.isin(np.arange(len(x)), rng.choice(len(x), labels, replace=False))
        alike = np.concatenate([rng.choice(np.flatnonzero(level == k), labels // LEVELS, False) for k in range(LEVELS)])
        by_score = np.isin(np.arange(len(x)), alike)
        drawn = y[near[np.arange(len(x)), rng.integers(0, NEAREST, len(x))]]
        moved = np.clip(right + (drawn - right)[chosen].mean(), 0, 100)
        said = {kind: (fit, chosen) for kind, fit in MAPS.items()}
        said |= {f"{kind}, by score": (fit, by_score) for kind, fit in BY_SCORE.items()}
        for kind, (fit, given) in said.items():
            found = fit(Labelled(x[given], y[given], prior, spread, joint, (asked[given], asked[~given])), x[~given])
            yield name, unseen, kind, *errors(found, y[~given])
        yield name, unseen, "the right map", *errors(right[~chosen], drawn[~chosen])
        yield name, unseen, "its level from these labels", *errors(moved[~chosen], drawn[~chosen])


def scores_of(part: pl.DataFrame, metric: str) -> tuple[Floats, Floats]:
    """The judge's scores and the better judge's."""
    return part[f"judge_{metric}"].to_numpy().astype(float), part[metric].to_numpy().astype(float)


def nearest(x: Floats) -> NDArray[np.int64]:
    """(answer, NEAREST): the answers with the scores nearest in rank."""
    order = np.argsort(x, kind="stable")
    first = np.clip(np.arange(len(x)) - NEAREST // 2, 0, len(x) - NEAREST)
    found = np.empty((len(x), NEAREST), dtype=np.int64)
    found[order] = order[first[:, None] + np.arange(NEAREST)]
    return found


def errors(said: Floats, truth: Floats) -> tuple[float, float]:
    """The calibration error over ten bins, and how far the mean is off, in points."""
    return calibration(said, truth), abs(float((said - truth).mean()))


def told(rows: list[tuple[str, bool, str, float, float]]) -> Table:
    """Means over conditions, and in how many the mean of the draws is at most 3 points."""
    drawn = pl.DataFrame(rows, ["condition", "unseen", "map", "error", "level"], orient="row")
    each = drawn.group_by("condition", "unseen", "map", maintain_order=True).agg(pl.col("error", "level").mean())
    table = Table("map", ["unseen", "error", "at most 3", "level off by", "at most 3"])
    for (kind, unseen), part in each.partition_by("map", "unseen", as_dict=True, maintain_order=True).items():
        within = [f"{(part[column] <= 3).sum()} of {part.height}" for column in ("error", "level")]
        means = [f"{float(part[column].to_numpy().mean()):.1f}" for column in ("error", "level")]
        table.add(str(kind), [unseen, means[0], within[0], means[1], within[1]])
    return table


def rates(parts: dict[str, pl.DataFrame], labels: int, draws: int) -> Table:
    """How far the rate from 50 labels is off: of these alone, post-stratified, and by the best regression there is."""
    rng, rows = np.random.default_rng(2), []
    for name, part in parts.items():
        judge = part.select(aligned="judge_aligned", coherent="judge_coherent")
        kind = judge.select(stratum(EM)).to_series().to_numpy()
        hit = part.select(EM.hits()).to_series().to_numpy().astype(float)
        best = hit[nearest(judge["aligned"].to_numpy().astype(float))].mean(1)
        for _ in range(draws):
            given = rng.choice(len(hit), labels, replace=False)
            known = {k: hit[given][kind[given] == k] for k in range(len(STRATA))}
            strata = sum((kind == k).mean() * (v.mean() if len(v) else hit[given].mean()) for k, v in known.items())
            found = hit[given].mean(), strata, best.mean() + (hit - best)[given].mean()
            rows.append((name, bool(part["unseen"][0]), *(100 * abs(value - hit.mean()) for value in found)))
    ways = ["these labels alone", "weighed by the judge's kinds", "the right regression on its scores"]
    off = pl.DataFrame(rows, ["condition", "unseen", *ways], orient="row")
    each = off.group_by("condition", "unseen", maintain_order=True).agg(
        pl.col(ways).mean(), *((pl.col(way) <= 3).mean().alias(f"{way}, within 3") for way in ways)
    )
    table = Table("from", ["unseen", "off by", "draws within 3 points", "conditions with 9 of 10 draws within 3"])
    for way in ways:
        for (unseen,), part in each.partition_by("unseen", as_dict=True, maintain_order=True).items():
            within = part[f"{way}, within 3"].to_numpy()
            often = f"{(within >= 0.9).sum()} of {part.height}"
            table.add(way, [unseen, f"{part[way].to_numpy().mean():.1f}", f"{100 * within.mean():.0f} %", often])
    return table


def by_area(labels: int, answers: int = 400, rate: float = 0.2) -> Table:
    """The same of normal scores with one spread on both sides, whose AUC is given, by the right regression on them."""
    columns = ["variance left", "off by", "within 3 points", "labels for 9 of 10 within 3"]
    table, grid = Table("AUC", columns), np.linspace(-12, 18, 20_001)
    widest = 3 / norm.ppf(0.95)  # points, of an error that is within 3 points nine times of ten
    for area in (0.5, 0.85, 0.9, 0.95, 0.99, 0.999):
        hits, misses = rate * norm.pdf(grid, 2**0.5 * norm.ppf(area)), (1 - rate) * norm.pdf(grid)
        left = float((hits * misses / (hits + misses)).sum() * (grid[1] - grid[0]))  # mean of p (1 - p)
        error = 100 * (left / labels * (1 - labels / answers)) ** 0.5
        needed = np.ceil(left / ((widest / 100) ** 2 + left / answers))
        within = 2 * norm.cdf(3 / error) - 1
        off = f"{error * (2 / np.pi) ** 0.5:.1f}"
        table.add(f"{area:g}", [f"{100 * left / (rate * (1 - rate)):.0f} %", off, f"{100 * within:.0f} %", int(needed)])
    return table


if __name__ == "__main__":
    main()
