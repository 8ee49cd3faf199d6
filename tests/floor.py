"""`python -m tests.floor REPORT.json`: the coverage of every package, and a failure where one is below the floor.

A package is a folder of backend/, or panels/ or pages/. Reads the JSON report of coverage.py.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path, PurePath

FLOOR = 0.90


def package(file: str) -> str:
    """ "backend/study/publish.py" is of backend/study, "pages/live.py" of pages, "backend/records.py" of backend."""
    return "/".join(PurePath(file).parts[:-1][:2])


def covered(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, float]:
    """The share of statements that ran, by package, the lowest first."""
    ran: dict[str, int] = defaultdict(int)
    there: dict[str, int] = defaultdict(int)
    for file, found in report["files"].items():
        ran[package(file)] += found["summary"]["covered_lines"]
        there[package(file)] += found["summary"]["num_statements"]
    shares = {name: ran[name] / there[name] for name in there if there[name]}
    return dict(sorted(shares.items(), key=lambda item: item[1]))


def main(path: str) -> int:
    """Print the table; 1 where a package is below the floor."""
    shares = covered(json.loads(Path(path).read_text()))
    for name, share in shares.items():
        print(f"{share:7.1%}  {name}" + (f"  below the floor of {FLOOR:.0%}" if share < FLOOR else ""))
    return int(any(share < FLOOR for share in shares.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
