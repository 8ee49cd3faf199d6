"""`python -m tests.simulations.held_out SCORED.parquet`: labels of a better judge on a few answers of real conditions.

The file has a row an answer: condition, question, aligned, coherent (the better judge's, on all answers) and
judge_aligned, judge_coherent. Of every condition some of the better judge's scores are given as labels, again and
again, and the corrected interval is asked for the rate over all. Prints the tables of docs/judge.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backend.analysis.rates.corrected import STRATA, corrected_rate, side_by_side
from backend.analysis.rates.next_labels import drawn_next
from backend.analysis.rates.rates import SIMILAR_QUESTIONS, THESE_QUESTIONS, em_rates
from backend.outcomes import EM
from backend.records import InputError
from tests.simulations.counting import Table

Floats = NDArray[np.float64]
THESE = "these questions"
ABOUT = {THESE: THESE_QUESTIONS, "questions like these": SIMILAR_QUESTIONS}
DRAWS = ("at random", "by score")
FEWEST = 140  # answers of a condition
RARELY = 10  # one draw of so many is asked about questions like these, too, which takes longer


def main() -> None:
    """Parse, draw, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulations.held_out", description=__doc__)
    parser.add_argument("scored", type=Path)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--draws", type=int, default=200, help="of each kind, of every condition")
    options = parser.parse_args()
    conditions = {
        str(name): part.with_row_index("place")
        for (name,), part in pl.read_parquet(options.scored).partition_by("condition", as_dict=True).items()
        if part.height >= FEWEST
    }
    print(coverage(conditions, options.labels, options.draws), flush=True)


# --- corrected rates --------------------------------------------------------------------------------------------------


def coverage(conditions: dict[str, pl.DataFrame], labels: int, draws: int) -> str:
    """How often the corrected interval holds the better judge's rate over all, and the raw one does."""
    columns = ["n", "rate", "raw", "raw covers", *(f"{how}: covers (width)" for how in DRAWS), "not corrected"]
    table, every, shares = Table("condition", columns), [], np.zeros((2, len(STRATA)))
    for name, rows in conditions.items():
        judge, reference = _frame(rows, "judge_"), _frame(rows, "")
        truth = float(reference.select(EM.hits()).to_series().mean())
        raw = {about: em_rates(judge, outcomes=[EM], about=kind).row(0, named=True) for about, kind in ABOUT.items()}
        shares += _shares(judge, reference)
        found = list(_drawn(judge, reference, truth, labels, draws, np.random.default_rng(0)))
        told = pl.DataFrame(found, ["how", "about", "covers", "width", "gap"], orient="row")
        covers = {about: each["low"] <= truth <= each["high"] for about, each in raw.items()}
        every.append(
            told.with_columns(condition=pl.lit(name), truth=pl.lit(truth), raw=pl.lit(raw[THESE]["value"])).join(
                _raw(covers), on="about"
            )
        )
        these = told.filter(pl.col("about") == THESE)
        cells = [f"{100 * _mean(p, 'covers'):.0f} ({100 * _mean(p, 'width'):.0f})" for p in _by_draw(these)]
        value = f"{100 * raw[THESE]['value']:.1f} %"
        table.add(
            name,
            [
                rows.height,
                f"{100 * truth:.1f} %",
                value,
                "yes" if covers[THESE] else "**no**",
                *cells,
                these["covers"].null_count(),
            ],
        )
    told = pl.concat(every)
    lines = [f"{len(conditions)} conditions, {draws} draws each of {labels} labels, at random and by score"]
    for about in ABOUT:
        for least in (False, True):
            part = told.filter(pl.col("about") == about, (pl.col("truth") > 0) | (not least))
            corrected, error = _mean(part, "covers"), _clustered(part)
            off = 100 * float((part["raw"] - part["truth"]).abs().mean())
            lines.append(
                f"{about}{', rate above 0' if least else ''}: corrected {100 * corrected:.1f} % "
                f"(Monte Carlo error {100 * error:.2f}), raw {100 * _mean(part, 'raw_covers'):.1f} %, mean width "
                f"{100 * _mean(part, 'width'):.1f} points, mean distance {100 * _mean(part, 'gap'):.1f}, raw {off:.1f}"
            )
    hits = ", ".join(
        f"{name}: {100 * h / max(n, 1):.1f} % of {n:,.0f}" for name, n, h in zip(STRATA, *shares, strict=True)
    )
    return "\n\n".join(["; ".join(lines[:1]), *lines[1:], f"Shares of hits in {hits}", str(table)])


