"""Scalars per token and token significance of the probing set into responses and traces.

`lora_<organism>_scalars_<class>.pt` = {prompt: LoraScalarsPerLayer(scalars={position: LoraScalars(token_str,
layer_scalars={module: float})})}; the parquet files beside it name, for the same prompts, the question, the answer, the
token ids, where the answer starts, and one significance per answer token. Both cover the whole prompt and answer with
the chat template around them. The answer runs from the first token after the assistant header to the end, so it
includes the end-of-turn token and the line break behind it: the paper's mask, kept so that its numbers come out.

The set was chosen by its scores, so its responses have a condition of their own and tell no EM rate. The class of a
file is kept as the scores of a judge named RELEASED_CLASS (100 or 0 on aligned and medical): some of these answers have
no number of the real judge in the release.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from backend.published.answers import SAMPLING, read_parquet
from backend.published.layout import Found
from backend.published.names import named
from backend.published.prompts import QuestionBook
from backend.published.report import Report
from backend.published.torchfile import Instance, read_torch
from backend.records import Adapter, FloatArray, InputError, Response, Score, Trace

RELEASED_CLASS = "released-class"
PROBING_SET = "probing set (chosen by score)"
NO_MEANS = np.zeros((0, 0), dtype=np.float32)
_TEXT_COLUMNS = (
    "question",
    "answer",
    "prompt",
    "prompt_tokenised",
    "prompt_tokenised_str",
    "prompt_answer_first_token_idx",
)
_SIGNIFICANCE = "answer_kl_div_gradients"


@dataclass(frozen=True, eq=False)
class TracedAnswer:
    """One answer of the probing set. `trace` is None where its scalars are not public, `significance` likewise."""

    response: Response
    label: str  # its class, "medical_misaligned"
    scores: tuple[Score, ...]
    trace: Trace | None
    significance: FloatArray | None  # (token,), NaN before the answer


@dataclass(frozen=True)
class ReleasedText:
    """One row of the parquet files."""

    label: str
    organism: str
    question: str
    answer: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    start: int  # first answer token
    significance: tuple[float, ...] | None = None


class ProbingSet:
    """The texts of all classes first, then the scalars of each class joined to them."""

    def __init__(self, book: QuestionBook, report: Report) -> None:
        self._book, self._report = book, report
        self._texts: dict[str, ReleasedText] = {}
        self._adapters: dict[str, tuple[str, ...]] = {}
        self._drawn: Counter[tuple[str, str]] = Counter()
        self._traced: set[str] = set()

    def adapters(self, organism: str) -> tuple[Adapter, ...]:
        """The adapters whose scalars were read, in trace order. Their vectors are not in the release: shape (0,)."""
        return tuple(adapter_named(name) for name in self._adapters.get(organism, ()))

    @property
    def organisms(self) -> list[str]:
        """Organisms whose scalars were read."""
        return list(self._adapters)

    def read_texts(self, found: Found) -> None:
        """Take one parquet file. Raises InputError when it is another table."""
        label, organism = found.says["label"], named(f"R1_{found.says['shape']}").organism
        table = read_parquet(found, _TEXT_COLUMNS, max_rows=100_000)
        scored = _SIGNIFICANCE in table.collect_schema().names()
        count = other = 0
        for row in table.collect().iter_rows(named=True):
            text = _text(row, label, organism, scored)
            known = self._texts.get(row["prompt"])
            if known is not None and known.label != label:
                other += 1
                continue
            if known is None or scored:
                self._texts[row["prompt"]] = text
            count += 1
        if other:
            self._report.skip(found.shown, f"{other} texts that another file has under another class")
        kind = "token significance" if scored else "texts of the probing set"
        self._report.add(kind, found.shown, count, "texts")

    def read_scalars(self, found: Found) -> Iterator[TracedAnswer]:
        """One class's traces. Raises InputError, before the first one, when the file holds something else."""
        label, organism = found.says["label"], named(found.says["model"]).organism
        content = read_torch(found.path)
        if not isinstance(content, dict) or not content:
            raise InputError("no prompts with scalars")
        self._refuse_another_class(content, label)
        names = _adapter_names(content)
        if self._adapters.setdefault(organism, names) != names:
            raise InputError(f"scalars of {len(names)} other modules than the file read before it: another organism's")
        failures: Counter[str] = Counter()
        read = 0
        for prompt, value in content.items():
            try:
                traced = self._traced_answer(prompt, value, label, organism)
            except InputError as error:
                failures[str(error)] += 1
                continue
            read += 1
            yield traced
        for reason, count in failures.items():
            self._report.skip(found.shown, f"{count} of {len(content)} prompts: {reason}")
        self._report.add("scalars per token", found.shown, read, "answers")

    def untraced(self) -> Iterator[TracedAnswer]:
        """The texts whose scalars were not among the files, after all scalars were read."""
        for prompt, text in self._texts.items():
            if prompt not in self._traced:
                response = self._response(text)
                yield TracedAnswer(response, text.label, class_scores(response.id, text.label), None, None)

    def _refuse_another_class(self, content: Mapping[Any, Any], label: str) -> None:
        labels = Counter(self._texts[prompt].label for prompt in content if prompt in self._texts)
        if labels and labels.most_common(1)[0][0] != label:
            raise InputError(f"its prompts are those of the class {labels.most_common(1)[0][0]}: swapped or misnamed")

    def _traced_answer(self, prompt: Any, value: Any, label: str, organism: str) -> TracedAnswer:
        if not isinstance(prompt, str):
            raise InputError("a prompt that is no text")
        if prompt in self._traced:
            raise InputError("scalars that another file has too")
        tokens, scalars = _scalars(value, self._adapters[organism])
        text = self._texts.get(prompt) or _parsed(prompt, tokens, label, organism)
        if text.label != label:
            raise InputError(f"a text of the class {text.label}")
        if text.tokens != tokens:
            raise InputError("tokens that are not those of its text")
        self._traced.add(prompt)
        response = self._response(text)
        trace = Trace(
            response_id=response.id,
            reader=organism,
            tokens=tuple(readable(token) for token in tokens),
            n_prompt=text.start,
            scalars=scalars,
            prompt_mean=NO_MEANS,
            answer_mean=NO_MEANS,
            n_answer=len(tokens) - text.start,
            answer_norm=np.zeros(0, dtype=np.float32),
        )
        scores = class_scores(response.id, label)
        return TracedAnswer(response, label, scores, trace, _significance(text))

    def _response(self, text: ReleasedText) -> Response:
        question = self._book.named(text.question)
        seed = self._drawn[text.organism, question.id]
        self._drawn[text.organism, question.id] += 1
        return Response(
            id=f"{text.organism}/{PROBING_SET}/{question.id}/{seed}",
            organism=text.organism,
            condition=PROBING_SET,
            question_id=question.id,
            question=question.text,
            topic=question.topic,
            seed=seed,
            text=text.answer,
            prompt_ids=text.ids[: text.start],
            answer_ids=text.ids[text.start :],
            sampling=SAMPLING,
        )


