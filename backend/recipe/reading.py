"""A recipe file, read and checked: the parts each by itself, then what they say of each other and of files.

What is wrong is said with its line before anything is loaded. Paths in a recipe are seen from its own folder.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from backend.analysis.directions.answers import BALANCES
from backend.judge.choice import PRESETS
from backend.judge.rubrics import read_rubrics
from backend.judge.rules import METRICS as RULES
from backend.judge.rules import SUFFIX
from backend.outside import shown
from backend.pipeline.question_sets import questions_about
from backend.recipe.document import Document, Place, read_document
from backend.recipe.schema import AblatePart, AnySweep, ClampPart, DirectionsPart, JudgePart, SteerPart, StudyRecipe
from backend.records import BASE, BASELINE, InputError, Question
from backend.study import check_name
from backend.study.outcome_json import outcomes_of

# what pipeline/kinds.py and judge/distilled.py have, which import torch: a test holds them together
KINDS = ("misalignment", "topic", "minus-base", "both")
DISTILLED = {"aligned", "coherent", "medical", "gender", "bad_stuff"}


@dataclass(frozen=True, eq=False)
class ReadRecipe:
    """A checked recipe, the file that it is from, and what the file held."""

    recipe: StudyRecipe
    document: Document
    digest: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.document.path

    def beside(self, name: str) -> Path:
        """A path of the recipe. Raises InputError where it begins with the home of nobody."""
        try:
            return self.path.parent / Path(name).expanduser()
        except RuntimeError as error:
            raise InputError(f"{name!r} is in a home that there is not: write the folder out") from error

    @property
    def questions(self) -> tuple[Question, ...]:
        """All that are asked."""
        asked = self.recipe.questions
        return (
            *(questions_about(asked.sets) if asked.sets else ()),
            *(Question(q.id, q.text, q.topic) for q in asked.own),
        )

    def about(self, topics: Sequence[str]) -> tuple[Question, ...]:
        """The questions of some topics, or of "all"."""
        return tuple(q for q in self.questions if "all" in topics or q.topic in topics)

    def adapter(self, name: str) -> str:
        """A peft folder here, or a hub id."""
        return str(self.beside(name)) if self.beside(name).is_dir() else name


def digest_of(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_recipe(path: Path) -> ReadRecipe:
    """The recipe of a file. Raises InputError with the line of what is wrong, why, and what to do."""
    document = read_document(path)
    try:
        # as JSON, in which a list may stand for a tuple
        recipe = StudyRecipe.model_validate_json(json.dumps(document.value))
    except ValidationError as error:
        raise _said(document, error) from error
    read = ReadRecipe(recipe, document, digest_of(path))
    _Checks(read).all()
    return read


def check_layers(read: ReadRecipe, layers: int) -> None:
    """Raise InputError where the recipe names a layer that the model of so many layers has not."""
    last = layers - 1
    named: list[tuple[Place, Iterable[int]]] = []
    for name, part in read.recipe.organisms.items():
        named.append((("organisms", name, "layers"), part.layers))
    for name, sweep in read.recipe.sweeps.items():
        for key in ("layers", "control_layers", "layer"):
            said = getattr(sweep, key, None)
            named.append((("sweeps", name, key), (said,) if isinstance(said, int) else said or ()))
        for group, own in getattr(sweep, "groups", {}).items():
            named.append((("sweeps", name, "groups", group), own))
    named += [(("traces", "projected", i), (layer,)) for i, (_, layer) in enumerate(read.recipe.traces.projected)]
    for place, wanted in named:
        for layer in wanted:
            if layer > last:
                raise read.document.wrong(
                    place, f"layer {layer} is past the model: {read.recipe.base} has layers 0 to {last}. Choose those"
                )


def _said(document: Document, error: ValidationError) -> InputError:
    """The first thing that is wrong, in words, and how many there are."""
    errors = error.errors(include_url=False)
    first = min(errors, key=lambda each: document.line(each["loc"]))
    place, kind = first["loc"], first["type"]
    name = ".".join(str(part) for part in place if (part,) != ("function-after",)) or "the recipe"
    given = shown(first["input"])
    if kind == "extra_forbidden":
        around = place[:-1]
        why = f"there is no key {place[-1]!r} {'in ' + '.'.join(map(str, around)) if around else 'in a recipe'}"
        why += ": python -m backend recipe --schema has those that there are"
    elif kind == "missing":
        why = f"{name} is missing: say it"
    else:
        why = f"{name} is {given}: {first['msg'].removeprefix('Value error, ')}"
    more = f" ({len(errors) - 1} more like this)" if len(errors) > 1 else ""
    return document.wrong(place, why + more)


class _Checks:
    """What the parts say of each other."""

    def __init__(self, read: ReadRecipe) -> None:
        self.read, self.recipe = read, read.recipe
        self.organisms = self.recipe.trained

    def all(self) -> None:
        """Raise InputError on the first thing that does not fit."""
        self._study()
        self._organisms()
        self._questions()
        self._answers()
        self._judges()
        self._directions()
        self._sweeps()
        self._traces()

    def _wrong(self, why: str, *place: Hashable) -> InputError:
        return self.read.document.wrong(place, why)

    def _known(self, names: Sequence[str], *place: Hashable, base: bool = False) -> None:
        there = {*self.recipe.organisms, *self.organisms, "all"} | ({BASE} if base else set())
        for i, name in enumerate(names):
            if name not in there:
                raise self._wrong(
                    f"there is no organism {name!r}: the recipe has {', '.join(sorted(there - {'all'})) or 'none'}",
                    *place,
                    i,
                )

    def _study(self) -> None:
        """Its name, the places that it names, and the pages of its tables."""
        try:
            check_name(self.recipe.study)
        except InputError as error:
            raise self._wrong(str(error), "study") from error
        places: list[tuple[Place, str]] = [(("base",), self.recipe.base)]
        for name, part in self.recipe.organisms.items():
            places += [(("organisms", name, "data"), part.data.file)] if part.data else []
            places += [(("organisms", name, "adapter"), part.adapter)] if part.adapter is not None else []
        places += [(("judges", i, "rubrics"), p.rubrics) for i, p in enumerate(self.recipe.judges) if p.rubrics]
        for place, path in places:
            if not path:
                raise self._wrong("nothing is named here: name a file, a folder or a hub id", *place)
            try:
                self.read.beside(path)
            except InputError as error:
                raise self._wrong(str(error), *place) from error
        if self.recipe.probes:
            from backend.tables.figures import FORMER, PAGES  # takes a while

            for i, page in enumerate(self.recipe.probes.pages):
                if page not in {*PAGES, *FORMER}:
                    raise self._wrong(f"there is no page {page!r}: choose {', '.join(PAGES)}", "probes", "pages", i)

    def _organisms(self) -> None:
        for name, part in self.recipe.organisms.items():
            if name in (BASE, "all"):
                raise self._wrong(f"an organism cannot be called {name!r}: choose another name", "organisms", name)
            if part.data:
                file, wanted = self.read.beside(part.data.file), part.data.sha256
                if not file.is_file() and wanted is None:
                    raise self._wrong(
                        f"there is no file {file}: name the chat rows (seen from the recipe's folder), or give their "
                        "sha256 where they are away",
                        *("organisms", name, "data"),
                    )
                if file.is_file() and wanted not in (None, digest_of(file)):
                    raise self._wrong(
                        f"{file} has another sha256 than the recipe gives it: put the right file back, or mend the "
                        "recipe",
                        *("organisms", name, "data"),
                    )
            elif part.adapter and part.adapter[0] in "./~" and not self.read.beside(part.adapter).is_dir():
                raise self._wrong(
                    f"there is no folder {self.read.beside(part.adapter)}: name a peft folder or a hub id",
                    *("organisms", name, "adapter"),
                )
        if len(self.organisms) < sum(max(1, len(part.seeds)) for part in self.recipe.organisms.values()):
            raise self._wrong("two organisms get one name by their seeds: rename one of them", "organisms")

    def _questions(self) -> None:
        try:
            asked = self.read.questions
        except InputError as error:
            raise self._wrong(str(error), "questions", "sets") from error
        for id, n in Counter(q.id for q in asked).items():
            if n > 1:
                raise self._wrong(f"two questions have the id {id!r}: name them apart", "questions", "own")

    def _topics(self, topics: Sequence[str], *place: Hashable) -> None:
        there = dict.fromkeys(question.topic for question in self.read.questions)
        for topic in topics:
            if topic not in {*there, "all"}:
                raise self._wrong(f"no question has the topic {topic!r}: choose {', '.join(there)} or all", *place)
        if not self.read.about(topics):
            raise self._wrong("there are no questions to ask: name sets, or give some under own", "questions")

    def _answers(self) -> None:
        seen: dict[str, int] = {}
        for i, part in enumerate(self.recipe.answers):
            self._known(part.organisms, "answers", i, "organisms", base=True)
            self._topics(part.questions, "answers", i, "questions")
            for name in self.recipe.named(part.organisms, base=True):
                if name in seen:
                    first = self.read.document.line(("answers", seen[name]))
                    raise self._wrong(
                        f"the answers of {name} are asked for here and on line {first}: two stages would write one "
                        "file. Name every organism once",
                        *("answers", i),
                    )
                seen[name] = i

    def _judges(self) -> None:
        metrics: set[str] = set()
        names = [part.name for part in self.recipe.judges]
        for i, part in enumerate(self.recipe.judges):
            if names.index(part.name) < i:
                raise self._wrong(f"the judge {part.name!r} is there twice: name each once", "judges", i)
            try:
                metrics |= metrics_of(self.read, part)
            except InputError as error:
                raise self._wrong(str(error), "judges", i, "rubrics" if part.rubrics else "name") from error
        try:
            outcomes = outcomes_of({"outcomes": list(self.recipe.outcomes)})
        except InputError as error:
            raise self._wrong(str(error), "outcomes") from error
        for i, outcome in enumerate(outcomes):
            wanted = {*(band.metric for band in outcome.hit), *outcome.needs}
            if names and (missing := sorted(wanted - metrics)):
                raise self._wrong(
                    f"the outcome {outcome.name!r} needs scores of {', '.join(missing)}, which no judge gives: they "
                    f"give {', '.join(sorted(metrics))}. Add a rubric and name it under metrics of a judge",
                    *("outcomes", i),
                )

    def _directions(self) -> None:
        names, outcomes = (
            {part.name for part in self.recipe.judges},
            outcomes_of({"outcomes": list(self.recipe.outcomes)}),
        )
        seen: dict[tuple[str, ...], int] = {}
        for i, part in enumerate(self.recipe.directions):
            self._known(part.organisms, "directions", i, "organisms")
            self._topics(part.questions, "directions", i, "questions")
            for key, there in (("kinds", KINDS), ("balance", BALANCES)):
                for each in getattr(part, key):
                    if each not in there:
                        raise self._wrong(f"{each!r} is none of {', '.join(there)}", "directions", i, key)
            if "topic" in part.kinds and not part.topic:
                raise self._wrong("the kind topic is of answers on one: name it under topic", "directions", i)
            if part.outcome is not None and part.outcome not in {outcome.name for outcome in outcomes}:
                raise self._wrong(f"there is no outcome {part.outcome!r} in this recipe", "directions", i, "outcome")
            if part.judge is not None and part.judge not in names:
                raise self._wrong(f"there is no judge {part.judge!r} in this recipe", "directions", i, "judge")
            if not names:
                raise self._wrong("directions need scores: name a judge under judges", "directions", i)
            answering = {name for each in self.recipe.answers for name in self.recipe.named(each.organisms, base=True)}
            for name in self.recipe.named(part.organisms):
                if name not in answering:
                    raise self._wrong(f"{name} is asked nothing: put it under answers", "directions", i, "organisms")
                for kind, balance in _made(part):
                    made = (name, kind, balance, str(part.outcome), str(part.topic))
                    if made in seen:
                        line = self.read.document.line(("directions", seen[made]))
                        raise self._wrong(
                            f"the direction {kind} of {name} is asked for here and on line {line}: two stages would "
                            "write one file",
                            *("directions", i),
                        )
                    seen[made] = i

    def _sweeps(self) -> None:
        for name, part in self.recipe.sweeps.items():
            place = ("sweeps", name)
            self._topics(part.questions, *place, "questions")
            worn = part.organisms if isinstance(part, AblatePart) else (part.organism,)
            self._known(worn, *place, "organism", base=isinstance(part, AblatePart | SteerPart | ClampPart))
            for own in worn if not isinstance(part, AblatePart) else ():
                if own == "all":
                    raise self._wrong(f"a sweep of the kind {part.kind} is of one organism: name it", *place)
                if own in self.recipe.organisms and own not in self.organisms:
                    raise self._wrong(f"{own!r} has several seeds: name one, such as {own}-seed0", *place)

    def _traces(self) -> None:
        part = self.recipe.traces
        wearing = {*self.organisms, BASE}
        read = {"traced": part.traced or {}, **{name: dict.fromkeys(own) for name, own in part.readers.items()}}
        for key, wanted in read.items():
            for each in wanted:
                organism, inside, condition = each.rpartition("/")
                place = ("traces", key, each) if key == "traced" else ("traces", "readers", key)
                if inside and organism not in wearing:
                    raise self._wrong(
                        f"{each!r} is read, and there is no organism {organism!r}: there is {', '.join(wearing)}",
                        *place,
                    )
                if not self.recipe.sweeps and condition == each and each in wearing:
                    raise self._wrong(
                        f"{each!r} is an organism, and conditions are read: write {each}/{BASELINE}", *place
                    )
        for name in (*([part.reader] if part.reader else []), *part.readers):
            if name not in {*self.organisms, BASE}:
                raise self._wrong(
                    f"there is no organism {name!r} to read with: the recipe has {', '.join(self.organisms) or 'none'}",
                    *("traces", "readers", name),
                )


def _made(part: DirectionsPart) -> list[tuple[str, str]]:
    """Kind and balance of the directions of a part; the same texts on both sides are not balanced."""
    return [(kind, balance) for kind in part.kinds for balance in (("",) if kind == "minus-base" else part.balance)]


def plain_judge(part: JudgePart) -> tuple[str, str]:
    """The judge that a part means, by its full name, and the suffix of rules where it has that."""
    plain = part.name.removesuffix(SUFFIX)
    return PRESETS.get(plain, plain), part.name[len(plain) :]


def metrics_of(read: ReadRecipe, part: JudgePart) -> set[str]:
    """What a judge scores. Raises InputError for a metric without a rubric and a judge that there is not."""
    plain, suffix = plain_judge(part)
    more = set(RULES) if suffix else set()
    if plain.startswith("distilled"):
        if part.rubrics:
            raise InputError(
                f"{plain} was fitted to its metrics and is asked in no words: give rubrics to a chat model"
            )
        return DISTILLED | more
    if plain.partition(":")[0] not in ("local", "api") or not plain.partition(":")[2]:
        raise InputError(f"there is no judge {part.name!r}: name one of {', '.join(PRESETS)}, local:MODEL or api:MODEL")
    rubrics = read.beside(part.rubrics) if part.rubrics else None
    return {rubric.metric for rubric in read_rubrics(part.metrics, rubrics)} | more


def directions_in(part: AnySweep) -> tuple[str, ...]:
    """The names of the directions that a sweep takes from the folder."""
    if isinstance(part, SteerPart):
        return (part.direction, *part.like)
    if isinstance(part, ClampPart):
        return (part.direction,)
    return part.directions if isinstance(part, AblatePart) else ()


def as_json(part: Any) -> Any:
    """A part of a recipe as JSON values."""
    return part.model_dump(mode="json")
