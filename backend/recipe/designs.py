"""What the sweeps of a recipe come to: for each kind, the cells and the record that the command `sweep` would make.

Clamps and scalars have no command: their cells are made here, with the controls that they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backend.analysis.directions.random_directions import random_direction
from backend.edits import Clamp, ClampScalars, Condition, Level, Where
from backend.pipeline import grids
from backend.pipeline.experiment import MEAN, Ablation, SweepDesign, check_mean, gains, steering_design
from backend.pipeline.folder import StudyFolder
from backend.pipeline.grids import Strengths
from backend.pipeline.sweep import Cell
from backend.recipe.schema import (
    AblatePart,
    AnySweep,
    ClampPart,
    CoalitionsPart,
    GainPart,
    ScalarsPart,
    SteerPart,
    StudyRecipe,
)
from backend.records import BASE, Adapter, Direction, InputError, Response
from backend.subject.load import Subject

Said = Callable[[str], None]


def design(
    recipe: StudyRecipe,
    part: AnySweep,
    folder: StudyFolder,
    subject: Subject,
    baselines: Sequence[Response],
    said: Said,
) -> SweepDesign:
    """The cells of a sweep. Raises InputError where the folder or the model has not what it names."""
    if isinstance(part, SteerPart):
        return _steer(part, folder)
    if isinstance(part, AblatePart):
        return _ablate(recipe, part, folder, subject, baselines, said)
    if isinstance(part, ClampPart):
        return _clamp(part, folder)
    adapters = subject.organisms[folder.known(part.organism)].adapters
    if isinstance(part, GainPart):
        return gains(part.organism, adapters, groups=part.groups, factors=part.factors, pairs=part.pairs)
    if isinstance(part, CoalitionsPart):
        names = [adapter.name for adapter in adapters]
        cells = grids.coalitions(part.organism, names, part.pairs, part.sampling(recipe.sampling)[1])
        return SweepDesign(cells, {"kind": "coalitions"})
    return _scalars(part, adapters)


def where_of(said: dict[str, object]) -> Where:
    """The tokens that a recipe's `where` names."""
    tokens = said.get("tokens", ())
    return Where(**{**said, "tokens": tuple(tokens)})  # type: ignore[arg-type]


def _steer(part: SteerPart, folder: StudyFolder) -> SweepDesign:
    return steering_design(
        folder.direction(part.direction),
        Strengths(part.shares or part.multiples, share=bool(part.shares)),
        layers=() if part.controls_only else part.layers,
        control_layers=part.control_layers,
        random=part.random,
        others=[folder.direction(name) for name in part.like],
        organism=folder.known(part.organism),
        where=where_of(part.where),
    )


def _ablate(
    recipe: StudyRecipe,
    part: AblatePart,
    folder: StudyFolder,
    subject: Subject,
    baselines: Sequence[Response],
    said: Said,
) -> SweepDesign:
    if MEAN in part.to:
        check_mean(BASE, baselines)
    ablation = Ablation(
        [folder.direction(name) for name in part.directions],
        part.layer,
        [folder.known(name) for name in recipe.named(part.organisms)],
        random=part.random,
        subspace=part.subspace,
        writes=part.writes,
        where=where_of(part.where),
        to=part.to,
    )
    return ablation.design(subject, baselines, said=said)


def _clamp(part: ClampPart, folder: StudyFolder) -> SweepDesign:
    """The projection on each layer's direction between the ends at that layer, and on random directions of its norm."""
    where, stack = where_of(part.where), {d.layer: d for d in folder.direction(part.direction)}
    missing = [layer for layer in part.layers if layer not in stack]
    if missing:
        raise InputError(f"direction {part.direction!r} has no layer {missing[0]}: it has {', '.join(map(str, stack))}")
    ends = f"{'' if part.low is None else f'{part.low:g}'}..{'' if part.high is None else f'{part.high:g}'}"

    def cell(d: Direction) -> Cell:
        edit = Clamp(d, _level(part.low), _level(part.high), (d.layer,), where)
        return Cell(part.organism, Condition(f"clamp {d.name} L{d.layer} {ends} at {where.words}", (edit,)))

    own = [stack[layer] for layer in part.layers]
    controls = [random_direction(d, seed) for d in own for seed in part.random]
    return SweepDesign([cell(d) for d in (*own, *controls)], {"kind": "clamp"})


def _scalars(part: ScalarsPart, adapters: Sequence[Adapter]) -> SweepDesign:
    """All scalars between the ends, and those of each adapter alone."""
    where = where_of(part.where)
    ends = f"{'' if part.low is None else f'{part.low:g}'}..{'' if part.high is None else f'{part.high:g}'}"
    chosen: dict[str, tuple[str, ...] | None] = {"all": None, **{a.name: (a.name,) for a in adapters}}
    cells = [
        Cell(
            part.organism,
            Condition(
                f"scalars of {name} {ends} of {part.organism} at {where.words}",
                (ClampScalars(part.organism, _level(part.low), _level(part.high), names, where),),
            ),
        )
        for name, names in chosen.items()
    ]
    return SweepDesign(cells, {"kind": "scalars"})


def _level(value: float | None) -> Level | None:
    return None if value is None else Level((value,))


def cells_in(recipe: StudyRecipe, part: AnySweep, layers: int, adapters: int) -> int:
    """How many cells a sweep has, before there is a model: of `layers` layers, and `adapters` of its organism."""
    if isinstance(part, SteerPart):
        strengths = len(part.shares or part.multiples)
        own = 0 if part.controls_only else len(part.layers) if part.layers is not None else layers
        return strengths * (own + len(part.control_layers) * (len(part.random) + len(part.like)))
    if isinstance(part, ClampPart):
        return len(part.layers) * (1 + len(part.random))
    if isinstance(part, AblatePart):
        return sum(_ablations(part, name, own) for own in recipe.named(part.organisms) for name in part.directions)
    if isinstance(part, GainPart):
        alone = adapters + (adapters if adapters > 1 else 0)
        pairs = adapters * (adapters - 1) // 2 if part.pairs else 0
        return alone + pairs + len(part.groups) * len(part.factors) + sum(factor != 0 for factor in part.factors)
    return 2 * part.pairs if isinstance(part, CoalitionsPart) else adapters + 1


def _ablations(part: AblatePart, direction: str, organism: str) -> int:
    """Cells of one direction out of one organism: its own in more ways than another's."""
    ways, shuffled = len(part.to), direction.startswith("shuffled ")
    own = direction.partition(" like ")[2] if shuffled else direction
    if not own.startswith(f"{organism} "):
        return ways
    more = 0 if shuffled else ways * (len(part.random) + part.subspace)
    return 3 * ways + part.writes + more
