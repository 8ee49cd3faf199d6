"""The command `dictionary`: sparse features of a study's scalars, held against adapters and principal components."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values
from backend.commands.options import add_folder
from backend.records import InputError


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("dictionary", help="a small sparse autoencoder of a study's adapter scalars")
    add_folder(parser, "the study folder; the result goes to its measured/dictionary/")
    add = parser.add_argument
    add("--study", type=values.name, required=True, help="the published study that holds the scalars")
    add("--reader", type=values.name, required=True, help="the organism whose scalars they are")
    add("--features", type=values.whole(2, 100_000), default=32, help="of the dictionary")
    add("--active", type=values.count, default=2, metavar="K", help="features that are active at a token, at most")
    add("--steps", type=values.count, default=4000, help="of its training")
    add("--seed", type=values.seed, default=0, help="of its training")
    add("--outcome", type=values.text, metavar="NAME", help="whose two classes are told (default: the first, or em)")
    add("--judge", type=values.judge, help="whose scores (default: the study's)")
    add("--name", type=values.name, help="of the result (default: the reader)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Learn, and keep the dictionary and what it is worth."""
    from backend.pipeline.dictionary import KIND, Learning, learn, write
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.measured import keep
    from backend.study import open_study
    from backend.study.outcome_json import named_outcome, outcomes_of

    folder = StudyFolder(options.folder)
    name = options.name or options.reader
    weights = folder.path / "measured" / KIND / name
    if folder.settings and weights.exists():
        raise InputError(f"{weights} is a dictionary already: choose another --name, or remove it")
    study = open_study(options.study)
    asked = Learning(options.reader, options.features, options.active, options.steps, options.seed, options.judge)
    found, dictionary = learn(study, asked, named_outcome(outcomes_of(study.info), options.outcome), name)
    write(weights, dictionary, dict(found.record))
    print(keep(folder.path, found))
    print(weights)
