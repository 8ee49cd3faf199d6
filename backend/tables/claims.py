"""What a claim of the story is, and from what it is told: one sentence with numbers, the few rates behind it, the table
of its figure, and where the page behind it is.

The choices that a claim rests on are fixed beforehand, for every study alike:

which direction    the one under whose edits most answers were sampled, of those whose classes are the outcome's; its
                   organism is the story's
which questions    those the paper publishes its rates on, the first-plot ones, where a study asks them; else all
which intervals    for questions like these; for these very questions below `FEWEST_QUESTIONS` of them, where no result
                   whatever could show a change on questions like these
which strength     the one with most hits while coherence does not clearly fall by more than `MATTERS`; the sentence
                   counts how many there were
which agreement    above all pairs of shuffled labels; where a study has none, above `AGREES`, far past random ones
which ablation     one direction after every block, else the next in `WAYS`; without the attention sink before every
                   token, the paper's form; to zero before to a mean

It refuses to know which claims there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from backend.analysis.conditions.controls import ITSELF, Role, role
from backend.analysis.conditions.describe import describe_stored
from backend.analysis.rates.rates import (
    ALIKE,
    CANNOT_TELL,
    HIGHER,
    LOWER,
    NOT_HIGHER,
    NOT_LOWER,
)
from backend.analysis.rates.rates import FEWEST_QUESTIONS as FEWEST_QUESTIONS
from backend.analysis.rates.rates import about_of as about_of
from backend.analysis.rates.rates import about_words as about_words
from backend.outcomes import EM, Outcome
from backend.records import BASE, BASELINE
from backend.study import Study
from backend.study.origins import controls, origins
from backend.study.outcome_json import outcomes_of
from backend.tables import gains
from backend.tables.rates import drawn_by, with_scores_of
from backend.tables.sweeps import ABLATED, ALONE, EVERYWHERE, STEERED, WISE, WRITES, SweptAnswers, swept

STEPS = {
    "organism": "The organism",
    "direction": "The direction",
    "added": "Adding it",
    "removed": "Taking it out",
    "adapters": "Single adapters",
    "subsets": "Subsets of adapters",
}
SHOWN, NULL, UNKNOWN, MISSING = "shown", "not shown", "cannot tell", "no data"
CLAIMED, BESIDE, CONTROL = "claim", "beside", "control"  # what a bar stands for
PUBLISHED = ("first-plot", "first-plot template")  # the topics of the paper's rates; free questions alone in its first
MOST_BARS = 7  # of a claim
AGREES = 0.5  # cosine of two organisms' directions, where no shuffled labels say what is chance
WAYS = (EVERYWHERE, WISE, ALONE, WRITES)
BARS = {
    "lane": pl.String,
    "kind": pl.String,
    **dict.fromkeys(("value", "low", "high"), pl.Float64),
    "n": pl.Int64,
    "note": pl.String,
}


@dataclass(frozen=True, eq=False)
class Claim:
    """One step of the story: what it answers and what this study's answer is."""

    step: str  # one of STEPS
    outcome: Outcome
    said: str  # the sentence, with numbers
    verdict: str  # SHOWN, NULL, UNKNOWN or MISSING
    figure: str = ""  # the number that stands for it
    about: str = ""  # n, questions, intervals and judge, in words
    bars: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=BARS))  # the few rates behind it
    table: pl.DataFrame = field(default_factory=pl.DataFrame)  # what the figure draws
    drawn: str = ""  # what kind of figure that is, where a step has several
    page: str = ""  # the page behind it
    query: Mapping[str, str | list[str]] = field(default_factory=dict)  # its state
    subject: str = ""  # the direction or the organism it is about
    place: str = ""  # after which blocks the direction was added
    sides: tuple[pl.DataFrame, ...] = ()  # the answers behind the rate that stands for it

    @property
    def title(self) -> str:
        """The step and what is asked."""
        return f"{STEPS[self.step]}: {called(self.outcome)}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What every story of a study is told from, by one judge. `responses` are study.responses of the judge."""

    study: Study
    judge: str
    responses: pl.DataFrame

    @cached_property
    def answers(self) -> pl.DataFrame:
        """Those that rates are of, without their texts."""
        return with_scores_of(self.study, self.responses).drop("text", "question")

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What the study asks."""
        return outcomes_of(self.study.info)

    @cached_property
    def recorded(self) -> pl.DataFrame:
        """What every recorded condition of gains did."""
        return gains.recorded(self.study)

    @cached_property
    def roles(self) -> dict[str, tuple[Role, str | None]]:
        """What every direction stands for, and its positive class where its provenance says one; the stored first."""
        study = self.study
        known, declared = origins(study), controls(study)
        stored = study.directions().unique("name", keep="first", maintain_order=True)
        said = {
            name: json.loads(text).get("positive") for name, text in stored.select("name", "provenance").iter_rows()
        }
        worn = set(study.organisms()["organism"])
        names = [name for name in dict.fromkeys([*said, *known]) if name not in worn]
        return {name: (role(name, known, declared), said.get(name)) for name in names}

    @cached_property
    def whole(self) -> dict[tuple[str, ...], SweptAnswers]:
        """The sweeps as their pages have them, by kinds."""
        return {kinds: swept(self.study, self.responses, kinds) for kinds in (STEERED, ABLATED)}

    @cached_property
    def read_organism(self) -> str | None:
        """An organism that the study is about where no direction says: its reader, or the first that is no control."""
        names = [name for name in self.study.organisms()["organism"] if name not in (BASE, *controls(self.study))]
        asked = [self.study.info.get("reader"), *self.study.readers(), *names]
        return next((name for name in asked if name in names), None)

    def directions_of(self, outcome: Outcome) -> dict[str, str]:
        """The directions between the outcome's classes, with their organisms, in the study's order.

        A provenance that names no class (an imported direction) is of the study's first outcome, and one that names no
        organism of the one that the study is about.
        """
        found = {}
        for name, (each, positive) in self.roles.items():
            first = self.outcomes[0] == outcome
            fits = first if positive is None else positive.partition(":")[0] == outcome.contrast.positive_name
            owner = each.owner or self.read_organism
            if each.kind == ITSELF and owner not in (None, BASE) and fits:
                found[name] = str(owner)
        return found


@dataclass(frozen=True, eq=False)
class Telling:
    """What one outcome's story is made of."""

    evidence: Evidence
    outcome: Outcome

    @property
    def study(self) -> Study:
        """The study it is told of."""
        return self.evidence.study

    @property
    def answers(self) -> pl.DataFrame:
        """Those that rates are of, without their texts."""
        return self.evidence.answers

    @cached_property
    def directions(self) -> dict[str, str]:
        """The directions between the outcome's classes, controls left out, with the organism each was taken from."""
        return self.evidence.directions_of(self.outcome)

    @cached_property
    def direction(self) -> str | None:
        """The direction of the story."""
        edited = self._edited.group_by("direction").agg(pl.col("len").sum())
        counts = dict(edited.iter_rows())
        known = {name: counts.get(name, 0) for name in self.directions}
        best = max(known, key=known.__getitem__, default=None)
        if best is not None and not known[best]:  # nothing was edited: that of the organism read
            best = next((name for name, owner in self.directions.items() if owner == self.evidence.read_organism), best)
        return best

    @property
    def along(self) -> str:
        """The name of the direction; empty, which no direction is called, where there is none."""
        return self.direction or ""

    @cached_property
    def organism(self) -> str | None:
        """The organism of the story; None where the study has the base alone."""
        return self.directions[self.direction] if self.direction is not None else self.evidence.read_organism

    @cached_property
    def _edited(self) -> pl.DataFrame:
        """[kind, direction, condition, beside, len]: answers under edits along one direction each."""
        baselines = self.study.info.get("baselines") or {}
        did = self._described.filter(pl.col("kind").is_in([*STEERED, *ABLATED])).drop_nulls("direction")
        counts = self.answers.group_by("condition").len()
        beside = pl.col("condition").replace_strict(baselines, default=BASELINE) if baselines else pl.lit(BASELINE)
        return did.join(counts, on="condition", how="inner", maintain_order="left").with_columns(beside=beside)

    @cached_property
    def _described(self) -> pl.DataFrame:
        return describe_stored(self.study.conditions(), self.study.info.get("settings")).select(
            "condition", "kind", "direction"
        )

    def sweep_of(self, kinds: tuple[str, ...]) -> SweptAnswers:
        """The sweep of some kinds, at the length of the answers under the story's direction."""
        baseline = self._baseline(kinds)
        if baseline is None:
            return self.evidence.whole[kinds]
        if kinds not in self._sweeps:
            self._sweeps[kinds] = swept(self.study, self.evidence.responses, kinds, baseline)
        return self._sweeps[kinds]

    def _baseline(self, kinds: tuple[str, ...]) -> str | None:
        """What answers under the story's direction are compared with; None where the sweep does so by itself."""
        own = self._edited.filter(pl.col("kind").is_in(kinds), direction=self.along)
        whole = self.evidence.whole[kinds]
        if own.is_empty() or whole.answers["condition"].is_in(own["condition"].implode()).any():
            return None
        return str(own.group_by("beside").agg(pl.col("len").sum()).sort("len")["beside"][-1])

    def compared(self, kinds: tuple[str, ...], page: str) -> dict[str, str]:
        """What the page of these edits is to compare with, for a link; empty where it does so by itself."""
        baseline = self._baseline(kinds)
        return {} if baseline is None else {f"{page}_baseline": baseline}

    @cached_property
    def _sweeps(self) -> dict[tuple[str, ...], SweptAnswers]:
        return {}

    def link(self, page: str, **query: str | list[str]) -> dict[str, Any]:
        """page and query of a claim, with the judge and the outcome where they are not the first."""
        study, said = self.study, dict(query)
        if (
            page in ("steering", "ablation", "responses", "scaled_adapters")
            and study.judges()[0] != self.evidence.judge
        ):
            said["judge"] = self.evidence.judge
        if page not in ("scaled_adapters", "convergence") and self.evidence.outcomes[0] != self.outcome:
            said["outcome"] = self.outcome.name
        return {"page": page, "query": {"study": study.name, **said}}

    def behind(self, n: int, topics: Sequence[str], questions: int) -> str:
        """n, questions, intervals and judge in words."""
        return (
            f"n = {n:,} answers to {asked_of(questions, topics)}; 95 % intervals for {about_words(questions)}; judge "
            f"{self.evidence.judge}"
        )


