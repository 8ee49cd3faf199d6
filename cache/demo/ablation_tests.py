"""The planned tests of "ablation by matched directions" (README.md), from what its sweeps left in sweeps/.

    python -m cache.demo.ablation_tests

A cell is a condition of one organism. Differences of rates, their intervals and p-values are those of the pages, for
questions like these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from backend.analysis.rates.rates import Difference, difference
from backend.outcomes import COHERENT, Outcome
from backend.pipeline.folder import StudyFolder
from backend.study.responses import scored
from cache.demo.planned_tests import holm

HOME, SWEEPS = Path(__file__).parent, "ablate-matched-"
WAYS = {"everywhere": "after every block", "layer-wise": "layer-wise", "there": "after one block alone"}
TARGETS = {"zero": "", "mean": " to the mean of base"}
Cells = Mapping[str, pl.DataFrame]  # condition -> scored answers


def main() -> None:
    """Print every cell beside the unedited organism, and the four planned tests of each organism."""
    folder = StudyFolder(HOME)
    frame = scored(folder.responses(), folder.scores(), folder.judge)
    for name, record in folder.sweeps().items():
        if name.startswith(SWEEPS):
            organism = name.removeprefix(SWEEPS)
            answers = frame.filter(
                pl.col("organism") == organism, pl.col("question_id").is_in(record.record["questions"])
            )
            cells = {str(cell): rows for (cell,), rows in answers.group_by("condition", maintain_order=True)}
            _tell(organism, cells, record.unedited.name, folder.outcomes)


def _tell(organism: str, cells: Cells, unedited: str, outcomes: tuple[Outcome, ...]) -> None:
    own = next(name for name in cells if name.startswith(f"ablate {organism} ") and ", matched" in name)
    behaviour = own.removeprefix(f"ablate {organism} ").partition(",")[0]
    outcome = next(each for each in outcomes if each.name == ("em" if behaviour == "misalignment" else behaviour))
    plain = cells[unedited]
    print(f"\n{organism}, unedited: {_rates(plain, outcome)}")
    for name, rows in _told(cells, f"{organism} {behaviour}, matched"):
        change, gate = difference(rows, plain, outcome=outcome), difference(rows, plain, outcome=COHERENT)
        print(f"  {name}: {_rates(rows, outcome)}; {_say(change)}, {change.verdict}; coherent {_say(gate)}")
    named = dict(_told(cells, f"{organism} {behaviour}, matched"))
    tests = {
        f"own to {to} − {beside}": difference(named[f"own after every block, to {to}"], rows, outcome=outcome)
        for to in TARGETS
        for beside, rows in (("unedited", plain), ("random", named[f"random 0 after every block, to {to}"]))
    }
    for (name, found), corrected in zip(tests.items(), holm([each.p_value for each in tests.values()]), strict=True):
        print(f"  planned, {name}: {_say(found)}, Holm {corrected:.4f}")
    for to in TARGETS:
        for shuffle in (0, 1):
            other = named[f"shuffled {shuffle} after every block, to {to}"]
            found = difference(named[f"own after every block, to {to}"], other, outcome=outcome)
            print(f"  own to {to} − shuffled {shuffle}: {_say(found)}")


def _told(cells: Cells, direction: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """Cells of the sweep in short words."""
    for to, said in TARGETS.items():
        for control in ("", "random 0 like ", "shuffled 0 like ", "shuffled 1 like "):
            for way, words in WAYS.items():
                for name, rows in cells.items():
                    place, tail = name.partition(f"ablate {control}{direction} ")[1:]
                    if place and tail.endswith(" at answer tokens"):
                        what = tail.removesuffix(" at answer tokens")
                        if what in (f"{way}{said}", *(f"L{layer} {way}{said}" for layer in (16, 17))):
                            yield f"{control.removesuffix(' like ') or 'own'} {words}, to {to}", rows


def _rates(rows: pl.DataFrame, outcome: Outcome) -> str:
    told = []
    for each in (outcome, COHERENT):
        kept = rows.filter(each.scored())
        told.append(f"{each.name} {100 * float(kept.select(each.hits().mean()).item()):.1f} %")
    return f"{', '.join(told)}, n {rows.height}"


def _say(found: Difference) -> str:
    ends = (f"{100 * each:+.1f}" for each in (found.value, found.low, found.high))
    return "{} ({} to {}), p {:.4f}".format(*ends, found.p_value)


if __name__ == "__main__":
    main()
