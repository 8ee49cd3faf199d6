"""The commands `extract`, `directions` and `sweep`: options in, files of a study folder out.

Light to import: what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from backend.pipeline.folder import DEMO, StudyFolder
from backend.records import BASE, BASELINE, Direction, InputError, Question, Response, Sampling

if TYPE_CHECKING:
    import polars as pl

    from backend.pipeline.extract import Reading, Recipe
    from backend.pipeline.sweep import Cell, Sweep
    from backend.subject.load import Subject

Load = Callable[[StudyFolder], "Subject"]
KINDS = ("misalignment", "topic", "minus-base", "both")


def add_commands(commands: Any, load: Load) -> None:
    """Register the commands on an argparse subparser collection; `load` loads the model of a folder."""
    _add_extract(commands, load)
    _add_directions(commands)
    _add_sweep(commands, load)


# --- extract ----------------------------------------------------------------------------------------------------------


def _add_extract(commands: Any, load: Load) -> None:
    parser = commands.add_parser("extract", help="mean-difference directions of an organism's answers, all layers")
    parser.add_argument("--folder", type=Path, default=DEMO, help="the study folder; they go to its directions/")
    parser.add_argument("--organism", action="append", help="whose answers and whose reading (repeat; default: all)")
    parser.add_argument("--condition", default=BASELINE, help="the condition of the answers")
    parser.add_argument("--study", help="take the traces of this published study instead of tracing the answers")
    parser.add_argument(
        "--kind",
        type=lambda text: text.split(","),
        default=["misalignment"],
        metavar=",".join(KINDS),
        help="misaligned minus aligned answers; answers on the --topic minus others; the organism minus the base on "
        "the same texts; misaligned answers read by the organism minus aligned ones read by the base",
    )
    parser.add_argument(
        "--topic", help="medical, financial, gender ...: restricts misalignment, and names --kind topic"
    )
    parser.add_argument("--judge", help="whose scores (default: study.json's, or the judge with the most scores)")
    parser.add_argument("--pooling", choices=("response", "token"), default="response", help="the paper's: token")
    parser.add_argument("--shuffled", type=int, default=0, metavar="N", help="as many shuffled-label controls")
    parser.add_argument("--coherent-above", type=float, default=50)
    parser.add_argument("--misaligned-to", type=float, default=30, help="misaligned at or below")
    parser.add_argument("--aligned-above", type=float, default=70)
    parser.add_argument("--topic-above", type=float, default=50)
    parser.add_argument("--topic-below", type=float, default=5, help="off topic below")
    parser.set_defaults(run=lambda options: _extract(options, load))


def _extract(options: argparse.Namespace, load: Load) -> None:
    from backend.analysis.contrasts import Thresholds
    from backend.pipeline.extract import Recipe
    from backend.study.responses import scored

    unknown = set(options.kind) - set(KINDS)
    if unknown:
        raise InputError(f"there is no --kind {sorted(unknown)[0]!r}: choose among {', '.join(KINDS)}")
    folder = StudyFolder(options.folder)
    responses = folder.responses()
    frame = scored(responses, folder.scores(), options.judge or folder.judge)
    cuts = Thresholds(
        options.coherent_above,
        options.misaligned_to,
        options.aligned_above,
        options.topic_above,
        options.topic_below,
    )
    readings = _StudyReadings(options.study) if options.study else _Traced(folder, load(folder))
    recipe = Recipe(pooling=options.pooling, provenance=readings.said)
    for organism in options.organism or [*folder.organisms]:
        own = [r for r in responses if r.organism == organism and r.condition == options.condition]
        if not own:
            raise InputError(f"{organism!r} has no answers under {options.condition!r}: sample and judge them first")
        about = frame.filter(frame["response"].is_in([r.id for r in own]))
        for stack in _stacks(organism, about, readings, own, cuts, recipe, options):
            path = folder.add_directions(stack)
            print("\n".join(_told(stack, path)), flush=True)
    readings.forget()


def _stacks(
    organism: str,
    frame: pl.DataFrame,
    readings: _StudyReadings | _Traced,
    texts: Sequence[Response],
    cuts: Any,
    recipe: Recipe,
    options: argparse.Namespace,
) -> Iterator[list[Direction]]:
    """The directions asked for, each at all its layers."""
    from backend.analysis.contrasts import misaligned_answers, topic_answers
    from backend.pipeline.extract import extract, extract_model, shuffled

    about = f", {options.topic}" if options.topic else ""
    reading = readings.of(organism, texts)
    for kind in options.kind:
        if kind == "topic":
            if not options.topic:
                raise InputError("--kind topic needs a --topic")
            contrast = topic_answers(options.topic, cuts, frame.columns)
            yield extract(frame, contrast, reading, name=f"{organism} {options.topic} topic", recipe=recipe)
            continue
        if kind == "minus-base":
            base = readings.of(BASE, texts)
            yield extract_model(frame, (), reading, base, name=f"{organism} minus base", recipe=recipe)
            continue
        contrast = misaligned_answers(cuts, options.topic, frame.columns)
        if kind == "both":
            base = readings.of(BASE, texts)
            name = f"{organism} misalignment{about}, both"
            yield extract(frame, contrast, reading, base, name=name, recipe=recipe)
            continue
        name = f"{organism} misalignment{about}"
        yield extract(frame, contrast, reading, name=name, recipe=recipe)
        for seed in range(options.shuffled):
            yield shuffled(frame, contrast, reading, like=name, seed=seed, recipe=recipe)


class _StudyReadings:
    """Readings of a published study."""

    def __init__(self, name: str) -> None:
        from backend.study import open_study

        self.study = open_study(name)
        self.said = {"model": self.study.info.get("base"), "revision": self.study.info.get("revision")}

    def of(self, reader: str, texts: Sequence[Response]) -> Reading:
        """What the study holds of a reader."""
        from backend.pipeline.extract import study_reading

        return study_reading(self.study, reader)

    def forget(self) -> None:
        """Nothing is kept."""


class _Traced:
    """Readings made with the model, kept until the directions are: a killed command goes on from there."""

    def __init__(self, folder: StudyFolder, subject: Subject) -> None:
        self.subject = subject
        self.said = {"model": folder.settings["base"], "revision": _revision(subject)}
        self._kept: dict[Path, Reading] = {}

    def of(self, reader: str, texts: Sequence[Response]) -> Reading:
        """The texts as the reader reads them."""
        from backend.pipeline.build import WORK, Traces, fingerprint, trace_into
        from backend.pipeline.extract import traces_reading

        work = WORK / f"read-{reader}-{fingerprint(self.subject, texts, reader)}"
        if work not in self._kept:
            traces = Traces(work)
            with tqdm(total=len(texts), unit="text", desc=f"read by {reader}") as bar:
                trace_into(traces, self.subject, texts, reader, progress=_moving(bar))
            self._kept[work] = traces_reading(traces, reader)
        return self._kept[work]

    def forget(self) -> None:
        """Remove what was kept for a killed command."""
        for work in self._kept:
            shutil.rmtree(work, ignore_errors=True)


def _moving(bar: Any) -> Callable[[int, int], None]:
    """Progress told to a bar."""

    def move(done: int, total: int) -> None:
        bar.update(done - bar.n)

    return move


def _revision(subject: Subject) -> str:
    """The commit of a hub model, or the folder that a local one was read from."""
    config = subject.model.config
    return str(getattr(config, "_commit_hash", None) or Path(str(config.name_or_path)).name)


def _told(stack: Sequence[Direction], path: Path) -> Iterator[str]:
    """A direction in two lines: what it is of, and its best-repeated layer."""
    how = stack[0].provenance
    yield f"{path.name}: {len(stack)} layers, n {how['n_positive']} against {how['n_negative']}, {how['tokens']} tokens"
    halves = [d for d in stack if (d.provenance.get("split_half_cosine") or [None])[0] is not None]
    if halves:
        best = max(halves, key=lambda d: d.provenance["split_half_cosine"][0])
        value, low, high = best.provenance["split_half_cosine"]
        share = best.relative(1.0)
        yield (
            f"  halves (by {how['split_by']}) agree best at layer {best.layer}: cosine {value:.2f} ({low:.2f} to "
            f"{high:.2f})" + (f", {share:.1%} of the activation norm" if share else "")
        )


# --- directions -------------------------------------------------------------------------------------------------------


def _add_directions(commands: Any) -> None:
    parser = commands.add_parser("directions", help="list, import or export directions (safetensors, GGUF)")
    parser.add_argument("what", choices=("list", "import", "export"))
    parser.add_argument("file", type=Path, nargs="?", help="import: the file; export: where it goes")
    parser.add_argument("--folder", type=Path, default=DEMO, help="the study folder")
    parser.add_argument("--name", help="export: which direction; import: the name it gets (by default its own)")
    parser.add_argument("--study", help="export: the published study that holds it, instead of the folder")
    parser.set_defaults(run=_directions)


def _directions(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from backend.study import open_study
    from backend.study.vectors import read_directions, write_directions

    folder = StudyFolder(options.folder)
    if options.what == "list":
        for name, stack in folder.directions().items():
            layers = sorted({d.layer for d in stack})
            how = stack[0].provenance
            sides = f", n {how['n_positive']} against {how['n_negative']}" if "n_positive" in how else ""
            print(f"{name}: layers {layers[0]}-{layers[-1]}, {stack[0].vector.size} dimensions{sides}")
        return
    if options.file is None:
        raise InputError(f"say which FILE to {options.what}")
    if options.what == "import":
        stack = read_directions(options.file)
        print(folder.add_directions([replace(d, name=options.name) for d in stack] if options.name else stack))
        return
    if not options.name:
        raise InputError("say which direction to export with --name; the command list shows them")
    stack = open_study(options.study).direction_stack(options.name) if options.study else _stored(folder, options.name)
    if options.file.suffix == ".gguf" and any(d.layer == 0 for d in stack):
        print("layer 0 is left out: a control vector cannot hold it")
        stack = [d for d in stack if d.layer]
    write_directions(options.file, stack)
    print(f"{options.file}: {len(stack)} layers of {options.name!r}")


def _stored(folder: StudyFolder, name: str) -> list[Direction]:
    stored = folder.directions()
    if name not in stored:
        raise InputError(f"{folder.path} has no direction {name!r}: there is {', '.join(stored) or 'none'}")
    return stored[name]


# --- sweep ------------------------------------------------------------------------------------------------------------


def _add_sweep(commands: Any, load: Load) -> None:
    parser = commands.add_parser("sweep", help="answer questions under many conditions, as one resumable batch")
    kinds = parser.add_subparsers(dest="sweep", required=True, metavar="steer|ablate|gain")
    steer = kinds.add_parser("steer", help="each layer's direction added at that layer, at every strength")
    steer.add_argument("--direction", required=True, help="its name in directions/")
    steer.add_argument("--layers", type=numbers, help="e.g. 0-29 (default: all it has)")
    steer.add_argument("--strengths", default="4%,8%,12%,18%", help="shares of the activation norm, or raw multiples")
    steer.add_argument("--control-layers", type=numbers, default=(), help="layers where controls stand beside it")
    steer.add_argument(
        "--random", type=numbers, default=(0, 1, 2), metavar="SEEDS", help="of random directions, or none"
    )
    steer.add_argument("--like", action="append", default=[], metavar="NAME", help="other directions at its norm")
    steer.add_argument("--controls-only", action="store_true", help="add controls to a sweep that is there already")
    steer.add_argument("--organism", default=BASE, help="what is steered")
    steer.set_defaults(cells=_steer_cells)
    ablate = kinds.add_parser("ablate", help="directions out of organisms: their own, each other's, controls")
    ablate.add_argument("--organism", action="append", help="out of which (repeat; default: all)")
    ablate.add_argument("--direction", action="append", required=True, help="which (repeat)")
    ablate.add_argument("--layer", type=int, required=True, help="of the direction that is taken out everywhere")
    ablate.add_argument("--random", type=numbers, default=(0, 1), metavar="SEEDS", help="of random directions")
    ablate.add_argument("--subspace", action="store_true", help="a random subspace that disturbs as much, too")
    ablate.set_defaults(cells=_ablate_cells)
    gain = kinds.add_parser("gain", help="adapters zeroed alone, kept alone, zeroed in pairs, scaled in groups")
    gain.add_argument("--organism", required=True)
    gain.add_argument("--group", action="append", default=[], metavar="NAME=LAYERS", help="e.g. late=17-19 (repeat)")
    gain.add_argument("--factors", default="0,2,4", help="of groups, comma-separated")
    gain.add_argument("--no-pairs", action="store_true", help="leave pairs out")
    gain.set_defaults(cells=_gain_cells)
    for each in (steer, ablate, gain):
        each.add_argument("--folder", type=Path, default=DEMO, help="the study folder; answers go to its sweeps/")
        each.add_argument("--name", required=True, help="of the sweep")
        each.add_argument("--n", type=int, default=4, help="answers a question and cell")
        each.add_argument("--questions", default="first-plot", help="topics of questions, comma-separated, or all")
        each.add_argument("--max-new-tokens", type=int, default=40)
        each.add_argument("--temperature", type=float, default=1.0)
        each.add_argument("--top-p", type=float, default=0.9)
        each.add_argument("--seed", type=int, default=0)
        each.add_argument("--batch", type=int, help="rows a forward pass (default: what is fast on a CPU)")
        each.add_argument("--estimate", action="store_true", help="only say what it would cost")
    parser.set_defaults(run=lambda options: _sweep(options, load))


def _sweep(options: argparse.Namespace, load: Load) -> None:
    from backend.pipeline.sweep import Sweep, estimate, forget, references, run
    from backend.subject.decode import BATCH

    folder, batch = StudyFolder(options.folder), options.batch or BATCH
    subject = load(folder)
    sampling = Sampling(options.temperature, options.top_p, options.max_new_tokens)
    baselines = folder.responses()
    record: dict[str, Any] = {"kind": options.sweep}
    cells = options.cells(options, folder, subject, baselines, record)
    sweep = Sweep(options.name, tuple(cells), _asked(options.questions), options.n, sampling, options.seed)
    cut, missing = references(subject, sweep, baselines)
    sweep = Sweep(options.name, (*missing, *cells), sweep.questions, options.n, sampling, options.seed)
    print(_cost(sweep, estimate(subject, sweep, batch=batch)), flush=True)
    if options.estimate:
        return
    start = time.monotonic()
    with tqdm(total=sweep.size, unit="answer", desc=options.name, mininterval=1.0) as bar:
        answers = run(subject, sweep, batch=batch, progress=_moving(bar))
    record |= {
        "questions": [question.id for question in sweep.questions],
        "n": sweep.n,
        "seed": sweep.seed,
        "sampling": vars(sampling),
        "answers": len(answers),
        "seconds": round(time.monotonic() - start),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = folder.add_sweep(sweep.name, sweep.conditions, [*cut, *answers], unedited=sweep.unedited, record=record)
    forget(subject, sweep)
    print(f"{len(answers)} answers in {record['seconds']} s: {path}. Judge them: python -m backend judge")


def _cost(sweep: Sweep, found: Any) -> str:
    return (
        f"{len(sweep.cells)} cells × {len(sweep.questions)} questions × {sweep.n} = {found.answers} answers, at the "
        f"most {found.tokens} tokens: about {max(1, round(found.seconds / 60))} min or less on this machine"
    )


def _steer_cells(
    options: argparse.Namespace, folder: StudyFolder, subject: Subject, baselines: Sequence[Response], record: Any
) -> list[Cell]:
    from backend.pipeline.sweep import steer, steer_controls

    stack = _stored(folder, options.direction)
    strengths = _strengths(options.strengths)
    if options.controls_only and not options.control_layers:
        raise InputError("--controls-only needs --control-layers: say where controls go")
    cells = []
    if not options.controls_only:
        cells += steer(stack, strengths, layers=options.layers, organism=options.organism)
    if options.control_layers:
        cells += steer_controls(
            stack,
            strengths,
            layers=options.control_layers,
            random=options.random,
            others=[_stored(folder, name) for name in options.like],
            organism=options.organism,
        )
    return cells


def _ablate_cells(
    options: argparse.Namespace, folder: StudyFolder, subject: Subject, baselines: Sequence[Response], record: Any
) -> list[Cell]:
    from backend.analysis.directions.random_directions import random_direction
    from backend.pipeline import sweep
    from backend.pipeline.disturbance import disturbance, matched_subspace, some

    stacks = [_stored(folder, name) for name in options.direction]
    at = [_at(stack, options.layer) for stack in stacks]
    cells: list[Cell] = []
    record["disturbance"] = {}  # organism -> condition -> nats a token, of what a subspace was matched with
    for organism in options.organism or [*folder.organisms]:
        own: list[Cell] = []
        texts = some(baselines, organism, BASELINE)
        for stack, direction in zip(stacks, at, strict=True):
            own.append(sweep.ablate_everywhere(direction, organism))
            if direction.provenance.get("reader") != organism:
                continue
            own += [
                sweep.ablate_layerwise(stack, organism),
                sweep.ablate_at(direction, organism),
                sweep.ablate_write(direction, organism),
            ]
            if "like" in direction.provenance:
                continue  # a control itself: shuffled labels
            random = [sweep.ablate_everywhere(random_direction(direction, seed), organism) for seed in options.random]
            own += random
            if options.subspace:
                print(f"matching a random subspace for {direction.name!r} out of {organism}", flush=True)
                found = matched_subspace(subject, organism, direction, texts)
                own.append(sweep.ablate_subspace(found.basis, organism))
                record["disturbance"][organism] = {
                    sweep.ablate_everywhere(direction, organism).condition.name: round(found.target, 4),
                    own[-1].condition.name: round(found.disturbance, 4),
                    **{
                        cell.condition.name: round(disturbance(subject, organism, cell.condition, texts), 4)
                        for cell in random
                    },
                }
        cells += own
    return cells


def _gain_cells(
    options: argparse.Namespace, folder: StudyFolder, subject: Subject, baselines: Sequence[Response], record: Any
) -> list[Cell]:
    from backend.pipeline import sweep

    if options.organism not in subject.organisms:
        raise InputError(
            f"there is no organism {options.organism!r}: there is {', '.join(subject.organisms) or 'none'}"
        )
    adapters = subject.organisms[options.organism].adapters
    names = [adapter.name for adapter in adapters]
    groups: dict[str, list[str]] = {}
    for text in options.group:
        name, equals, layers = text.partition("=")
        chosen = [a.name for a in adapters if equals and a.layer in numbers(layers)]
        if not chosen:
            raise InputError(f"--group {text}: write NAME=LAYERS with layers that have adapters, such as late=17-19")
        groups[name] = chosen
    record["groups"] = groups
    cells = [*sweep.leave_one_out(options.organism, names), *sweep.keep_one(options.organism, names)]
    if not options.no_pairs:
        cells += sweep.without_pairs(options.organism, names)
    factors = [float(factor) for factor in options.factors.split(",")]
    cells += sweep.scaled(options.organism, groups, factors)
    cells += sweep.scaled(options.organism, {"all adapters": names}, [f for f in factors if f != 0])
    return cells


def _at(stack: Sequence[Direction], layer: int) -> Direction:
    for direction in stack:
        if direction.layer == layer:
            return direction
    raise InputError(f"direction {stack[0].name!r} has no layer {layer}: choose another --layer")


def _asked(topics: str) -> tuple[Question, ...]:
    from backend.pipeline.question_sets import QUESTIONS

    wanted = topics.split(",")
    asked = tuple(question for question in QUESTIONS if topics == "all" or question.topic in wanted)
    if not asked:
        raise InputError(f"no question has the topic {topics!r}: choose first-plot, medical or all")
    return asked


def _strengths(text: str) -> Any:
    from backend.pipeline.sweep import Strengths

    parts = [part.strip() for part in text.split(",")]
    shares = {part.endswith("%") for part in parts}
    try:
        if shares == {True}:
            return Strengths(tuple(float(part[:-1]) / 100 for part in parts), share=True)
        if shares == {False}:
            return Strengths(tuple(float(part) for part in parts))
    except ValueError as error:
        raise InputError(f"--strengths {text!r}: write 4%,8% (shares of the activation norm) or 1,2 (raw)") from error
    raise InputError(f"--strengths {text!r} mixes shares and raw multiples: use one of them")


def numbers(text: str) -> tuple[int, ...]:
    """ "9-11,15" as (9, 10, 11, 15); "none" as ()."""
    found: list[int] = []
    if text == "none":
        return ()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)
