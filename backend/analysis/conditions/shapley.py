"""What each adapter contributes to a rate: Shapley values, from the rates under coalitions of adapters.

The Shapley value of an adapter is what it adds to the rate, on average over all orders in which adapters could be put
on one after another. Values add up to the rate of all less that of none (efficiency). They are the solution of a least
squares problem over coalitions (Charnes et al. 1988; Lundberg and Lee 2017, KernelSHAP), here fitted under efficiency
to those coalitions that were sampled. A coalition drawn together with its complement takes out the error that
interactions of two adapters would make (Covert and Lee 2021, "Improving KernelSHAP"); with all coalitions the values
are exact.
It refuses to know what an adapter encodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from backend.analysis.conditions.causal import INTACT, NONE, answers_of, units_of
from backend.analysis.estimates import LEVEL, Estimate
from backend.analysis.groups import Bools, Floats
from backend.analysis.rates.families import with_family
from backend.analysis.rates.rates import question_counts
from backend.outcomes import EM, Outcome
from backend.records import InputError

_ALIKE = 1e-9  # a spread of values up to which they are equal: what a least squares fit leaves of equal ones
_VALUES: dict[str, Any] = {
    "unit": pl.String,
    **dict.fromkeys(("value", "low", "high", "p_value"), pl.Float64),
    **dict.fromkeys(("coalitions", "questions", "n"), pl.Int64),
}


def shapley(coalitions: Bools, values: Floats) -> Floats:
    """Shapley values (player, question) of what coalitions (coalition, player) are worth, (coalition, question).

    The empty coalition and that of all must be there, every one with its complement, none twice. Sizes of which every
    coalition is there have their weight in the Shapley kernel; what is left of the kernel is shared among the others,
    which are to be drawn by it. Raises InputError where a coalition is missing or there twice, or where they do not
    settle the values.
    """
    players = coalitions.shape[1]
    sizes = coalitions.sum(axis=1)
    if len(np.unique(coalitions, axis=0)) < len(coalitions):
        raise InputError("a coalition is there twice: count its answers together")
    if not paired(coalitions).all():
        raise InputError("a coalition is there without its complement: sample both, or leave it out")
    if not ((sizes == 0).any() and (sizes == players).any()):
        raise InputError("Shapley values need the rate with no adapter and that with all: sample both")
    nothing, everything = (values[np.flatnonzero(sizes == size)[0]] for size in (0, players))
    if players == 1:
        return np.asarray(everything - nothing)[None]
    inner = (sizes > 0) & (sizes < players)
    root = np.sqrt(_weights(sizes[inner], players))[:, None]
    member, total = coalitions[inner].astype(np.float64), everything - nothing
    design = root * (member[:, :-1] - member[:, -1:])  # efficiency: the last value is the total less the others
    if np.linalg.matrix_rank(design) < players - 1:
        raise InputError(f"{int(inner.sum())} coalitions do not settle {players} Shapley values: sample more")
    wanted = root * (values[inner] - nothing - member[:, -1:] * total)
    others = np.linalg.lstsq(design, wanted, rcond=None)[0]
    return np.concatenate([others, (total - others.sum(axis=0))[None]])


def paired(coalitions: Bools) -> Bools:
    """Which coalitions (coalition, player) are there with their complement, (coalition,)."""
    there = {row.tobytes() for row in coalitions}
    return np.array([(~row).tobytes() in there for row in coalitions], dtype=bool)


def _weights(sizes: NDArray[Any], players: int) -> Floats:
    """The weight of each coalition of these sizes, (coalition,)."""
    there = np.bincount(sizes, minlength=players + 1)
    mass = {size: kernel(size, players) * comb(players, size) for size in range(1, players)}
    whole = {size for size in mass if there[size] == comb(players, size)}
    drawn = sum(there[size] for size in mass if size not in whole)
    left = sum(mass[size] for size in mass if size not in whole) / max(drawn, 1)
    return np.array([kernel(size, players) if size in whole else left for size in sizes.tolist()])


def kernel(size: int, players: int) -> float:
    """The Shapley kernel: the weight of one coalition of a size that is neither 0 nor all."""
    return (players - 1) / (comb(players, size) * size * (players - size))


def over_questions(values: Floats) -> Estimate:
    """The mean over questions (question,) with Student's 95 % interval: questions are the sample.

    NaN ends where there is one question, or all are alike, so that nothing is seen of how others would differ.
    """
    error, mean = _error(values), float(np.mean(values))
    wide = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2) * error) if error else np.nan
    return Estimate(mean, mean - wide, mean + wide)


def from_zero(values: Floats) -> float:
    """The two-sided p-value of Student's test that the mean over questions (question,) is zero; NaN as its ends."""
    error = _error(values)
    return float(2 * stdtr(len(values) - 1, -abs(np.mean(values)) / error)) if error else np.nan


