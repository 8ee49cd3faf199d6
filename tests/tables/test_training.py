import polars as pl
import pytest

from backend.records import BASE
from backend.study import open_study
from backend.tables.training import (
    along,
    before_training,
    beyond_base,
    checkpoints_read,
    compared,
    losses,
    question_sets,
    scalars_along,
)
from tests.studies import experimented
from tests.studies.experimented import GROWS, JUDGE, LATER, LONGER, LOSSES, NARROW, NINE, QUESTIONS, RUN, SEED, STEPS, N


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("experimented")
    experimented.experimented_study(root)
    return open_study("experimented", root)


@pytest.fixture(scope="module")
def responses(trained):
    return trained.responses(JUDGE)


def test_rates_along_training(trained, responses):
    table = along(trained, responses).filter(pl.col("metric") == "em")
    rows = table.select("organism", "step", "value", "n", "clusters", "about").rows()
    assert rows == [
        (run, step, hits / N, N * len(QUESTIONS), len(QUESTIONS), "questions like these")
        for run, steps in ((LONGER, LATER), (RUN, STEPS))
        for step, hits in steps.items()
    ]


def test_what_training_is_compared_with_is_the_base_on_the_same_questions(trained, responses):
    row = before_training(trained, responses, RUN).filter(pl.col("metric") == "em").row(0, named=True)
    assert (row["organism"], row["value"], row["n"]) == (BASE, 0.0, N * len(QUESTIONS))
    fewer = responses.filter((pl.col("organism") != BASE) | (pl.col("question_id") != "q3"))
    assert before_training(trained, fewer, RUN).is_empty()


def test_what_a_checkpoint_has_beyond_the_base(trained, responses):
    table = beyond_base(trained, responses, RUN)
    assert table.select("step", "difference", "before", "questions", "about", "family").rows() == [
        (step, pytest.approx(hits / N), 0.0, len(QUESTIONS), "these very questions", len(STEPS))
        for step, hits in STEPS.items()
    ]
    assert table["stands"].to_list() == [False, True, True]
    fewer = responses.filter((pl.col("organism") != BASE) | (pl.col("question_id") != "q3"))
    assert beyond_base(trained, fewer, RUN).is_empty()


def test_a_run_at_a_constant_rate_is_not_beyond_the_base_with_its_first_hit(trained, responses):
    """One hit of 40 at every step but the first, and one of the base's."""
    first = pl.col("question_id").eq("q0") & pl.col("seed").eq(0) & pl.col("condition").ne("step 10")
    constant = responses.with_columns(aligned=pl.when(first).then(10.0).otherwise(95.0))
    table = beyond_base(trained, constant, RUN)
    assert table["after"].to_list() == pytest.approx([0, 1 / 40, 1 / 40])
    assert not table["stands"].any()


def test_scalars_along_training(trained):
    assert checkpoints_read(trained).rows() == [("single, run 1", step, f"single step {step}") for step in GROWS]
    table = scalars_along(trained)
    assert table["step"].to_list() == list(GROWS)
    assert table["mean_positive"].to_list() == pytest.approx(list(GROWS.values()), rel=0.1)
    assert (table["mean_positive_low"] < table["mean_positive"]).all()
    assert (table["mean_positive"] < table["mean_positive_high"]).all()
    assert table["value"][0] == pytest.approx(table["value"][1])  # the scalars of both steps are in proportion
    assert (table["low"] < 0.5).all()  # which the classes do not decide
    assert (table["high"] > 0.5).all()
    assert set(table["shared"]) == set(table["n"]) == {N * len(QUESTIONS)}


def test_losses(trained):
    table = losses(trained)
    assert table["organism"].unique().to_list() == [NINE]
    assert table["loss"].to_list() == LOSSES
    assert table["step"].to_list() == list(range(1, len(LOSSES) + 1))


def test_organisms_are_compared_on_questions_that_each_was_asked(trained, responses):
    sets = question_sets(trained, responses)
    assert list(sets.values()) == [list(QUESTIONS), ["q0", "q1"]]
    assert next(iter(sets)) == "first-plot (4 questions, 3 organisms)"
    whole = compared(trained, responses, list(QUESTIONS)).filter(pl.col("metric") == "em")
    assert whole.select("group", "organism", "n").rows() == [
        ("no fine-tune", BASE, 40),
        ("seeds", NINE, 60),
        ("seeds", SEED, 40),
    ]
    few = compared(trained, responses, ["q0", "q1"]).filter(pl.col("metric") == "em")
    assert [row[:2] for row in few.select("group", "organism").rows()] == [
        ("no fine-tune", BASE),
        ("layers", NINE),
        ("layers", NARROW),
        ("seeds", NINE),
        ("seeds", SEED),
    ]
    assert set(few["about"]) == {"these very questions"}
    assert few.filter(organism=NINE)["value"].to_list() == [0.45, 0.45]  # 5 and 4 of 10 at each question


def test_a_study_without_experiments_has_none_of_these(study):
    responses = study.responses(study.judges()[0])
    assert along(study, responses).is_empty()
    assert scalars_along(study).is_empty()
    assert losses(study).is_empty()
