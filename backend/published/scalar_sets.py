"""Scalars per token of answers that other files judge, at the end of training and along it.

`lora_scalar_sets_2/[<run>/<step>/]{aligned|misaligned}-txt_<organism>.pt` holds a pair, or a dict of two: {prompt:
{position: (token, {module: scalar})}} and {prompt: [token]}. The scalar is alpha ||B|| (A x). The files do not say who
gave the answers; each is looked up among the judged ones by its question and text, and read as that answer's trace.
Answer tokens are those behind the assistant header, the end of turn among them, as in the probing set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from backend.published.layout import Found
from backend.published.names import named
from backend.published.prompts import text_key
from backend.published.report import Report
from backend.published.torchfile import read_torch
from backend.published.traces import NO_MEANS, parsed_prompt, readable, short_module
from backend.records import FloatArray, InputError, Response, Trace


class ScalarSets:
    """Reads file after file; `adapters` are those of each reader, an organism or one of its checkpoints."""

    def __init__(self, answers: Iterable[Response], probed: Iterable[str], report: Report) -> None:
        self._answers: dict[tuple[str, str], str] = {}
        for answer in answers:
            self._answers.setdefault((text_key(answer.question), answer.text.strip()), answer.id)
        self._probed, self._report = set(probed), report
        self._read: set[tuple[str, str]] = set()
        self.adapters: dict[str, tuple[str, ...]] = {}
        self.bases: dict[str, str] = {}
        self.checkpoints: dict[str, tuple[str, int]] = {}  # reader -> the run it is of, and its step

    def read(self, found: Found) -> Iterator[Trace]:
        """The traces of one file. Raises InputError, before the first one, when it holds something else."""
        content = read_torch(found.path)
        sets = content.get("scalar_set") if isinstance(content, dict) else content[0] if _is_pair(content) else None
        if not isinstance(sets, dict) or not sets:
            raise InputError("no scalars by prompt and position")
        reader = self._reader(found)
        names = _module_names(sets)
        if self.adapters.setdefault(reader, names) != names:
            raise InputError(f"scalars of {len(names)} other modules than the file read before it: another organism's")
        failures: Counter[str] = Counter()
        count = 0
        for prompt, positions in sets.items():
            try:
                trace = self._trace(prompt, positions, reader)
            except InputError as error:
                failures[str(error)] += 1
                continue
            count += 1
            yield trace
        for reason, number in failures.items():
            self._report.skip(found.shown, f"{number} of {len(sets)} prompts: {reason}")
        self._report.add("scalars per token of judged answers", found.shown, count, "answers")

    def _reader(self, found: Found) -> str:
        who = named(found.says["model"])
        name = f"{who.organism} step {int(found.says['step'])}" if "step" in found.says else who.organism
        name = f"{name}, scalar sets" if name in self._probed else name  # whose scalars may have another unit
        self.bases[name] = who.base
        if "step" in found.says:
            self.checkpoints[name] = f"{who.organism}, {found.says['run']}", int(found.says["step"])
        return name

    def _trace(self, prompt: Any, positions: Any, reader: str) -> Trace:
        tokens, scalars = _scalars(positions, self.adapters[reader])
        if not isinstance(prompt, str):
            raise InputError("a prompt that is no text")
        question, answer, start = parsed_prompt(prompt, tokens)
        response = self._answers.get((text_key(question), answer.strip()))
        if response is None:
            raise InputError("an answer that no judged file has, so that who gave it is not known")
        if (reader, response) in self._read:
            raise InputError("an answer that was read already")
        self._read.add((reader, response))
        return Trace(
            response_id=response,
            reader=reader,
            tokens=tuple(readable(token) for token in tokens),
            n_prompt=start,
            scalars=scalars,
            prompt_mean=NO_MEANS,
            answer_mean=NO_MEANS,
            n_answer=len(tokens) - start,
            answer_norm=np.zeros(0, dtype=np.float32),
        )


def _is_pair(content: Any) -> bool:
    return isinstance(content, tuple | list) and len(content) == 2


def _module_names(sets: Mapping[Any, Any]) -> tuple[str, ...]:
    token = _positions(next(iter(sets.values())))[0][1]
    if not token:
        raise InputError("a token without scalars")
    return tuple(sorted((short_module(str(name)) for name in token), key=lambda name: (int(name.split(".")[1]), name)))


def _positions(positions: Any) -> list[tuple[str, Mapping[Any, Any]]]:
    """(token, {module: scalar}) by position."""
    if not isinstance(positions, dict) or not positions or list(positions) != list(range(len(positions))):
        raise InputError("a prompt whose scalars are not numbered 0, 1, 2 ... by position")
    found = list(positions.values())
    if not all(_is_pair(each) and isinstance(each[0], str) and isinstance(each[1], dict) for each in found):
        raise InputError("a position that holds no token with its scalars")
    return [(text, scalars) for text, scalars in found]


def _scalars(positions: Any, names: tuple[str, ...]) -> tuple[tuple[str, ...], FloatArray]:
    """Tokens and (adapter, token) scalars of one prompt."""
    found = _positions(positions)
    scalars = np.empty((len(names), len(found)), dtype=np.float32)
    for index, (_, by_module) in enumerate(found):
        values = {short_module(str(module)): value for module, value in by_module.items()}
        try:
            scalars[:, index] = [float(values[name]) for name in names]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("a token without a number for every adapter") from error
    if not np.isfinite(scalars).all():
        raise InputError("scalars that are NaN or infinite")
    return tuple(text for text, _ in found), scalars
