"""`python -m tests.simulations`: the tables of docs/statistics.md from studies whose truth is known.

Small by default, and printed; `--full` writes them into the document (one core, half an hour).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from backend.analysis.rates import intervals
from tests.simulations.areas import of_an_auc
from tests.simulations.corrected_rates import of_a_corrected_difference, of_a_corrected_rate
from tests.simulations.differences import of_a_difference
from tests.simulations.interactions import of_an_interaction, of_families
from tests.simulations.single_rates import of_a_rate, of_few_hits, of_these_questions
from tests.simulations.trained import of_a_trained_probe

DOCUMENT = Path(__file__).parents[2] / "docs" / "statistics.md"
MARK = "<!-- below: written by python -m tests.simulations --full -->"
SMALL, FULL = 10, 250  # simulated studies a setting
PARTS: dict[str, Callable[[np.random.Generator, int], Iterator[str]]] = {
    "difference": of_a_difference,
    "interaction": of_an_interaction,
    "families": of_families,
    "auc": of_an_auc,
    "few": of_few_hits,
    "rate": of_a_rate,
    "these": of_these_questions,
    "corrected": of_a_corrected_rate,
    "corrected-difference": of_a_corrected_difference,
    "trained": of_a_trained_probe,
}


def main() -> None:
    """Parse, simulate, print or write."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulations", description=__doc__)
    parser.add_argument("--full", action="store_true", help=f"{FULL} studies a setting, written into {DOCUMENT.name}")
    parser.add_argument("--runs", type=int, help="simulated studies a setting")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is simulated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help=f"write here below its mark; by default {DOCUMENT.name} if --full")
    parser.add_argument("--points", type=int, default=512, help="of a copula, a quarter of the usual")
    options = parser.parse_args()
    intervals._POINTS = options.points  # a rougher end is off by 1 % of the width, to either side
    runs = options.runs or (FULL if options.full else SMALL)
    out = options.out or (DOCUMENT if options.full else None)
    head = out.read_text().split(MARK)[0] if out and out.exists() else ""
    error = 200 * (0.0475 / runs) ** 0.5
    text = f"{MARK}\n\n{runs} simulated studies a setting; two standard errors of 5 % are {error:.1f} points.\n"
    print(text)
    for name in options.parts:
        rng = np.random.default_rng([options.seed, list(PARTS).index(name)])
        for part in PARTS[name](rng, runs):
            print(part, flush=True)
            text += f"\n{part}\n"
            if out:
                out.write_text(head + text)


if __name__ == "__main__":
    main()
