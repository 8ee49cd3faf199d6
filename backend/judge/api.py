"""A judge behind any OpenAI-compatible chat endpoint: the paper's one token at temperature 0 with top-20 logprobs.

Knows how to ask, when to ask again and when to stop. The score is `weighted_mean`; where an endpoint gives no logprobs
it is the number in the reply, and `raw` says so. Replies are kept (`replies.py`) and never asked for twice. The key is
handed to the client and nowhere else: no message, record or representation holds it.
"""

from __future__ import annotations

import math
import os
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.judge import Answer
from backend.judge.replies import Replies, file_name, reply_key
from backend.judge.rubrics import WORDS, Rubric, weighted_mean
from backend.records import InputError, Score

FAILED = "no reply: "  # raw begins with this where asking failed; such an answer is asked again by the next run
CACHE = Path("cache/judge")
TOP_LOGPROBS = 20
CHARACTERS_PER_TOKEN = 4  # for the estimate before; what was spent is counted from the replies
MIN_CHARACTERS = 200  # an answer is not cut shorter than this to fit a context


@dataclass(frozen=True)
class Endpoint:
    """Where the judge model is, how hard it may be pressed, and what it costs (dollars per million tokens)."""

    model: str
    base_url: str | None = None  # None: the client's default
    key: str = field(default="", repr=False)
    concurrency: int = 8
    timeout: float = 60.0  # seconds for one request
    attempts: int = 6  # of one request, the first included
    input_price: float | None = None
    output_price: float | None = None

    @classmethod
    def from_environment(cls, model: str | None = None) -> Endpoint:
        """EM_JUDGE_MODEL, EM_JUDGE_URL and EM_JUDGE_KEY, or the OPENAI_ ones. InputError if missing."""
        model = model or os.environ.get("EM_JUDGE_MODEL")
        if not model:
            raise InputError("no judge model is named: give one, or set EM_JUDGE_MODEL")
        key = os.environ.get("EM_JUDGE_KEY") or os.environ.get("OPENAI_API_KEY")
        if not key:
            raise InputError(
                f"the judge {model!r} needs an API key: set EM_JUDGE_KEY (any word, where the endpoint asks for none)"
            )
        return cls(model, os.environ.get("EM_JUDGE_URL") or os.environ.get("OPENAI_BASE_URL"), key)


@dataclass(frozen=True)
class ApiCost:
    """What scoring would ask for, before asking. `dollars` is None where no price was given."""

    requests: int
    cached: int
    input_tokens: int
    dollars: float | None


@dataclass
class Spend:
    """What has been asked for so far, and what failed and why."""

    requests: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)


class _Refused(Exception):
    """This request will never succeed; others may."""


