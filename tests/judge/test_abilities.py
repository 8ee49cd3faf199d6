"""What an endpoint does not take is learned from a refusal that names it, and from nothing else."""

from __future__ import annotations

import pytest

from backend.judge.abilities import Abilities, names_a_parameter
from backend.judge.verdict import THINKING, WHOLE

ALL = Abilities()


@pytest.mark.parametrize(
    ("refusal", "top"),
    [
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", 5),
        ("Invalid value for 'top_logprobs': must be less than or equal to 5.", 5),
        ("top_logprobs must be in the range [0, 8]", 8),
        ("top_logprobs is too large", 5),
        ("logprobs are not supported by this model", 0),
        ("This model (gpt-5-mini) does not support logprobs", 0),
    ],
)
def test_logprobs_are_asked_for_as_far_as_they_are_given(refusal: str, top: int) -> None:
    left = ALL.after(refusal)
    assert left is not None
    assert left.top_logprobs == top
    assert ("logprobs" in left.parameters()) == (top > 0)
    assert left.tokens == (1 if top else WHOLE)  # without logprobs it is the text that is read


def test_other_parameters_are_renamed_or_left_out() -> None:
    wanted = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    left = ALL.after(wanted)
    assert left is not None
    assert {"max_tokens", "max_completion_tokens"} & left.parameters().keys() == {"max_completion_tokens"}
    left = left.after("Unsupported value: 'temperature' does not support 0 with this model.", "temperature")
    assert left is not None
    assert "temperature" not in left.parameters()
    left = left.after("max_tokens or model output limit was reached. Try again with higher max_tokens.")
    assert left is not None
    assert left.parameters()["max_completion_tokens"] == THINKING


@pytest.mark.parametrize("refusal", ["odd", "The response was filtered by policy", "logprobs", ""])
def test_a_refusal_that_names_nothing_teaches_nothing(refusal: str) -> None:
    assert ALL.after(refusal) is None
    assert not names_a_parameter(refusal)


def test_learning_ends() -> None:
    for refusal in (
        "logprobs: at most 7, 3 or 1 allowed",
        "top_logprobs too large",
        "temperature and seed not supported",
    ):
        asked: Abilities | None = ALL
        for _ in range(30):
            asked = asked.after(refusal) if asked else None
        assert asked is None
