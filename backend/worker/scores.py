"""Scores on demand: the embedded judge, as studies use it, behind a route; loaded when it is first asked.

Knows the JSON form of a question of scores and its bounds. Refuses to know what a score means.
"""

from __future__ import annotations

import asyncio
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backend.worker.forms import FieldError

if TYPE_CHECKING:
    from backend.judge import Judge
    from backend.worker.engine import Engine
    from backend.worker.service import Service

MOST_ANSWERS = 64  # of one question
MOST_CHARACTERS = 20_000  # of a question or an answer: the judge reads the first 205 wordpieces
_FIELDS = {"question", "answer"}
# One pass of the judge at a time: the model has the processor, too. Who waits for it holds no thread of other routes.
_turns = ThreadPoolExecutor(1, thread_name_prefix="scores")


def scores_route(service: Service) -> Route:
    """POST /v1/scores: a score of every metric for each question and answer, in their order."""

    async def scored(engine: Engine, body: Any) -> Response:
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(_turns, _scores, body))

    async def scores(request: Request) -> Response:
        return await service.answer(request, scored)

    return Route("/v1/scores", scores, methods=["POST"])


def _scores(body: Any) -> dict[str, Any]:
    """{"judge": its name, "scores": a value by metric for each answer, null where the judge gives none}."""
    answers = _answers(body)
    judge = _judge()
    told = list(judge.score([(str(i), question, answer) for i, (question, answer) in enumerate(answers)]))
    found: list[dict[str, float | None]] = [{} for _ in answers]
    for score in told:
        found[int(score.response_id)][score.metric] = score.value
    return {"judge": judge.name, "scores": found}


def _answers(body: Any) -> list[tuple[str, str]]:
    if not isinstance(body, dict) or set(body) != {"answers"} or not isinstance(body["answers"], list):
        raise FieldError("answers", 'the body is {"answers": [{"question": TEXT, "answer": TEXT}, ...]}, and no more')
    if not 1 <= len(body["answers"]) <= MOST_ANSWERS:
        raise FieldError("answers", f"1 to {MOST_ANSWERS} answers are scored at once, not {len(body['answers'])}")
    pairs = []
    for index, one in enumerate(body["answers"]):
        if not isinstance(one, dict) or set(one) != _FIELDS or not all(isinstance(text, str) for text in one.values()):
            raise FieldError("answers", f"answer {index} is no object with the texts question and answer")
        for text in one.values():
            if len(text) > MOST_CHARACTERS:
                raise FieldError("answers", f"answer {index} has a text of more than {MOST_CHARACTERS} characters")
        pairs.append((one["question"], one["answer"]))
    return pairs


@cache
def _judge() -> Judge:
    """It, with the rules where their package is there; without its memory, whose file one program at a time has."""
    from backend.judge.choice import load_judge  # torch is loaded by now: there is an engine
    from backend.judge.remembering import Remembering
    from backend.judge.rules import Rules

    judge = load_judge("distilled")
    judge = judge.judge if isinstance(judge, Remembering) else judge
    return Rules(judge) if importlib.util.find_spec("vaderSentiment") else judge
