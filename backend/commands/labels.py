"""The command `labels`: draw answers to be read blind, and enter what a reader said of them as one more judge."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values
from backend.commands.options import add_folder
from backend.judge import EMBEDDED


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("labels", help="draw answers to read blind; enter their labels as one more judge")
    add = parser.add_argument
    add("what", choices=("draw", "enter"))
    add(
        "file",
        type=values.path,
        help="draw: where the answers go (.csv and .parquet for a judge, else JSON lines); enter: JSON lines of item "
        "and label, or a table of item and scores",
    )
    add_folder(parser)
    add("--n", type=values.count, default=200, help="answers to draw, evenly over organisms and conditions")
    add("--seed", type=values.seed, default=0, help="of the draw")
    add("--by", type=values.name, default="reader", help="who reads them: the judge's name is hand-NAME or labels-NAME")
    add(
        "--by-score",
        nargs="?",
        const=EMBEDDED,
        type=values.judge,
        metavar="JUDGE",
        help=f"draw what tells most of the rates that JUDGE gives ({EMBEDDED} if unnamed), beside NAME's labels so far",
    )
    add("--conditions", type=values.several(values.text), default=(), help="draw of these alone, comma-separated")
    share = values.number(most=1, above=0)
    add(
        "--half-width",
        type=share,
        help="with --by-score: say how many labels bring each interval to this, 0.05 for ±5 %%",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what is asked, and say where it is."""
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.labelling import (
        TABLES,
        draw_blind,
        enter,
        enter_scored,
        read_entries,
        read_scored,
        write_drawn,
    )
    from backend.study.labels import KINDS

    folder = StudyFolder(options.folder)
    responses = folder.answers()
    if options.what == "enter":
        if options.file.suffix.lower() in TABLES:
            scores = read_scored(options.file, responses, options.by)
            print(f"{enter_scored(folder, scores, options.by)}: {len(scores)} scores")
            return
        labels = read_entries(options.file, responses, options.by)
        kept, file = enter(folder, labels, options.by)
        print(f"{kept}: {len(labels)} labels; {file}")
        return
    if options.by_score:
        drawn = _by_score(folder, responses, options)
    else:
        among = [r for r in responses if not options.conditions or r.condition in options.conditions]
        drawn = draw_blind(among, options.n, options.seed)
    write_drawn(options.file, drawn)
    print(f"{options.file}: {len(drawn)} answers; label each as {', '.join(KINDS)}, or score them")


def _by_score(folder: Any, responses: Any, options: argparse.Namespace) -> Any:
    from backend.judge.choice import PRESETS
    from backend.pipeline.labelling import draw_by_score, judged_answers, labels_by, wanted_labels

    outcome, judge = folder.outcomes[0], PRESETS.get(options.by_score, options.by_score)
    rows = judged_answers(folder, responses, judge, options.conditions, outcome)
    rows = labels_by(folder, rows, options.by, outcome)
    groups = rows.select("organism", "condition").n_unique()
    if options.half_width:
        needed = wanted_labels(rows, options.half_width)
        print(
            f"{needed:,} labels in all bring the judge's part of {groups} intervals to ±{options.half_width:.1%}; "
            f"{rows['hit'].count():,} are there"
        )
    name = options.file.name.partition(".")[0] or "drawn"
    drawn, key = draw_by_score(folder, rows, responses, options.n, options.seed, judge=judge, name=name)
    print(f"{key}: by whose scores, of which kind, with what probability; it stays here, for nobody who labels")
    return drawn
