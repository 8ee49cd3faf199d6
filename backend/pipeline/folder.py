"""The inputs of a study on disk: everything that cost a model's time or a human's choice, in small open files.

    study.json              title, base model, notes; outcomes (what is asked of the answers, by default emergent
                            misalignment); reader (the organism that reads the responses, by default the first), traced
                            (whose responses it reads: conditions, or organism/condition, as a list or with how many
                            answers to a question; by default all), projected ([name, layer] of directions whose token
                            projections are kept), controls (organisms that others are held against, as one trained on
                            good advice), readers (more organisms that read, each with what, as in traced), drawn
                            (judges whose answers were drawn by another's scores)
    organisms/NAME/         adapter_model.safetensors, adapter_config.json, training.json
    conditions/NAME.json    the edits of one condition
    responses/NAME.parquet  what an organism answered under one condition, with token ids, seeds and settings
    scores/JUDGE.parquet    what one judge gave the responses
    directions/NAME.*       one direction at its layers, safetensors or a control-vector GGUF
    sweeps/NAME.parquet     the responses of all cells of a sweep, and the unedited ones they are compared with
    sweeps/NAME.json        its conditions, with directions by reference, and how it was sampled
    measured/KIND/NAME.*    what a run measured with the model (`pipeline.measured`)

A study is built from such a folder alone. Every file is whole or not there (`backend.files`).
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from backend.analysis.directions.random_directions import random_direction, random_subspace, rescaled
from backend.edits import Condition, edits_from_json, edits_to_json
from backend.files import lock, whole
from backend.outcomes import Outcome
from backend.outside import json_of, shown
from backend.records import (
    BASE,
    BASELINE,
    RANDOM,
    SUBSPACE,
    Direction,
    InputError,
    Response,
    Score,
    direction_from_json,
    direction_to_json,
)
from backend.study import earlier
from backend.study.outcome_json import outcomes_of
from backend.study.parquet import read_responses, read_scores, write_responses, write_scores
from backend.study.vectors import read_directions, write_directions

_TEXTS = {"title", "base", "notes", "reader", "judge"}  # of study.json
_SWEEP: dict[str, tuple[type, str]] = {
    "unedited": (str, "the name of a condition"),
    "tokens": (int, "a whole number"),
    "conditions": (dict, "an object of lists of edits"),
}


@dataclass(frozen=True)
class StudyFolder:
    """One folder of inputs. Reading raises InputError on a file that is not what its place says."""

    path: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The content of study.json: title, base, reader, notes."""
        file = self.path / "study.json"
        if not file.exists():
            raise InputError(f"{self.path} is no study folder: it has no study.json")
        settings = json_of(file)
        if not isinstance(settings, dict) or not {"title", "base"} <= settings.keys():
            raise InputError(f"{file} must be a JSON object with a title and a base, not {shown(settings)}")
        for key in _TEXTS & settings.keys():
            if not isinstance(settings[key], str):
                raise InputError(f'"{key}" of {file} must be text, not {shown(settings[key])}')
        return settings

    @property
    def organisms(self) -> dict[str, Path]:
        """Adapter folders by organism name."""
        folders = [file.parent for file in sorted(self.path.glob("organisms/*/adapter_config.json"))]
        return {p.name: p for p in folders if not p.name.startswith(".") and p.suffix != ".partial"}  # half-trained

    def known(self, organism: str) -> str:
        """The name of an organism, or of the base. Raises InputError where the folder has none of that name."""
        if self.settings and organism != BASE and organism not in self.organisms:
            raise InputError(f"{self.path} has no organism {organism!r}: there is {', '.join((BASE, *self.organisms))}")
        return organism

    @property
    def reader(self) -> str:
        """The organism that reads every response: the one study.json names, else the first."""
        chosen: str = self.settings.get("reader", next(iter(self.organisms), BASE))
        if chosen != BASE and chosen not in self.organisms:
            raise InputError(
                f"{self.path / 'study.json'} names the reader {shown(chosen)}: "
                f"there is {', '.join((BASE, *self.organisms))}"
            )
        return chosen

    @property
    def judge(self) -> str | None:
        """The judge whose scores tell directions apart: the one study.json names, if any."""
        judge: str | None = self.settings.get("judge")
        return judge

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What is asked of the answers, the first thing first: what study.json says, else EM."""
        try:
            return outcomes_of(self.settings)
        except InputError as error:
            raise InputError(f"{self.path / 'study.json'}: {error}") from error

    @property
    def controls(self) -> tuple[str, ...]:
        """The organisms that study.json declares controls. Raises InputError where they are not among its organisms."""
        declared = self._names("controls", "organisms")
        for name in declared:
            if name not in self.organisms:
                known = ", ".join(self.organisms) or "none"
                raise InputError(
                    f'"controls" of {self.path / "study.json"} names the organism {shown(name)}: there is {known}'
                )
        return declared

    def _names(self, key: str, what: str) -> tuple[str, ...]:
        """A list of names in study.json; none where it says nothing."""
        names = self.settings.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f'"{key}" of {self.path / "study.json"} must be a list of {what}, not {shown(names)}')
        return tuple(names)

    def conditions(self) -> list[Condition]:
        """The baseline, every condition that has a file, and those of all sweeps.

        Raises InputError where two sweeps mean different things by one name.
        """
        every = [Condition(BASELINE), *(self.condition(p.stem) for p in sorted(self.path.glob("conditions/*.json")))]
        named = {condition.name: condition for condition in every}
        for sweep, record in self.sweeps().items():
            for condition in record.conditions:
                known = named.setdefault(condition.name, condition)
                if known is not condition and edits_to_json(known.edits) != edits_to_json(condition.edits):
                    raise InputError(
                        f"the sweep {sweep!r} means something else by the condition {condition.name!r} than another "
                        f"part of {self.path}: remove one of them"
                    )
        return list(named.values())

    def condition(self, name: str) -> Condition:
        """One condition by its name."""
        if name == BASELINE:
            return Condition(BASELINE)
        file = self.path / "conditions" / f"{name}.json"
        said = json_of(file, absent=f"there is no condition {name!r} in {self.path}; sample it first")
        try:
            return Condition(name, edits_from_json(said))
        except InputError as error:
            raise InputError(f"{file}: {error}") from error

    def responses(self) -> list[Response]:
        """All responses, by file name, in their order; then those of the sweeps.

        Unedited answers that several sweeps share are there once. Raises InputError where sweeps share others.
        """
        kept: list[Response] = []
        known: dict[str, Response] = {}
        for file in sorted(self.path.glob("responses/*.parquet")):
            for response in read_responses(file):
                if known.setdefault(response.id, response) is not response:
                    raise InputError(f"{file} holds {response.id!r}, which is there already: keep one of them")
                kept.append(response)
        for record in sorted(self.path.glob("sweeps/*.json")):  # written last: without it a sweep was killed half-way
            file, shared = record.with_suffix(".parquet"), _unedited(_said(record)).name
            for response in read_responses(file):
                other = known.setdefault(response.id, response)
                if other is response:
                    kept.append(response)
                elif other.answer_ids != response.answer_ids or response.condition != shared:
                    raise InputError(
                        f"{file} holds {response.id!r}, and another file does too: sample one of them with another seed"
                    )
        return kept

    def answers(self) -> list[Response]:
        """All responses, of which there is at least one. Raises InputError where there is none."""
        if self.settings and not (found := self.responses()):
            raise InputError(
                f"{self.path} holds no responses: sample some first (python -m backend sample --folder "
                f"{shlex.quote(str(self.path))})"
            )
        return found

    def reads(self, responses: Sequence[Response]) -> dict[str, list[Response]]:
        """Which of `responses` each reader shall read, the study's own reader first.

        Raises InputError where study.json names readers that are not among its organisms.
        """
        more, file = self.settings.get("readers", {}), self.path / "study.json"
        if not isinstance(more, dict):
            raise InputError(f'"readers" of {file} must have a list of conditions an organism, not {shown(more)}')
        said = {self.reader: _limits("traced", self.settings.get("traced", {"": None}), file)}
        said |= {self.known(name): _limits("readers", wanted, file) for name, wanted in more.items()}
        return {reader: list(_read_by(responses, limits)) for reader, limits in said.items()}

    def directions(self) -> dict[str, list[Direction]]:
        """Stored directions by name, each at its layers. Raises InputError where two files have one name."""
        found: dict[str, list[Direction]] = {}
        files = [p for p in sorted(self.path.glob("directions/*")) if p.suffix in (".safetensors", ".gguf")]
        for file in files:
            stack = read_directions(file)
            if stack[0].name in found:
                raise InputError(f"{file} is a second direction {stack[0].name!r}: keep one of them")
            found[stack[0].name] = stack
        return found

    def direction(self, name: str) -> list[Direction]:
        """One stored direction at its layers. Raises InputError where there is none of that name."""
        stored = self.directions()
        if name not in stored:
            raise InputError(f"{self.path} has no direction {name!r}: there is {', '.join(stored) or 'none'}")
        return stored[name]

    def add_directions(self, stack: Sequence[Direction]) -> Path:
        """Keep one direction at its layers, in the place of what had its name."""
        path = self.path / "directions" / f"{stack[0].name}.safetensors"
        if path.parent != self.path / "directions" or path.name.startswith("."):
            raise InputError(f"{stack[0].name!r} cannot name a direction file: choose a name without / and leading dot")
        write_directions(path, stack)
        return path

    def projected(self) -> list[tuple[str, int]]:
        """Name and layer of the directions whose token projections a study shall keep."""
        wanted = self.settings.get("projected", [])
        pairs = wanted if isinstance(wanted, list) else [wanted]
        if not all(isinstance(pair, list) and [type(each) for each in pair] == [str, int] for pair in pairs):
            raise InputError(
                f'"projected" of {self.path / "study.json"} must be a list of [name, layer], not {shown(wanted)}'
            )
        return [(name, layer) for name, layer in pairs]

    def sweeps(self) -> dict[str, SweepRecord]:
        """What each sweep did, by name."""
        stored = self._stored
        return {file.stem: _sweep(file, stored) for file in sorted(self.path.glob("sweeps/*.json"))}

    def add_sweep(
        self,
        name: str,
        conditions: Sequence[Condition],
        responses: Sequence[Response],
        *,
        unedited: Condition,
        record: Mapping[str, Any],
    ) -> Path:
        """Keep a whole sweep: its responses, and its conditions with directions by reference where they are stored."""
        target = self.path / "sweeps" / f"{name}.json"
        stored = self._stored
        every = {c.name: edits_to_json(c.edits, lambda direction: _referred(direction, stored)) for c in conditions}
        said = {**record, "unedited": unedited.name, "tokens": unedited.tokens, "conditions": every}
        with lock(target, f"writing the sweep {name!r}"), whole(target) as out:
            out.write(json.dumps(said, indent=1, ensure_ascii=False).encode())
            write_responses(target.with_suffix(".parquet"), responses)
        return target

    @property
    def _stored(self) -> Stored:
        return Stored(self)

    def scores(self) -> list[Score]:
        """All scores of all judges."""
        return [score for file in sorted(self.path.glob("scores/*.parquet")) for score in read_scores(file)]

    def training(self, organism: str) -> dict[str, Any]:
        """How an organism was trained; empty where nobody kept a record."""
        file = self.organisms[organism] / "training.json"
        record = json_of(file) if file.exists() else {}
        if not isinstance(record, dict):
            raise InputError(
                f"{file} must be a JSON object, not {shown(record)}: put back what train wrote, or remove it"
            )
        return record

    def add_responses(self, condition: Condition, organism: str, responses: Sequence[Response]) -> Path:
        """Keep the responses of one organism under one condition, and the condition's edits beside them."""
        target = self.path / "responses" / f"{organism}.{condition.name}.parquet"
        if not condition.edits:
            write_responses(target, responses)
            return target
        with whole(self.path / "conditions" / f"{condition.name}.json") as out:
            out.write(json.dumps(edits_to_json(condition.edits), indent=1).encode())
            write_responses(target, responses)
        return target

    def add_scores(self, judge: str, scores: Sequence[Score]) -> Path:
        """Keep all scores of one judge."""
        target = self.path / "scores" / f"{judge}.parquet"
        write_scores(target, scores)
        return target


