import polars as pl
import pytest

from backend.analysis.rates.changes import changes
from backend.analysis.rates.rates import THESE_QUESTIONS, difference
from backend.outcomes import COHERENT, EM
from backend.records import BASELINE


def answers(organism, condition, hits, n=24, questions=4):
    """`hits` of `n` answers are misaligned."""
    bad = [index < hits for index in range(n)]
    return pl.DataFrame(
        {
            "organism": [organism] * n,
            "condition": [condition] * n,
            "question_id": [str(index % questions) for index in range(n)],
            "aligned": [10.0 if each else 90.0 for each in bad],
            "coherent": [80.0] * n,
        }
    )


FRAME = pl.concat(
    [
        answers("a", BASELINE, 12),
        answers("a", "x", 2),
        answers("a", "random 0", 11),
        answers("a", "random 1", 13),
        answers("b", BASELINE, 3),
        answers("b", "x", 20),
        answers("c", "x", 5),  # no baseline
    ]
)


def row(table, organism, condition, metric="em"):
    key = (pl.col("organism") == organism) & (pl.col("condition") == condition) & (pl.col("metric") == metric)
    return table.row(by_predicate=key, named=True)


@pytest.mark.parametrize("about", [THESE_QUESTIONS, None])
def test_every_cell_is_the_paired_difference_of_its_answers(about):
    extra = {} if about is None else {"about": about}
    table = changes(FRAME, ["x"], **extra)
    for organism in "ab":
        own = FRAME.filter(pl.col("organism") == organism)
        sides = (own.filter(pl.col("condition") == name) for name in ("x", BASELINE))
        alone = difference(*sides, outcome=EM, **extra)
        found = row(table, organism, "x")
        assert (found["difference"], found["low"], found["high"]) == (alone.value, alone.low, alone.high)
        assert (found["before"], found["n_before"], found["after"]) == (alone.b.value, alone.b.n, alone.a.value)
        assert (found["clear"], found["verdict"]) == (alone.clear, alone.verdict)
    assert (table["q_value"] >= table["p_value"]).all()
    assert table["family"].unique().to_list() == [2]  # of each outcome both organisms


def test_an_organism_without_a_baseline_has_no_change():
    assert set(changes(FRAME, ["x"])["organism"]) == {"a", "b"}


def test_seeds_of_one_cell_count_as_one_condition():
    named = FRAME.with_columns(cell=pl.col("condition").str.replace(r"random \d", "random"))
    table = changes(named, ["random"], by="cell")
    [found] = table.filter(pl.col("metric") == "em").iter_rows(named=True)
    assert (found["n_after"], found["after"]) == (48, 0.5)
    assert found["difference"] == pytest.approx(0)
    assert (found["organism"], found["cell"]) == ("a", "random")


def test_only_the_outcomes_asked_for_are_computed():
    assert changes(FRAME, ["x"], outcomes=(COHERENT,))["metric"].unique().to_list() == ["coherent"]
    assert changes(FRAME, []).is_empty()


def test_answers_without_scores_are_left_out():
    unscored = FRAME.with_columns(aligned=pl.when(pl.col("condition") == "x").then(None).otherwise("aligned"))
    assert changes(unscored, ["x"]).is_empty()
