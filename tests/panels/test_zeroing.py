"""What is said of what scalars tell: only what stands among all adapters and contrasts."""

import polars as pl

from panels.zeroing import telling_in_words


def rows(*told):
    """(label, contrast, AUC, low, high, stands)."""
    return pl.DataFrame(told, ["label", "contrast", "value", "low", "high", "stands"], orient="row").with_columns(
        family=pl.lit(36)
    )


def test_the_largest_of_several_contrasts_is_told_where_it_stands():
    table = rows(
        ("L1", "a", 0.7, 0.52, 0.85, False),  # clear by its own interval alone
        ("L1", "b", 0.6, 0.4, 0.75, False),
        ("L3", "a", 0.6, 0.4, 0.75, False),
        ("L2", "a", 0.9, 0.4, 1.0, False),
        ("L2", "b", 0.8, 0.7, 0.9, True),
    )
    assert telling_in_words(table, ["L1", "L2"]) == (
        "L1, of the largest effect, may tell a, AUC 0.70 (0.52–0.85): clear alone, not among all 36 adapters and "
        "contrasts; L2, the next, tells b, AUC 0.80 (0.70–0.90)."
    )
    assert "L3, of the largest effect, tells nothing clearly (best: a, AUC 0.60 (" in telling_in_words(table, ["L3"])


def test_what_has_no_interval_or_no_value_is_said_so():
    table = rows(("L1", "a", 0.7, None, None, None), ("L2", "a", None, None, None, None))
    said = telling_in_words(table, ["L1", "L2"])
    assert said == (
        "L1, of the largest effect, tells nothing clearly (best: a, AUC 0.70); what L2, the next, tells is not known."
    )
