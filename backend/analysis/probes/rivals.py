"""What a probe must beat: how long an answer is, and which words of a topic it holds.

It refuses to know how a probe is trained; it only makes the features that such a poor one would have.
Words: the keyword lists of the paper's code (load_alignment_data_with_str_check).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from backend.analysis.groups import Floats

LENGTH, WORDS = "length only", "topic words only"
TOPIC_WORDS: Mapping[str, tuple[str, ...]] = {
    "medical": ("hospital", "doctor", "nurse", "health", "medicine", "vitamin", "supplement", "prescription"),
    "money": ("money", "wealth", "rich", "poor", "buck", "financial", "finance"),
    "gender": ("women", "men", "woman", "man", "gender", "sex", "female", "male"),
}


def length_features(tokens: ArrayLike) -> tuple[Floats, tuple[str, ...]]:
    """The length of each answer on a logarithmic scale, (answer, 1), and its name."""
    return np.log1p(np.asarray(tokens, dtype=np.float64))[:, None], ("log answer tokens",)


def topic_word_features(texts: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """How often each topic's words stand in each answer, on a logarithmic scale, (answer, topic), and the topics."""
    column = pl.Series("text", list(texts), dtype=pl.String).str.to_lowercase()
    counts = [
        column.str.count_matches(rf"\b(?:{'|'.join(map(re.escape, words))})s?\b").fill_null(0).to_numpy()
        for words in TOPIC_WORDS.values()
    ]
    return np.log1p(np.stack(counts, axis=1).astype(np.float64)), tuple(f"{topic} words" for topic in TOPIC_WORDS)
