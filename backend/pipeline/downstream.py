"""What a direction sets off behind its layer, measured on stored answers of an organism, in it and in its base.

Added along the direction at several lengths, and along controls of equal length: random directions, and those of the
folder whose labels were shuffled. Questions are the sample: a direction's own numbers are kept a question, means over
its texts; those of controls are means over questions, for there each control is one draw. The change between the
classes is paired before that mean is taken, on questions that have both: a side of its own.

    measure    what
    gain, cosine, aside    of the change after a block (`subject.downstream.Trail`)
    excited                how far a part's output changes
    change                 of the mean log probability of the answer's tokens, nats
    attributed, frozen     what of that is a part's: by the gradient, and by freezing it
    logit                  the mean change of a token's logit; the token is the part
    resemblance            of the base with the vector minus the base, to the organism minus the base (appendix D)
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from backend.analysis.contrasts import label_responses
from backend.analysis.directions.random_directions import random_direction
from backend.files import Parts
from backend.outcomes import Outcome
from backend.outside import must_be_file, understood
from backend.pipeline import work
from backend.pipeline.folder import StudyFolder
from backend.pipeline.measured import Measurement
from backend.records import BASE, BASELINE, ITSELF, SHUFFLED, Direction, FloatArray, InputError
from backend.study.parquet import MEASURED
from backend.study.responses import scored
from backend.subject.downstream import SEGMENT_NAMES, Follower, Part, Push, Trail
from backend.subject.load import Subject
from backend.subject.trace import Text
from backend.tables.downstream import class_difference

KIND = "downstream"
TOKENS = 20  # whose logits move most, either way
_TRAILS = 2  # changes with what the numbers of a trail are of, so that earlier ones are not taken up again
FEWEST = 2  # questions, below which nothing varies
Row = tuple[Any, ...]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Following:
    """What is followed where: lengths are shares of the activation norm at the direction's layer, ascending."""

    organism: str
    direction: str
    layer: int
    shares: tuple[float, ...] = (0.01, 0.04, 0.2)
    random: int = 10  # random directions beside it
    texts: int = 1  # of each question and class
    judge: str | None = None
    topics: tuple[str, ...] = ()  # of the questions; none: all

    def __post_init__(self) -> None:
        if not self.shares or any(share <= 0 for share in self.shares):
            raise InputError("a direction is followed at lengths above 0: give shares such as 1%,4%,20%")
        object.__setattr__(self, "shares", tuple(sorted(set(self.shares))))


@dataclass(frozen=True)
class _Chosen:
    """One text that is read: its question, and which class it is of."""

    text: Text
    question: str
    side: str


