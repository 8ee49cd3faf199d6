"""RESULTS.json and the RESULTS.md written from it: rows that were run replace what was known of them."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from tests.benchmarks.rows import Table

VERSIONS = (
    "torch", "transformers", "peft", "numpy", "nnsight", "transformer-lens", "steering-vectors", "repeng", "saklas",
    "nnterp",
)  # fmt: skip


def machine(threads: int) -> dict[str, Any]:
    """What a reader needs to judge the numbers."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "wait policy": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def versions() -> dict[str, str]:
    """Of everything that was measured; absent where it is not installed."""
    found = {}
    for package in VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def merged(file: Path, row: int, tables: Sequence[Table], **beside: Any) -> dict[str, Any]:
    """What is known once `row` gave `tables`; kept in the file."""
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"rows": {}}
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    known["rows"][str(row)] = {"date": now, **beside, "tables": [_plain(table) for table in tables]}
    building = file.with_suffix(".json.tmp")
    building.write_text(json.dumps(known, indent=1) + "\n")
    building.replace(file)
    return known


def _plain(table: Table) -> dict[str, Any]:
    rates = table.ratios if table.unit in table.timings and table.timings[table.unit].seconds else {}
    return {
        "title": table.title,
        "unit": table.unit,
        "measure": table.measure,
        "competitors": {
            name: {
                "measured": timing.seconds,
                "median": None if math.isnan(timing.median) else timing.median,
                "ratio": rates[name][0] if name in rates else None,
                "lowest": rates[name][1] if name in rates else None,
                "highest": rates[name][2] if name in rates else None,
                "note": timing.note,
                "error": timing.error,
            }
            for name, timing in table.timings.items()
        },
        "goals": [{"what": g.what, "value": g.value, "reach": g.reach, "at_most": g.at_most} for g in table.goals],
        "remarks": table.remarks,
        "profile": table.profile,
    }


def markdown(known: Mapping[str, Any]) -> str:
    """The whole of RESULTS.md."""
    rows = sorted(known["rows"].items(), key=lambda item: int(item[0]))
    parts = [
        "# How fast the model core is",
        "",
        "Written by `make bench`; see [README.md](README.md) for what is run and how. Ratios are speeds with the unit "
        "at 1.00: above 1 is faster. A time is the median of the rounds; a ratio is that of two medians, and in "
        "brackets stand the lowest and the highest ratio of a single round.",
        "",
    ]
    short = [
        (number, table["title"], goal)
        for number, row in rows
        for table in row["tables"]
        for goal in table["goals"]
        if not _met(goal)
    ]
    parts += ["## What was to be reached", "", "| row | what | reached | to reach | |", "|---|---|---|---|---|"]
    for number, row in rows:
        for table in row["tables"]:
            for goal in table["goals"]:
                sign, met = "≤" if goal["at_most"] else "≥", "yes" if _met(goal) else "**no**"
                what = f"{table['title']}: {goal['what']}"
                parts.append(
                    f"| {number} | {what} | {_number(goal['value'])} | {sign} {_number(goal['reach'])} | {met} |"
                )
    parts.append("")
    if short:
        parts += [f"{len(short)} short of what was to be reached; the profile that shows why stands at the row.", ""]
    for number, row in rows:
        quick = " (a quick run: the numbers mean little)" if row.get("quick") else ""
        parts += [f"## Row {number}{quick}", ""]
        if row.get("error"):
            parts += [f"This row failed: `{row['error']}`", ""]
        for table in row["tables"]:
            parts += _table(table)
        parts += [f"Measured {row['date']}. {_on(row['machine'])}", ""]
    parts += ["## Versions", ""]
    for name, number in _last(rows, "versions").items():
        parts.append(f"- {name} {number}")
    parts += ["", "## Peers", ""]
    for name, found in _last(rows, "peers").items():
        parts.append(f"- {name}: {found}")
    return "\n".join(parts) + "\n"


def _table(table: Mapping[str, Any]) -> list[str]:
    memory = table["measure"] == "GB"
    head = "| | GB | |" if memory else "| | seconds | speed | |"
    lines = [f"### {table['title']}", "", head, "|---|---|---|" if memory else "|---|---|---|---|"]
    for name, found in table["competitors"].items():
        said = found["note"] + ("; " if found["note"] and found["error"] else "")
        said += f"failed: `{found['error']}`" if found["error"] else ""
        value = "–" if found["median"] is None else f"{found['median']:.3g}"
        ratio = "–" if found["ratio"] is None else f"{found['ratio']:.2f}"
        if found["ratio"] is not None and name != table["unit"] and len(found["measured"]) > 1:
            ratio += f" ({found['lowest']:.2f}–{found['highest']:.2f})"
        bold = f"**{name}**" if name.startswith("ours") else name
        lines.append(f"| {bold} | {value} | {said} |" if memory else f"| {bold} | {value} | {ratio} | {said} |")
    lines += ["", *(f"- {remark}" for remark in table["remarks"])]
    for goal in table["goals"]:
        if not _met(goal):
            lines.append(f"- short: {goal['what']} is {_number(goal['value'])}, to reach is {_number(goal['reach'])}")
    if table["profile"]:
        lines += ["", "Where one run of ours spends its time:", "", "```", table["profile"], "```"]
    return [*lines, ""]


def _met(goal: Mapping[str, Any]) -> bool:
    met: bool = goal["value"] <= goal["reach"] if goal["at_most"] else goal["value"] >= goal["reach"]
    return met


def _number(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 0.01 else f"{value:.2f}"


def _on(found: Mapping[str, Any]) -> str:
    return (
        f"{found['processor']}, {found['cores']} cores, {found['threads']} threads, {found['memory']}, "
        f"{found['capability']}, {found['system']}, OMP_WAIT_POLICY {found['wait policy']}."
    )


def _last(rows: Sequence[tuple[str, Mapping[str, Any]]], what: str) -> Mapping[str, str]:
    dated = sorted((row for _, row in rows), key=lambda row: row["date"])
    found: Mapping[str, str] = dated[-1].get(what, {}) if dated else {}
    return found
