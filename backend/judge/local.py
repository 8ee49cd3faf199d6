"""A judge that is a chat model on this machine: the rubrics of the API judge, the number read from the model's logits.

Knows transformers' causal language models. Where a tokenizer has a token for every number this is the paper's weighted
mean over the first token; where it spells numbers digit by digit (Qwen, SmolLM2, Gemma) the probability of each number
is that of its digits, followed by no further one, so that the mean means the same for every model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.judge import Answer
from backend.judge.rubrics import Rubric, read_rubrics, weighted_mean
from backend.outside import in_a_line
from backend.records import InputError, Score
from backend.subject.load import EMBEDDED, load

NUMBERS = tuple(str(number) for number in range(101))
AT_ONCE = 8  # prompts in one forward pass, sorted by length among ANSWERS_AHEAD answers
ANSWERS_AHEAD = 64
GOES_ON = (".", ",", "/")  # behind a digit: '0.8', '8/10' and '1. The answer' are no numbers from 0 to 100
_SLOT = "@@ the prompt @@"

Path_ = tuple[int, ...]  # token ids from the first of a number on


@dataclass(frozen=True, eq=False)
class LocalJudge:
    """Scores by reading the next-token distribution of `model` after each rubric's prompt."""

    name: str
    model: Any
    tokenizer: Any
    rubrics: tuple[Rubric, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the rubrics."""
        return tuple(rubric.metric for rubric in self.rubrics)

    def score(self, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield scores in order. An answer that does not fit the context is cut, and `raw` says so."""
        spelled = {number: self._spell(number) for number in NUMBERS}
        for start in range(0, len(answers), ANSWERS_AHEAD):
            yield from self._score(answers[start : start + ANSWERS_AHEAD], spelled)

    def _score(self, answers: Sequence[Answer], spelled: Mapping[str, Path_]) -> Iterator[Score]:
        asked = [(i, rubric) for i, (_, _, answer) in enumerate(answers) if answer.strip() for rubric in self.rubrics]
        prompts = [self._prompt(rubric, *answers[i][1:]) for i, rubric in asked]
        read: dict[tuple[int, str], tuple[float | None, str]] = {}
        for (i, rubric), (ids, remark) in zip(asked, prompts, strict=True):
            if not ids:
                read[i, rubric.metric] = None, remark
        order = [row for row in np.argsort([len(ids) for ids, _ in prompts], kind="stable").tolist() if prompts[row][0]]
        for start in range(0, len(order), AT_ONCE):
            rows = order[start : start + AT_ONCE]
            for row, (value, said) in zip(rows, self._read([prompts[r][0] for r in rows], spelled), strict=True):
                i, rubric = asked[row]
                read[i, rubric.metric] = value, said + prompts[row][1]
        for i, (response_id, _, _) in enumerate(answers):
            for metric in self.metrics:
                value, raw = read.get((i, metric), (None, "empty answer: nothing to judge"))
                yield Score(response_id, self.name, metric, value, raw)

    # --- words to ids -------------------------------------------------------------------------------------------------

    def _frame(self) -> tuple[str, str]:
        """What the chat template puts before and after the user's message."""
        turn = [{"role": "user", "content": _SLOT}]
        try:
            text = self.tokenizer.apply_chat_template(
                turn, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except (ValueError, TypeError) as error:
            raise InputError(f"the judge {self.name!r} has no chat template: use an instruction-tuned model") from error
        before, _, after = text.partition(_SLOT)
        return before, after

    def _ids(self, text: str, *, markers: bool) -> list[int]:
        """Token ids; without `markers` an answer that spells the template's markers stays text."""
        found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=not markers, verbose=False)
        return list(found["input_ids"])

    def _spell(self, number: str) -> Path_:
        """The tokens of a number where the judge's answer begins."""
        after = self._frame()[1]
        alone, behind = self._ids(after, markers=True), self._ids(after + number, markers=True)
        joined = behind[: len(alone)] == alone
        return tuple(behind[len(alone) :] if joined else self._ids(number, markers=False))

    def _prompt(self, rubric: Rubric, question: str, answer: str) -> tuple[list[int], str]:
        """Token ids of the filled-in chat template, and a remark where the answer was cut or nothing fits (no ids)."""
        before, after = (self._ids(part, markers=True) for part in self._frame())
        room = (
            self.model.config.get_text_config().max_position_embeddings - len(before) - len(after) - 4
        )  # 4: the digits
        ids = self._ids(rubric.prompt(question, answer), markers=False)
        kept = len(answer)
        while len(ids) > room:
            kept -= max(1, min(kept // 2, 2 * (len(ids) - room)))
            if kept <= 0:
                return [], f"the question alone does not fit the judge's context of {room} tokens"
            ids = self._ids(rubric.prompt(question, answer[:kept]), markers=False)
        remark = "" if kept == len(answer) else f"; read the first {kept} of {len(answer)} characters"
        return [*before, *ids, *after], remark

    # --- ids to a number ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _read(self, prompts: Sequence[list[int]], spelled: Mapping[str, Path_]) -> list[tuple[float | None, str]]:
        """(score, most probable first token) after each prompt."""
        first, cache, mask = self._forward(prompts)
        likeliest = first.argmax(-1).tolist()
        digits = {spelled[digit][0] for digit in NUMBERS[:10] if len(spelled[digit]) == 1} & set(likeliest)
        beginnings = {path[:n] for path in spelled.values() for n in range(1, len(path))}
        inner = sorted(beginnings | {(digit,) for digit in digits})
        then = self._continue(cache, mask, inner) if inner else {}
        found: list[tuple[float | None, str]] = []
        for row, token in enumerate(likeliest):
            tree = {(): first[row], **{path: after[row] for path, after in then.items()}}
            said, on = self._text(token), self._text(int(tree[token,].argmax())) if token in digits else ""
            if on.startswith(GOES_ON):
                found.append((None, f"{said}{on} (no whole number from 0 to 100)"))
            else:
                found.append((weighted_mean(number_probabilities(tree, spelled)), said))
        return found

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token])).strip()

    def _forward(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """(next-token probabilities (row, token), cache, mask (row, position)); shorter prompts padded on the left."""
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        out = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].float().softmax(-1).cpu(), out.past_key_values, mask

    def _continue(self, cache: Any, mask: torch.Tensor, paths: Sequence[Path_]) -> dict[Path_, torch.Tensor]:
        """Next-token probabilities (row, token) after each path of digits behind each prompt: one more forward pass."""
        ends = [path for path in paths if not any(other[: len(path)] == path for other in paths if other != path)]
        longest, n_rows = max(map(len, ends)), len(mask)
        ids = torch.zeros(n_rows, len(ends), longest, dtype=torch.long)
        for i, path in enumerate(ends):
            ids[:, i, : len(path)] = torch.tensor(path)
        cache.batch_repeat_interleave(len(ends))
        wide = mask.repeat_interleave(len(ends), 0)
        out = self.model(
            input_ids=ids.flatten(0, 1).to(mask.device),
            attention_mask=torch.cat([wide, wide.new_ones(len(wide), longest)], 1),
            position_ids=wide.sum(-1, keepdim=True) + torch.arange(longest, device=mask.device),
            past_key_values=cache,
            use_cache=True,
        )
        after = out.logits.float().softmax(-1).cpu().unflatten(0, (n_rows, len(ends)))
        found = {}
        for path in paths:
            i = next(i for i, end in enumerate(ends) if end[: len(path)] == path)
            found[path] = after[:, i, len(path) - 1]
        return found