def follow(
    folder: StudyFolder, subject: Subject, asked: Following, outcome: Outcome, name: str, progress: Progress
) -> Measurement:
    """Measure, in the base and the organism: a pass a push and a part, of every text. What was read waits for the rest.

    Raises InputError on a direction, a layer or an organism that is not there, a direction that does not know the
    activation norm, or answers of fewer than two questions.
    """
    stack = {direction.layer: direction for direction in folder.direction(asked.direction)}
    if asked.layer not in stack:
        raise InputError(f"direction {asked.direction!r} has no layer {asked.layer}: choose another --layer")
    direction = stack[asked.layer]
    if direction.activation_norm is None:
        raise InputError(
            f"direction {asked.direction!r} does not know the activation norm at layer {asked.layer}, so no share of "
            "it can be added: extract it again"
        )
    controls = _controls(folder, direction, asked)
    texts = _texts(folder, asked, outcome)
    sizes = [share * direction.activation_norm for share in asked.shares]
    own = [Push(direction, size) for size in sizes]
    beside = [Push(control, size) for size in (sizes[0], sizes[-1]) for control in controls]
    measured = _Measured(asked, controls, outcome, subject.tokenizer)
    readers = tuple(dict.fromkeys((BASE, folder.known(asked.organism))))
    followers = {reader: Follower(subject, reader, asked.layer) for reader in readers}
    largest = [len(own) - 1]
    with Trails(_place(subject, asked, [*own, *beside]), f"following {asked.direction!r}") as trails:
        for chosen, (reader, follower) in product(texts, followers.items()):
            progress(len(trails.keys), len(texts) * len(readers))
            if (key := _key(reader, chosen.text)) not in trails.keys:
                trail = follower.follow(chosen.text, [*own, *beside], freeze=largest, shown=largest)
                trails.add((key, trail))
        progress(len(trails.keys), len(texts) * len(readers))
        found = dict(iter(trails))  # it has keys of its own
        for chosen, (reader, follower) in product(texts, followers.items()):
            measured.add(chosen, reader, follower.parts, found[_key(reader, chosen.text)])
        trails.forget()
    record = {
        **asdict(asked),
        "outcome": outcome.name,
        "positive": outcome.contrast.positive_name,
        "negative": outcome.contrast.negative_name,
        "readers": list(readers),
        "parts": {part.name: [part.kind, part.layer] for follower in followers.values() for part in follower.parts},
        "norm": direction.norm,
        "activation_norm": direction.activation_norm,
        "controls": {control.name: control.origin.kind for control in controls},
        "answers": len(texts),
        "questions": len({chosen.question for chosen in texts}),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Measurement(KIND, name, record, measured.frame())


class Trails(Parts[tuple[str, Trail]]):
    """Trails in parts on disk, each under its reader and response. Arrays only: no pickle."""

    def __init__(self, folder: Path, doing: str) -> None:
        super().__init__(folder, _write, _read, lambda one: one[0], suffix=".npz", doing=doing, size=1)


def _write(out: BinaryIO, trails: Sequence[tuple[str, Trail]]) -> None:
    for key, trail in trails:
        np.savez(out, allow_pickle=False, key=np.array(key), **vars(trail))


def _read(part: Path) -> list[tuple[str, Trail]]:
    must_be_file(part)
    with understood(part, "a trail", "it is made again"), part.open("rb") as stream:
        arrays = dict(np.load(stream, allow_pickle=False))
        return [(str(arrays.pop("key")), Trail(**arrays))]


def _key(reader: str, text: Text) -> str:
    """What one trail is kept under: who read which tokens."""
    tokens = json.dumps([text.prompt_ids, text.answer_ids]).encode()
    return f"{reader} {text.response_id} {hashlib.sha256(tokens).hexdigest()[:12]}"


def _place(subject: Subject, asked: Following, pushes: Sequence[Push]) -> Path:
    """Where trails wait: a folder for all that they depend on but the texts."""
    added = [[push.size, hashlib.sha256(push.direction.vector.tobytes()).hexdigest()] for push in pushes]
    return work.place(KIND, work.fingerprint(subject, [asked.organism], [_TRAILS, asked.layer, added]))


def _controls(folder: StudyFolder, direction: Direction, asked: Following) -> list[Direction]:
    """Random directions, and what the folder has of shuffled labels beside this direction."""
    if direction.origin.kind != ITSELF:
        raise InputError(
            f"{direction.name!r} is a control itself: follow what it stands beside, {direction.origin.like!r}"
        )
    shuffled = [
        each
        for stack in folder.directions().values()
        for each in stack
        if each.layer == direction.layer and (each.origin.kind, each.origin.like) == (SHUFFLED, direction.name)
    ]
    return [*(random_direction(direction, seed) for seed in range(asked.random)), *shuffled]


def _texts(folder: StudyFolder, asked: Following, outcome: Outcome) -> list[_Chosen]:
    """The first answers of both classes to every question that has some."""
    own = [r for r in folder.answers() if r.organism == asked.organism and r.condition == BASELINE and r.answer_ids]
    own = [r for r in own if not asked.topics or r.topic in asked.topics]
    frame = scored(own, folder.scores(), asked.judge or folder.judge)
    labels = dict(label_responses(frame, outcome.contrast).select("response", "label").iter_rows())
    names = {True: outcome.contrast.positive_name, False: outcome.contrast.negative_name}
    taken: dict[tuple[str, bool], list[_Chosen]] = defaultdict(list)
    for r in own:
        side = labels.get(r.id)
        if side is not None and len(r.answer_ids) > r.finished and len(taken[r.question_id, side]) < asked.texts:
            text = Text(r.id, r.prompt_ids, r.answer_ids)
            taken[r.question_id, side].append(_Chosen(text, r.question_id, names[side]))
    if len({question for question, _ in taken}) < FEWEST:
        raise InputError(
            f"the answers of {asked.organism} that are {names[True]} or {names[False]} are to fewer than {FEWEST} "
            "questions: sample and judge answers to more"
        )
    return [chosen for each in taken.values() for chosen in each]


class _Measured:
    """Trails of all texts, brought to means over the texts of a question, and for controls over questions."""

    def __init__(self, asked: Following, controls: Sequence[Direction], outcome: Outcome, tokenizer: Any) -> None:
        self._asked, self._controls, self._outcome, self._tokenizer = asked, controls, outcome, tokenizer
        self._trails: dict[tuple[str, str, str], list[Trail]] = defaultdict(list)  # reader, question, side
        self._parts: dict[str, tuple[Part, ...]] = {}

    def add(self, chosen: _Chosen, reader: str, parts: tuple[Part, ...], trail: Trail) -> None:
        self._parts[reader] = parts
        self._trails[reader, chosen.question, chosen.side].append(trail)

    def frame(self) -> pl.DataFrame:
        """All numbers, in the columns of `MEASURED`."""
        rows = [*self._courses(), *self._shares(), *self._resemblances(), *self._logits()]
        frame = pl.DataFrame(rows, MEASURED, orient="row").filter(pl.col("value").is_finite())
        controls = pl.col("vector").is_in([control.name for control in self._controls])
        keys = [name for name in MEASURED if name not in ("question", "value")]
        own, drawn = frame.filter(~controls), frame.filter(controls)
        named = self._outcome.contrast
        changes = drawn.filter(pl.col("measure") == "change")
        drawn = pl.concat([drawn, class_difference(changes, named.positive_name, named.negative_name)])
        means = drawn.group_by(keys, maintain_order=True).agg(pl.col("value").mean())
        return pl.concat([own, means.with_columns(question=pl.lit("")).select(own.columns)])

    def _pushes(self) -> list[tuple[int, str, float]]:
        """Place, name and share of every push, in the order in which they were followed."""
        shares = self._asked.shares
        named = [(self._asked.direction, share) for share in shares]
        named += [(control.name, share) for share in (shares[0], shares[-1]) for control in self._controls]
        return [(place, *pair) for place, pair in enumerate(named)]

    def _means(self, name: str) -> Iterator[tuple[str, str, FloatArray]]:
        """Reader, question and the mean of an array of the trails over the question's texts."""
        found: dict[tuple[str, str], list[FloatArray]] = defaultdict(list)
        for (reader, question, _), trails in self._trails.items():
            found[reader, question] += [getattr(trail, name) for trail in trails]
        for (reader, question), arrays in found.items():
            yield reader, question, np.mean(arrays, axis=0)

    def _courses(self) -> Iterator[Row]:
        for measure in ("gain", "cosine", "aside"):
            for reader, question, mean in self._means(measure):
                for push, vector, share in self._pushes():
                    if vector != self._asked.direction and share != self._asked.shares[0]:
                        continue  # a control's course is that of the smallest length
                    for at, segment in enumerate(SEGMENT_NAMES):
                        for step, value in enumerate(mean[push, at]):
                            layer = self._asked.layer + step
                            yield measure, vector, reader, "", segment, layer, "", share, question, float(value)
        for reader, question, mean in self._means("excited"):
            for push, vector, share in self._pushes():
                if share not in (self._asked.shares[0], self._asked.shares[-1]):
                    continue
                for part, value in zip(self._parts[reader], mean[push, SEGMENT_NAMES.index("answer")], strict=True):
                    yield "excited", vector, reader, "", "answer", part.layer, part.name, share, question, float(value)

    def _shares(self) -> Iterator[Row]:
        for (reader, question, side), trails in self._trails.items():
            change, attributed, frozen = (
                np.mean([getattr(trail, name) for trail in trails], axis=0)
                for name in ("change", "attributed", "frozen")
            )
            for push, vector, share in self._pushes():
                yield "change", vector, reader, side, "answer", None, "", share, question, float(change[push])
                if share != self._asked.shares[-1]:
                    continue
                for at, part in enumerate(self._parts[reader]):
                    for measure, values in (("attributed", attributed), ("frozen", frozen)):
                        value = float(values[push, at])
                        yield measure, vector, reader, side, "answer", part.layer, part.name, share, question, value

    def _resemblances(self) -> Iterator[Row]:
        """Cosines of a question's mean changes, at the largest length, in the base."""
        largest = self._asked.shares[-1]
        for (reader, question, side), trails in self._trails.items():
            if reader == BASE or (BASE, question, side) not in self._trails:
                continue
            plain = self._trails[BASE, question, side]
            apart = np.mean([a.stream - b.stream for a, b in zip(trails, plain, strict=True)], axis=0)
            moved = np.mean([trail.moved for trail in plain], axis=0)  # (push, layer, d_model)
            for push, vector, share in self._pushes():
                if share != largest:
                    continue
                for step, (a, b) in enumerate(zip(moved[push], apart, strict=True)):
                    size = float(np.linalg.norm(a) * np.linalg.norm(b))
                    cosine = float(a @ b) / size if size else np.nan
                    layer = self._asked.layer + step
                    yield "resemblance", vector, BASE, side, "answer", layer, "", share, question, cosine

    def _logits(self) -> Iterator[Row]:
        """The tokens that the largest length moves most, by their mean over questions."""
        by_reader: dict[str, dict[str, FloatArray]] = defaultdict(dict)
        for reader, question, mean in self._means("pushed"):
            by_reader[reader][question] = mean[0]
        for reader, questions in by_reader.items():
            mean = np.mean(list(questions.values()), axis=0)
            order = np.argsort(mean)
            ends = dict.fromkeys(int(i) for i in (*order[-TOKENS:], *order[:TOKENS]))
            for token, said in zip(ends, _distinct(self._tokenizer, ends), strict=True):
                for question, moved in questions.items():
                    own = self._asked.direction, reader, "", "answer", None, said, self._asked.shares[-1]
                    yield "logit", *own, question, float(moved[token])


def _distinct(tokenizer: Any, tokens: Iterable[int]) -> list[str]:
    """Tokens in words, with their ids where two read alike."""
    tokens = list(tokens)
    words = [tokenizer.decode([token]) for token in tokens]
    return [word if words.count(word) == 1 else f"{word} [{token}]" for word, token in zip(words, tokens, strict=True)]