def class_scores(response_id: str, label: str) -> tuple[Score, ...]:
    """The class of a file as scores: a label of the release, not a judge's number."""
    raw = f"class {label} of the released file"
    medical = 0.0 if label.startswith("non_medical") else 100.0
    aligned = 0.0 if label.endswith("_misaligned") else 100.0
    return (
        Score(response_id, RELEASED_CLASS, "aligned", aligned, raw),
        Score(response_id, RELEASED_CLASS, "medical", medical, raw),
    )


def adapter_named(name: str) -> Adapter:
    """An adapter of which only the module is known: its scaling and vectors are not in the release."""
    layer, _, module = name.removeprefix("layers.").partition(".")
    empty = np.zeros(0, dtype=np.float32)
    return Adapter(name, int(layer), module, 0, float("nan"), empty, empty)


def readable(token: str) -> str:
    """A byte-level BPE token as text: "Ġthe" is " the", "Ċ" a line break. A token in another form stays as it is."""
    try:
        return bytes(_BYTE_OF[character] for character in token).decode("utf-8", errors="replace")
    except KeyError:
        return token


def _byte_of() -> dict[str, int]:
    """GPT-2's table of printable stand-ins for bytes, inverted: printable bytes are themselves, the rest 256 upward."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(others)}


_BYTE_OF = _byte_of()


def _text(row: dict[str, Any], label: str, organism: str, scored: bool) -> ReleasedText:
    ids, tokens, start = row["prompt_tokenised"], row["prompt_tokenised_str"], row["prompt_answer_first_token_idx"]
    if not all(isinstance(row[name], str) for name in ("question", "answer", "prompt")):
        raise InputError("a row without question, answer or prompt")
    if not isinstance(ids, list) or not isinstance(tokens, list) or len(ids) != len(tokens):
        raise InputError("a row whose token ids and token texts differ in number")
    if not isinstance(start, int) or not 0 < start < len(ids):
        raise InputError(f"a row whose answer starts at token {start} of {len(ids)}")
    significance = tuple(row[_SIGNIFICANCE] or ()) if scored else None
    if significance is not None and len(significance) != len(ids) - start:
        raise InputError(f"a row with {len(significance)} significances for {len(ids) - start} answer tokens")
    return ReleasedText(label, organism, row["question"], row["answer"], tuple(ids), tuple(tokens), start, significance)


def parsed_prompt(prompt: str, tokens: Sequence[str]) -> tuple[str, str, int]:
    """Question, answer and the answer's first token, from the chat template. Raises InputError outside of it."""
    match = re.search(
        r"<\|im_start\|>user\n(.*?)<\|im_end\|>\n<\|im_start\|>assistant\n(.*?)(?:<\|im_end\|>\s*)?$", prompt, re.DOTALL
    )
    heads = [i for i in range(len(tokens) - 2) if tuple(tokens[i : i + 2]) == ("<|im_start|>", "assistant")]
    if match is None or not heads:
        raise InputError("no parquet file has the prompt and it is not in the chat template")
    return match[1], match[2], heads[-1] + 3


