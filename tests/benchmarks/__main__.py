"""`python -m tests.benchmarks`: run rows, and write RESULTS.json and RESULTS.md after each.

A row that fails says so and leaves the others alone.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait do not take the others' time
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything that is measured is here

import torch
import transformers

from tests.benchmarks import peers
from tests.benchmarks.live_rows import LIVE_ROWS
from tests.benchmarks.measure import Clock, one_line
from tests.benchmarks.report import machine, markdown, merged, versions
from tests.benchmarks.rows import MODEL_ROWS, Table
from tests.benchmarks.setting import Setting

HERE = Path(__file__).parent
ROWS = {**MODEL_ROWS, **LIVE_ROWS}
QUICK = HERE.parents[1] / "cache" / "work" / "benchmarks"


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rows", default="all", help="their numbers, as in 1,5; all by default")
    parser.add_argument("--quick", action="store_true", help="tiny work, one round: to see that everything runs")
    parser.add_argument("--rounds", type=int, default=7, help="the most rounds a row is repeated")
    parser.add_argument("--budget", type=float, default=60, help="seconds after which a table does no 4th round")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which competitors run")
    parser.add_argument("--out", type=Path, help=f"where the results go ({HERE.name}, or a scratch folder if quick)")
    options = parser.parse_args()
    chosen = list(ROWS) if options.rows == "all" else [int(number) for number in options.rows.split(",")]
    out = options.out or (QUICK if options.quick else HERE)
    out.mkdir(parents=True, exist_ok=True)
    clock = Clock(1, 1, 0, options.seed) if options.quick else Clock(3, options.rounds, options.budget, options.seed)
    setting = Setting(clock, options.quick)
    torch.set_num_threads(setting.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    beside = {
        "quick": options.quick,
        "machine": machine(setting.threads),
        "versions": versions(),
        "peers": peers.imported(),
    }
    for row in chosen:
        began = time.perf_counter()
        tables: list[Table] = []
        error = ""
        try:
            tables = ROWS[row](setting)
        except Exception as raised:  # the other rows are still worth running
            traceback.print_exc()
            error = one_line(raised)
        seconds = time.perf_counter() - began
        known = merged(out / "RESULTS.json", row, tables, error=error, took=round(seconds), **beside)
        building = out / "RESULTS.md.tmp"
        building.write_text(markdown(known), encoding="utf-8")
        building.replace(out / "RESULTS.md")
        print(f"row {row}: {seconds:.0f} s{'; failed: ' + error if error else ''}", flush=True)
        for table in tables:
            for goal in table.goals:
                print(f"  {'met  ' if goal.met else 'SHORT'} {goal.value:8.3g} of {goal.reach:<8.3g} {goal.what}")
    print(f"written: {out / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
