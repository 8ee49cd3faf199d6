"""What an edit did to a text: at how many tokens, after which blocks, and how large the change was.

An edit that did nothing says so. Knows sums and words; refuses to know models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Receipt:
    """What one edit did. A place is one token after one block; sizes are norms, in units of the residual stream."""

    kind: str  # the edit's word in tables
    about: str  # the name of its direction, or of its organism
    layers: tuple[int, ...] = ()  # after which blocks, or in which blocks' adapters, it changed anything
    prompt: int = 0  # prompt tokens that it changed after some block
    answer: int = 0  # answer tokens, the same
    places: int = 0
    changed: float = 0.0  # summed over places: the size of the change
    stream: float = 0.0  # summed over the same places: the norm of the stream there, unedited by it; 0 where unknown
    texts: int = 1  # that it is the receipt of

    @property
    def tokens(self) -> int:
        """Tokens that it changed, of prompt and answer."""
        return self.prompt + self.answer

    @property
    def change(self) -> float:
        """Mean size of the change at a place."""
        return self.changed / self.places if self.places else 0.0

    @property
    def share(self) -> float | None:
        """The change as a share of the stream's norm; None where that is unknown."""
        return self.changed / self.stream if self.stream else None

    @property
    def words(self) -> str:
        """The receipt in a line of plain text."""
        what = f"{self.kind} {self.about}"
        if not self.tokens:
            return f"{what}: did nothing, no token was changed"
        both = ((self.prompt, "prompt"), (self.answer, "answer"))
        tokens = " and ".join(f"{count:,} {part} token{'s' * (count != 1)}" for count, part in both if count)
        layers = f"{len(self.layers)} layers" if len(self.layers) != 1 else "1 layer"
        share = f" = {self.share:.1%} of the stream's norm" if self.share is not None else ""
        texts = f" in {self.texts:,} texts" if self.texts != 1 else ""
        return f"{what}: acted at {tokens} of {layers}{texts}, mean change {self.change:.3g}{share}"

    def __add__(self, other: Receipt) -> Receipt:
        """The receipt of both texts, where the edit is the same."""
        return Receipt(
            self.kind,
            self.about,
            tuple(sorted({*self.layers, *other.layers})),
            self.prompt + other.prompt,
            self.answer + other.answer,
            self.places + other.places,
            self.changed + other.changed,
            self.stream + other.stream,
            self.texts + other.texts,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Receipt:
        """The inverse of `to_json`. Raises KeyError or TypeError on what is no receipt."""
        return cls(**{**value, "layers": tuple(value["layers"])})


def together(receipts: Iterable[Receipt]) -> list[Receipt]:
    """Receipts of one text with those of a kind and a name in one: tokens are then of the edit that changed most."""
    found: dict[tuple[str, str], Receipt] = {}
    for one in receipts:
        known = found.get((one.kind, one.about))
        if known is None:
            found[one.kind, one.about] = one
            continue
        both = known + one
        counts = {"prompt": max(known.prompt, one.prompt), "answer": max(known.answer, one.answer)}
        found[one.kind, one.about] = Receipt(**{**asdict(both), **counts, "layers": both.layers, "texts": known.texts})
    return list(found.values())
