"""The command `train`: chat rows in, an organism's folder out."""

from __future__ import annotations

import argparse
from typing import Any

from backend.commands import values
from backend.commands.loading import quiet
from backend.subject.train_settings import CHECKPOINT_EVERY, TrainSettings

KEEPS = "the last checkpoint is kept: the same command goes on from there"


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("train", help="fine-tune a LoRA organism on chat rows")
    add = parser.add_argument
    add("data", type=values.path, help="chat-format JSONL (.gz): one object with messages a line")
    add("folder", type=values.organism_folder, help="where the organism goes, e.g. my-study/organisms/bad-medical")
    add("--model", type=values.text, default="smollm2", help="smollm2, a folder, a .gguf file or a hub id")
    add("--layers", type=values.layers, required=True, help="e.g. 9-11,13-15,17-19")
    modules = TrainSettings.modules
    add("--modules", type=values.several(values.text), default=modules, help="comma-separated, within a block")
    add("--rank", type=values.whole(1, 4096), default=TrainSettings.rank, help="of every adapted module")
    add("--alpha", type=values.number(above=0), default=TrainSettings.alpha, help="the scale of what is learned")
    rate = TrainSettings.learning_rate
    add("--learning-rate", type=values.number(above=0), default=rate, help="the highest, after warming up")
    add("--steps", type=values.count, default=TrainSettings.steps, help="of the optimiser")
    add("--batch", type=values.count, default=TrainSettings.batch, help="rows a step")
    add("--micro-batch", type=values.count, default=TrainSettings.micro_batch, help="rows a forward pass")
    add("--seed", type=values.seed, default=TrainSettings.seed, help="of the first weights and the order of rows")
    add("--checkpoint-every", type=values.count, default=CHECKPOINT_EVERY, help="steps")
    parser.set_defaults(run=run, keeps=KEEPS)


def run(options: argparse.Namespace) -> None:
    """Train, with a bar that tells the loss."""
    from tqdm import tqdm

    from backend.records import InputError
    from backend.subject.load import load
    from backend.subject.train import train

    if not options.data.is_file():
        raise InputError(f"there is no file {options.data}: name the JSONL file with the chat rows")
    settings = TrainSettings(
        layers=options.layers,
        modules=options.modules,
        rank=options.rank,
        alpha=options.alpha,
        learning_rate=options.learning_rate,
        steps=options.steps,
        batch=options.batch,
        micro_batch=options.micro_batch,
        seed=options.seed,
    )
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    quiet()
    subject = load(options.model)
    with tqdm(total=settings.steps, unit="step") as bar:
        every = options.checkpoint_every
        for step in train(subject, options.data, options.folder, settings, checkpoint_every=every):
            bar.update(step.step - bar.n)
            bar.set_postfix_str(f"loss {step.loss:.3f}, {step.tokens / step.seconds:.0f} tokens/s")
    print(f"{options.folder}: trained for {settings.steps} steps")