def _error(values: Floats) -> float:
    """The standard error of the mean; 0 where nothing is seen of it, to what floats tell."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return spread / float(np.sqrt(len(values))) if spread > _ALIKE else 0.0


def shapley_values(
    frame: pl.DataFrame, gains: pl.DataFrame, organism: str, adapters: Sequence[str], *, outcome: Outcome = EM
) -> pl.DataFrame:
    """The Shapley value of each module of an organism for the rate of an outcome, over the questions of all coalitions.

    `frame` and `gains` as in causal.py, `adapters` the organism's in their order. A question weighs as any other,
    however many answers it was given. [unit, value, low, high, p_value, coalitions, questions, n, q_value, family,
    stands]; empty where no coalitions between one module and all but one were sampled, or too few. Coalitions without
    their complement are left out. The interval is over questions, of one module alone: the choice of coalitions is
    taken as given. The modules are a family. Ends and p-value are null where questions do not differ.
    """
    units = units_of(adapters)
    worth = _worth(frame, gains, organism, outcome)
    every = np.array([np.array(levels) == 1 for levels in worth], dtype=bool).reshape(len(worth), len(units))
    worth = dict(each for each, kept in zip(worth.items(), paired(every), strict=True) if kept)
    members = np.array([np.array(levels) == 1 for levels in worth], dtype=bool).reshape(len(worth), len(units))
    shared = sorted(set.intersection(*(set(shares) for shares, _ in worth.values()))) if worth else []
    between = (members.sum(axis=1) > 1) & (members.sum(axis=1) < len(units) - 1)
    if not shared or not between.any():
        return with_family(pl.DataFrame(schema=_VALUES))
    values = np.array([[shares[question] for question in shared] for shares, _ in worth.values()])
    try:
        found = shapley(members, values)
    except InputError:
        return with_family(pl.DataFrame(schema=_VALUES))
    sizes = (len(members), len(shared), sum(n for _, n in worth.values()))
    rows = [
        (unit, mean.value, mean.low, mean.high, from_zero(values), *sizes)
        for unit, values, mean in zip(units, found, map(over_questions, found), strict=True)
    ]
    table = pl.DataFrame(rows, _VALUES, orient="row").with_columns(pl.col("low", "high").fill_nan(None))
    return with_family(table)


def _worth(
    frame: pl.DataFrame, gains: pl.DataFrame, organism: str, outcome: Outcome
) -> Mapping[tuple[float, ...], tuple[dict[str, float], int]]:
    """Gains of 0 and 1 of every unit -> the share of hits by question, and the answers behind it."""
    own = gains.filter(
        pl.col("organism") == organism, pl.col("levels").list.eval(pl.element().is_in([0.0, 1.0])).list.all()
    )
    if own.is_empty():
        return {}
    size = len(own["levels"][0])
    parts = {(0.0,) * size: answers_of(frame, gains, organism, NONE)}
    parts[(1.0,) * size] = answers_of(frame, gains, organism, INTACT)
    for condition, levels in own.select("condition", "levels").iter_rows():
        if 0 < sum(levels) < size:
            cell = frame.filter(pl.col("organism") == organism, pl.col("cell") == condition)
            parts[tuple(levels)] = pl.concat([parts[tuple(levels)], cell]) if tuple(levels) in parts else cell
    counted = {levels: question_counts(rows, [], outcome) for levels, rows in parts.items() if rows.height}
    return {
        levels: ({q: hits / n for q, hits, n in table.iter_rows() if n}, int(table["n"].sum()))
        for levels, table in counted.items()
    }