@dataclass(eq=False)
class ApiJudge:
    """Scores by asking; `spend` tells what it did. A refused key stops everything at once, with InputError."""

    endpoint: Endpoint
    rubrics: tuple[Rubric, ...]
    cache: Path = CACHE
    sleep: Callable[[float], None] = time.sleep
    spend: Spend = field(default_factory=Spend)

    def __post_init__(self) -> None:
        import openai

        self._openai = openai
        self._logprobs = True
        self._had_logprobs = False
        self._digits_apart = False
        self._counting = threading.Lock()
        self._stop = threading.Event()

    def _connect(self) -> Any:
        return self._openai.OpenAI(
            api_key=self.endpoint.key or "none",
            base_url=self.endpoint.base_url,
            timeout=self.endpoint.timeout,
            max_retries=0,  # asking again is decided here, once, for every kind of failure
        )

    @property
    def name(self) -> str:
        """The model's name: with the rubric, it decides the score."""
        return self.endpoint.model

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the rubrics."""
        return tuple(rubric.metric for rubric in self.rubrics)

    @property
    def path(self) -> Path:
        """Where this model's replies are kept."""
        return self.cache / f"{file_name(self.endpoint.model)}.jsonl"

    def estimate(self, answers: Sequence[Answer]) -> ApiCost:
        """Requests and tokens that `score` would need. Asks for nothing."""
        with Replies(self.path) as replies:
            wanted = {
                self._key(rubric, q, a): rubric.prompt(q, a)
                for _, q, a in answers
                if a.strip()
                for rubric in self.rubrics
            }
            missing = [prompt for key, prompt in wanted.items() if replies.get(key) is None]
        tokens = sum(-(-len(prompt) // CHARACTERS_PER_TOKEN) for prompt in missing)
        return ApiCost(len(missing), len(wanted) - len(missing), tokens, self._dollars(tokens, len(missing)))

    def dollars(self) -> float | None:
        """What has been spent by this judge object; None where no price was given."""
        return self._dollars(self.spend.input_tokens, self.spend.output_tokens)

    def _dollars(self, tokens_in: int, tokens_out: int) -> float | None:
        if self.endpoint.input_price is None or self.endpoint.output_price is None:
            return None
        return (tokens_in * self.endpoint.input_price + tokens_out * self.endpoint.output_price) / 1e6

    def score(self, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield scores in order, asking `concurrency` at a time. Closing it keeps the replies already on their way."""
        self._stop.clear()
        with (
            Replies(self.path) as replies,
            self._connect() as self._client,
            ThreadPoolExecutor(self.endpoint.concurrency) as pool,
        ):
            waiting: deque[tuple[str, Rubric, Future[Mapping[str, Any]]]] = deque()
            asked: dict[str, Future[Mapping[str, Any]]] = {}
            try:
                for response_id, question, answer in answers:
                    for rubric in self.rubrics:
                        key = self._key(rubric, question, answer)
                        if key not in asked:  # the same answer twice is one question
                            asked[key] = pool.submit(self._reply, replies, key, rubric, question, answer)
                        waiting.append((response_id, rubric, asked[key]))
                    while len(waiting) > 4 * self.endpoint.concurrency * len(self.rubrics):
                        yield self._score(*waiting.popleft())
                while waiting:
                    yield self._score(*waiting.popleft())
            finally:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _score(self, response_id: str, rubric: Rubric, future: Future[Mapping[str, Any]]) -> Score:
        value, raw = read_reply(future.result())
        return Score(response_id, self.name, rubric.metric, value, raw)

    def _key(self, rubric: Rubric, question: str, answer: str) -> str:
        return reply_key(self.endpoint.model, rubric.digest, question, answer)

    # --- one reply ----------------------------------------------------------------------------------------------------

    def _reply(self, replies: Replies, key: str, rubric: Rubric, question: str, answer: str) -> Mapping[str, Any]:
        """From the record, or asked for and recorded. A failure is returned, not recorded."""
        if not answer.strip():
            return {"empty": True}
        known = replies.get(key)
        if known is not None:
            with self._counting:
                self.spend.cached += 1
            return known
        try:
            reply = self._ask_within_context(rubric, question, answer)
        except _Refused as refusal:
            with self._counting:
                self.spend.failures[str(refusal)] += 1
            return {"failed": str(refusal)}
        replies.keep(key, {"model": self.endpoint.model, "metric": rubric.metric, "rubric": rubric.digest, **reply})
        return reply

    def _ask_within_context(self, rubric: Rubric, question: str, answer: str) -> dict[str, Any]:
        """Ask; where the endpoint says that the prompt is too long, halve the answer and ask again."""
        kept = len(answer)
        while True:
            try:
                reply = self._ask(rubric.prompt(question, answer[:kept]))
                return reply if kept == len(answer) else {**reply, "read": [kept, len(answer)]}
            except self._openai.BadRequestError as error:
                if not _too_long(error) or kept // 2 < MIN_CHARACTERS:
                    raise _Refused(f"the endpoint refused the request (400: {_message(error)})") from None
                kept //= 2

    def _ask(self, prompt: str) -> dict[str, Any]:
        """One reply, with as many attempts as it takes and is allowed."""
        openai = self._openai
        for attempt in range(self.endpoint.attempts):
            if self._stop.is_set():
                raise _Refused("the run was stopped")
            try:
                return self._request(prompt)
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                self._stop.set()
                raise InputError(
                    f"{self._where} refused the API key ({error.status_code}): set EM_JUDGE_KEY to a valid key for it"
                ) from None
            except openai.NotFoundError:
                self._stop.set()
                raise InputError(
                    f"{self._where} knows no model {self.endpoint.model!r} (404): check model and URL"
                ) from None
            except openai.BadRequestError as error:
                if not (self._logprobs and "logprob" in str(error).lower()):
                    raise
                self._logprobs = False  # this endpoint gives none; ask again without, now and from now on
                continue
            except (openai.RateLimitError, openai.InternalServerError, openai.ConflictError) as error:
                why, pause = f"status {error.status_code}", _retry_after(error)
            except openai.APITimeoutError:
                why, pause = f"no answer within {self.endpoint.timeout:g} s", None
            except openai.APIConnectionError:
                why, pause = "connection failed or dropped", None
            except openai.APIStatusError as error:
                raise _Refused(f"the endpoint refused the request ({error.status_code})") from None
            except (openai.APIError, ValueError, LookupError, TypeError, AttributeError):
                why, pause = "a reply that is not a chat completion", None
            if attempt + 1 < self.endpoint.attempts:
                self.sleep(pause if pause is not None else min(30.0, 0.5 * 2**attempt) * random.uniform(0.7, 1.3))
        raise _Refused(f"{why}, {self.endpoint.attempts} times")

    @property
    def _where(self) -> str:
        return self.endpoint.base_url or "the default OpenAI endpoint"

    def _request(self, prompt: str) -> dict[str, Any]:
        """One reply; asked for again with more tokens where the first holds a number's first digit alone."""
        if not self._logprobs:
            return self._complete(prompt, 5)
        reply = self._complete(prompt, 4 if self._digits_apart else 1)
        if not reply["top"]:  # one token alone may be a number's first digit
            self._logprobs = self._had_logprobs  # an endpoint that never gives any ignores the wish in silence
            return self._complete(prompt, 5)
        self._had_logprobs = True
        if not self._digits_apart and _lone_digits(reply["top"]):
            longer = self._complete(prompt, 4)
            self._digits_apart = _spread(longer) is not None
            return longer if self._digits_apart else reply
        return reply

    def _complete(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        """One request; `top` holds (text, probability) where there are logprobs, `then` those of later tokens."""
        more: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self._logprobs else {}
        done = self._client.chat.completions.create(
            model=self.endpoint.model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=max_tokens,
            temperature=0,
            seed=0,
            **more,
        )
        choice = done.choices[0]
        content = choice.logprobs.content if choice.logprobs else None
        usage = done.usage
        with self._counting:
            self.spend.requests += 1
            self.spend.input_tokens += usage.prompt_tokens if usage else -(-len(prompt) // CHARACTERS_PER_TOKEN)
            self.spend.output_tokens += usage.completion_tokens if usage else 1
        tops = [[[e.token, round(math.exp(e.logprob), 6)] for e in token.top_logprobs] for token in content or ()]
        reply = {"text": choice.message.content or "", "top": tops[0] if tops else []}
        return {**reply, "then": tops[1:]} if tops[1:] else reply


def read_reply(reply: Mapping[str, Any]) -> tuple[float | None, str]:
    """(score or None, raw) of a kept reply: what it said, and how the number was made where that was not as usual."""
    if reply.get("empty"):
        return None, "empty answer: nothing to judge"
    if "failed" in reply:
        return None, FAILED + reply["failed"]
    text = str(reply["text"]).strip()
    cut = f"; read the first {reply['read'][0]} of {reply['read'][1]} characters" if "read" in reply else ""
    spread = _spread(reply)
    if spread is not None:
        enough = weighted_mean([(token, p) for token, p in reply["top"]]) is not None
        value = weighted_mean(spread) if enough else None
        return value, f"{text} (digits apart: mean over numbers that begin with the likeliest digit){cut}"
    if reply["top"]:
        return weighted_mean([(token, p) for token, p in reply["top"]]), text + cut
    number = re.match(r"\d{1,3}(?!\d)", text)
    if text.upper().startswith(WORDS) or number is None or int(number[0]) > 100:
        return None, f"{text} (no logprobs){cut}"
    return float(number[0]), f"{text} (no logprobs: the number itself){cut}"


def _lone_digits(top: Sequence[Sequence[Any]]) -> bool:
    """Whether all numbers among the candidates are single digits, as with a tokenizer that keeps digits apart."""
    numbers = [token.strip() for token, _ in top if token.strip().isdigit()]
    return len(numbers) > 1 and all(len(number) == 1 for number in numbers)


def _spread(reply: Mapping[str, Any]) -> list[tuple[str, float]] | None:
    """(number, probability) of numbers that go on from the likeliest first digit; None where digits are not apart."""
    then = reply.get("then") or []
    if not then or not _lone_digits(reply["top"]):
        return None
    first = str(max(reply["top"], key=lambda entry: entry[1])[0]).strip()
    seconds = [(str(token).strip(), p) for token, p in then[0]]
    if not first.isdigit() or not any(len(token) == 1 and token.isdigit() for token, _ in seconds):
        return None
    digits = [(token, p) for token, p in seconds if len(token) == 1 and token.isdigit()]
    found = [(first, max(0.0, 1 - sum(p for _, p in digits)))]
    for second, p in digits:
        ten = first + second == "10" and len(then) > 1 and max(digits, key=lambda entry: entry[1])[0] == "0"
        hundred = sum(q for token, q in then[1] if str(token).strip() == "0") if ten else 0.0
        found += [(first + second, p * (1 - hundred)), ("100", p * hundred)]
    return found


def _retry_after(error: Any) -> float | None:
    """Seconds that the endpoint asks to wait, at most a minute."""
    try:
        return min(60.0, max(0.0, float(error.response.headers["retry-after"])))
    except (KeyError, ValueError):
        return None


def _too_long(error: Any) -> bool:
    said = str(error).lower()
    return "context" in said or "too long" in said or "maximum length" in said or "too many tokens" in said


def _message(error: Any) -> str:
    """What the endpoint said, briefly; never headers, which hold the key."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or "no reason given")[:200]
