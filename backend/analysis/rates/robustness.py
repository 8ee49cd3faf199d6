"""What a rate or a difference of rates hangs on: where scores are cut, what is unscored, single questions, draws.

A conclusion is one where no choice among these that a reader could defend turns it. It refuses to know whose scores
they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import polars as pl
from scipy.special import gammaln

from backend.analysis.rates.rates import SIMILAR_QUESTIONS, Estimand, Rate, difference, em_rates, question_counts, rate
from backend.outcomes import EM, Band, Outcome
from backend.records import InputError

CORE_REACH, CORE_STEP = 20.0, 2.5  # points to either side of the cut of the hit: 10 to 50 for EM
GATE_REACH = 25.0  # of the gate's: 25, 50 and 75 for coherence
CLOSE = 5.0  # points from a cut


def cuts(outcome: Outcome) -> tuple[tuple[str, list[float]], tuple[str, list[float]] | None]:
    """The metric of the hit and of the gate, each with the edges within reach, its own among them, on 0 to 100.

    Raises InputError where the hit has no band with one edge.
    """
    core = _movable(outcome)
    own = core.edges[0]
    edges = np.arange(own - CORE_REACH, own + CORE_REACH + CORE_STEP / 2, CORE_STEP)
    gate = outcome.gate
    gates = None
    if gate is not None and len(gate.edges) == 1:
        gates = (gate.metric, _on_scale([gate.edges[0] + move for move in (-GATE_REACH, 0, GATE_REACH)]))
    return (core.metric, _on_scale(edges.tolist())), gates


def rates_over_cuts(frame: pl.DataFrame, outcome: Outcome = EM, *, about: Estimand = SIMILAR_QUESTIONS) -> pl.DataFrame:
    """[cut, gate, own, value, low, high, hits, n] of `frame` at every pair of `cuts`; `own` marks the outcome's.

    `gate` is null for an outcome without one, and so are value and ends where nothing is scored.
    """
    rows = []
    for moved, at in _variants(outcome):
        found = em_rates(frame, outcomes=[moved], about=about).row(0, named=True)
        rows.append({**at, **{name: found[name] for name in ("value", "low", "high", "hits", "n")}})
    return pl.DataFrame(rows, _CUTS | {"hits": pl.Int64, "n": pl.Int64})


def differences_over_cuts(
    a: pl.DataFrame, b: pl.DataFrame, outcome: Outcome = EM, *, about: Estimand = SIMILAR_QUESTIONS
) -> pl.DataFrame:
    """[cut, gate, own, value, low, high, clear] of a minus b at every pair of `cuts`.

    Raises InputError where no question has scored answers on both sides.
    """
    rows = []
    for moved, at in _variants(outcome):
        found = difference(a, b, outcome=moved, about=about)
        rows.append({**at, "value": found.value, "low": found.low, "high": found.high, "clear": found.clear})
    return pl.DataFrame(rows, _CUTS | {"clear": pl.Boolean})


def turns(table: pl.DataFrame) -> tuple[int, int, int]:
    """Of `differences_over_cuts`: at how many cuts it is clear upwards, clear downwards, and not told from zero."""
    up = table.filter(pl.col("clear") & (pl.col("value") > 0)).height
    down = table.filter(pl.col("clear") & (pl.col("value") < 0)).height
    return up, down, table.height - up - down


def without_each_question(
    frame: pl.DataFrame, outcome: Outcome = EM, *, about: Estimand = SIMILAR_QUESTIONS
) -> pl.DataFrame:
    """[question_id, own, value, low, high, hits, n]: the rate without each question, and `own`, the rate of it alone.

    The question whose absence lowers the rate most comes first. Raises InputError with fewer than two questions.
    """
    counts = question_counts(frame, [], outcome)
    if counts.height < 2:
        raise InputError(f"{counts.height} question has scored answers: two at least are needed to leave one out")
    rows = []
    for question, hits, n in counts.iter_rows():
        rest = frame.filter(pl.col("question_id") != question)
        found = em_rates(rest, outcomes=[outcome], about=about).row(0, named=True)
        rows.append({"question_id": question, "own": hits / n, **{name: found[name] for name in _WITHOUT}})
    return pl.DataFrame(rows).sort("value", "question_id")


_WITHOUT = ("value", "low", "high", "hits", "n")


def close_to_cuts(frame: pl.DataFrame, outcome: Outcome = EM, within: float = CLOSE) -> pl.DataFrame:
    """[cut, n, scored]: how many answers have a score within so many points of each cut of the hit."""
    scored = frame.filter(outcome.scored())
    rows = [
        (str(band), scored.filter((pl.col(band.metric) - edge).abs() <= within).height, scored.height)
        for band in outcome.hit
        for edge in band.edges
    ]
    return pl.DataFrame(rows, {"cut": pl.String, "n": pl.Int64, "scored": pl.Int64}, orient="row")


def with_unscored(
    frame: pl.DataFrame, outcome: Outcome = EM, *, about: Estimand = SIMILAR_QUESTIONS
) -> tuple[int, Rate, Rate, Rate]:
    """How many answers lack a score, and the rate without them, with all of them as misses, and as hits."""
    hit = outcome.of({name: frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in outcome.needs})
    missing = np.isnan(hit)
    questions = frame["question_id"].to_numpy()
    taken = (hit, np.where(missing, 0.0, hit), np.where(missing, 1.0, hit))
    left, low, high = (rate(values, questions, about=about) for values in taken)
    return int(missing.sum()), left, low, high


def at_least_once(frame: pl.DataFrame, outcome: Outcome = EM, most: int = 100) -> pl.DataFrame:
    """[k, value, questions]: how often at least one of k answers to a question is a hit (Misalign@k).

    The mean over questions of 1 - C(n - hits, k) / C(n, k), which is unbiased (as pass@k, Chen et al. 2021, arXiv
    2107.03374, equation 1), over the questions with k scored answers or more.
    """
    counts = question_counts(frame, [], outcome)
    hits, n = (counts[name].to_numpy().astype(float) for name in ("hits", "n"))
    rows = []
    for k in _ks(int(n.max(initial=0)), most):
        asked = n >= k
        rows.append((k, float((1 - _none_of(k, hits[asked], n[asked])).mean()), int(asked.sum())))
    return pl.DataFrame(rows, {"k": pl.Int64, "value": pl.Float64, "questions": pl.Int64}, orient="row")


def _none_of(k: int, hits: np.ndarray, n: np.ndarray) -> np.ndarray:
    """C(n - hits, k) / C(n, k)."""
    left = np.maximum(n - hits, k)
    logs = gammaln(left + 1) - gammaln(left - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(n - hits < k, 0.0, np.exp(logs))


def _ks(answers: int, most: int) -> Sequence[int]:
    return sorted({k for k in (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 50, 100, answers) if k <= min(answers, most)})


_CUTS = {
    "cut": pl.Float64,
    "gate": pl.Float64,
    "own": pl.Boolean,
    **dict.fromkeys(("value", "low", "high"), pl.Float64),
}


def _variants(outcome: Outcome) -> list[tuple[Outcome, dict[str, float | bool | None]]]:
    (metric, edges), gates = cuts(outcome)
    own = _movable(outcome).edges[0]
    if gates is None:
        return [(outcome.cut(metric, edge), {"cut": edge, "gate": None, "own": edge == own}) for edge in edges]
    gated, floors = gates
    middle = outcome.gate.edges[0] if outcome.gate else None
    return [
        (
            outcome.cut(metric, edge).cut(gated, floor),
            {"cut": edge, "gate": floor, "own": (edge, floor) == (own, middle)},
        )
        for floor, edge in product(floors, edges)
    ]


def _movable(outcome: Outcome) -> Band:
    for band in outcome.core:
        if len(band.edges) == 1:
            return band
    raise InputError(f"{outcome.title} ({outcome}) has no cut with one edge, so there is nothing to move")


def _on_scale(edges: Sequence[float]) -> list[float]:
    return [float(edge) for edge in edges if 0 <= edge <= 100]
