"""What a report says beside its numbers: how they were counted, what they cannot carry, and how to use them.

It refuses to know how words are set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from backend.analysis.rates.rates import FEWEST_QUESTIONS, MATTERS, em_rates
from backend.outcomes import Outcome
from backend.records import BASELINE
from backend.tables.claims import MISSING, UNKNOWN, Claim, Evidence
from backend.tables.rates import chosen_by_score, drawn_note

SOURCES = (  # what is built on, and where it is
    ("Convergent Linear Representations of Emergent Misalignment", "arXiv:2506.11618"),
    ("Model Organisms for Emergent Misalignment", "arXiv:2506.11613"),
    ("Emergent Misalignment: Narrow finetuning can produce broadly misaligned LLMs", "arXiv:2502.17424"),
)
RESPONSIBLE = (
    "Organisms here are made to give bad advice, on purpose, to study how that happens and how to undo it. Do not "
    "deploy them, do not act on what they say, and do not publish their answers as if they were anybody's opinion.",
    "A rate in this report is of one model, one set of questions and one judge. It says nothing of other models, "
    "and is no measure of how dangerous a model is.",
)


def methods(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str]]:
    """How the numbers were counted: a name and what it means, one after another."""
    for outcome in outcomes:
        counted = "; ".join(f"{each.title}: {each}" for each in outcome.beside)
        yield outcome.title, f"{counted}. Source: {outcome.source or 'the study'}."
    yield (
        "Rates",
        "Shares of the answers that have every score the outcome needs, in 95 % intervals. Answers to one question "
        "are alike, and the questions are a sample: the interval is the posterior of a beta-binomial model and "
        f"speaks of questions like these. Below {FEWEST_QUESTIONS} questions a change is said of these very "
        "questions alone.",
    )
    yield (
        "Differences",
        "Paired by question. Clear means p < 0.05 for the draw of answers and for the choice of questions (flipped "
        "signs or, of few questions, the model of rates); the 95 % interval then leaves out zero. A fall or a rise is "
        f"ruled out where {100 * MATTERS:.0f} points were possible and the interval leaves them out. All else is "
        "“cannot tell”.",
    )
    yield (
        "Many comparisons",
        "q is Benjamini and Hochberg's over the rows of one table; a difference stands where q < 0.05. Intervals "
        "are of a row alone.",
    )
    yield (
        "Directions",
        "The mean residual stream over the answer tokens of one class minus that of the other, at the output of a "
        "block (paper, section 3.1). λ is how often it is added at its natural length; the share of the activation "
        "norm compares across directions. Beside it stand directions of labels shuffled within questions, and "
        "random ones of the same length. AUCs are of questions that the direction was not made from.",
    )
    yield (
        "Adapters",
        "A rank-1 adapter writes s · B/‖B‖ at every token, with the scalar s = scaling · ‖B‖ · (A·x). Its AUC is "
        "that of the mean scalar over an answer; its effect is the change of a rate when it alone is zeroed.",
    )


def limits(evidence: Evidence, told: Sequence[Sequence[Claim]], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What this study's numbers cannot carry: its own gaps first, then what is true of all."""
    study = evidence.study
    for claims in told:
        for claim in claims:
            if claim.verdict == MISSING:
                yield f"{claim.title}: no data. {claim.said}"
            elif claim.verdict == UNKNOWN:
                yield f"{claim.title}: what was sampled cannot tell."
    plain = evidence.answers.filter(condition=BASELINE)
    for outcome in outcomes:
        few = em_rates(plain, ["organism"], outcomes=[outcome]).filter(pl.col("too_small"))
        if few.height:
            names = "; ".join(f"{name} (n = {n})" for name, n in few.select("organism", "n").iter_rows())
            yield f"{outcome.title}: too few scored answers to say how large the rate is: {names}."
    yield from drawn_note(study, evidence.judge)
    if left := chosen_by_score(study):
        yield f"Left out of every rate, since their answers were chosen by their scores: {', '.join(left)}."
    if without := study.info.get("left_out"):
        yield f"The study holds figures alone, without {', '.join(map(str, without))}: answers cannot be read here."
    report = study.info.get("report")
    if isinstance(report, dict):
        yield from (f"{note}" for note in report.get("notes", ()))
    yield (
        f"Every rate is the judge's ({evidence.judge}), which is wrong at times, and more often of rare answers: "
        "read answers before a rate is believed, and set labels of a second reader beside it."
    )
    yield (
        "A null of few answers is no proof of nothing: with few questions and few hits only large effects can be "
        "seen. Intervals come from a model of how questions differ, and are wrong where some questions always hit "
        "and others never do."
    )
    yield "A direction that moves a rate shows that it is enough, not that the model uses it by itself."
