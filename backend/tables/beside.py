"""Two sides next to each other: the answers of an organism under a condition in one study, and in another or the same.

Questions are one where their ids are equal and their texts are not known to differ, or where their texts are equal.
Over shared questions the difference is paired; without any it is not, and says so. It refuses to know which sides
are worth comparing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from backend.analysis.rates.rates import (
    FEWEST_QUESTIONS,
    SIMILAR_QUESTIONS,
    Rate,
    about_of,
    about_words,
    difference,
    rate,
)
from backend.analysis.rates.unpaired import unpaired_difference
from backend.outcomes import Outcome
from backend.records import InputError
from backend.study import Study
from backend.tables.claims import doubt, percent, points

NEITHER = "no question is shared"


@dataclass(frozen=True, eq=False)
class Beside:
    """Rate a, rate b, and a minus b with its 95 % interval."""

    a: Rate
    b: Rate
    value: float
    low: float
    high: float
    shared: int  # questions of both sides that were scored; 0: nothing is paired
    only: tuple[int, int]  # questions of one side alone, left out where others are shared
    verdict: str | None  # one of VERDICTS; None where nothing is paired

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero; never where few questions stand beside others."""
        return not self.too_few and (self.low > 0 or self.high < 0)

    @property
    def too_few(self) -> bool:
        """Whether nothing is paired and a side has few questions: the two may differ by their questions alone."""
        return not self.shared and self.questions < FEWEST_QUESTIONS

    @property
    def questions(self) -> int:
        """Those of the side with fewer."""
        return self.shared or min(self.a.clusters, self.b.clusters)

    def said(self, names: tuple[str, str], outcome: Outcome, most_of: tuple[int, int] | None = None) -> str:
        """The difference in a sentence, with n, questions, and what is paired; `names` are of the two sides.

        `most_of`: each side was chosen as the most of so many cells, so that no verdict is given.
        """
        rates = (f"{percent(each.value)} of {each.n}" for each in (self.a, self.b))
        one, other = (f"{name} {found}" for name, found in zip(names, rates, strict=True))
        change = f"{one}, {other} answers {outcome.kinds[1]}: {points(self.value, self.low, self.high)}"
        chosen = "" if most_of is None or max(most_of) < 2 else _chosen(*most_of)
        if not self.shared:
            asked = f"{self.a.clusters} questions on one side, {self.b.clusters} others on the other"
            told = chosen or ("" if self.clear else ": no difference is shown")
            if self.too_few:
                change = change.rpartition(" (")[0]  # an interval would be of the questions alone
                told = f": too few questions to compare different ones, {FEWEST_QUESTIONS} a side are needed{chosen}"
            return f"{change}{told}. Unpaired, because {NEITHER}: {asked}; what differs may be the questions."
        left = " and ".join(
            f"{count} asked of {name} alone" for count, name in zip(self.only, names, strict=True) if count
        )
        told = chosen or ("" if self.clear else doubt(self.verdict or "", rise=self.value > 0))
        return (
            f"{change}{told}. Paired by {self.shared} shared question{'s' if self.shared != 1 else ''}"
            f"{f'; left out: {left}' if left else ''}; interval for {about_words(self.shared)}."
        )


def _chosen(here: int, there: int) -> str:
    """Why two rates that are each the most of so many have no verdict."""
    high = "so both are higher by chance" if here == there else "so the one with more is higher by chance"
    told = f"each is the most of its study's cells ({here} and {there}), {high}"
    return f"; {told}, and the interval takes both as chosen beforehand: no verdict"


def same_questions(a: Study, b: Study) -> dict[str, str]:
    """The id in `a` of every question of `b` that `a` asks too, by its id in `b`."""
    ours, theirs = (dict(study.questions().select("id", "text").iter_rows()) for study in (a, b))
    by_text = {_plainly(text): name for name, text in ours.items() if _plainly(text)}
    found = {}
    for name, text in theirs.items():
        known = _plainly(text)
        if name in ours and (not known or not _plainly(ours[name]) or known == _plainly(ours[name])):
            found[name] = name
        elif known in by_text:
            found[name] = by_text[known]
    return found


def _plainly(text: str) -> str:
    return " ".join(text.split()).casefold()


def beside(a: pl.DataFrame, b: pl.DataFrame, outcome: Outcome, same: dict[str, str]) -> Beside:
    """Two tables of responses with scores next to each other; `same` is of `same_questions`.

    Without a shared question either rate is about questions like its own, since what differs may be the questions.
    Raises InputError where a side has no scored answer.
    """
    for rows in (a, b):
        if missing := [name for name in outcome.needs if name not in rows.columns]:
            raise InputError(f"one side has no scores for {' and '.join(missing)}: choose a judge that gave them")
    a, b = (rows.filter(outcome.scored()) for rows in (a, b))
    if a.is_empty() or b.is_empty():
        raise InputError("one side has no scored answers: choose another organism, condition or judge")
    key = pl.col("question_id")
    b = b.with_columns(question_id=key.replace_strict(same, default=pl.lit("\x00") + key, return_dtype=pl.String))
    ours, theirs = set(a["question_id"]), set(b["question_id"])
    shared, only = ours & theirs, (len(ours - theirs), len(theirs - ours))
    if shared:
        gap = difference(a, b, outcome=outcome, about=about_of(len(shared)))
        return Beside(gap.a, gap.b, gap.value, gap.low, gap.high, len(shared), only, gap.verdict)
    one, other = (_rate(rows, outcome) for rows in (a, b))
    return Beside(one, other, *unpaired_difference(one, other), 0, only, None)


def _rate(rows: pl.DataFrame, outcome: Outcome) -> Rate:
    hits, questions = rows.select(outcome.hits())[:, 0].to_numpy(), rows["question_id"].to_numpy()
    return rate(hits, questions, about=SIMILAR_QUESTIONS)


def caveats(judges: tuple[str, str], topics: tuple[Sequence[str], Sequence[str]]) -> tuple[str, ...]:
    """What else differs between two sides than what is compared, in sentences."""
    found = []
    if judges[0] != judges[1]:
        found.append(f"Different judges, {judges[0]} and {judges[1]}: what differs may be the judges.")
    if set(topics[0]) != set(topics[1]):
        one, other = (", ".join(sorted(set(names))) for names in topics)
        found.append(f"Different question sets, {one} and {other}.")
    return tuple(found)
