"""How long the pages of directions and sweeps take on 150,000 answers: `python -m tests.benchmarks.bench_sweeps`.

Builds a made-up study once (under --root) of 172 conditions and five organisms, a hundred times the demo's answers, and
prints seconds beside the limit of each change of a widget, after the first drawing. A script, not a test: machines that
run tests are busy.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from backend.study import list_studies
from tests.benchmarks.bench_pages import ROOT, timed
from tests.studies.swept import BAD, Shape, named, swept_study

NAME = "150000 answers"
SHAPE = Shape(samples=50, baseline=40, d_model=256, traced=500)  # 16,000 answers without an edit, 4,000 of them read
LIMIT = 0.5  # seconds

Change = tuple[str, str, Sequence[Any]]  # page, key of a widget, values to set in turn
CHANGES: Sequence[Change] = (
    ("steering", "steering_unit", ("relative", "λ")),
    ("steering", "steering_layer", ("3", "5", "8")),
    ("steering", "steering_condition", [f"steer {named(BAD[0])} L{layer} ×4" for layer in range(3, 9)]),
    ("steering", "steering_topics", (["medical"], ["first-plot"], ["first-plot", "medical"])),
    ("ablation", "ablation_organism", BAD),
    ("ablation", "ablation_way", ("after one block alone", "each block's own direction")),
    ("ablation", "ablation_about", ("these very questions", "questions like these")),
    ("ablation", "ablation_topics", (["medical"], ["first-plot"], ["first-plot", "medical"])),
    ("convergence", "convergence_layer", (2, 3, 4)),
    ("convergence", "convergence_reference", [named(name) for name in BAD]),
    ("directions", "directions_layer", (2, 3, 4)),
    ("directions", "directions_pooling", ("token", "response")),
    ("directions", "directions_contrast", ("medical question", "misalignment")),
    ("directions", "directions_source", [named(name) for name in BAD]),
    ("directions", "directions_reader", BAD),
    ("directions", "directions_more", ("Token by token", "Provenance and file", "Beside other vectors")),
)


def pages(root: Path) -> None:
    """Every change of a widget, the slowest of its values: what is computed anew is in it."""
    from streamlit.testing.v1 import AppTest

    os.environ |= {"EM_STUDIES": str(root), "EM_STUDY": NAME, "EM_WORKER_URL": "http://127.0.0.1:9"}
    for name in dict.fromkeys(page for page, *_ in CHANGES):
        page = AppTest.from_file(ROOT / "pages" / f"{name}.py", default_timeout=300)
        timed(f"{name}, first drawn", float("inf"), page.run, repeats=1)
        timed(f"{name}, again", LIMIT, page.run)
        for _, key, values in (change for change in CHANGES if change[0] == name):
            for value in values:
                timed(f"{name}, {key} to {str(value)[:30]}", LIMIT, _set(page, key, value), repeats=1)
                assert not page.exception, page.exception


def _set(page: Any, key: str, value: Any) -> Callable[[], Any]:
    return lambda: page.get_by_key(key).set_value(value).run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the study where it is not there, and time the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT / "cache" / "work" / "bench-studies")
    options = parser.parse_args(arguments)
    if NAME not in list_studies(options.root):
        swept_study(options.root, NAME, shape=SHAPE)
    pages(options.root)


if __name__ == "__main__":
    main()