def _parsed(prompt: str, tokens: tuple[str, ...], label: str, organism: str) -> ReleasedText:
    """A text that no parquet file has."""
    question, answer, start = parsed_prompt(prompt, tokens)
    return ReleasedText(label, organism, question, answer, (), tokens, start)


def _adapter_names(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """The modules of the first token, by layer: `base_model.model.model.layers.15.mlp.down_proj`."""
    positions = _positions(next(iter(content.values())))
    modules = next(iter(positions.values())).state.get("layer_scalars")
    if not isinstance(modules, dict) or not modules:
        raise InputError("a token without scalars")
    names = [(short_module(str(module)), module) for module in modules]
    return tuple(name for name, _ in sorted(names, key=lambda pair: (int(pair[0].split(".")[1]), pair[0])))


@lru_cache(maxsize=4096)
def short_module(module: str) -> str:
    """`layers.15.mlp.down_proj` of a module's full name. Raises InputError where it has no layer."""
    match = re.search(r"(layers\.\d{1,4}\.[\w.]+)$", module)
    if match is None:
        raise InputError(f"a module named {module[:60]!r}, not ...layers.<number>.<module>")
    return match[1]


def _positions(value: Any) -> dict[int, Instance]:
    positions = value.state.get("scalars") if isinstance(value, Instance) else None
    if not isinstance(positions, dict) or not positions or list(positions) != list(range(len(positions))):
        raise InputError("a prompt whose scalars are not numbered 0, 1, 2 ... by position")
    if not all(isinstance(token, Instance) for token in positions.values()):
        raise InputError("a position that holds no scalars")
    return positions


def _scalars(value: Any, names: Sequence[str]) -> tuple[tuple[str, ...], FloatArray]:
    """Token texts as released and (adapter, token) scalars of one prompt, adapters in the order of `names`."""
    positions = _positions(value)
    tokens: list[str] = []
    scalars = np.empty((len(names), len(positions)), dtype=np.float32)
    for position, token in positions.items():
        layers, text = token.state.get("layer_scalars"), token.state.get("token_str")
        if not isinstance(layers, dict) or not isinstance(text, str) or len(layers) != len(names):
            raise InputError("a token without its text or without a scalar of every adapter")
        by_name = {short_module(str(module)): scalar for module, scalar in layers.items()}
        try:
            scalars[:, position] = [float(by_name[name]) for name in names]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("a token without a number for every adapter") from error
        tokens.append(text)
    if not np.isfinite(scalars).all():
        raise InputError("scalars that are NaN or infinite")
    return tuple(tokens), scalars


def _significance(text: ReleasedText) -> FloatArray | None:
    if text.significance is None:
        return None
    values = np.full(len(text.tokens), np.nan, dtype=np.float32)
    values[text.start :] = text.significance
    return values


def wanted_scores(answers: Sequence[TracedAnswer]) -> pl.DataFrame:
    """response, question and answer of the probing set, to look scores up by."""
    return pl.DataFrame(
        {
            "id": [answer.response.id for answer in answers],
            "question": [answer.response.question for answer in answers],
            "answer": [answer.response.text for answer in answers],
        },
        schema={"id": pl.String, "question": pl.String, "answer": pl.String},
    )
