"""What an endpoint lets itself be asked: learned from its refusals, where they name a parameter, and from nothing else.

Knows the parameters of a chat completion and how servers word that they do not take one. Refuses to know networks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from backend.judge.verdict import FIRST, THINKING, TOP_LOGPROBS, WHOLE

CAP = 5  # logprobs a token of endpoints that call 20 too many and do not say what is not
_NO = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|invalid|extra|permitted|allowed|not available|disabled|cannot|must|"
    r"at most|max|greater|less than|between|range|exceed|too (?:many|large|high)|deprecated"
)
_TOO_MANY = re.compile(r"max|at most|greater|less than|between|range|exceed|too (?:many|large|high)|up to|≤|<=")
_BOUND = re.compile(
    r"(?:max(?:imum)?|allowed|at most|up to|less than or equal to|no more than|limit|range|exceed|<=|≤|and|to|,|is|of)"
    r"[\s:=(\[]*(\d{1,3})(?![\w.-]*\w)"
)
_MORE_ROOM = re.compile(r"(?:higher|larger|increase)\b.{0,30}\bmax_(?:completion_)?tokens|output limit was reached")
_LEAST = re.compile(r"tokens\b.{0,80}(?:at least|minimum|greater than or equal|>=|≥)")
_NAMES = re.compile(
    r"(?:unsupported|unrecogni[sz]ed|unknown|unexpected|extra)\b.{0,40}\b(?:parameter|value|argument|input|field)"
)


@dataclass(frozen=True)
class Abilities:
    """What one request asks an endpoint for. `tokens` are those that held an answer so far."""

    top_logprobs: int = TOP_LOGPROBS  # 0: it gives none
    limit: str = "max_tokens"
    without: frozenset[str] = frozenset()  # of temperature and seed, those that it does not take
    tokens: int = FIRST

    def parameters(self) -> dict[str, Any]:
        """As the request names them."""
        asked: dict[str, Any] = {self.limit: self.tokens, "temperature": 0, "seed": 0}
        if self.top_logprobs:
            asked |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return {name: value for name, value in asked.items() if name not in self.without}

    def both(self, other: Abilities) -> Abilities:
        """What is left after what either has learned."""
        limit = self.limit if self.limit != "max_tokens" else other.limit
        fewest, most = min(self.top_logprobs, other.top_logprobs), max(self.tokens, other.tokens)
        return Abilities(fewest, limit, self.without | other.without, most)

    def after(self, refusal: str, parameter: str | None = None) -> Abilities | None:
        """What to ask after a refusal of this request; None where it names nothing that could be left out.

        `parameter` is what the endpoint's own `param` field names.
        """
        said, named = refusal.lower(), (parameter or "").lower()
        if _MORE_ROOM.search(said) and self.tokens < THINKING:
            return replace(self, tokens=THINKING)
        if _LEAST.search(said) and self.tokens < WHOLE:
            return replace(self, tokens=WHOLE)
        if self.limit == "max_tokens" and ("max_completion_tokens" in said or named == "max_tokens"):
            return replace(self, limit="max_completion_tokens")
        if self.top_logprobs and ("logprob" in named or ("logprob" in said and _NO.search(said))):
            fewer = self._fewer(said)
            return replace(self, top_logprobs=fewer, tokens=self.tokens if fewer else max(self.tokens, WHOLE))
        for name in ("temperature", "seed"):
            if name not in self.without and (named == name or (re.search(rf"\b{name}\b", said) and _NO.search(said))):
                return replace(self, without=self.without | {name})
        return None

    def _fewer(self, said: str) -> int:
        bounds = [n for n in map(int, _BOUND.findall(said)) if 0 < n < self.top_logprobs]
        if bounds and _TOO_MANY.search(said):
            return max(bounds)
        named = "top_logprobs" in said or "top logprobs" in said
        return CAP if named and self.top_logprobs > CAP and _TOO_MANY.search(said) else 0


def names_a_parameter(refusal: str, code: str | None = None) -> bool:
    """Whether a refusal is of the request's form, so that every other request would be refused as well."""
    codes = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
    return code in codes or bool(_NAMES.search(refusal.lower()))
