"""A sweep from its design to the folder: which cells steering, ablation and gains need, run and kept with a record.

Knows which controls stand beside what. Refuses to know what a cell is (`sweep`) and what its answers are worth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backend.analysis.directions.random_directions import random_direction
from backend.edits import PLAIN, Receipt, Where
from backend.pipeline import grids
from backend.pipeline.disturbance import disturbance, matched_subspace, some
from backend.pipeline.folder import StudyFolder
from backend.pipeline.grids import Mean, Stack, Strengths, Taken
from backend.pipeline.sweep import Cell, Progress, Sweep, SweepRunner, run_sweep
from backend.records import BASE, BASELINE, ITSELF, Adapter, Direction, InputError, Response
from backend.subject.load import Subject
from backend.subject.trace import Text
from backend.subject.trace import trace as trace_texts

ZERO, MEAN = "zero", "mean"  # what a projection is brought to


@dataclass(frozen=True, eq=False)
class SweepDesign:
    """The cells of a sweep, and what its record shall say beside how it was sampled."""

    cells: Sequence[Cell]
    record: Mapping[str, Any]


def steering_design(
    stack: Stack,
    strengths: Strengths,
    *,
    layers: Sequence[int] | None,
    control_layers: Sequence[int],
    random: Sequence[int],
    others: Sequence[Stack],
    organism: str,
    where: Where = PLAIN,
) -> SweepDesign:
    """Each layer's own direction at every strength (no `layers`: none of them), and controls at `control_layers`."""
    cells = []
    if layers is None or layers:
        cells += grids.steer(stack, strengths, layers=layers, organism=organism, where=where)
    if control_layers:
        beside = partial(grids.steer_controls, stack, strengths, random=random, others=others)
        cells += beside(layers=control_layers, organism=organism, where=where)
    return SweepDesign(cells, {"kind": "steer"})


@dataclass(frozen=True, eq=False)
class Ablation:
    """Directions to take out of organisms everywhere, and out of whose they are in other ways too, beside controls.

    Raises InputError where a direction lacks the layer.
    """

    stacks: Sequence[Stack]
    layer: int  # of the direction that is taken out everywhere
    organisms: Sequence[str]
    random: Sequence[int]  # seeds of random directions
    subspace: bool  # a random subspace that disturbs as much, too
    others: Sequence[Stack] = ()  # controls, such as shuffled labels, that are taken out everywhere alone
    writes: bool = True  # out of the write vectors, too
    where: Where = PLAIN
    to: Sequence[str] = (ZERO, MEAN)  # what projections are brought to: zero, the mean of the base's answers, or both

    def __post_init__(self) -> None:
        for stack in (*self.stacks, *self.others):
            _at(stack, self.layer)

    def design(self, subject: Subject, baselines: Sequence[Response], *, said: Callable[[str], None]) -> SweepDesign:
        """The cells. What is read or matched with the model, on baseline answers, takes a while: `said` is told.

        The record has the disturbance of what a subspace was matched with, in nats a token, and the mean projection on
        every direction that zero is compared with. Raises InputError where the base has no answers to take it of.
        """
        cells: list[Cell] = []
        disturbed: dict[str, dict[str, float]] = {}  # organism -> condition -> nats a token
        ways = self._ways(subject, baselines, said)
        for organism in self.organisms:
            for stack in self.stacks:
                direction = _at(stack, self.layer)
                cells += [grids.ablate_everywhere(direction, organism, how) for how in ways]
                if direction.origin.organism != organism:
                    continue
                for how in ways:
                    cells += [grids.ablate_layerwise(stack, organism, how), grids.ablate_at(direction, organism, how)]
                if self.writes:
                    cells.append(grids.ablate_write(direction, organism))
                if direction.origin.kind != ITSELF:
                    continue  # a control itself: shuffled labels
                for how in ways:
                    drawn = [random_direction(direction, seed) for seed in self.random]
                    random = [grids.ablate_everywhere(each, organism, how) for each in drawn]
                    cells += random
                    if self.subspace:
                        said(f"matching a random subspace for {direction.name!r} out of {organism}{how.words}")
                        texts = some(baselines, organism, BASELINE)
                        cell, measured = _matched(subject, organism, direction, how, random, texts)
                        disturbed.setdefault(organism, {}).update(measured)
                        cells.append(cell)
            cells += [grids.ablate_everywhere(_at(o, self.layer), organism, how) for o in self.others for how in ways]
        return SweepDesign(cells, {"kind": "ablate", "disturbance": disturbed, "means": self._means(ways, said)})

    def _means(self, ways: Sequence[Taken], said: Callable[[str], None]) -> dict[str, dict[str, float]]:
        """Whose mean -> direction -> the mean projection at its layer: how far zero is from being neutral."""
        found: dict[str, dict[str, float]] = {}
        for mean in (how.to for how in ways if how.to):
            for direction in (_at(stack, self.layer) for stack in (*self.stacks, *self.others)):
                [along] = mean.level(direction, (self.layer,)).values
                found.setdefault(mean.of, {})[direction.name] = round(along, 4)
                norm = direction.activation_norm
                share = f", {abs(along) / norm:.0%} of the activation norm from zero" if norm else ""
                said(f"mean projection of {mean.of} on {direction.name!r} at layer {self.layer}: {along:+.2f}{share}")
        return found

    def _ways(self, subject: Subject, baselines: Sequence[Response], said: Callable[[str], None]) -> list[Taken]:
        """To zero, to the mean, or both; the mean is read from answers of the base."""
        ways = [Taken(self.where)] if ZERO in self.to else []
        if MEAN in self.to:
            said(f"reading the mean of {BASE}")
            ways.append(Taken(self.where, mean_of(subject, BASE, baselines)))
        return ways