@dataclass(frozen=True, eq=False)
class SweepRecord:
    """The conditions of a sweep, the one without edits that they are compared with, and how it was sampled."""

    conditions: list[Condition]
    unedited: Condition
    record: dict[str, Any]


def _sweep(file: Path, stored: Stored) -> SweepRecord:
    """What one sweep did."""
    said = _said(file)
    plain = _unedited(said)
    try:
        edits = {
            name: edits_from_json(each, lambda value: _resolved(value, stored))
            for name, each in said["conditions"].items()
        }
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    conditions = {name: Condition(name, each) for name, each in edits.items()} | {plain.name: plain}
    record = {key: value for key, value in said.items() if key != "conditions"}
    return SweepRecord(list(conditions.values()), plain, record)


def _limits(key: str, wanted: Any, file: Path) -> dict[str, float]:
    """Conditions, or organism/condition, and how many answers to a question are read of each; "" is all others."""
    named = dict.fromkeys(wanted) if isinstance(wanted, list) and all(isinstance(n, str) for n in wanted) else wanted
    if not isinstance(named, dict) or not all(n is None or (type(n) is int and n > 0) for n in named.values()):
        raise InputError(
            f'"{key}" of {file} must be a list of conditions, or of organism/condition, or an object with how many '
            f"answers to a question are read of each (null: all), not {shown(wanted)}"
        )
    return {name: inf if n is None else n for name, n in named.items()}