def told_outcomes(evidence: Evidence, asked: Outcome | None = None) -> list[Outcome]:
    """The outcomes that the story is told of, by one judge: a positive control before what the study is about.

    The control is `asked`, or the other outcome that directions of most organisms were made for.
    """
    metrics = evidence.study.metrics(evidence.judge)
    scored = [each for each in evidence.outcomes if set(each.needs) <= set(metrics)]
    if not scored or drawn_by(evidence.study, evidence.judge) is not None:
        return []
    first, others = scored[0], scored[1:]
    if asked in others:
        return [asked, first]
    made = {each.name: len(set(evidence.directions_of(each).values())) for each in others}
    lead = max(others, key=lambda each: made[each.name], default=None)
    return [lead, first] if lead is not None and made[lead.name] else [first]


# --- words -----------------------------------------------------------------------------------------------------------


def called(outcome: Outcome) -> str:
    """The outcome in few words."""
    return "EM" if outcome == EM else outcome.title


def percent(value: float | None) -> str:
    """A share in words."""
    return "?" if value is None else f"{100 * value:.1f} %"


def with_interval(value: float, low: float, high: float) -> str:
    """A share with its interval in words."""
    return f"{percent(value)} ({100 * low:.1f}–{100 * high:.1f})"


def points(value: float, low: float, high: float) -> str:
    """A difference of shares with its interval in words."""
    ends = (f"{100 * each:+.1f}".replace("-", "−") for each in (value, low, high))
    return "{} points ({} to {})".format(*ends)


