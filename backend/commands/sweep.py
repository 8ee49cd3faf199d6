"""The command `sweep`: many conditions of a study folder's organisms, as one resumable batch of answers."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from backend.commands import values
from backend.commands.loading import loaded
from backend.commands.options import add_folder, add_sampling
from backend.commands.progress import progress
from backend.records import BASE, InputError, Response, Sampling

if TYPE_CHECKING:
    from backend.pipeline.experiment import SweepDesign
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.sweep import Sweep, SweepCost
    from backend.subject.load import Subject

    Designed = Callable[[Subject, Sequence[Response]], SweepDesign]  # what needs the model is done when it is there

KEEPS = "what was finished is kept: the same command goes on from there"
WHERE = (
    "all (every token but the attention sink), paper (the sink too), prompt or answer; behind a comma also first=N, "
    "after=N, tokens=ID+ID, no-special, sink"
)
TOKENS = 40  # of an answer: enough to judge, half of what `sample` draws


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("sweep", help="answer questions under many conditions, as one resumable batch")
    kinds = parser.add_subparsers(dest="sweep", required=True, metavar="steer|ablate|gain|coalitions")
    for each in (_add_steer(kinds), _add_ablate(kinds), _add_gain(kinds), _add_coalitions(kinds)):
        add_folder(each, "the study folder; answers go to its sweeps/")
        each.add_argument("--name", type=values.name, required=True, help="of the sweep")
        each.add_argument("--n", type=values.count, default=4, help="answers a question and cell")
        topics = values.several(values.text)
        each.add_argument("--questions", type=topics, default="first-plot", help="topics, comma-separated, or all")
        add_sampling(each, TOKENS)
        each.add_argument("--batch", type=values.count, help="rows a forward pass (default: what is fast on a CPU)")
        each.add_argument("--estimate", action="store_true", help="only say what it would cost")
    parser.set_defaults(run=run, keeps=KEEPS)


def _add_steer(kinds: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        "steer", help="each layer's direction added at that layer, at every strength"
    )
    add = parser.add_argument
    add("--direction", type=values.text, required=True, help="its name in directions/")
    add("--layers", type=values.layers, help="e.g. 0-29 (default: all it has)")
    what = "shares of the activation norm, or raw multiples: 1,2,4"
    add("--strengths", type=values.strengths, default="4%,8%,12%,18%", help=what)
    add("--control-layers", type=values.layers_or_none, default=(), help="layers where controls stand beside it")
    add("--random", type=values.seeds_or_none, default="0-2", metavar="SEEDS", help="of random directions, or none")
    like = "other directions at its norm (repeat)"
    add("--like", type=values.text, action="append", default=[], metavar="NAME", help=like)
    add("--controls-only", action="store_true", help="add controls to a sweep that is there already")
    add("--organism", type=values.name, default=BASE, help="what is steered")
    add("--where", type=values.where, default="all", metavar="TOKENS", help=WHERE)
    parser.set_defaults(prepare=_steer)
    return parser


def _add_ablate(kinds: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        "ablate", help="directions out of organisms: their own, each other's, controls"
    )
    add = parser.add_argument
    add("--organism", type=values.name, action="append", help="out of which (repeat; default: all)")
    add("--direction", type=values.text, action="append", required=True, help="which (repeat)")
    layer = values.whole(0, values.LAYERS - 1)
    add("--layer", type=layer, required=True, help="of the direction that is taken out everywhere")
    add("--random", type=values.seeds_or_none, default="0-1", metavar="SEEDS", help="of random directions, or none")
    like = "other directions as controls, taken out everywhere alone (repeat)"
    add("--like", type=values.text, action="append", default=[], metavar="NAME", help=like)
    add("--subspace", action="store_true", help="a random subspace that disturbs as much, too")
    add("--no-write", action="store_true", help="leave write vectors alone, as where another sweep has cleaned them")
    to = "what projections are brought to: zero, mean (of the base's answers) or both"
    add("--to", type=values.targets, default="zero,mean", help=to)
    add("--where", type=values.where, default="all", metavar="TOKENS", help=WHERE)
    parser.set_defaults(prepare=_ablate)
    return parser


def _add_gain(kinds: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        "gain", help="adapters zeroed alone, kept alone, zeroed in pairs, scaled in groups"
    )
    add = parser.add_argument
    add("--organism", type=values.name, required=True, help="whose adapters")
    group = "e.g. late=17-19 (repeat)"
    add("--group", type=values.group, action="append", default=[], metavar="NAME=LAYERS", help=group)
    add("--factors", type=values.several(values.number()), default="0,2,4", help="of groups, comma-separated")
    add("--no-pairs", action="store_true", help="leave pairs out")
    parser.set_defaults(prepare=_gain)
    return parser


def _add_coalitions(kinds: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        "coalitions", help="random coalitions of adapters and their complements, for Shapley values beside gain's"
    )
    parser.add_argument("--organism", type=values.name, required=True, help="whose adapters")
    parser.add_argument("--pairs", type=values.count, default=32, help="of a coalition and its complement")
    parser.set_defaults(prepare=_coalitions)
    return parser


def run(options: argparse.Namespace) -> None:
    """Say what it costs, then sample and keep it. All that can be refused is refused before the model is loaded."""
    from backend.pipeline.experiment import conduct
    from backend.pipeline.folder import StudyFolder
    from backend.pipeline.question_sets import questions_about
    from backend.pipeline.sweep import Sweep, estimate, references
    from backend.subject.decode import BATCH

    folder, batch = StudyFolder(options.folder), options.batch or BATCH
    sampling = Sampling(options.temperature, options.top_p, options.max_new_tokens)
    questions, baselines = questions_about(options.questions), folder.responses()
    designed: Designed = options.prepare(options, folder)
    subject = loaded(folder)
    design = designed(subject, baselines)
    sweep = Sweep(options.name, tuple(design.cells), questions, options.n, sampling, options.seed)
    cut, missing = references(subject, sweep, baselines)
    sweep = Sweep(options.name, (*missing, *design.cells), questions, options.n, sampling, options.seed)
    print(_cost(sweep, estimate(subject, sweep, batch=batch)), flush=True)
    if options.estimate:
        return
    with progress(options.name, sweep.size, unit="answer") as move:
        kept = conduct(folder, subject, sweep, cut, design.record, batch=batch, progress=move)
    judge = f"python -m backend judge {shlex.quote(str(folder.path))}"
    print(f"{kept.answers} answers in {kept.seconds} s: {kept.path}. Judge them: {judge}")


def _cost(sweep: Sweep, found: SweepCost) -> str:
    return (
        f"{len(sweep.cells)} cells × {len(sweep.questions)} questions × {sweep.n} = {found.answers} answers, at the "
        f"most {found.tokens} tokens: about {max(1, round(found.seconds / 60))} min or less on this machine"
    )


def _steer(options: argparse.Namespace, folder: StudyFolder) -> Designed:
    from backend.pipeline.experiment import steering_design
    from backend.pipeline.grids import Strengths

    if options.controls_only and not options.control_layers:
        raise InputError("--controls-only needs --control-layers: say where controls go")
    values_, share = options.strengths
    design = steering_design(
        folder.direction(options.direction),
        Strengths(values_, share=share),
        layers=() if options.controls_only else options.layers,
        control_layers=options.control_layers,
        random=options.random,
        others=[folder.direction(name) for name in options.like],
        organism=folder.known(options.organism),
        where=options.where,
    )
    return lambda subject, baselines: design


def _ablate(options: argparse.Namespace, folder: StudyFolder) -> Designed:
    from backend.pipeline.experiment import MEAN, Ablation, check_mean

    ablation = Ablation(
        [folder.direction(name) for name in options.direction],
        options.layer,
        [folder.known(name) for name in options.organism or folder.organisms],
        random=options.random,
        others=[folder.direction(name) for name in options.like],
        subspace=options.subspace,
        writes=not options.no_write,
        where=options.where,
        to=options.to,
    )
    if MEAN in options.to:
        check_mean(BASE, folder.responses())
    return partial(ablation.design, said=partial(print, flush=True))


def _worn(options: argparse.Namespace, folder: StudyFolder) -> str:
    organism = folder.known(options.organism)
    if organism == BASE:
        raise InputError(f"{BASE} has no adapters to scale: choose an organism of {folder.path} with --organism")
    return organism


def _coalitions(options: argparse.Namespace, folder: StudyFolder) -> Designed:
    from backend.pipeline import grids
    from backend.pipeline.experiment import SweepDesign

    organism = _worn(options, folder)

    def design(subject: Subject, baselines: Sequence[Response]) -> SweepDesign:
        adapters = [adapter.name for adapter in subject.organisms[organism].adapters]
        cells = grids.coalitions(organism, adapters, options.pairs, options.seed)
        return SweepDesign(cells, {"kind": "coalitions"})

    return design


def _gain(options: argparse.Namespace, folder: StudyFolder) -> Designed:
    from backend.pipeline.experiment import gains

    organism = _worn(options, folder)

    def design(subject: Subject, baselines: Sequence[Response]) -> SweepDesign:
        adapters, pairs = subject.organisms[organism].adapters, not options.no_pairs
        return gains(organism, adapters, groups=dict(options.group), factors=options.factors, pairs=pairs)

    return design