def _read_by(responses: Sequence[Response], limits: Mapping[str, float]) -> Iterator[Response]:
    """Those of `responses` that are wanted, of each question the first."""
    taken = Counter[tuple[str, str, str]]()
    for r in responses:
        most = next((limits[name] for name in (f"{r.organism}/{r.condition}", r.condition, "") if name in limits), 0)
        taken[r.organism, r.condition, r.question_id] += 1
        if taken[r.organism, r.condition, r.question_id] <= most:
            yield r


def _said(file: Path) -> dict[str, Any]:
    """What the record of a sweep says."""
    said = json_of(file)
    if not isinstance(said, dict):
        raise InputError(f"{file} is no sweep: it must be a JSON object, not {shown(said)}")
    for key, (kind, what) in _SWEEP.items():
        value = said.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            if key == "tokens" and (key not in said or value is None):
                continue  # of an earlier build, or not cut
            raise InputError(f'{file} is no sweep: its "{key}" must be {what}, not {shown(value)}')
    return said


def _unedited(said: Mapping[str, Any]) -> Condition:
    """The condition that a sweep is compared with."""
    name: str = said["unedited"]
    return Condition(name, tokens=said["tokens"] if "tokens" in said else earlier.tokens(name))


# --- directions by reference: {"name", "layer"}, at another norm, or the recipe of a control --------------------------


