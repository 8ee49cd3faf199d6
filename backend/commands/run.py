"""The command `run`: everything that a recipe asks for and a study folder does not have yet."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from backend.commands import values
from backend.commands.loading import quiet
from backend.commands.progress import progress

KEEPS = "what was finished is kept: the same command goes on from there"


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("run", help="make the study that a recipe asks for, or what is left of it")
    add = parser.add_argument
    add("recipe", type=values.path, metavar="RECIPE", help="a recipe.yaml (python -m backend recipe demo)")
    add("--folder", type=values.path, help="the study folder (default: the recipe's own folder)")
    add("--until", type=values.text, metavar="STAGE", help="stop behind it; a word stands for all that begin so")
    add("--only", type=values.text, action="append", default=[], metavar="STAGE", help="nothing else (repeat)")
    add("--dry-run", action="store_true", help="only say what is done, what is left, and what it costs")
    what = "with --dry-run, load the model for a pilot of rates that are not known here yet"
    add("--measure", action="store_true", help=what)
    what = "first take what the folder has as made by this recipe, where it says of itself that it was"
    add("--adopt", action="store_true", help=what)
    add("--ray", type=values.text, metavar="ADDRESS", help="answer on a Ray cluster (needs requirements-ray.txt)")
    parser.set_defaults(run=run, keeps=KEEPS)


def run(options: argparse.Namespace) -> None:
    """Say the plan, then carry it out."""
    from backend.pipeline.folder import StudyFolder
    from backend.recipe.bench import Bench, base_of
    from backend.recipe.costs import measure, plan_in_words
    from backend.recipe.ledger import Ledger
    from backend.recipe.reading import check_layers, read_recipe
    from backend.recipe.running import adopt, chosen, held, plan
    from backend.recipe.running import run as carry_out
    from backend.subject.load import depth

    read = read_recipe(options.recipe)
    if (layers := depth(base_of(read))) is not None:
        check_layers(read, layers)
    folder: Path = options.folder or options.recipe.parent
    quiet()
    with ExitStack() as undo:
        # what is only said writes nothing, and may be said while a run is at it
        ledger = Ledger.of(folder, written=False) if options.dry_run else undo.enter_context(held(folder))
        bench = Bench(read, StudyFolder(folder), say=partial(print, flush=True), watch=progress)
        if options.adopt:
            for name in adopt(bench, ledger):
                print(f"taken as made: {name}")
        chosen(plan(bench, ledger), options.until, options.only)  # a wrong name is said before anything is loaded
        if options.ray:
            from backend.recipe.cluster import Cluster

            bench.answer_with(undo.enter_context(Cluster.at(options.ray, bench)).blocks)
        if options.measure or not options.dry_run:
            measure(bench, ledger, plan(bench, ledger))
        print("\n".join(plan_in_words(bench, ledger, plan(bench, ledger))), flush=True)
        if options.dry_run:
            return
        done = carry_out(bench, ledger, options.until, options.only)
    print(f"{len(done)} stages run" if done else "nothing was left to do")
