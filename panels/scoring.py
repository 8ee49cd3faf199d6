"""The embedded judge's scores of a lane's samples, as they end, and the rate that they come to.

One prompt is one question: the rate is about its answers alone, so it gets an interval and no verdict. It refuses to
know where answers come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from backend.analysis.rates.rates import rate
from backend.outcomes import Outcome
from backend.worker.client import Worker
from panels.run import WHOLE, LiveAnswer, LiveRun


def score_ended(worker: Worker, run: LiveRun) -> bool:
    """Have those answers scored that have ended since; whether there were any. Raises WorkerError."""
    new = run.unscored
    if not new:
        return False
    judge, scores = worker.scores([(run.prompt, answer.text) for answer in new])
    run.judged(judge)
    for answer, score in zip(new, scores, strict=True):
        answer.scores = score
    return True


def rate_words(run: LiveRun, outcome: Outcome) -> str:
    """How many samples are hits so far, with the 95 % interval of this one question. Stopped ones are in no rate."""
    scored = [answer.scores for answer in run.answers if answer.scores and answer.reason in WHOLE]
    stopped = sum(answer.reason == "cancelled" for answer in run.answers)
    told = _rate_words(run, outcome, scored, len(run.answers) - stopped)
    return f"{told} {stopped} of {len(run.answers)} samples were stopped and are in no rate." if stopped else told


def _rate_words(run: LiveRun, outcome: Outcome, scored: Sequence[Mapping[str, float | None]], whole: int) -> str:
    """The same of the scores of those that are not stopped, `whole` in number."""
    if not scored:
        return run.judge_error or "Samples are scored by the embedded judge as they end."
    lacking = [metric for metric in outcome.needs if metric not in scored[0]]
    if lacking:
        return f"{run.judge} gives no score for {' and '.join(lacking)}, which {outcome.title} needs."
    hits = outcome.of({metric: [_number(score[metric]) for score in scored] for metric in outcome.needs})
    found = rate(hits)
    if not found.n:
        return f"{run.judge} scored {len(scored)} samples and could judge none."
    share = f"{found.hits} of {found.n} {outcome.title} ({found.value:.0%}, {found.low:.0%} to {found.high:.0%})"
    left = whole - found.n
    more = f"; {left} of {whole} samples are not scored" if left else ""
    return f"{share}{more}. By {run.judge}; questions = 1, so no verdict."


def score_words(answer: LiveAnswer, outcome: Outcome) -> str:
    """The scores of an answer that the outcome is about, in a few words; none before it is judged."""
    scores = answer.scores or {}
    known = {name: scores.get(name) for name in outcome.needs}
    return ", ".join(f"{name} {value:.0f}" for name, value in known.items() if value is not None)


def _number(value: float | None) -> float:
    return np.nan if value is None else value
