"""Questions and answers as token ids, through the model's own chat template.

One rule everywhere: the prompt is the template up to and including the assistant header; the answer is what comes
after, tokenised on its own, then one end-of-turn token. No empty trailing turn, no newline behind the end of turn.
How a template reads a message (as text or as parts) and what it writes before an answer's text (a channel, an empty
thinking block) is asked of it, once. A template that writes today's date is told the same day on every day, so that a
prompt has the same tokens whenever it is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.outside import in_a_line, json_of, shown
from backend.records import InputError

_MARK = "\u241e"  # a symbol that no template writes
_THINKS, _THOUGHT = "<think>", "</think>"
_TODAY = re.compile(r"""\bstrftime_now\(\s*(['"])([^'"\\]*)\1\s*\)""")
_CALLED = re.compile(r"\bstrftime_now\s*\(")
_DAY = datetime(2024, 7, 26)  # the one that Llama's templates write where nobody tells them a date
CHARACTERS = 64  # of a token at the most, about: a text of more for all its tokens is not tokenised to know its length
WORTH_SHARING = 64  # prompt tokens not read again that pay for one more forward pass


@dataclass(frozen=True)
class _Form:
    """What a template makes of a conversation."""

    parts: bool  # it reads a message's content as a list of parts
    opening: str  # what it writes between the assistant header and an answer's text
    end: int  # the token behind an answer
    thinking: bool  # a prompt ends inside a thinking block, which the answer closes


def prompt_ids(tokenizer: Any, question: str | Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """Token ids of one user question (or a whole list of messages) with the assistant header behind it.

    Raises InputError on an empty question, and on messages that the template refuses or leaves out.
    """
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
    if not messages or not messages[-1].get("content", "").strip():
        raise InputError("the prompt is empty: type a question")
    text = _rendered(tokenizer, messages, _form(tokenizer).parts, prompt=True)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def answer_ids(tokenizer: Any, answer: str, after: Sequence[int] = ()) -> tuple[int, ...]:
    """Token ids of one answer behind the prompt `after`: what opens it, its text, the end-of-turn token."""
    form = _form(tokenizer)
    return (*_continued(tokenizer, form.opening + answer, after), form.end)


def answer_text(tokenizer: Any, ids: Sequence[int], shown: str) -> str:
    """What the answer `ids` says to its reader: `shown`, without the channels or the thinking that it opens with.

    Nothing where it was cut inside them: what was thought until then is no answer.
    """
    form = _form(tokenizer)
    opening = _THOUGHT if _THOUGHT in form.opening else form.opening
    mark = tuple(tokenizer(opening, add_special_tokens=False)["input_ids"]) if opening.strip() else ()
    starts = [i for i in range(len(mark), len(ids) + 1) if mark and tuple(ids[i - len(mark) : i]) == mark]
    if starts:
        return str(tokenizer.decode(ids[starts[-1] :], skip_special_tokens=True)).lstrip("\n")
    begun = form.thinking or bool(mark and _begins(tokenizer, ids, form.opening))
    return "" if begun else shown


def _begins(tokenizer: Any, ids: Sequence[int], opening: str) -> bool:
    """Whether an answer begins with the tag or the token that its opening begins with."""
    first = (
        _THINKS
        if opening.startswith(_THINKS)
        else tokenizer.decode(tokenizer(opening, add_special_tokens=False)["input_ids"][:1])
    )
    said = str(tokenizer.decode(ids[:8])).lstrip()
    return bool(first.strip()) and said.startswith(first.strip())


def end_of_turn(tokenizer: Any) -> int:
    """The special token that the template writes behind an answer (the tokenizer's eos where it writes none)."""
    return _form(tokenizer).end


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer."""
    eos = model.generation_config.eos_token_id if model.generation_config else None
    listed = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if not all(type(each) is int for each in listed):
        raise InputError(
            f"the eos_token_id of {_name(tokenizer)} is {shown(eos)}: it must be a token id or a list of them"
        )
    return frozenset([end_of_turn(tokenizer), *listed])


def shared_beginning(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with, short of the last token of the shortest."""
    low, high = min(prompts), max(prompts)  # whatever both ends of the order share, all between them share
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return min(same, min(map(len, prompts)) - 1)


def _form(tokenizer: Any) -> _Form:
    if not tokenizer.chat_template:
        tokenizer.chat_template = _beside(Path(str(tokenizer.name_or_path)))
    return _asked(tokenizer, str(tokenizer.chat_template))


def _beside(folder: Path) -> str:
    """The template that lies beside a processor, where the tokenizer has none."""
    file = folder / "chat_template.json"
    if not file.exists():
        raise InputError(f"{folder} has no chat template: choose an instruction-tuned model")
    said = json_of(file)
    template = said.get("chat_template") if isinstance(said, dict) else None
    if not isinstance(template, str) or not template.strip():
        raise InputError(f"{file} holds no chat template (it is no text): download the file again")
    return template


@lru_cache(maxsize=8)
def _asked(tokenizer: Any, template: str) -> _Form:
    user, answer = {"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}
    parts = _MARK not in _tried(tokenizer, [user], parts=False)
    if parts and _MARK not in _rendered(tokenizer, [user], parts=True, prompt=True):
        raise InputError(f"the chat template of {_name(tokenizer)} leaves the question out: choose another model")
    user = {"role": "user", "content": "-"}
    before, _, tail = _rendered(tokenizer, [user, answer], parts).rpartition(_MARK)
    prompt = _rendered(tokenizer, [user], parts, prompt=True)
    opening = before[len(prompt) :] if before.startswith(prompt) else ""
    thinking = prompt.rpartition(_THINKS)[2].strip() == "" and _THINKS in prompt
    if thinking and _THOUGHT not in opening:  # it forgets the thoughts of turns that are over: an answer has none
        opening = f"\n{_THOUGHT}\n\n"
    return _Form(parts, opening, _ends(tokenizer, tail), thinking)


def _ends(tokenizer: Any, tail: str) -> int:
    special = tokenizer.added_tokens_decoder
    for token in tokenizer(tail, add_special_tokens=False)["input_ids"]:
        if token in special and special[token].special:
            return int(token)
    return int(tokenizer.eos_token_id)


def _tried(tokenizer: Any, messages: Sequence[Mapping[str, str]], parts: bool) -> str:
    """As `_rendered`; nothing where the template refuses this form."""
    try:
        return _rendered(tokenizer, messages, parts, prompt=True)
    except InputError:
        return ""


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]], parts: bool, *, prompt: bool = False) -> str:
    said = [{**m, "content": [{"type": "text", "text": m["content"]}]} if parts else dict(m) for m in messages]
    try:
        template = _on_one_day(str(tokenizer.chat_template))
        return str(
            tokenizer.apply_chat_template(said, chat_template=template, tokenize=False, add_generation_prompt=prompt)
        )
    except InputError:
        raise
    except Exception as error:  # a template is a program, and fails as programs do
        roles = ", ".join(m["role"] for m in messages)
        raise InputError(
            f"the chat template of {_name(tokenizer)} refuses the turns {roles}: {in_a_line(error)}"
        ) from error


@lru_cache(maxsize=8)
def _on_one_day(template: str) -> str:
    """The template with the one date wherever it asks for today's. Raises InputError where that is not plain to see."""
    dated = _TODAY.sub(lambda asked: json.dumps(_DAY.strftime(asked[2])), template)
    if _CALLED.search(dated):
        raise InputError(
            "this model's chat template writes today's date in a form that it makes up, so that a prompt differs from "
            "day to day: choose another model"
        )
    return dated


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "")) or "this model"


def _continued(tokenizer: Any, text: str, after: Sequence[int]) -> tuple[int, ...]:
    """Token ids of `text` on its own, without the space that some tokenizers put before a text they begin."""

    def ids(string: str) -> tuple[int, ...]:
        return tuple(tokenizer(string, add_special_tokens=False)["input_ids"])

    if not after or ids("\n") + ids("x") == ids("\nx"):
        return ids(text)
    anchor = tokenizer.decode(after[-1:])
    before, whole = ids(anchor), ids(anchor + text)
    return whole[len(before) :] if whole[: len(before)] == before else ids(text)
