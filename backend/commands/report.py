"""The command `report`: a study as one HTML file to hand on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from backend.commands import values


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    what = "write a study's story, figures, tables and methods as one HTML file that needs no network"
    parser = commands.add_parser("report", help=what, description=what)
    parser.add_argument("study", type=values.name, help="the name of a study")
    parser.add_argument("--out", type=values.path, metavar="FILE", help="where it is written (default: STUDY.html)")
    parser.add_argument("--judge", type=values.text, help="whose scores are told (default: the study's first judge)")
    parser.add_argument("--outcome", type=values.text, help="told first, beside what the study is about")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the file, whole or not at all, and say how large it is."""
    from backend.files import whole
    from backend.report.document import report_html
    from backend.study import open_study
    from backend.study.outcome_json import named_outcome, outcomes_of

    study = open_study(options.study)
    outcome = None if options.outcome is None else named_outcome(outcomes_of(study.info), options.outcome)
    out = options.out or Path(f"{options.study}.html")
    text = report_html(study, judge=options.judge, outcome=outcome).encode("utf-8")
    with whole(out) as file:
        file.write(text)
    print(f"wrote {len(text) / 1e6:.1f} MB to {out}")
