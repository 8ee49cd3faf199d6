"""The command `answers`: those of a study out to logs of Inspect or a table, and such files in as a study."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values
from backend.records import InputError


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    what = "hand answers and scores to other tools, or make a study of theirs (Inspect logs, EM tables)"
    parser = commands.add_parser("answers", help=what, description=what)
    parser.add_argument("what", choices=("export", "import"))
    parser.add_argument("study", type=values.name, help="export: whose answers; import: the study that is published")
    what = "export: one .csv, or a folder for a .eval a condition; import: .eval, .json (Inspect) and .csv files"
    parser.add_argument("files", type=values.path, nargs="+", help=what)
    parser.add_argument("--organism", type=values.text, help="export: this one's alone; import: whose answers they are")
    parser.add_argument("--condition", type=values.text, help="export: under this alone; import: what they are under")
    what = "import: what numbers of a score that is no METRIC@JUDGE are multiplied by, to run from 0 to 100"
    parser.add_argument("--times", type=values.number(above=0, most=1000), default=1.0, help=what)
    parser.add_argument("--base", type=values.text, default="not recorded", help="import: the base model")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what is asked."""
    (_export if options.what == "export" else _import)(options)


def _export(options: argparse.Namespace) -> None:
    from backend.files import whole
    from backend.interchange.answers import answers_table
    from backend.interchange.inspect_log import eval_logs
    from backend.study import open_study

    if len(options.files) > 1:
        raise InputError("say one place where the answers go: a .csv file, or a folder for logs")
    study, out = open_study(options.study), options.files[0]
    chosen = {"organism": options.organism, "condition": options.condition}
    if out.suffix.lower() == ".csv":
        table = answers_table(study, **chosen)
        with whole(out) as file:
            table.write_csv(file)
        print(f"{out}: {table.height:,} answers")
        return
    if out.is_file() or out.suffix:
        raise InputError(f"{out} is neither a .csv file nor a folder: name one of them")
    written = 0
    for name, content in eval_logs(study, **chosen):
        with whole(out / name) as file:
            file.write(content)
        written += 1
    print(f"{out}: {written} logs, one an organism and condition; inspect view --log-dir {out}")


def _import(options: argparse.Namespace) -> None:
    from backend.pipeline.import_answers import import_answers, read_answers

    named = {"organism": options.organism, "condition": options.condition, "times": options.times}
    parts = [read_answers(path, **named) for path in options.files]
    import_answers(parts, options.study, base=options.base)
    counts = sum(len(each.responses) for each in parts), sum(len(each.scores) for each in parts)
    print("published study {!r}: {:,} answers, {:,} scores".format(options.study, *counts))
    for line in (line for each in parts for line in each.skipped):
        print(f"  left out or without a number: {line}")
