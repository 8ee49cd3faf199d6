"""A recipe as stages, in the order in which they run: each is data (what it depends on) and one function.

A stage is keyed by its own part of the recipe, the files that it reads and the stages whose results it reads. What it
only has to wait for (scores of answers that it does not read) is in `waits`, and does not make it stale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from backend.analysis.contrasts import outcome_answers
from backend.outside import json_of
from backend.pipeline.folder import StudyFolder
from backend.recipe import doing
from backend.recipe.bench import Bench, base_of
from backend.recipe.designs import cells_in
from backend.recipe.ledger import Depends, Entry, Ledger, content
from backend.recipe.reading import ReadRecipe, as_json, digest_of, directions_in, plain_judge
from backend.recipe.schema import AblatePart, AnswersPart, AnySweep, DirectionsPart, DrawnPart, JudgePart, OrganismPart
from backend.records import BASE, BASELINE
from backend.study.outcome_json import named_outcome, outcomes_of
from backend.subject.load import depth

_BALANCED = {"weights": "", "matching": ", matched", "truncation": ", truncated"}  # as in pipeline/kinds.py
_SHUFFLED = re.compile(r"shuffled ([0-9]{1,6}) like (.+)", re.DOTALL)
_FOREIGN = ("conditions", "responses", "scores", "directions", "sweeps")  # where files may be that no stage made


@dataclass(frozen=True)
class Amount:
    """How much a stage is: of what, in which units, and how many tokens that is at the most."""

    kind: str  # what a measured rate is kept under
    units: float = 0.0
    tokens: float = 0.0
    judged: float = 0.0  # tokens of the answers that a judge is given, at the most


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a study."""

    name: str
    part: Any  # of the recipe, as JSON
    work: Callable[[Bench], list[Path]]
    files: Mapping[str, str] = field(default_factory=dict)  # name -> hash of what it reads
    needs: tuple[str, ...] = ()  # stages whose results it reads
    waits: tuple[str, ...] = ()  # stages that come first, and do not change it
    amount: Amount = Amount("")
    gone: Callable[[Bench, Entry], str | None] = lambda *_: None  # what else it left and is no longer there
    found: Callable[[Bench], list[Path] | None] = lambda _: None  # what is there that says it was made by this part

    def depends(self, keys: Mapping[str, str]) -> Depends:
        """All that decides what it makes; `keys` are those of the stages before it."""
        return Depends(self.part, self.files, {name: keys[name] for name in self.needs})


def stages_of(read: ReadRecipe, ledger: Ledger) -> list[Stage]:
    """The stages of a recipe for the folder of a ledger, in an order in which they can run."""
    return [*_Listing(read, ledger).all()]