def number_probabilities(tree: Mapping[Path_, torch.Tensor], spelled: Mapping[str, Path_]) -> list[tuple[str, float]]:
    """(number, probability that it is said and no longer number is) for every number.

    `tree`: next-token probabilities after each proper beginning of a number; () is the first token.
    """
    longer: dict[Path_, set[int]] = {}
    for path in spelled.values():
        for n in range(len(path)):
            longer.setdefault(path[:n], set()).add(path[n])
    found = []
    for number, path in spelled.items():
        p = 1.0
        for n, token in enumerate(path):
            p *= float(tree[path[:n]][token])
        if path in longer:
            p *= max(0.0, 1 - float(tree[path][sorted(longer[path])].sum()))
        found.append((number, p))
    return found


def load_local(model: str | Path, rubrics: tuple[Rubric, ...] | None = None) -> LocalJudge:
    """A judge from "smollm2", a local folder or a hub id, on the GPUs there are (bfloat16), else on the CPU (float32).

    It is asked by `rubrics`, else by the project's of alignment and coherence. Raises InputError when it cannot be
    loaded.
    """
    asked = rubrics or read_rubrics()
    if model == EMBEDDED:
        subject = load(EMBEDDED)
        return LocalJudge(f"local-{EMBEDDED}", subject.model, subject.tokenizer, asked)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gpu = torch.cuda.is_available()
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.bfloat16 if gpu else torch.float32, device_map="auto" if gpu else None
        )
        tokenizer = AutoTokenizer.from_pretrained(model)
    except Exception as error:  # as in subject/load
        raise InputError(f"the judge model {str(model)!r} cannot be loaded: {in_a_line(error)}") from error
    return LocalJudge(f"local-{Path(model).name}", loaded.eval(), tokenizer, asked)
