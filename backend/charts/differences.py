"""Two texts beside each other, what only one of them says marked, as HTML that is safe to show.

It refuses to know where the texts come from.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher

from markupsafe import Markup, escape

from backend.charts.palette import CHOSEN, css
from backend.charts.strip import plain_text

MOST_PAIRS = 60_000  # of equal words that are tried: texts with more, as long loops are, are shown without marks
_WORD = re.compile(r"\s*\S+")
_MARK = Markup('<mark style="color:inherit;text-decoration:underline;background:{}">{}</mark>')


@dataclass(frozen=True)
class Differing:
    """Two texts with their differences marked, and how much of them is the same, in words."""

    left: str
    right: str
    begins: int  # words that both begin with
    shared: int  # words that stand in both, in the same order
    words: int  # of the longer text
    marked: bool = True  # False where the texts are too long, or repeat themselves too often, to be compared


def differing(left: str, right: str) -> Differing:
    """Mark the words of each text that the other lacks at that place."""
    ours, theirs = _WORD.findall(left), _WORD.findall(right)
    longest = max(len(ours), len(theirs))
    there = Counter(_bare(theirs))
    if sum(there[word] for word in _bare(ours)) > MOST_PAIRS:
        return Differing(plain_text(left), plain_text(right), 0, 0, longest, marked=False)
    same = SequenceMatcher(None, _bare(ours), _bare(theirs), autojunk=False).get_matching_blocks()
    first = same[0]
    return Differing(
        _shown(ours, [(block.a, block.size) for block in same], left),
        _shown(theirs, [(block.b, block.size) for block in same], right),
        first.size if first.a == first.b == 0 else 0,
        sum(block.size for block in same),
        longest,
    )


def _bare(words: list[str]) -> list[str]:
    return [word.strip() for word in words]


def _shown(words: list[str], same: list[tuple[int, int]], text: str) -> str:
    """The text, its words outside the runs `same` of (first, count) marked."""
    parts, at = [Markup("")], 0
    for first, count in same:
        if first > at:
            other = "".join(words[at:first])
            ahead = other[: len(other) - len(other.lstrip())]  # a mark begins at a word
            parts += [escape(ahead), _MARK.format(css(CHOSEN, 0.22), other[len(ahead) :])]
        parts.append(escape("".join(words[first : first + count])))
        at = first + count
    parts.append(escape(text[len("".join(words)) :]))
    return plain_text(Markup("").join(parts))
