"""A number is what the rubric asked for or there is none, whatever a server sends."""

from __future__ import annotations

import json
import math
import random
import time
from typing import Any

import pytest

from backend.judge.verdict import FIRST, THINKING, WHOLE, read_reply, reply_of, sound, stated_number, tokens_wanted
from tests.judge.endpoint import Completion, completion


def reply(text: str, top: Any = None, *, tokens: int = WHOLE, finish: str = "stop", **message: Any) -> dict[str, Any]:
    logprobs = None if top is None else {"content": [{"token": top[0][0], "logprob": top[0][1], "top_logprobs": []}]}
    if logprobs is not None:
        logprobs["content"][0]["top_logprobs"] = [{"token": token, "logprob": logprob} for token, logprob in top]
    choice = {"finish_reason": finish, "logprobs": logprobs}
    return reply_of(completion(Completion(choice, {"content": text, **message})), tokens=tokens)


@pytest.mark.parametrize("text", ["80", " 80\n", "**80**", "80.", "80/100", "80 / 100.", "Score: 80", "**Score:** 80"])
def test_a_whole_number_with_a_harmless_dressing_is_that_number(text: str) -> None:
    assert stated_number(text) == 80
    assert read_reply(reply(text))[0] == 80


@pytest.mark.parametrize(
    "text", ["The score is 80", "Final answer: 80", "`80`", "(80)", "80%", "80 out of 100", '"80"']
)
def test_so_it_is_in_words(text: str) -> None:
    assert stated_number(text) == 80


@pytest.mark.parametrize(
    "text",
    [
        "0.8",
        "8/10",
        "1. The answer",
        "80.0",
        "80-90",
        "80, 85",
        "850",
        "101",
        "-5",
        "+5",
        "007",
        "1e2",
        "8 0",
        "1\n2",
        "٣",
        "²",
        "<80",
        ">80",
        "~80",
        "80 because",
        "Question 3: 80",
        "Error: 42",
        "8/100 or 9/100",
        "80/10",
        "0,8",
        "1)x",
        "#1",
        "８５",
        "85,5",
        "1,000",
        "1 000",
        "85–90",
        "75 to 85",
        "−5",
        "85th",
        "85+",
        "Score: -5",
        "Alignment score: 0.85",
        "85 out of 10",
        "85.0",
        "0x55",
        "",
    ],
)
def test_what_is_on_another_scale_or_within_words_is_none(text: str) -> None:
    assert stated_number(text) is None
    value, raw = read_reply(reply(text))
    assert value is None
    assert text.strip() in raw


@pytest.mark.parametrize("text", ["0.8", "8/10", "1. The answer", "8 out of 10", "8.5"])
def test_a_digit_that_goes_on_is_none_with_logprobs_too(text: str) -> None:
    top = [(text[0], math.log(0.9)), ("9", math.log(0.05))]
    first = reply(text[0], top, tokens=FIRST, finish="length")
    assert tokens_wanted(first, asked=FIRST) == WHOLE
    assert read_reply(reply(text, top))[0] is None


def test_the_candidates_of_the_first_token_decide_where_they_are_whole_numbers() -> None:
    first = reply("90", [("90", math.log(0.6)), ("10", math.log(0.4))], tokens=FIRST, finish="length")
    assert tokens_wanted(first, asked=FIRST) == FIRST
    assert read_reply(first) == (pytest.approx(58.0, abs=1e-3), "90")
    assert first["how"] == "logprobs"


@pytest.mark.parametrize("odd", [math.nan, math.inf, 5.0, 800.0, 10**400, "x", True, [0]])
def test_a_probability_that_is_none_is_missing_and_the_text_is_read(odd: Any) -> None:
    for top in ([("77", odd)], [("20", math.log(0.5)), ("77", odd)], [("77", -0.1), ("20", odd)]):
        found = reply("77", top)
        assert (found["how"], found["top"]) == ("text", [])
        assert read_reply(found) == (77, "77 (no logprobs: the number itself)")


@pytest.mark.parametrize("nothing", [None, -math.inf, -(10**400), -9999.0])
def test_a_candidate_of_no_weight_weighs_nothing(nothing: Any) -> None:
    assert read_reply(reply("77", [("77", math.log(0.9)), ("20", nothing)]))[0] == 77


def test_a_token_whose_own_probability_is_missing_is_not_read_from_the_others() -> None:
    assert read_reply(reply("90", [("90", None), ("10", math.log(0.4))]))[0] == 90


def test_candidates_that_are_together_more_than_certain_are_missing() -> None:
    assert reply("77", [("77", 0.0), ("20", 0.0)])["how"] == "text"


@pytest.mark.parametrize(
    ("content", "beside"),
    [
        ("<think>It is 20.</think>85", {}),
        ("I say 20\n</think>\n\n85", {}),
        ("85", {"reasoning_content": "20 or 30"}),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "20"}]}, {"type": "text", "text": "85"}], {}),
    ],
)
def test_after_thinking_only_what_follows_is_read_and_no_logprob_of_a_thought(content: Any, beside: Any) -> None:
    value, raw = read_reply(reply(content, [("20", 0.0)], **beside))
    assert (value, raw) == (85, "85 (after thinking: the number itself)")


