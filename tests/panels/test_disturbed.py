"""What is said of noise on adapters: against an unedited rate with hits, on its questions, where the fall stands."""

import polars as pl
import pytest

from panels.disturbed import noise_in_words


def rates(*sizes):
    """Rates on A: (ε, value, low, high, hits)."""
    table = pl.DataFrame(sizes, ["scale", "value", "low", "high", "hits"], orient="row")
    return table.with_columns(matrix=pl.lit("A"), n=pl.lit(100))


def changed(*sizes):
    """Changes on A: (ε, before, after, stands)."""
    table = pl.DataFrame(sizes, ["scale", "before", "after", "stands"], orient="row")
    return table.with_columns(matrix=pl.lit("A"), difference=pl.col("after") - pl.col("before"))


UNEDITED = (0.0, 0.4, 0.3, 0.5, 40)
AFTER = (0.5, 0.1, 0.05, 0.2, 10), (1.0, 0.0, 0.0, 0.1, 0)
NOT_SHOWN = "with noise on **A** not shown to be half of it or less."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            ((0.5, 0.4, 0.1, True), (1.0, 0.4, 0.0, True)),
            "half of it or less from ε = 0.5 on (10.0 % (5.0–20.0, n = 100))",
        ),
        (((0.5, 0.4, 0.1, True), (1.0, 0.4, 0.0, True)), "none from ε = 1 on (0.0 % (0.0–10.0, n = 100))."),
        (((0.5, 0.4, 0.1, False), (1.0, 0.4, 0.0, True)), "**A** half of it or less from ε = 1 on (0.0 %"),
        (((0.5, 0.4, 0.1, True), (1.0, 0.4, 0.0, False)), NOT_SHOWN),  # by point estimates it would be none
        (((0.5, 0.4, 0.1, True), (1.0, 0.0, 0.0, None)), NOT_SHOWN),  # its own questions had no hits before
        (((0.5, 0.4, 0.3, True), (1.0, 0.4, 0.21, True)), NOT_SHOWN),
    ],
)
def test_half_and_none_are_said_where_the_fall_stands(changes, words):
    said = noise_in_words(rates(UNEDITED, *AFTER), changed(*changes), "it")
    assert said.startswith("it has 40.0 % (30.0–50.0, n = 100) EM without noise; ")
    assert words in said


def test_without_hits_or_without_an_unedited_rate_nothing_falls():
    changes = changed((0.5, 0.0, 0.0, True))
    said = noise_in_words(rates((0.0, 0.0, 0.0, 0.1, 0), *AFTER), changes, "it")
    assert said == "it has 0.0 % (0.0–10.0, n = 100) EM without noise: there is nothing that noise could take away."
    assert "is not known" in noise_in_words(rates(*AFTER), changes, "it")
    assert "is not known" in noise_in_words(rates(UNEDITED, *AFTER), changes.clear(), "it")