def asked_of(questions: int, topics: Sequence[str]) -> str:
    """How many questions of which sets, in words."""
    return f"{questions} question{'s' if questions != 1 else ''} ({', '.join(topics)})"


def unit_of_strength(cells: pl.DataFrame) -> str:
    """The column that strengths are told by: λ where it is a whole number, as the paper's, or all there is.

    Else it is the share of the activation norm, which compares across directions.
    """
    known = cells["relative"].null_count() == 0
    whole = all(float(value).is_integer() for value in cells["strength"].drop_nulls())
    return "strength" if whole or not known else "relative"


def told_strength(row: Mapping[str, Any], unit: str) -> str:
    """How much was added, in few words."""
    if row[unit] is None:
        return "added"
    return f"λ {row[unit]:.3g}" if unit == "strength" else f"{100 * row[unit]:.0f} % of the norm"


def published(topics: Sequence[str], *, free: bool = False) -> list[str]:
    """Of these topics those that the paper publishes rates on, `free` ones without templates; all where none is."""
    wanted = PUBLISHED[:1] if free and PUBLISHED[0] in topics else PUBLISHED
    return [name for name in wanted if name in topics] or sorted(topics)


def doubt(verdict: str, *, rise: bool) -> str:
    """What is to be added to a change that may be nothing; empty where it is the change that was looked for."""
    if verdict == (HIGHER if rise else LOWER):
        return ""
    if verdict == (LOWER if rise else HIGHER):
        return ", the other way"
    ruled_out = verdict in ((NOT_HIGHER, ALIKE) if rise else (NOT_LOWER, ALIKE))
    word = "rise" if rise else "fall"
    told = "one of ten points is ruled out" if ruled_out else "whether there is one cannot be told"
    return f": no {word} is shown, and {told}"


