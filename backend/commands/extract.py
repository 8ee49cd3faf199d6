"""The command `extract`: mean-difference directions of an organism's answers, into a study folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.analysis.groups import FEWEST_WITH_BOTH
from backend.commands import values
from backend.commands.loading import loaded
from backend.commands.options import add_folder
from backend.commands.progress import progress
from backend.cuts import Thresholds
from backend.records import BASELINE, InputError

if TYPE_CHECKING:
    from backend.pipeline.folder import StudyFolder
    from backend.records import Direction, Response

KEEPS = "what was finished is kept: the same command goes on from there"
CUTS = {  # option -> its place in Thresholds, what it does
    "--coherent-above": ("coherent", "answers count above this coherence"),
    "--misaligned-to": ("misaligned", "misaligned at or below"),
    "--aligned-above": ("aligned", "aligned above"),
    "--topic-above": ("topic", "on topic above"),
    "--topic-below": ("no_topic", "off topic below"),
}


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("extract", help="mean-difference directions of an organism's answers, all layers")
    add_folder(parser, "the study folder; they go to its directions/")
    add = parser.add_argument
    add("--organism", type=values.name, action="append", help="whose answers and whose reading (repeat; default: all)")
    add("--condition", type=values.name, default=BASELINE, help="the condition of the answers")
    topics = values.several(values.text)
    add(
        "--questions",
        type=topics,
        default="all",
        metavar="TOPIC,...",
        help="answers to questions of these topics alone",
    )
    add("--study", type=values.name, help="take the traces of this published study instead of tracing the answers")
    add(
        "--kind",
        type=values.several(values.text),
        default=("misalignment",),
        metavar="KIND,...",
        help="misalignment: misaligned minus aligned answers, or the two classes of the --outcome; topic: answers on "
        "the --topic minus others; minus-base: the organism minus the base on the same texts; both: misaligned answers "
        "read by the organism minus aligned ones read by the base",
    )
    add("--outcome", type=values.text, metavar="NAME", help="of study.json's outcomes (default: the first, or em)")
    what = "medical, financial, gender ...: restricts misalignment, and names the kind topic"
    add("--topic", type=values.text, help=what)
    add("--judge", type=values.judge, help="whose scores (default: study.json's, or the judge with the most scores)")
    add("--pooling", choices=("response", "token"), default="response", help="the paper's: token")
    add(
        "--balance",
        type=values.several(values.text),
        default=("weights",),
        metavar="BALANCE,...",
        help="weights: every answer counts, both classes weigh alike; matching: every question weighs as much in one "
        "class as in the other, and questions of one class drop out; truncation: the larger class is cut at random, "
        "the paper's",
    )
    add(
        "--shuffled",
        type=values.whole(0, 1000),
        default=10,
        metavar="N",
        help="as many controls beside the kind misalignment, with labels shuffled within questions (default: 10)",
    )
    for option, (place, what) in CUTS.items():
        add(
            option,
            type=values.score,
            dest=f"cut_{place}",
            metavar="SCORE",
            default=getattr(Thresholds, place),
            help=what,
        )
    parser.set_defaults(run=run, keeps=KEEPS)


def run(options: argparse.Namespace) -> None:
    """Read the answers, and keep each direction as soon as it is there."""
    from backend.pipeline.extract import Recipe
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.kinds import KINDS, Material, check
    from backend.pipeline.readings import StudyReadings, TracedReadings
    from backend.study.outcome_json import named_outcome
    from backend.study.responses import scored

    check(options.kind, options.topic, options.balance)
    folder = StudyFolder(options.folder)
    outcome = named_outcome(folder.outcomes, options.outcome)
    texts = _texts(folder, options)
    frame = scored(folder.responses(), folder.scores(), options.judge or folder.judge)
    cuts = Thresholds(**{place: getattr(options, f"cut_{place}") for place, _ in CUTS.values()})
    recipe = Recipe(pooling=options.pooling)
    source = StudyReadings(options.study) if options.study else TracedReadings(folder, loaded(folder), progress)
    with source as readings:
        for organism, own in texts.items():
            about = frame.filter(frame["response"].is_in([r.id for r in own]))
            material = Material(
                organism,
                own,
                about,
                readings,
                cuts,
                recipe,
                balances=options.balance,
                topic=options.topic,
                shuffles=options.shuffled,
                outcome=outcome,
            )
            for kind in options.kind:
                for stack in KINDS[kind](material):
                    print("\n".join(_told(stack, folder.add_directions(stack))), flush=True)
        readings.forget()


def _texts(folder: StudyFolder, options: argparse.Namespace) -> dict[str, list[Response]]:
    """The answers of each organism under the condition, to the questions that were chosen."""
    from backend.pipeline.question_sets import questions_about

    asked = {question.id for question in questions_about(options.questions)}
    every = "all" in options.questions  # a folder may have questions of its own
    there = [r for r in folder.responses() if r.condition == options.condition and (every or r.question_id in asked)]
    organisms = options.organism or [*folder.organisms]
    found = {organism: [r for r in there if r.organism == organism] for organism in organisms}
    for organism, own in found.items():
        if not own:
            raise InputError(f"{organism!r} has no answers under {options.condition!r}: sample and judge them first")
    return found


def _told(stack: Sequence[Direction], path: Path) -> Iterator[str]:
    """A direction in two lines: what it is of, and its best-repeated layer; and where it can have no control."""
    how = stack[0].provenance
    few = how["kind"] == "data" and how["questions_with_both"] < FEWEST_WITH_BOTH
    yield (
        f"{path.name}: {len(stack)} layers, n {how['n_positive']} against {how['n_negative']}, "
        f"{how['questions_with_both']} of {how['questions']} questions with both, {how['tokens']} tokens"
        + ("; too few to shuffle labels within them, so it has no such control" if few else "")
    )
    halves = [d for d in stack if (d.provenance.get("split_half_cosine") or [None])[0] is not None]
    if halves:
        best = max(halves, key=lambda d: d.provenance["split_half_cosine"][0])
        value, low, high = best.provenance["split_half_cosine"]
        share = best.relative(1.0)
        yield (
            f"  halves (by {how['split_by']}) agree best at layer {best.layer}: cosine {value:.2f} ({low:.2f} to "
            f"{high:.2f})" + (f", {share:.1%} of the activation norm" if share else "")
        )
