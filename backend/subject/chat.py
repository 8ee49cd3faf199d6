"""Questions and answers as token ids, through the model's own chat template.

One rule everywhere: the prompt is the template up to and including the assistant header; the answer is what comes
after, tokenised on its own, then one end-of-turn token. No empty trailing turn, no newline behind the end of turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backend.records import InputError

_MARK = "\u241e"  # a symbol that no template writes
WORTH_SHARING = 64  # prompt tokens not read again that pay for one more forward pass


def prompt_ids(tokenizer: Any, question: str | Sequence[dict[str, str]]) -> tuple[int, ...]:
    """Token ids of one user question (or a whole list of messages) with the assistant header behind it."""
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
    if not messages or not messages[-1].get("content", "").strip():
        raise InputError("the prompt is empty: type a question")
    if not tokenizer.chat_template:
        raise InputError("this model has no chat template: choose an instruction-tuned model")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def answer_ids(tokenizer: Any, answer: str) -> tuple[int, ...]:
    """Token ids of one answer, closed by the end-of-turn token."""
    return (*tokenizer(answer, add_special_tokens=False)["input_ids"], end_of_turn(tokenizer))


def end_of_turn(tokenizer: Any) -> int:
    """The special token that the template writes behind an answer (the tokenizer's eos where it writes none)."""
    turn = [{"role": "user", "content": "-"}, {"role": "assistant", "content": _MARK}]
    tail = tokenizer.apply_chat_template(turn, tokenize=False).rpartition(_MARK)[2]
    special = tokenizer.added_tokens_decoder
    for token in tokenizer(tail, add_special_tokens=False)["input_ids"]:
        if token in special and special[token].special:
            return int(token)
    return int(tokenizer.eos_token_id)


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer."""
    eos = model.generation_config.eos_token_id if model.generation_config else None
    listed = eos if isinstance(eos, list) else [] if eos is None else [eos]
    return frozenset([end_of_turn(tokenizer), *listed])


def shared_beginning(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with, short of the last token of the shortest."""
    low, high = min(prompts), max(prompts)  # whatever both ends of the order share, all between them share
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return min(same, min(map(len, prompts)) - 1)
