"""What was asked of the worker before, by whom ever: found again, opened side by side, asked again, taken along.

It refuses to know how answers are drawn: what is opened goes into the link of the page.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import streamlit as st

from backend.edits import edits_to_json
from backend.worker.client import Kept, Worker, WorkerError, asked_to_json
from panels.frame import plain
from panels.lanes import LETTERS
from panels.live_answers import begin, run_of, show
from panels.run import LiveRun

STATES = ("waiting", "writing", "finished", "cancelled", "failed", "interrupted")
ROWS = 9  # of the table, before it scrolls
MOST = 100  # lines that are asked for at once


def show_history(worker: Worker, user: str) -> None:
    """The generations that the worker keeps, the newest first, with what can be done with those that are selected."""
    try:
        lines, more = worker.history(MOST)
    except WorkerError as error:
        st.error(plain(error), icon=":material/error:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = str(st.text_input("With these words", key="live_words", placeholder="any", width=230) or "")
        states = st.multiselect("In the state", STATES, key="live_states", placeholder="any", width=260)
    found = [line for line in lines if matches(line, text, states)]
    if not found:
        st.caption("Nothing was asked yet." if not lines else "No generation fits these filters.")
        return
    event: Any = st.dataframe(
        table_of(found),
        height=38 + 35 * min(len(found), ROWS),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="live_history",
        column_config={
            "asked": st.column_config.DatetimeColumn("asked (UTC)", format="YYYY-MM-DD HH:mm:ss", width=140),
            "question": st.column_config.TextColumn(width="large"),
        },
    )
    chosen = [found[row] for row in event["selection"]["rows"] if row < len(found)]
    st.caption(
        f"{len(found)} of {'the newest ' if more else ''}{len(lines)} generations; each is the answers of one lane. "
        f"Select rows: up to {len(LETTERS)} open side by side."
    )
    if chosen:
        _act(worker, user, chosen)


def _act(worker: Worker, user: str, chosen: Sequence[Kept]) -> None:
    few = len(chosen) <= len(LETTERS)
    ids = [line.id for line in chosen]
    with st.container(horizontal=True, gap="small"):
        if st.button("Open", key="live_open", icon=":material/open_in_full:", disabled=not few):
            show(ids)
            st.rerun(scope="app")
        text = "The same request with the same seed, as it is kept: the directions and all."
        if st.button("Run again", key="live_again", icon=":material/replay:", disabled=not few, help=text):
            try:
                begin(worker, [run.request for run in _runs(worker, ids)], user)
            except WorkerError as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.rerun(scope="app")
        st.download_button(
            "JSON",
            lambda: _file(worker, ids, json_of_runs),
            "answers.json",
            "application/json",
            key="live_json",
            icon=":material/download:",
            on_click="ignore",
        )
        if len(ids) == 1:
            st.download_button(
                "Condition",
                lambda: _file(worker, ids, lambda runs: condition_of(runs[0])),
                "live.json",
                "application/json",
                key="live_condition",
                icon=":material/science:",
                on_click="ignore",
                help="The lane's edits, to sample a study under: put the file into the folder conditions/ of a study "
                "folder under a name of its own, then: python -m backend sample --folder FOLDER --organism ORGANISM "
                "--condition NAME",
            )
        st.download_button(
            "CSV",
            lambda: _file(worker, ids, csv_of_runs),
            "answers.csv",
            "text/csv",
            key="live_csv",
            icon=":material/download:",
            on_click="ignore",
        )


def _runs(worker: Worker, ids: Sequence[str]) -> list[LiveRun]:
    """The runs as they are now, read from the worker. Raises WorkerError."""
    return [run_of(worker, id) for id in ids]


def _file(worker: Worker, ids: Sequence[str], made: Callable[[Sequence[LiveRun]], bytes]) -> bytes:
    """What a file holds, made when it is asked for; where the worker cannot be asked any more, that it cannot."""
    try:
        return made(_runs(worker, ids))
    except WorkerError as error:
        return f"There is no file: {error}\n".encode()


def matches(line: Kept, text: str, states: Sequence[str]) -> bool:
    """Whether a line is in one of the states, if any is named, and has every word in its question or its lanes."""
    where = " ".join((line.question, *line.arms)).casefold()
    return (not states or line.status in states) and all(word in where for word in text.casefold().split())


def table_of(lines: Sequence[Kept]) -> pl.DataFrame:
    """A row for each line."""
    rows = [
        {
            "asked": datetime.fromtimestamp(line.created, UTC),
            "lane": line.arms[0],
            "samples": len(line.arms),
            "question": line.question,
            "state": line.status,
            "tokens": line.tokens,
            "seed": line.seed,
            "by": line.kind,
        }
        for line in lines
    ]
    return pl.DataFrame(rows)


def json_of_runs(runs: Sequence[LiveRun]) -> bytes:
    """What was asked, as it can be asked again, and every answer with what its edits did."""
    told = [
        {
            "id": run.id,
            "created": run.created,
            "request": asked_to_json(run.request),
            "answers": [
                {
                    "text": answer.text,
                    "reason": answer.reason,
                    "seed": run.request.seed + arm.draw,
                    "receipts": [receipt.to_json() for receipt in answer.receipts],
                }
                for arm, answer in zip(run.request.arms, run.answers, strict=True)
            ],
            "error": run.error or None,
        }
        for run in runs
    ]
    return json.dumps(told, indent=1, ensure_ascii=False).encode()


def condition_of(run: LiveRun) -> bytes:
    """A lane's edits as a study folder keeps them, directions and all."""
    return json.dumps(edits_to_json(run.request.arms[0].edits), indent=1).encode()


def csv_of_runs(runs: Sequence[LiveRun]) -> bytes:
    """A row for every answer. A text that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, ("id", "asked", "lane", "seed", "edits", "temperature", "top_p", "question", "answer", "ended")
    )
    writer.writeheader()
    for run in runs:
        drawn = run.request.sampling
        for arm, answer in zip(run.request.arms, run.answers, strict=True):
            row: Mapping[str, Any] = {
                "id": run.id,
                "asked": datetime.fromtimestamp(run.created, UTC).isoformat(timespec="seconds"),
                "lane": arm.name,
                "seed": run.request.seed + arm.draw,
                "edits": "; ".join(edit.words for edit in arm.edits),
                "temperature": drawn.temperature,
                "top_p": drawn.top_p,
                "question": run.prompt,
                "answer": answer.text,
                "ended": run.error or answer.reason or "",
            }
            writer.writerow({key: _no_formula(value) for key, value in row.items()})
    return out.getvalue().encode()


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
