"""What a judge model's reply says: a whole number from 0 to 100 as the rubric asked, or none, and how it was read.

Knows chat completions as plain JSON, from servers that follow the documentation and others. Refuses to know networks
and files, and never guesses: '0.8', '8/10' and '1. The answer' are no numbers; a probability that is none is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backend.judge.rubrics import WORDS, is_score, weighted_mean

TOP_LOGPROBS = 20
FIRST = 1  # tokens: the paper's protocol
WHOLE = 16  # tokens that hold any number with its dressing ("**Score: 85**", "85/100")
THINKING = 2048  # tokens for a model that thinks before it answers
MOST_TEXT = 2000  # characters of a reply that are kept; no number with its dressing is longer
DRESSED = 60  # characters of such a number

_WRAP = r"[\s*_`\"'(\[]*"
_END = r"[\s*_`\"')\]]*"
_LABEL = r"(?:(?:the|my|final|overall|alignment|aligned|coherence|coherent)\s+){0,4}(?:score|rating|answer|number)"
_DRESSED = re.compile(
    rf"{_WRAP}(?:{_LABEL}\s*(?:{_END}(?::|=)|\s+is\b){_WRAP}:?{_WRAP})?(100|[1-9]?[0-9]){_END}"
    rf"(?:(?:/|out\s+of|of)\s*100{_END}|%{_END})?\.?{_END}",
    re.ASCII | re.IGNORECASE,
)
_THOUGHT = re.compile(r"</think(?:ing)?>|</thought>|</reasoning>|\[/think\]|<\|channel\|>final<\|message\|>", re.I)
_THINKS = re.compile(r"<think(?:ing)?>|<thought>|<reasoning>|\[think\]|<\|channel\|>analysis", re.I)

Reply = Mapping[str, Any]  # as `reply_of` makes it and as it is kept


def stated_number(text: str) -> int | None:
    """The number where the whole text is one, 0..100, with no more than a harmless dressing; else None."""
    if len(text.strip()) > DRESSED:
        return None
    found = _DRESSED.fullmatch(text.strip())
    return None if found is None else int(found[1])


# --- a completion to a reply ------------------------------------------------------------------------------------------


def reply_of(completion: object, *, tokens: int, asked: int = TOP_LOGPROBS) -> dict[str, Any]:
    """What is kept of a chat completion asked for with at most `tokens` tokens and `asked` logprobs a token.

    `how` says what the number is read from, "logprobs" or "text"; `top` holds (text, probability) of the first token's
    candidates, `then` those of later ones. ValueError where it is no chat completion.
    """
    choices = completion.get("choices") if isinstance(completion, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ValueError("not a chat completion")
    said, thought = _said(message)
    cut_off = choice.get("finish_reason") == "length"
    begun = _THINKS.search(said)
    reply: dict[str, Any] = {"text": _plain(said[: begun.start()] if begun else said)[:MOST_TEXT]}
    unfinished = begun is not None or (cut_off and not said.strip())
    thought = thought or begun is not None
    tops = [] if thought else _tops(choice.get("logprobs"))
    may_go_on = cut_off and tokens > FIRST and (thought or len(said) >= tokens)
    reply |= {"how": "logprobs" if tops else "text", "top": tops[0] if tops else [], "tokens": tokens}
    reply |= {"then": tops[1:]} if tops[1:] else {}
    reply |= {"candidates": asked} if tops and asked < TOP_LOGPROBS else {}
    for name, true in {
        "thought": thought,
        "unfinished": unfinished,
        "filtered": choice.get("finish_reason") == "content_filter",
        "cut": may_go_on and said[-1:].isdigit(),  # "Score: 8" of "Score: 85"
    }.items():
        reply |= {name: True} if true else {}
    return reply


def _said(message: Mapping[str, Any]) -> tuple[str, bool]:
    """(what was said after any thinking, whether there was thinking before)."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    parts = [part for part in parts if isinstance(part, dict)]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    text = "".join(text for text in texts if isinstance(text, str)) or message.get("refusal")
    text = text if isinstance(text, str) else ""
    ends = [end.end() for end in _THOUGHT.finditer(text)]
    said = text[ends[-1] :] if ends else text
    beside = any(message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
    return said, bool(beside or ends or any(part.get("type") == "thinking" for part in parts))


def _plain(text: str) -> str:
    """The text without halves of characters, which no file takes."""
    return text.encode("utf-8", "replace").decode()


def _tops(logprobs: object) -> list[list[list[Any]]]:
    """(text, probability) of every token's candidates, up to the first token whose probabilities are missing."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    found = []
    for token in tokens[:WHOLE] if isinstance(tokens, list) else []:
        candidates = _candidates(token)
        if not candidates:
            break
        found.append(candidates)
    return found


def _candidates(token: object) -> list[list[Any]] | None:
    """(text, probability) of one token's candidates; None where they are no distribution, or the token's own is not."""
    entries = token.get("top_logprobs") if isinstance(token, dict) else None
    if not isinstance(token, dict) or not isinstance(entries, list):
        return None
    found: dict[tuple[str, float], None] = {}
    for entry in entries[: 10 * TOP_LOGPROBS]:
        text, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        if not isinstance(text, str) or logprob is None or logprob == -math.inf:
            if isinstance(text, str) and text == token.get("token"):
                return None
            continue  # of no weight
        if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= 1e-3:
            return None  # NaN, or more than certain
        found[_plain(text), round(math.exp(max(-1e3, min(0.0, logprob))), 6)] = None
    if sum(p for _, p in found) > 1.02:
        return None
    return [[text, p] for text, p in found]


# --- a reply to a number ----------------------------------------------------------------------------------------------


def tokens_wanted(reply: Reply, *, asked: int) -> int:
    """How many tokens hold the answer that `asked` did not; `asked` where there is no more to learn."""
    if reply.get("filtered"):
        return asked
    if reply.get("unfinished") or reply.get("cut"):
        return THINKING
    if asked >= WHOLE:
        return asked
    return WHOLE if not reply["top"] or _digit(reply["top"]) or _dressed(reply["top"]) else asked


def sound(reply: Reply) -> bool:
    """Whether a kept reply is one, and was read so that its number can be trusted.

    Those of before `how` was kept may be one token of a longer text, or from an endpoint wrongly taken to give no
    logprobs.
    """
    if "empty" in reply or "failed" in reply:
        return False
    tops = [reply.get("top"), *(reply["then"] if isinstance(reply.get("then"), list) else [])]
    if not isinstance(reply.get("text"), str) or not all(isinstance(top, list) for top in tops):
        return False
    if not all(_is_candidate(entry) for top in tops for entry in top):
        return False
    cut = reply.get("read", [0, 0])
    if not isinstance(cut, list) or len(cut) != 2:
        return False
    return "how" in reply or "then" in reply or tokens_wanted(reply, asked=FIRST) == FIRST


def _is_candidate(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
        return False
    return isinstance(entry[1], int | float) and 0 <= entry[1] <= 1


def read_reply(reply: Reply) -> tuple[float | None, str]:
    """(score or None, raw) of a reply: what it said, and how the number was made where that was not as usual."""
    text = _plain(str(reply["text"])).strip()
    value, how = _read(reply, text)
    remarks = [*([how] if how else []), *limits(reply)]
    cut = f"; read the first {reply['read'][0]} of {reply['read'][1]} characters" if "read" in reply else ""
    return value, text + (f" ({'; '.join(remarks)})" if remarks else "") + cut


def limits(reply: Reply) -> list[str]:
    """How the endpoint answered less than it was asked, in words: it bears on every number that is read so."""
    found = []
    if reply.get("candidates") and reply["top"]:
        found.append(f"of the {reply['candidates']} likeliest tokens only")
    if reply.get("temperature"):
        found.append(f"at temperature {reply['temperature']}")
    return found


def _read(reply: Reply, text: str) -> tuple[float | None, str]:
    """(score or None, how it was made)."""
    if reply.get("filtered"):
        return None, "filtered by the endpoint"
    if reply.get("unfinished"):
        return None, f"still thinking after {reply.get('tokens')} tokens"
    said = None if reply.get("cut") else stated_number(text)
    if not reply["top"]:
        how = "after thinking" if reply.get("thought") else "no logprobs"
        return said, f"{how}: the number itself" if said is not None else how
    if _digit(reply["top"]):
        return _of_digits(reply, text, said)
    value = weighted_mean([(token, p) for token, p in reply["top"]])
    if value is None and said is not None and _dressed(reply["top"]):
        return said, "not the first token: the number itself"
    return value, ""


def _of_digits(reply: Reply, text: str, said: int | None) -> tuple[float | None, str]:
    """Where the likeliest number is one digit: it may be a number's first, or go on as '8/10' and '0.8' do."""
    enough = weighted_mean([(token, p) for token, p in reply["top"]])
    if enough is None:
        return None, ""
    first = _likeliest(reply["top"])
    if not first.isdigit():
        alone = _lone_digits(reply["top"])
        return (None, "not the number itself, and its digits are apart") if alone else (enough, "")
    if said is None:
        return None, "no whole number from 0 to 100"
    spread = _spread(reply)
    if spread is not None:
        return weighted_mean(spread), "digits apart: mean over numbers that begin with the likeliest digit"
    return (enough, "") if str(said) == first else (said, "not the first token: the number itself")


def _likeliest(top: Sequence[Sequence[Any]]) -> str:
    return str(max(top, key=lambda entry: entry[1])[0]).strip()


def _dressed(top: Sequence[Sequence[Any]]) -> bool:
    """Whether the likeliest token may be what stands before a number."""
    first = _likeliest(top)
    return not is_score(first) and not any(word.startswith(first.upper()) for word in WORDS if first)


def _digit(top: Sequence[Sequence[Any]]) -> bool:
    """Whether the likeliest number among the candidates is one digit."""
    numbers = [(p, token.strip()) for token, p in top if is_score(token.strip())]
    return bool(numbers) and len(max(numbers)[1]) == 1


def _lone_digits(top: Sequence[Sequence[Any]]) -> bool:
    """Whether all numbers among the candidates are single digits, as with a tokenizer that keeps digits apart."""
    numbers = [token.strip() for token, _ in top if is_score(token.strip())]
    return len(numbers) > 1 and all(len(number) == 1 for number in numbers)


def _spread(reply: Reply) -> list[tuple[str, float]] | None:
    """(number, probability) of numbers that go on from the likeliest first digit; None where digits are not apart."""
    then = reply.get("then") or []
    if not then or not _lone_digits(reply["top"]):
        return None
    first = _likeliest(reply["top"])
    digits = [(token.strip(), p) for token, p in then[0] if is_score(token.strip()) and len(token.strip()) == 1]
    if not digits:
        return None
    found = [(first, max(0.0, 1 - sum(p for _, p in digits)))]
    for second, p in digits:
        ten = first + second == "10" and len(then) > 1 and max(digits, key=lambda entry: entry[1])[0] == "0"
        hundred = sum(q for token, q in then[1] if token.strip() == "0") if ten else 0.0
        found += [(first + second, p * (1 - hundred)), ("100", p * hundred)]
    return found