class _Listing:
    """Names the stages by what they are of, so that others can say what they read."""

    def __init__(self, read: ReadRecipe, ledger: Ledger) -> None:
        self.read, self.recipe, self.ledger = read, read.recipe, ledger
        self.base = base_of(read)
        self.layers = depth(self.base) or 0
        self.directions: dict[str, str] = {}  # organism and kind, as a direction's name begins -> stage
        self.answering = {
            name: part for part in self.recipe.answers for name in self.recipe.named(part.organisms, base=True)
        }

    def all(self) -> Iterator[Stage]:
        """In order."""
        made: list[Stage] = []
        for each in (
            self._organisms(),
            self._settings(),
            self._samples(),
            self._first_judges(),
            self._directions(),
            self._sweeps(),
            self._judges(),
        ):
            made += each
        yield from made
        yield from self._published(tuple(stage.name for stage in made))

    # --- organisms --------------------------------------------------------------------------------------------------

    def _organisms(self) -> Iterator[Stage]:
        for name, (of, part, seed) in self.recipe.trained.items():
            yield self._trained(name, of, part, seed) if part.data else self._copied(name, part)

    def _trained(self, name: str, of: str, part: OrganismPart, seed: int) -> Stage:
        assert part.data
        file = self.read.beside(part.data.file)
        digest = part.data.sha256 or digest_of(file)
        return Stage(
            f"train {name}",
            {"base": self.recipe.base, **as_json(part)} | {"data": None, "control": None, "seeds": [seed]},
            partial(doing.train_organism, name=name, part=part, seed=seed),
            files={part.data.file: digest},
            amount=Amount("train", part.steps * part.batch, 0),
            found=partial(doing.says_trained, name=name, part=part, seed=seed),
        )

    def _copied(self, name: str, part: OrganismPart) -> Stage:
        assert part.adapter
        where = self.read.adapter(part.adapter)
        local = {part.adapter: content(Path(where))} if Path(where).is_dir() else {}
        return Stage(
            f"copy {name}",
            {"adapter": part.adapter},
            partial(doing.copy_organism, name=name, adapter=where),
            files=local,
            found=partial(doing.says_copied, name=name, adapter=where),
        )

    def _worn(self, organism: str) -> tuple[str, ...]:
        """The stage that an organism is from."""
        known = self.recipe.trained.get(organism)
        return (f"{'train' if known[1].data else 'copy'} {organism}",) if known else ()

    # --- study.json -------------------------------------------------------------------------------------------------

    def _settings(self) -> Iterator[Stage]:
        said = self._study_json()
        waits = tuple(stage for name in self.recipe.trained for stage in self._worn(name))
        yield Stage("settings", said, partial(doing.write_settings, said=said), waits=waits, found=self._same_settings)

    def _study_json(self) -> dict[str, Any]:
        recipe, traces = self.recipe, self.recipe.traces
        controls = [name for name, (_, part, _) in recipe.trained.items() if part.control]
        said: dict[str, Any] = {"title": recipe.title, "base": self.base}
        if reader := traces.reader or next(iter(recipe.trained), None):
            said["reader"] = reader
        said |= {"controls": controls} if controls else {}
        said |= {"judge": doing.judge_called(recipe.judges[0])} if recipe.judges else {}
        said |= {"drawn": dict(recipe.drawn)} if recipe.drawn else {}
        said |= {"traced": dict(traces.traced)} if traces.traced is not None else {}
        said |= {"projected": [[*pair] for pair in traces.projected]} if traces.projected else {}
        said |= {"notes": recipe.notes} if recipe.notes else {}
        said |= {"outcomes": list(recipe.outcomes)} if recipe.outcomes != ("em",) else {}
        said |= {"readers": {name: list(own) for name, own in traces.readers.items()}} if traces.readers else {}
        return said

    def _same_settings(self, bench: Bench) -> list[Path] | None:
        file = bench.folder.path / "study.json"
        return [file] if file.is_file() and bench.folder.settings == self._study_json() else None

    # --- answers, scores, directions, sweeps ------------------------------------------------------------------------

    def _samples(self) -> Iterator[Stage]:
        for organism, part in self.answering.items():
            yield Stage(
                f"sample {organism}",
                self._asked(part) | {"organism": organism},
                partial(doing.sample_organism, organism=organism, part=part),
                needs=self._worn(organism),
                waits=("settings",),
                amount=self._answers("sample", part, len(self.read.about(part.questions)) * part.n),
                found=partial(doing.says_answered, organism=organism, part=part),
            )

    def _asked(self, part: AnswersPart | DrawnPart) -> dict[str, Any]:
        """What decides unedited answers, in words and numbers."""
        sampling, seed = part.sampling(self.recipe.sampling)
        questions = [[q.id, q.text, q.topic] for q in self.read.about(part.questions)]
        said = {"base": self.recipe.base, "questions": questions, "sampling": vars(sampling), "seed": seed}
        return said | {"n": part.n} if isinstance(part, AnswersPart) else said

    def _answers(self, kind: str, part: DrawnPart, answers: int) -> Amount:
        sampling, _ = part.sampling(self.recipe.sampling)
        return Amount(kind, answers, answers * sampling.max_new_tokens)

    def _sampled(self, *organisms: str) -> tuple[str, ...]:
        return tuple(f"sample {name}" for name in dict.fromkeys(organisms) if name in self.answering)

    def _first_judges(self) -> Iterator[Stage]:
        """Scores of unedited answers, where directions are told apart by them."""
        if self.recipe.directions:
            for part in self.recipe.judges:
                yield self._judged(
                    f"judge unedited by {part.name}", part, self._sampled(*self.answering), unedited=True
                )

    def _judges(self) -> Iterator[Stage]:
        swept = tuple(f"sweep {name}" for name in self.recipe.sweeps)
        for part in self.recipe.judges:
            first = (f"judge unedited by {part.name}",) if self.recipe.directions else ()
            needs = (*self._sampled(*self.answering), *swept)
            yield self._judged(f"judge by {part.name}", part, needs, unedited=False, waits=first)

    def _judged(
        self, name: str, part: JudgePart, needs: tuple[str, ...], *, unedited: bool, waits: tuple[str, ...] = ()
    ) -> Stage:
        rubrics = {part.rubrics: digest_of(self.read.beside(part.rubrics))} if part.rubrics else {}
        counted: list[tuple[DrawnPart, int]] = []
        if unedited or not self.recipe.directions or plain_judge(part)[0].startswith("distilled"):  # keeps no replies
            counted += [(own, self._texts(organism)) for organism, own in self.answering.items()]
        if not unedited:
            counted += [(sweep, self._swept(sweep)) for sweep in self.recipe.sweeps.values()]
        tokens = sum(n * own.sampling(self.recipe.sampling)[0].max_new_tokens for own, n in counted)
        file = doing.scores_file(StudyFolder(self.ledger.folder), part)

        return Stage(
            name,
            {"name": part.name, "metrics": list(part.metrics)},
            partial(doing.judge_answers, part=part, unedited=unedited),
            files=rubrics,
            needs=needs,
            waits=waits,
            amount=Amount(f"judge {part.name}", sum(n for _, n in counted), judged=tokens),
            gone=lambda *_: None if file.is_file() else "the scores are gone",
            found=partial(doing.says_judged, part=part, unedited=unedited),
        )

    def _directions(self) -> Iterator[Stage]:
        for i, part in enumerate(self.recipe.directions):
            judge = next(j for j in self.recipe.judges if part.judge in (None, j.name))
            rubrics = {judge.rubrics: digest_of(self.read.beside(judge.rubrics))} if judge.rubrics else {}
            outcomes = [
                o for o in self.recipe.outcomes if part.outcome in (None, o if isinstance(o, str) else o["name"])
            ]
            for organism in self.recipe.named(part.organisms):
                name = f"extract {organism}: {', '.join(part.kinds)}" + (f" of {part.outcome}" if part.outcome else "")
                name += "" if i == 0 or name not in self.directions.values() else f" ({i + 1})"
                self.directions[f"{organism} #{i}"] = name
                base = (BASE,) if {"minus-base", "both"} & {*part.kinds} else ()
                said = as_json(part) | {
                    "organisms": None,
                    "judge": [judge.name, *judge.metrics],
                    "outcome": outcomes[:1],
                }
                yield Stage(
                    name,
                    said,
                    partial(doing.extract_directions, organism=organism, part=part, judge=doing.judge_called(judge)),
                    files=rubrics,
                    needs=(*self._worn(organism), *self._sampled(organism, *base)),
                    waits=(f"judge unedited by {judge.name}",),
                    amount=Amount("read", self._texts(organism)),
                )

    def _texts(self, organism: str) -> int:
        part = self.answering.get(organism)
        return len(self.read.about(part.questions)) * part.n if part else 0

    def _sweeps(self) -> Iterator[Stage]:
        extracted = tuple(self.directions.values())
        for name, part in self.recipe.sweeps.items():
            worn = self.recipe.named(part.organisms) if isinstance(part, AblatePart) else (part.organism,)
            made = tuple(dict.fromkeys(stage for d in directions_in(part) for stage in self._made_by(d)))
            yield Stage(
                f"sweep {name}",
                as_json(part) | self._asked(part),
                partial(doing.run_sweep_part, name=name, part=part),
                files=self._given(directions_in(part), "sweeps", name),
                needs=(*(s for each in worn for s in self._worn(each)), *self._sampled(*worn, BASE), *made),
                waits=("settings", *(stage for stage in extracted if stage not in made)),
                amount=self._answers("sweep", part, self._swept(part)),
            )

    def _swept(self, part: AnySweep) -> int:
        """Answers of all cells of a sweep."""
        adapters = self._adapters(getattr(part, "organism", ""))
        return cells_in(self.recipe, part, self.layers, adapters) * len(self.read.about(part.questions)) * part.n

    def _adapters(self, organism: str) -> int:
        """How many adapters an organism has by what it is trained as, or by its config; 0 where nothing tells yet."""
        part = self.recipe.trained[organism][1] if organism in self.recipe.trained else None
        if part is None:
            return 0
        if part.data:
            return len(part.layers) * len(part.modules) * part.rank
        config = self.ledger.folder / "organisms" / organism / "adapter_config.json"
        said = json_of(config) if config.is_file() else {}
        layers, modules = said.get("layers_to_transform") or (), said.get("target_modules") or ()
        return len(layers) * len(modules) * int(said.get("r", 0))

    def _made_by(self, direction: str) -> Iterator[str]:
        """The stage that makes a direction of a name, where one does."""
        shuffled = _SHUFFLED.fullmatch(direction)
        own = shuffled[2] if shuffled else direction
        for place, stage in self.directions.items():
            organism, _, index = place.rpartition(" #")
            part = self.recipe.directions[int(index)]
            if own in self._names(organism, part) and (shuffled is None or int(shuffled[1]) < part.shuffled):
                yield stage

    def _names(self, organism: str, part: DirectionsPart) -> list[str]:
        """What the directions of a part are called (pipeline/kinds.py)."""
        outcome = named_outcome(outcomes_of({"outcomes": list(self.recipe.outcomes)}), part.outcome)
        contrast = outcome_answers(outcome).name + (f", {part.topic}" if part.topic else "")
        called = {"misalignment": contrast, "both": f"{contrast}, both", "topic": f"{part.topic} topic"}
        suffixes = [_BALANCED[each] for each in part.balance]
        return [
            f"{organism} {'minus base' if kind == 'minus-base' else called[kind]}{suffix}"
            for kind in part.kinds
            for suffix in ([""] if kind == "minus-base" else suffixes)
        ]

    def _given(self, names: Iterable[str], *place: str) -> dict[str, str]:
        """The directions that a place of the recipe names and no stage makes, by content.

        Raises InputError with the line where the folder holds none of that name.
        """
        found = {}
        for name in names:
            if not any(self._made_by(name)):
                file = self.ledger.folder / "directions" / f"{name}.safetensors"
                if not file.is_file():
                    raise self.read.document.wrong(
                        place,
                        f"it asks for the direction {name!r}, which no part of the recipe makes and {file.parent} does "
                        "not hold: extract it under directions, or put the file there",
                    )
                found[f"directions/{name}"] = content(file)
        return found

    def _check_traced(self) -> None:
        """Raise InputError where answers of a condition are read that neither the recipe nor the folder has."""
        traces, folder = self.recipe.traces, self.ledger.folder
        there = {BASELINE, "", *(file.stem for file in folder.glob("conditions/*.json"))}
        if self.recipe.sweeps or any(folder.glob("sweeps/*.json")):
            return  # what their conditions are called is known once they are designed
        for key in ("traced", "readers"):
            said = {"": traces.traced or {}} if key == "traced" else traces.readers
            for each in (name for names in said.values() for name in names):
                if each.rpartition("/")[2] not in there:
                    raise self.read.document.wrong(
                        ("traces", key, each),
                        f"there is no condition {each!r} to read: there is {', '.join(sorted(there - {''}))}",
                    )

    def _check_drawn(self) -> None:
        """Raise InputError where answers are said to be drawn by the scores of a judge that nobody asks."""
        there = {doing.judge_called(part) for part in self.recipe.judges}
        there |= {file.stem for file in self.ledger.folder.glob("scores/*.parquet")}
        for labels, judge in self.recipe.drawn.items():
            if judge not in there:
                raise self.read.document.wrong(
                    ("drawn", labels),
                    f"there are no scores of a judge {judge!r}: there are of {', '.join(sorted(there)) or 'none'}",
                )

    # --- the study --------------------------------------------------------------------------------------------------

    def _published(self, before: tuple[str, ...]) -> Iterator[Stage]:
        study, traces = self.recipe.study, self.recipe.traces
        self._check_traced()
        self._check_drawn()
        self._given([name for name, _ in traces.projected], "traces", "projected")
        readers = tuple(
            dict.fromkeys([*([traces.reader] if traces.reader else [*self.recipe.trained][:1]), *traces.readers])
        )
        swept = tuple(f"sweep {name}" for name in self.recipe.sweeps) if traces.traced is None else ()
        projected = tuple(stage for name, _ in traces.projected for stage in self._made_by(name))
        yield Stage(
            "trace",
            as_json(traces) | {"base": self.recipe.base},
            partial(doing.trace_answers, study=study),
            needs=tuple(
                dict.fromkeys(
                    (*(s for r in readers for s in self._worn(r)), *self._sampled(*self.answering), *swept, *projected)
                )
            ),
            waits=("settings",),
            amount=Amount("read", sum(map(self._texts, self.answering))),
        )
        yield Stage(
            "publish",
            {"study": study},
            partial(doing.publish_study, study=study),
            files=self._foreign(),
            needs=(*before, "trace"),
            amount=Amount("publish", 1),
            gone=partial(doing.says_other, study=study),
        )
        if part := self.recipe.probes:
            yield Stage(
                "probes",
                as_json(part),
                partial(doing.write_tables, study=study, part=part),
                needs=("publish",),
                amount=Amount("probes", len(part.pages)),
            )

    def _foreign(self) -> dict[str, str]:
        """The files of the folder that no stage makes, by content: labels of readers, earlier conditions."""
        folder = self.ledger.folder
        ours = {name for entry in self.ledger.entries.values() for name in entry.made}
        ours |= {f"scores/{doing.scores_file(StudyFolder(folder), part).name}" for part in self.recipe.judges}
        ours |= {f"responses/{name}.baseline.parquet" for name in self.answering}
        ours |= {f"sweeps/{name}{end}" for name in self.recipe.sweeps for end in (".json", ".parquet")}
        found = {}
        for file in sorted(p for kind in _FOREIGN for p in folder.glob(f"{kind}/*") if not p.name.startswith(".")):
            name = str(file.relative_to(folder))
            if name not in ours and not (file.parent.name == "directions" and any(self._made_by(file.stem))):
                found[name] = content(file)
        return found
