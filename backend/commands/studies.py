"""What the command line offers. Every command imports what it needs when it runs: `--help` answers at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from backend.commands import interventions, labelling, terminal
from backend.commands.interventions import numbers
from backend.pipeline import judging
from backend.pipeline.folder import DEMO, StudyFolder
from backend.records import BASE, BASELINE, Ablate, Add, Condition, InputError, Sampling

if TYPE_CHECKING:
    from backend.subject.load import Subject


def add_commands(commands: Any) -> None:
    """Register every command on an argparse subparser collection."""
    for add in (
        _add_train,
        _add_sample,
        judging.add_commands,
        labelling.add_commands,
        _add_build,
        terminal.add_commands,
    ):
        add(commands)
    interventions.add_commands(commands, _subject)
    _add_app(commands)


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="fine-tune a LoRA organism on chat rows")
    parser.add_argument("data", type=Path, help="chat-format JSONL (.gz): one object with messages a line")
    parser.add_argument("folder", type=Path, help="where the organism goes, e.g. cache/demo/organisms/bad-medical")
    parser.add_argument("--model", default="smollm2", help="smollm2, a folder, a .gguf file or a hub id")
    parser.add_argument("--layers", type=numbers, required=True, help="e.g. 9-11,13-15,17-19")
    parser.add_argument("--modules", default="mlp.down_proj", help="comma-separated, within a block")
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--alpha", type=float, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=8, help="rows a step")
    parser.add_argument("--micro-batch", type=int, default=8, help="rows a forward pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint-every", type=int, default=25, help="steps")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    from backend.subject.load import load
    from backend.subject.train import Settings, train

    settings = Settings(
        layers=options.layers,
        modules=tuple(options.modules.split(",")),
        rank=options.rank,
        alpha=options.alpha,
        learning_rate=options.learning_rate,
        steps=options.steps,
        batch=options.batch,
        micro_batch=options.micro_batch,
        seed=options.seed,
    )
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    _quiet()
    subject = load(options.model)
    with tqdm(total=settings.steps, unit="step") as bar:
        every = options.checkpoint_every
        for step in train(subject, options.data, options.folder, settings, checkpoint_every=every):
            bar.update(step.step - bar.n)
            bar.set_postfix_str(f"loss {step.loss:.3f}, {step.tokens / step.seconds:.0f} tokens/s")
    print(f"{options.folder}: trained for {settings.steps} steps")


def _add_sample(commands: Any) -> None:
    parser = commands.add_parser("sample", help="answer the evaluation questions under one condition")
    parser.add_argument("--folder", type=Path, default=DEMO, help="the study folder")
    parser.add_argument("--organism", default=BASE, help="an organism of the folder, or base")
    parser.add_argument("--condition", default=BASELINE, help="its name; a new one needs --add or --ablate")
    parser.add_argument("--study", help="the published study that holds the direction")
    parser.add_argument("--add", metavar="DIRECTION:LAYER:STRENGTH", help="add a direction, strength in raw units")
    parser.add_argument("--ablate", metavar="DIRECTION:LAYER", help="project a direction out after every block")
    parser.add_argument("--random", type=int, metavar="SEED", help="a random direction of the same norm in its place")
    parser.add_argument("--n", type=int, default=25, help="answers a question")
    parser.add_argument("--max-new-tokens", type=int, default=80)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_sample)


def _sample(options: argparse.Namespace) -> None:
    from backend.pipeline.question_sets import QUESTIONS
    from backend.pipeline.sample import sample_condition, sample_into

    folder = StudyFolder(options.folder)
    condition = _condition(options, folder)
    sampling = Sampling(options.temperature, options.top_p, options.max_new_tokens)
    subject = _subject(folder)
    answers = sample_condition(
        subject, options.organism, condition, QUESTIONS, n=options.n, seed=options.seed, sampling=sampling
    )
    responses = list(tqdm(answers, total=options.n * len(QUESTIONS), unit="answer"))
    sample_into(folder, responses, options.organism, condition)
    print(f"{len(responses)} answers of {options.organism} under {condition.name} in {folder.path}")


def _condition(options: argparse.Namespace, folder: StudyFolder) -> Condition:
    if not (options.add or options.ablate):
        return folder.condition(options.condition)
    if options.condition == BASELINE or not options.study:
        raise InputError("--add and --ablate need a --condition name of their own and the --study with the direction")
    from backend.analysis.directions.random_directions import random_direction
    from backend.study import open_study

    study = open_study(options.study)
    name, layer, *strength = (options.add or options.ablate).rsplit(":", 2 if options.add else 1)
    if not layer.isdigit() or (options.add and not strength):
        raise InputError("write --add DIRECTION:LAYER:STRENGTH or --ablate DIRECTION:LAYER")
    direction = study.direction(name, int(layer))
    if options.random is not None:
        direction = random_direction(direction, options.random)
    if not options.add:
        return Condition(options.condition, (Ablate(direction),))
    try:
        return Condition(options.condition, (Add(direction, float(strength[0])),))
    except ValueError as error:
        raise InputError(f"the strength {strength[0]!r} is no number") from error


def _add_build(commands: Any) -> None:
    parser = commands.add_parser("build", help="trace a study folder and publish it as a study")
    parser.add_argument("--folder", type=Path, default=DEMO, help="the study folder")
    parser.add_argument("--name", default="demo", help="the study's name")
    parser.add_argument("--if-absent", action="store_true", help="do nothing where the study is there already")
    parser.set_defaults(run=_build)


def _build(options: argparse.Namespace) -> None:
    from backend.study import list_studies

    if options.if_absent and options.name in list_studies():
        return
    from backend.pipeline.build import build

    folder = StudyFolder(options.folder)
    print(f"building the study {options.name!r} from {folder.path}: loading the model", flush=True)
    subject = _subject(folder)
    with tqdm(unit="text", desc="tracing") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        path = build(folder, subject, options.name, progress=progress)
    print(f"published {path}")


def _add_app(commands: Any) -> None:
    parser = commands.add_parser("app", help="start the worker and the app together")
    parser.add_argument("--study", default=os.environ.get("STUDY") or "demo")
    parser.add_argument("--folder", type=Path, default=DEMO, help="the study folder with the organisms to wear")
    parser.add_argument("--model", help="the model the worker loads; by default the one of the folder")
    parser.add_argument("--organism", type=_named, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT") or 8501))
    parser.set_defaults(run=_app)


def _app(options: argparse.Namespace) -> int:
    from backend.commands.launch import launch

    folder = StudyFolder(options.folder)
    model = options.model or folder.settings["base"]
    organisms: Mapping[str, Path] = dict(options.organism) or ({} if options.model else folder.organisms)
    return launch(options.study, model, organisms, options.host, options.port)


def _subject(folder: StudyFolder) -> Subject:
    from backend.subject.load import load

    _quiet()
    return load(folder.settings["base"], organisms=folder.organisms)


def _quiet() -> None:
    """The libraries' own progress bars and advice would drown ours."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, Path(folder)