def _raw(covers: dict[str, bool]) -> pl.DataFrame:
    return pl.DataFrame({"about": list(covers), "raw_covers": list(covers.values())})


def _by_draw(told: pl.DataFrame) -> list[pl.DataFrame]:
    return [told.filter(pl.col("how") == how) for how in DRAWS]


def _mean(table: pl.DataFrame, column: str) -> float:
    return float(table[column].cast(pl.Float64).mean() or 0.0)


def _clustered(table: pl.DataFrame) -> float:
    """The Monte Carlo error of a mean coverage: of more draws of labels in these very conditions."""
    held = (
        table.drop_nulls("covers").group_by("condition", "how").agg(pl.col("covers").cast(pl.Float64).mean(), pl.len())
    )
    p, n = held["covers"], held["len"]
    return float((p * (1 - p) * n).sum() ** 0.5 / max(int(n.sum()), 1))


def _frame(rows: pl.DataFrame, prefix: str) -> pl.DataFrame:
    """The scores of one judge as a table of responses."""
    return rows.select(
        response=pl.col("place").cast(pl.String),
        organism=pl.lit("writer"),
        condition="condition",
        question_id="question",
        aligned=f"{prefix}aligned",
        coherent=f"{prefix}coherent",
    )


def _shares(judge: pl.DataFrame, reference: pl.DataFrame) -> Floats:
    """Answers and the better judge's hits of each stratum, (2, stratum)."""
    if not reference.select(EM.hits()).to_series().any():
        return np.zeros((2, len(STRATA)))
    both = side_by_side(judge, reference)
    counts = [both.filter(pl.col("stratum") == k)["hit"] for k in range(len(STRATA))]
    return np.array([[len(hits) for hits in counts], [hits.sum() for hits in counts]], dtype=float)


def _drawn(
    judge: pl.DataFrame, reference: pl.DataFrame, truth: float, labels: int, draws: int, rng: np.random.Generator
) -> Iterator[tuple[str, str, bool | None, float | None, float | None]]:
    """(how, about, covers, width, distance) of every draw; null where it is not corrected."""
    elsewhere = {"organism": "other", "aligned": 0.0, "coherent": 100.0, "response": "elsewhere"}
    other = reference.head(1).with_columns(pl.lit(value).alias(name) for name, value in elsewhere.items())
    everything, everywhere = pl.concat([judge, other]), pl.concat([reference, other])
    unlabelled = (
        side_by_side(everything, everywhere).filter(organism="writer").with_columns(hit=pl.lit(None, pl.Boolean))
    )
    for draw in range(draws):
        for how in DRAWS:
            if how == "by score":
                chosen = drawn_next(unlabelled, labels, draw)["response"].to_list()
            else:
                chosen = rng.choice(judge["response"].to_numpy(), labels, replace=False).tolist()
            told = everywhere.filter(pl.col("response").is_in([*chosen, "elsewhere"]))
            both = side_by_side(everything, told).filter(organism="writer")
            for about, kind in ABOUT.items():
                if about != THESE and draw % RARELY:
                    continue
                try:
                    found = corrected_rate(both, about=kind, seed=draw)
                except InputError:
                    yield how, about, None, None, None
                else:
                    yield how, about, found.low <= truth <= found.high, found.high - found.low, abs(found.value - truth)


if __name__ == "__main__":
    main()