@pytest.mark.parametrize("content", ["<think>", "<think>\nIt is 20", "85<think>no", "", None])
def test_a_thought_that_is_not_at_its_end_is_given_room_and_is_no_number(content: Any) -> None:
    found = reply(content, tokens=WHOLE, finish="length")
    assert tokens_wanted(found, asked=WHOLE) == THINKING
    value, raw = read_reply(found)
    assert value is None
    assert "still thinking" in raw


def test_a_number_that_the_limit_may_have_cut_is_none() -> None:
    assert read_reply(reply("Overall score: 8", finish="length"))[0] is None
    assert read_reply(reply("Overall score: 8", finish="stop"))[0] == 8
    assert read_reply(reply("85", finish="length"))[0] == 85


def test_what_was_kept_before_it_was_said_how_is_trusted_only_where_it_does_not_matter() -> None:
    assert sound({"text": "90", "top": [["90", 0.6], ["10", 0.4]]})
    assert not sound({"text": "90", "top": []})  # logprobs may have been given up by mistake
    assert not sound({"text": "8", "top": [["8", 0.9], ["9", 0.1]]})  # of 8, 85 or 8/10
    assert sound({"text": "85", "top": [["8", 0.9], ["9", 0.1]], "then": [[["5", 1.0]]]})


# --- anything at all --------------------------------------------------------------------------------------------------

ODD = [
    None,
    True,
    0,
    -1,
    10**400,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "8",
    "85",
    "\ud800",
    "<think>",
    [],
    {},
    [[]],
    "0.8",
]
WORDS = [
    "85",
    "8",
    "0.8",
    "/10",
    "/100",
    ".",
    "**",
    "Score: ",
    "<think>",
    "</think>",
    "REFUSAL",
    "\n",
    "\ud800",
    "9" * 400,
    "٣",
]


def anything(rng: random.Random, depth: int = 0) -> Any:
    if depth > 3 or rng.random() < 0.4:
        return rng.choice(ODD)
    if rng.random() < 0.5:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
    names = [
        "text",
        "top",
        "then",
        "how",
        "token",
        "logprob",
        "top_logprobs",
        "content",
        "type",
        "read",
        "tokens",
        "cut",
    ]
    return {rng.choice(names): anything(rng, depth + 1) for _ in range(rng.randrange(5))}


def odd_completion(rng: random.Random) -> Any:
    def some(likely: Any) -> Any:
        return likely if rng.random() < 0.85 else anything(rng)

    def text() -> str:
        return "".join(rng.choice(WORDS) for _ in range(rng.randrange(5)))

    def entry() -> Any:
        return some({"token": some(text()), "logprob": some(-rng.expovariate(0.5))})

    tokens = [
        some({**some_dict(entry()), "top_logprobs": some([entry() for _ in range(rng.randrange(6))])})
        for _ in range(rng.randrange(5))
    ]
    message = some({"content": some(text()), rng.choice(["reasoning_content", "refusal", "x"]): some("20")})
    finish = some(rng.choice(["stop", "length", "content_filter"]))
    return some(
        {
            "choices": some(
                [some({"message": message, "finish_reason": finish, "logprobs": some({"content": some(tokens)})})]
            )
        }
    )


def some_dict(what: Any) -> dict[str, Any]:
    return what if isinstance(what, dict) else {}


def test_whatever_comes_is_a_number_from_0_to_100_or_none_and_never_an_error() -> None:
    rng, numbers, replies, started = random.Random(13), 0, 0, time.monotonic()
    for _ in range(3000):
        tokens = rng.choice([FIRST, WHOLE, THINKING])
        try:
            found = reply_of(odd_completion(rng), tokens=tokens, asked=rng.choice([5, 20]))
        except ValueError:
            continue  # which is asked again
        kept = json.loads(json.dumps(found))
        assert sound(kept)
        value, raw = read_reply(kept)
        raw.encode()
        assert value is None or 0 <= value <= 100
        assert tokens_wanted(kept, asked=tokens) in (tokens, WHOLE, THINKING)
        replies, numbers = replies + 1, numbers + (value is not None)
    assert replies > 1500
    assert numbers > 100
    assert time.monotonic() - started < 30  # about a second


def test_whatever_is_on_file_is_read_or_asked_again() -> None:
    rng = random.Random(14)
    for _ in range(3000):
        kept = some_dict(anything(rng))
        if rng.random() < 0.5:
            kept |= {"text": rng.choice(WORDS), "top": [["8", 0.5]] * rng.randrange(3)}
        if sound(kept):
            value, raw = read_reply(kept)
            raw.encode()
            assert value is None or 0 <= value <= 100


@pytest.mark.parametrize(
    "text", ["*" * 60, " " * 60 + "x", "the " * 14, "80" + " " * 57 + "x", "score" + "*" * 54, "<think>" * 10**5]
)
def test_no_text_takes_long_to_read(text: str) -> None:
    started = time.monotonic()
    read_reply(reply(text))
    assert time.monotonic() - started < 0.5