def mean_of(subject: Subject, organism: str, baselines: Sequence[Response], *, texts: int = 64) -> Mean:
    """The mean residual stream of an organism over tokens of its own unedited answers, as it reads them itself.

    Raises InputError where it has none.
    """
    check_mean(organism, baselines)
    read = [Text(r.id, r.prompt_ids, r.answer_ids) for r in some(baselines, organism, BASELINE, texts)]
    traces = [trace for trace in trace_texts(subject, read, organism) if trace.n_answer]
    weights = [trace.n_answer for trace in traces]
    stream = np.average([trace.answer_mean for trace in traces], axis=0, weights=weights).astype(np.float32)
    return Mean(organism, dict(enumerate(stream)))


def check_mean(organism: str, baselines: Sequence[Response]) -> None:
    """Raise InputError where an organism has no unedited answers to take a mean of."""
    if not some(baselines, organism, BASELINE, 1):
        raise InputError(
            f"{organism} has no unedited answers to take a mean of: sample them first (python -m backend sample "
            f"--organism {organism}), or ablate to zero alone (--to zero)"
        )


def _matched(
    subject: Subject,
    organism: str,
    direction: Direction,
    how: Taken,
    random: Sequence[Cell],
    texts: Sequence[Response],
) -> tuple[Cell, dict[str, float]]:
    """The cell of a random subspace that disturbs as a direction does, and how much it, they and `random` do."""
    found = matched_subspace(subject, organism, direction, texts, ablated=how.edit)
    cell = grids.ablate_subspace(found.basis, organism, how)
    measured = {
        grids.ablate_everywhere(direction, organism, how).condition.name: found.target,
        cell.condition.name: found.disturbance,
        **{each.condition.name: disturbance(subject, organism, each.condition, texts) for each in random},
    }
    return cell, {name: round(value, 4) for name, value in measured.items()}


def _at(stack: Stack, layer: int) -> Direction:
    for direction in stack:
        if direction.layer == layer:
            return direction
    raise InputError(f"direction {stack[0].name!r} has no layer {layer}: choose another --layer")


def gains(
    organism: str,
    adapters: Sequence[Adapter],
    *,
    groups: Mapping[str, Sequence[int]],
    factors: Sequence[float],
    pairs: bool,
) -> SweepDesign:
    """Each adapter zeroed and kept alone, `pairs` zeroed, and groups (name -> layers) and all of them scaled.

    Raises InputError on a group whose layers have no adapter.
    """
    names = [adapter.name for adapter in adapters]
    chosen = {name: [a.name for a in adapters if a.layer in layers] for name, layers in groups.items()}
    for name, group in chosen.items():
        if not group:
            there = ", ".join(map(str, sorted({adapter.layer for adapter in adapters})))
            raise InputError(
                f"the group {name!r} is of layers without adapters: {organism} has adapters at {there}; name some of "
                "those with --group"
            )
    cells = [*grids.leave_one_out(organism, names), *grids.keep_one(organism, names)]
    if pairs:
        cells += grids.without_pairs(organism, names)
    cells += grids.scaled(organism, chosen, factors)
    cells += grids.scaled(organism, {"all adapters": names}, [factor for factor in factors if factor != 0])
    return SweepDesign(cells, {"kind": "gain", "groups": chosen})


@dataclass(frozen=True)
class Kept:
    """What a sweep left in its folder."""

    path: Path
    answers: int
    seconds: int


def conduct(
    folder: StudyFolder,
    subject: Subject,
    sweep: Sweep,
    cut: Sequence[Response],
    record: Mapping[str, Any],
    *,
    batch: int,
    progress: Progress,
    run: SweepRunner = run_sweep,
) -> Kept:
    """Sample a sweep and keep it in the folder, with the unedited answers `cut` for it and how it was sampled.

    `run` answers it, here and now unless said otherwise. The record has the receipts of every cell's edits, over all
    of its answers, to four digits.
    """
    start = time.monotonic()
    receipts: dict[str, dict[str, list[Receipt]]] = {}

    def told(cell: Cell, told: Sequence[Receipt]) -> None:
        own = receipts.setdefault(cell.organism, {})
        known = own.get(cell.condition.name)
        own[cell.condition.name] = [a + b for a, b in zip(known, told, strict=True)] if known else list(told)

    with run(subject, sweep, batch=batch, progress=progress, told=told) as answers:
        seconds = round(time.monotonic() - start)
        record = {
            **record,
            "questions": [question.id for question in sweep.questions],
            "n": sweep.n,
            "seed": sweep.seed,
            "sampling": vars(sweep.sampling),
            "answers": len(answers),
            "receipts": {
                organism: {name: [_shortly(one) for one in found] for name, found in own.items() if found}
                for organism, own in receipts.items()
            },
            "seconds": seconds,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        path = folder.add_sweep(sweep.name, sweep.conditions, [*cut, *answers], unedited=sweep.unedited, record=record)
    return Kept(path, len(answers), seconds)


def _shortly(receipt: Receipt) -> dict[str, Any]:
    """A receipt as JSON, its sizes to four digits: more depend on which rows were read together."""
    said = receipt.to_json()
    return {**said, **{name: float(f"{said[name]:.4g}") for name in ("changed", "stream")}}