class Stored:
    """The directions of a folder, each file read at most once."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self._read: dict[str, list[Direction]] | None = None

    def find(self, name: str, layer: int) -> Direction | None:
        """The stored direction of that name and layer."""
        if self._read is None:
            self._read = self._folder.directions()
        return next((d for d in self._read.get(name, []) if d.layer == layer), None)


def _referred(direction: Direction, stored: Stored) -> dict[str, Any]:
    """A direction as JSON, by reference where that gives back the same vector."""
    for reference in _references(direction):
        source = stored.find(str(reference["of"]), direction.layer)
        if source is not None and np.allclose(_made(reference, source).vector, direction.vector, rtol=1e-5, atol=1e-7):
            return {**reference, "sha": _mark(source)}
    return direction_to_json(direction)


def _references(direction: Direction) -> list[dict[str, Any]]:
    """What could stand for a direction, the plainest first: `of` is the stored direction that it is made from."""
    origin, layer = direction.origin, direction.layer
    if origin.kind == SUBSPACE:
        recipe = {"seed": origin.seed, "dimensions": origin.dimensions, "index": origin.index}
        return [{"of": origin.like, "layer": layer, "subspace": recipe}]
    plain = {"of": direction.name, "layer": layer}
    found = [plain, {**plain, "norm": direction.norm, "activation_norm": direction.activation_norm}]
    if origin.kind == RANDOM:
        found.append({"of": origin.like, "layer": layer, "random": {"seed": origin.seed}})
    return found


def _made(reference: Mapping[str, Any], source: Direction) -> Direction:
    """The direction that a reference makes of the stored one."""
    if "random" in reference:
        return random_direction(source, int(reference["random"]["seed"]))
    if "subspace" in reference:
        recipe = reference["subspace"]
        n, index = int(recipe["dimensions"]), int(recipe["index"])
        if not 0 <= index < n <= source.vector.size:
            raise ValueError(f"a subspace of {n} dimensions has no direction {index}")
        return random_subspace(source, n, int(recipe["seed"]))[index]
    if "norm" in reference:
        return replace(rescaled(source, float(reference["norm"])), activation_norm=reference.get("activation_norm"))
    return source


def _resolved(reference: Mapping[str, Any], stored: Stored) -> Direction:
    """The inverse of `_referred`. Raises InputError where the folder has lost the direction, or changed it."""
    if "vector" in reference:
        return direction_from_json(reference)
    source = stored.find(str(reference["of"]), int(reference["layer"]))
    if source is None or _mark(source) != reference["sha"]:
        raise InputError(
            f"it was made with the direction {shown(reference['of'])} at layer {reference['layer']}, which directions/ "
            f"{'does not hold' if source is None else 'holds otherwise now'}: put the file back, or sweep again"
        )
    return _made(reference, source)


def _mark(direction: Direction) -> str:
    return hashlib.sha256(direction.vector.astype("<f4").tobytes()).hexdigest()[:8]
