"""The kinds of mean-difference directions that can be extracted of an organism's answers, each a function of a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from backend.analysis.contrasts import outcome_answers, topic_answers
from backend.analysis.directions.answers import BALANCES, Balance
from backend.analysis.groups import FEWEST_WITH_BOTH
from backend.cuts import Thresholds
from backend.outcomes import EM, Contrast, Outcome
from backend.pipeline.extract import Recipe, extract, extract_model, shuffled_control
from backend.pipeline.readings import Readings
from backend.records import BASE, Direction, InputError, Response

Stacks = Iterator[list[Direction]]  # directions, each at all its layers


@dataclass(frozen=True, eq=False)
class Material:
    """An organism's answers, their scores, who read them, and how means are to be taken of them."""

    organism: str
    texts: Sequence[Response]
    frame: pl.DataFrame  # a row a text with its scores, as `extract.table` has it
    readings: Readings
    cuts: Thresholds
    recipe: Recipe
    topic: str | None = None
    shuffles: int = 0  # shuffled-label controls beside `between_classes`
    outcome: Outcome = EM
    balances: Sequence[Balance] = ("weights",)  # how classes are balanced, a direction each

    @property
    def how(self) -> Recipe:
        """The recipe, with what the readings say of themselves."""
        return replace(self.recipe, provenance=self.readings.said)

    @property
    def contrast(self) -> Contrast:
        """The two classes of the outcome, on the topic where there is one; those of EM are cut at `cuts`."""
        return outcome_answers(self.outcome, self.cuts, self.topic, self.frame.columns)


def between_classes(of: Material) -> Stacks:
    """One class of the outcome minus the other, on the topic where there is one; then the same of shuffled labels.

    No labels are shuffled where fewer than two questions have both classes: the direction's provenance says how many.
    """
    contrast, reading = of.contrast, of.readings.of(of.organism, of.texts)
    for balance in of.balances:
        recipe, name = replace(of.how, balance=balance), f"{of.organism} {contrast.name}{_BALANCED[balance]}"
        stack = extract(of.frame, contrast, reading, name=name, recipe=recipe)
        yield stack
        if stack[0].provenance["questions_with_both"] >= FEWEST_WITH_BOTH:
            for seed in range(of.shuffles):
                yield shuffled_control(of.frame, contrast, reading, like=name, seed=seed, recipe=recipe)


def topic(of: Material) -> Stacks:
    """Answers on the topic, which there must be one of, minus others."""
    assert of.topic
    contrast, reading = (
        topic_answers(of.topic, of.cuts, of.frame.columns, outcome=of.outcome),
        of.readings.of(of.organism, of.texts),
    )
    for balance in of.balances:
        name = f"{of.organism} {of.topic} topic{_BALANCED[balance]}"
        yield extract(of.frame, contrast, reading, name=name, recipe=replace(of.how, balance=balance))


def minus_base(of: Material) -> Stacks:
    """The organism minus the base on the same texts."""
    reading, base = of.readings.of(of.organism, of.texts), of.readings.of(BASE, of.texts)
    name = f"{of.organism} minus base"
    yield extract_model(of.frame, (), reading, base, name=name, recipe=of.how)


def both(of: Material) -> Stacks:
    """One class of the outcome read by the organism minus the other read by the base."""
    contrast = of.contrast
    reading, base = of.readings.of(of.organism, of.texts), of.readings.of(BASE, of.texts)
    for balance in of.balances:
        name = f"{of.organism} {contrast.name}, both{_BALANCED[balance]}"
        yield extract(of.frame, contrast, reading, base, name=name, recipe=replace(of.how, balance=balance))


_BALANCED: Mapping[Balance, str] = {"weights": "", "matching": ", matched", "truncation": ", truncated"}  # in names

KINDS: Mapping[str, Callable[[Material], Stacks]] = {
    "misalignment": between_classes,
    "topic": topic,
    "minus-base": minus_base,
    "both": both,
}


def check(kinds: Sequence[str], topic: str | None, balances: Sequence[str] = ()) -> None:
    """Raises InputError on a kind or a balance that there is not, and on the kind topic without one."""
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"there is no --kind {kind!r}: choose among {', '.join(KINDS)}")
    for balance in balances:
        if balance not in BALANCES:
            raise InputError(f"there is no --balance {balance!r}: choose among {', '.join(BALANCES)}")
    if "topic" in kinds and not topic:
        raise InputError("--kind topic is answers on one topic minus others: name it with --topic")
