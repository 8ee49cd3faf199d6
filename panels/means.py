"""The mean residual streams that a study knows, by whose answers: what a projection can be brought to.

It refuses to know what is done with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import polars as pl

from backend.edits import Level
from backend.records import BASE, BASELINE, Direction, FloatArray, InputError
from backend.study import Study
from backend.study.outcome_json import outcomes_of
from panels.frame import judge_of, per_study, responses_read

Means = Mapping[str, Mapping[int, FloatArray]]  # whose answers -> layer -> (d_model,)


@per_study
def mean_streams(study: Study) -> dict[str, dict[int, FloatArray]]:
    """Of the base's and of every reader's own unedited answers, and of those among them that are no hit of the outcome.

    Read once a build. Whose answers they are is said with who read them, where that is somebody else.
    """
    found = {}
    for name, reader, ids in _sets(study):
        stream = study.mean_stream(reader, responses=ids) if ids else {}
        if stream:
            found[name] = stream
    return found


def _sets(study: Study) -> list[tuple[str, str, Sequence[str]]]:
    """Whose answers, who read them, and which they are."""
    sets: list[tuple[str, str, Sequence[str]]] = []
    for reader in study.readers():
        for organism in dict.fromkeys((BASE, reader)):
            own = pl.col("organism") == organism, pl.col("condition") == BASELINE
            said = f"{organism}'s answers" + ("" if organism == reader else f", read by {reader}")
            sets.append((said, reader, responses_read(study, reader).filter(*own)["response"].to_list()))
            with suppress(InputError):  # the outcome has no two classes
                contrast = outcomes_of(study.info)[0].contrast
                scored = responses_read(study, reader, judge_of(study, reader) if study.judges() else None)
                if set(contrast.columns) <= set(scored.columns):
                    other = [condition.holds() for condition in contrast.negative]
                    ids = scored.filter(*own, *other)["response"].to_list()
                    sets.append((f"{contrast.negative_name} {said}", reader, ids))
    return sets


def mean_level(means: Means, of: str, direction: Direction, layers: Sequence[int]) -> Level:
    """The mean projection on the unit direction at each layer. Raises InputError where the study has none there."""
    stream = means.get(of, {})
    for layer in layers:
        if layer not in stream or stream[layer].shape != direction.vector.shape:
            raise InputError(f"This study knows no mean of {of} at layer {layer} for {direction.name!r}: choose zero.")
    return Level(tuple(float(stream[layer] @ direction.unit) for layer in layers), of)


def zero_is_far(means: Means, direction: Direction) -> str:
    """How far zero is from each mean projection at the direction's own layer, in words; nothing where none is known."""
    lines = []
    for of, stream in means.items():
        if direction.layer in stream and stream[direction.layer].shape == direction.vector.shape:
            along = float(stream[direction.layer] @ direction.unit)
            norm = direction.activation_norm
            lines.append(f"{of} {along:+.2f}" + (f" ({abs(along) / norm:.0%})" if norm else ""))
    about = f"Mean projection at layer {direction.layer} (how far zero is from it, of the activation norm)"
    return f"{about}: {'; '.join(lines)}." if lines else ""
