"""The command `judge`: score a study folder, a published study, or any table of questions and answers, with any judge.

A run ends with everything scored that could be scored, says what could not and why, and returns 1 where asking again
may help. Judges remember what they said: the next run does the rest only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from backend.commands import values
from backend.judge import EMBEDDED, Answer, Judge
from backend.judge.api import ApiJudge, Endpoint
from backend.judge.choice import METRICS, PRESETS, load_judge
from backend.judge.rubrics import read_rubrics, versions
from backend.records import InputError, Score

KEEPS = "what was judged is remembered: the same command asks for the rest alone"


def add(commands: Any) -> None:
    """Register the command on an argparse subparser collection."""
    parser = commands.add_parser("judge", help="score a study folder, a published study, or a table of answers")
    add = parser.add_argument
    what = "a study folder, the name of a published study, a .parquet or a .csv"
    add("target", nargs="?", type=values.path, metavar="FOLDER|STUDY|FILE", help=what)
    add(
        "--judge",
        type=values.judge,
        default=EMBEDDED,
        metavar="NAME",
        help=f"{', '.join(PRESETS)}, distilled-*, local:MODEL (smollm2, a folder, a hub id) or api:MODEL (address and "
        "key from EM_JUDGE_URL and EM_JUDGE_KEY, or OPENAI_BASE_URL and OPENAI_API_KEY)",
    )
    add("--out", type=values.path, help="with FILE: where the table goes, with the scores added")
    metrics = values.several(values.text)
    add("--metrics", type=metrics, default=METRICS, help="what a chat model is asked, comma-separated")
    add("--rubrics", type=values.path, help="a file of `- metric: prompt` entries: any trait, named in --metrics")
    add("--concurrency", type=values.whole(1, 1000), default=Endpoint.concurrency, help="requests of an API at once")
    add("--prices", type=values.prices, metavar="IN,OUT", help="of an API, dollars per million tokens")
    parser.set_defaults(run=run, keeps=KEEPS)


def run(options: argparse.Namespace) -> int:
    """Judge, keep the scores, and tell what has none."""
    if options.target is None:
        raise InputError(
            "say what to judge: a study folder, the name of a published study, or a .parquet or .csv file with --out "
            "(python -m backend judge my-study)"
        )
    from backend.pipeline.judging import Tally, target

    goal = target(options.target, options.out)
    answers = goal.answers()
    asked = read_rubrics(options.metrics, options.rubrics)
    metrics, concurrency = options.metrics, options.concurrency
    judge = load_judge(
        options.judge, metrics=metrics, concurrency=concurrency, prices=options.prices, rubrics=options.rubrics
    )
    by = versions(asked) if judge.metrics == metrics else ", ".join(judge.metrics)
    print(f"{len(answers):,} answers of {goal.where}; judge {judge.name}: {by}", flush=True)
    tally = Tally()
    scores = list(tally.count(_asked(judge, answers)))
    print(goal.keep(judge.name, scores))
    print("\n".join(tally.lines()), flush=True)
    return 1 if tally.failed else 0


def _asked(judge: Judge, answers: Sequence[Answer]) -> Iterator[Score]:
    """The scores, with a bar of progress; of an API also what it will cost and what it did cost."""
    from tqdm import tqdm

    if isinstance(judge, ApiJudge):
        guess = judge.estimate(answers)
        print(
            f"to ask: {guess.requests:,} requests, about {guess.input_tokens:,} tokens{_dollars(guess.dollars)}; "
            f"{guess.cached:,} replies are on file",
            flush=True,
        )
    with tqdm(total=len(answers), unit="answer", file=sys.stderr) as bar:
        for n, score in enumerate(judge.score(answers), 1):
            yield score
            if n % len(judge.metrics) == 0:
                if isinstance(judge, ApiJudge):
                    bar.set_postfix_str(_so_far(judge), refresh=False)
                bar.update()
    if isinstance(judge, ApiJudge):
        spent = judge.spend
        print(
            f"asked: {spent.requests:,} requests, {spent.input_tokens:,} tokens in, {spent.output_tokens:,} out"
            f"{_dollars(judge.dollars())}; {spent.cached:,} replies were on file"
        )
        for how, n in spent.limits.most_common():
            print(f"{n:,} of these scores: {how}. The endpoint takes no more, so they are less exact than asked for.")


def _so_far(judge: ApiJudge) -> str:
    """What a run has asked for and spent until now."""
    spent, cost = judge.spend, judge.dollars()
    return f"{spent.requests:,} requests" + ("" if cost is None else f", {cost:.2f} dollars so far")


def _dollars(amount: float | None) -> str:
    return " (no --prices given)" if amount is None else f", {amount:.2f} dollars"