def verdict_of(verdict: str | None, *, rise: bool, stands: bool | None = True) -> str:
    """SHOWN, NULL or UNKNOWN of one of VERDICTS; `stands` is whether it does among all that were compared."""
    if verdict is None:
        return UNKNOWN
    if verdict == (HIGHER if rise else LOWER):
        return SHOWN if stands else UNKNOWN
    nothing = (NOT_HIGHER, ALIKE, LOWER) if rise else (NOT_LOWER, ALIKE, HIGHER)
    return NULL if verdict in nothing and verdict != CANNOT_TELL else UNKNOWN


def bar(lane: str, row: Mapping[str, Any], kind: str, note: str = "") -> tuple[Any, ...]:
    """A row of BARS from one of a table of rates."""
    return lane, kind, row["value"], row["low"], row["high"], row.get("n"), note


def bars_of(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """A table of BARS."""
    return pl.DataFrame(rows, schema=BARS, orient="row")


def missing(of: Telling, step: str, why: str, how: str) -> Claim:
    """The claim of a step without data: why there is none, and the command that makes it."""
    return Claim(step, of.outcome, f"{why} Make it with: {how}", MISSING)


def only_row(rows: pl.DataFrame) -> dict[str, Any] | None:
    """The first row, None where there is none."""
    return rows.row(0, named=True) if rows.height else None


def after(row: Mapping[str, Any]) -> dict[str, Any]:
    """The rate after an edit, of a row of `changes`."""
    return {"value": row["after"], "low": row["after_low"], "high": row["after_high"], "n": row["n_after"]}


def as_command(study: Study, words: str) -> str:
    """A command on the folder that the study was built from, as it is typed."""
    folder = study.info.get("folder")
    return f"python -m backend {words} --folder {folder or 'FOLDER'}"


def unedited(answers: pl.DataFrame, study: Study, organism: str, like: str | None = None) -> pl.DataFrame:
    """An organism's answers without an edit: those of the shortest length that holds the answers of `like`."""
    plain = [BASELINE, *dict.fromkeys((study.info.get("baselines") or {}).values())]
    own = answers.filter(pl.col("organism") == organism, pl.col("condition").is_in(plain))
    if like is None or own.is_empty():
        return own.filter(pl.col("condition") == BASELINE)
    other = answers.filter(pl.col("organism") == like, pl.col("condition") == BASELINE)["n_answer"].max()
    lengths = own.group_by("condition", maintain_order=True).agg(pl.col("n_answer").max())
    long = lengths.filter(pl.col("n_answer") >= (other or 0)).sort("n_answer", maintain_order=True)
    return own.filter(pl.col("condition") == (long["condition"][0] if long.height else BASELINE))
