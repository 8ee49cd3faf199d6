"""The tables of a report: rates of every organism, their differences from the base, the bars of a claim, and settings.

A study in, rows of words out. It refuses to know how a table is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import polars as pl

from backend.analysis.rates.rates import em_rates
from backend.outcomes import Outcome
from backend.records import BASELINE
from backend.study import Study
from backend.tables import rates
from backend.tables.claims import Claim, Evidence, called, points, with_interval

FACTS = ("source", "built", "layers", "d_model", "controls", "reader", "token_mask", "versions")  # of what is recorded
_DIGEST = 12  # digits of a sha256, enough to tell files apart


@dataclass(frozen=True)
class Sheet:
    """One table in words: rows of as many cells as there are columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def claim_sheet(claim: Claim) -> Sheet:
    """The rates behind a claim, as they stand on its card."""
    rows = []
    for row in claim.bars.iter_rows(named=True):
        share = row["low"] is not None and not str(row["lane"]).startswith("AUC") and row["note"] != "AUC"
        ends = row["low"], row["high"]
        value = with_interval(row["value"], *ends) if share else _plain(row["value"], *ends)
        rows.append((row["lane"], value, _count(row["n"]), row["note"] or ""))
    return Sheet(claim.title, ("what", "value (95 %)", "n", "note"), tuple(rows))


def rates_sheet(evidence: Evidence, outcome: Outcome) -> Sheet | None:
    """How often each organism's unedited answers are hits and pass the gate; None where none has scores."""
    plain = evidence.answers.filter(condition=BASELINE)
    table = em_rates(plain, ["organism"], outcomes=outcome.beside).filter(pl.col("n") > 0)
    rows = []
    for name in table["organism"].unique(maintain_order=True):
        found = {row["metric"]: row for row in table.filter(organism=name).iter_rows(named=True)}
        own = found.get(outcome.name)
        if own is None:
            continue
        shares = (_share(found.get(each.name)) for each in outcome.beside)
        rows.append((name, *shares, f"{own['hits']:.0f}/{own['n']}", str(own["clusters"]), str(own["dropped"])))
    if not rows:
        return None
    kinds = (outcome.kinds[1], *(gate.name for gate in outcome.beside[1:]))
    note = "Intervals are 95 %, for questions like these; without a score: answers that the judge gave none."
    columns = ("organism", *kinds, "hits/n", "questions", "without a score")
    return Sheet(f"{called(outcome)} of every organism, without an edit", columns, tuple(rows), note)


def differences_sheet(evidence: Evidence, outcome: Outcome) -> Sheet | None:
    """How much more often each organism's answers are hits than the base's; None where nothing can be compared."""
    gaps = rates.differences(evidence.study, evidence.answers.filter(condition=BASELINE), outcome)
    if gaps.is_empty():
        return None
    rows = tuple(
        (
            row["organism"],
            row["against"],
            points(row["difference"], row["low"], row["high"]),
            "–" if row["q_value"] is None else f"{row['q_value']:.3f}",
            "yes" if row["stands"] else "clear alone" if row["clear"] else row["verdict"],
        )
        for row in gaps.iter_rows(named=True)
    )
    columns = ("organism", "against", "difference (95 %)", "q", "stands after correction")
    return Sheet(f"{called(outcome)} beside the base", columns, rows, " ".join(rates.families_told(gaps)))


def organisms_sheet(study: Study) -> Sheet:
    """How every organism was made, as it was recorded."""
    rows = []
    for name, base, count, text in study.organisms().select("organism", "base", "n_adapters", "record").iter_rows():
        record = _object(text)
        data = record.get("data")
        rows.append(
            (
                name,
                model_name(base or ""),
                str(count),
                _words(record.get("settings") or record.get("source")),
                _words(data),
            )
        )
    return Sheet("Organisms", ("organism", "base", "adapters", "how it was made", "data"), tuple(rows))


def sweeps_sheet(study: Study) -> Sheet | None:
    """What was sampled under edits; None where nothing was, or nothing is recorded."""
    swept = study.info.get("sweeps")
    if not isinstance(swept, Mapping) or not swept:
        return None
    rows = []
    for name, said in swept.items():
        said = said if isinstance(said, Mapping) else {}
        asked = said.get("questions")
        count = str(len(asked)) if isinstance(asked, Sequence) and not isinstance(asked, str) else ""
        each, made = (str(said.get(key, "")) for key in ("n", "made"))
        rows.append((str(name), str(said.get("kind", "")), count, each, _words(said.get("sampling")), made[:10]))
    columns = ("sweep", "kind", "questions", "answers to each", "sampling", "made")
    return Sheet("Sweeps: answers sampled under edits", columns, tuple(rows))


def facts(study: Study, judge: str) -> list[tuple[str, str]]:
    """What the study holds and how it was made, name by name."""
    held = [
        ("study", study.name),
        ("base model", model_name(str(study.info.get("base", "not recorded")))),
        ("judge", judge),
        ("organisms", f"{study.organisms().height:,}"),
        ("conditions", f"{study.conditions().height:,}"),
        ("questions", f"{study.questions().height:,}"),
        ("answers", f"{study.responses(None).height:,}"),
    ]
    recorded = ((name.replace("_", " "), _words(study.info.get(name))) for name in FACTS)
    return [*held, *((name, words) for name, words in recorded if words)]


def model_name(base: str) -> str:
    """What a base is called: its own name where it is a place on the machine that built the study."""
    return PurePath(base).name if is_local(base) else base


def is_local(place: str) -> bool:
    """Whether it is an absolute place on a machine, and no hub id or name."""
    return PurePath(place).is_absolute() or place.startswith("~")


# --- words -----------------------------------------------------------------------------------------------------------


def _object(text: object) -> Mapping[str, Any]:
    try:
        found = json.loads(str(text or "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _words(value: Any) -> str:
    """A recorded value in one line: names with their values, digests cut."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_digest(name, each)}" for name, each in value.items())
    if isinstance(value, list):
        return _runs(value) if all(type(each) is int for each in value) else ", ".join(map(_words, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _runs(numbers: Sequence[int]) -> str:
    """Whole numbers with those in a row as a span: 0–2, 5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]}–{span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans)


def _digest(name: object, value: Any) -> str:
    words = _words(value)
    return f"{words[:_DIGEST]}…" if name == "sha256" and len(words) > _DIGEST else words


def _share(row: Mapping[str, Any] | None) -> str:
    return "–" if row is None or row["value"] is None else with_interval(row["value"], row["low"], row["high"])


def _plain(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f}–{high:.2f})"


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"
