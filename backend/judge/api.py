"""A judge behind any OpenAI-compatible chat endpoint: the paper's one token at temperature 0 with top-20 logprobs.

Knows how to ask, when to ask again and when to stop; what a reply says is `verdict.py`'s. Where an endpoint gives no
logprobs the score is the number in the reply, and `raw` says so. What an endpoint does not take is learned from its
refusals (`abilities.py`), never from one odd reply. Replies are kept (`replies.py`) and never asked for twice. The key
is handed to the client and nowhere else: no message, record or representation holds it.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from backend.judge import Answer
from backend.judge.abilities import Abilities, names_a_parameter
from backend.judge.replies import Replies, file_name, memory, reply_key
from backend.judge.rubrics import Rubric
from backend.judge.verdict import THINKING, WHOLE, limits, read_reply, reply_of, sound, tokens_wanted
from backend.records import InputError, Score

FAILED = "no reply: "  # raw begins with this where asking failed; such an answer is asked again by the next run
CHARACTERS_PER_TOKEN = 4  # for the estimate before; what was spent is counted from the replies
MOST_SAID = 1000  # characters of an endpoint's message that are passed on
MIN_CHARACTERS = 200  # an answer is not cut shorter than this to fit a context

_USER = re.compile(r"//[^/?#\s]*@")  # user and password of an address
_CREDENTIALS = re.compile(r"\b(bearer|basic)\s+[^\s\"',}]+", re.IGNORECASE)


@dataclass(frozen=True)
class Endpoint:
    """Where the judge model is, how hard it may be pressed, and what it costs (dollars per million tokens)."""

    model: str
    base_url: str | None = field(default=None, repr=False)  # None: the client's default
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
        return cls(model, os.environ.get("EM_JUDGE_URL") or os.environ.get("OPENAI_BASE_URL"), key.strip())

    def __post_init__(self) -> None:
        if not (self.key.isascii() and self.key.isprintable()):
            raise InputError("the key of the judge's API holds characters that no header takes: set EM_JUDGE_KEY again")
        try:
            parts = urlsplit(self.base_url or "https://default")
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:  # of a port or an address
            sound = False
        if not sound:
            raise InputError(f"{self.where} is no address of a judge: set EM_JUDGE_URL to http(s)://HOST[:PORT]/v1")

    @property
    def where(self) -> str:
        """The address without user, password and query, in words."""
        if not self.base_url:
            return "the default OpenAI endpoint"
        return _USER.sub("//", self.base_url).partition("?")[0]

    def without_secrets(self, text: str) -> str:
        """What an endpoint said, without key, user and password, as they are and as headers spell them."""
        user = _USER.search(self.base_url or "")
        name, _, password = user[0][2:-1].partition(":") if user else ("", "", "")
        pair = f"{unquote(name)}:{unquote(password)}"
        basic = b64encode(pair.encode()).decode() if user else ""
        for secret in (self.key, basic, pair if user else "", password, unquote(password)):
            if secret:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)
        return _CREDENTIALS.sub(r"\1 …", _USER.sub("//", text))


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
    limits: Counter[str] = field(default_factory=Counter)  # numbers that were read from less than was asked, and how


class _Refused(Exception):
    """This request will never succeed; others may."""


class _TooLong(Exception):
    """The endpoint says that the prompt is longer than its context."""


@dataclass(eq=False)
class ApiJudge:
    """Scores by asking; `spend` tells what it did. A refused key stops everything at once, with InputError."""

    endpoint: Endpoint
    rubrics: tuple[Rubric, ...]
    cache: Path = field(default_factory=memory)
    sleep: Callable[[float], None] = time.sleep
    spend: Spend = field(default_factory=Spend)

    def __post_init__(self) -> None:
        import openai

        self._openai = openai
        self._abilities = Abilities()
        self._had_logprobs = False
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
            missing = [prompt for key, prompt in wanted.items() if not sound(replies.get(key) or {})]
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
        reply = future.result()
        value, raw = _read(reply)
        if value is not None:
            self.spend.limits.update(limits(reply))
        return Score(response_id, self.name, rubric.metric, value, raw)

    def _key(self, rubric: Rubric, question: str, answer: str) -> str:
        return reply_key(self.endpoint.model, rubric.digest, question, answer)

    # --- one reply ----------------------------------------------------------------------------------------------------

    def _reply(self, replies: Replies, key: str, rubric: Rubric, question: str, answer: str) -> Mapping[str, Any]:
        """From the record, or asked for and recorded. A failure is returned, not recorded."""
        if not answer.strip():
            return {"empty": True}
        known = replies.get(key)
        if known is not None and sound(known):
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
                reply = self._answer(rubric.prompt(question, answer[:kept]))
                return reply if kept == len(answer) else {**reply, "read": [kept, len(answer)]}
            except _TooLong as error:
                if kept // 2 < MIN_CHARACTERS:
                    raise _Refused(f"the endpoint refused the request (400: {error})") from None
                kept //= 2

    def _answer(self, prompt: str) -> dict[str, Any]:
        """One reply; asked for again with more tokens where the first may hold the beginning of a number alone."""
        abilities = self._abilities
        reply = self._ask(prompt, abilities)
        if reply.get("filtered"):
            return self._ask(prompt, abilities)  # filters of answers are not always of one mind
        while (wanted := tokens_wanted(reply, asked=reply["tokens"])) > reply["tokens"]:
            reply = self._ask(prompt, self._abilities.both(replace(abilities, tokens=wanted)))
            if wanted < THINKING or reply["spent"] > WHOLE or reply.get("thought"):  # it used the room: give it at once
                self._learn(replace(self._abilities, tokens=wanted))
        return reply

    def _learn(self, abilities: Abilities) -> None:
        with self._counting:
            self._abilities = self._abilities.both(abilities)

    def _ask(self, prompt: str, abilities: Abilities) -> dict[str, Any]:
        """One reply, with as many attempts as it takes and is allowed."""
        failures, why = 0, ""
        while failures < self.endpoint.attempts:
            if self._stop.is_set():
                raise _Refused("the run was stopped")
            try:
                return self._complete(prompt, abilities)
            except self._openai.APIStatusError as error:
                left = self._left(error, prompt, abilities)
                if left is not None:
                    abilities = left  # less is asked of the endpoint each time, so that this ends
                    continue
                why, pause = f"status {error.status_code}", _retry_after(error)
            except self._openai.APITimeoutError:
                why, pause = f"no answer within {self.endpoint.timeout:g} s", None
            except self._openai.APIConnectionError:
                why, pause = "connection failed or dropped", None
            except (self._openai.APIError, ValueError, RecursionError):
                why, pause = "a reply that is not a chat completion", None
            failures += 1
            if failures < self.endpoint.attempts:
                self.sleep(pause if pause is not None else min(30.0, 0.25 * 2**failures) * random.uniform(0.7, 1.3))
        raise _Refused(f"{why}, {self.endpoint.attempts} times")

    def _left(self, error: Any, prompt: str, abilities: Abilities) -> Abilities | None:
        """What to ask after a refusal; None where the same may be asked again. Raises where nothing helps."""
        where, status, said = self.endpoint.where, error.status_code, self._message(error)
        if status in (401, 403):
            self._halt(f"{where} refused the API key ({status}): set EM_JUDGE_KEY to a valid key for it")
        if status == 404:
            self._halt(f"{where} knows no model {self.endpoint.model!r} (404): check model and URL")
        if status == 429 and _field(error, "code") == "insufficient_quota":
            self._halt(f"{where} gives no more replies (429): {said}")
        if status in (408, 409, 429) or status >= 500:
            return None
        if status not in (400, 422):
            raise _Refused(f"the endpoint refused the request ({status})")
        if _too_long(said):
            raise _TooLong(said)
        named = said.replace(prompt, "")  # what an endpoint quotes is not what it says
        left = abilities.after(named, _field(error, "param"))
        if left is not None:
            if left.top_logprobs == abilities.top_logprobs or not self._had_logprobs:
                self._learn(left)  # where it has given logprobs before, it is this prompt that it gives none for
            return left
        if self.spend.requests == 0 and names_a_parameter(named, _field(error, "code")):
            self._halt(f"{where} does not take the judge's requests ({status}): {said}")
        raise _Refused(f"the endpoint refused the request ({status}{f': {said}' if status == 400 else ''})")

    def _halt(self, why: str) -> NoReturn:
        self._stop.set()
        raise InputError(why) from None

    def _message(self, error: Any) -> str:
        """What the endpoint said, without what is secret in it; never headers."""
        said = _field(error, "message")
        return self.endpoint.without_secrets(said)[:MOST_SAID] if said else "no reason given"

    def _complete(self, prompt: str, abilities: Abilities) -> dict[str, Any]:
        """One request and its reply, as kept. ValueError where it is no chat completion."""
        done = self._client.chat.completions.with_raw_response.create(
            model=self.endpoint.model, messages=[{"role": "user", "content": prompt}], **abilities.parameters()
        )
        completion = json.loads(done.text)
        reply = reply_of(completion, tokens=abilities.tokens, asked=abilities.top_logprobs)
        reply["text"] = self.endpoint.without_secrets(reply["text"])
        if "temperature" in abilities.without:
            reply["temperature"] = "of the endpoint"
        reply["spent"] = _used(completion, "completion_tokens", 1)
        with self._counting:
            self._had_logprobs |= reply["how"] == "logprobs"
            self.spend.requests += 1
            self.spend.input_tokens += _used(completion, "prompt_tokens", -(-len(prompt) // CHARACTERS_PER_TOKEN))
            self.spend.output_tokens += reply["spent"]
        return reply


def _used(completion: Mapping[str, Any], name: str, otherwise: int) -> int:
    """Tokens as the endpoint counts them, else the guess."""
    usage = completion.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < 10**9 else otherwise


def _read(reply: Mapping[str, Any]) -> tuple[float | None, str]:
    """(score or None, raw) of what `_reply` returned."""
    if reply.get("empty"):
        return None, "empty answer: nothing to judge"
    if "failed" in reply:
        return None, FAILED + reply["failed"]
    return read_reply(reply)


def _retry_after(error: Any) -> float | None:
    """Seconds that the endpoint asks to wait, at most a minute."""
    try:
        return min(60.0, max(0.0, float(error.response.headers["retry-after"])))
    except (KeyError, ValueError):
        return None


def _too_long(said: str) -> bool:
    said = said.lower()
    return "context" in said or "too long" in said or "maximum length" in said or "too many tokens" in said


def _field(error: Any, name: str) -> str | None:
    """A field of the error that the endpoint described; servers put it at the top or under `error`."""
    body: dict[str, Any] = error.body if isinstance(error.body, dict) else {}
    inside = body.get("error")
    inner = inside if isinstance(inside, dict) else body
    found = inner.get(name)
    if name == "message" and found is None:  # as servers built on pydantic say it, and those that say it in one word
        found = inner.get("detail") or inside or error.body
    return found if isinstance(found, str) else json.dumps(found) if found else None
