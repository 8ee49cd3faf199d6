import numpy as np
import polars as pl
import pytest

from backend.pipeline.figures_only import publish_figures
from backend.tables.training import beyond_base, scalars_along
from tests.conftest import said
from tests.published.authors import ROOT
from tests.studies.experimented import experimented_study


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    root = tmp_path_factory.mktemp("experiments")
    experimented_study(root)
    publish_figures(ROOT / "cache" / "paper", "paper", root)
    return root


@pytest.fixture
def opened(open_page, experiments, monkeypatch):
    def run(study, **query):
        monkeypatch.setenv("EM_STUDIES", str(experiments))
        monkeypatch.setenv("EM_STUDY", study)
        page = open_page("training", **query)
        assert not page.exception
        return page

    return run


def test_the_page_says_when_a_run_becomes_misaligned_with_n_and_the_control(opened):
    longer = said(opened("experimented"))
    assert "**longer run** has 10.0 % (" in longer
    assert "at step 20, is above the base from step 40 on (on these very questions, among 2 steps), 30.0 % (" in longer
    text = said(opened("experimented", training_run="run"))
    assert "at step 10, is above the base from step 20 on (on these very questions, among 3 steps), 20.0 % (" in text
    assert "n = 40), and **60.0 % EM** at the last, step 30 (" in text
    assert "without training 0.0 % (0.0–" in text
    assert "4 questions; intervals are for questions like these" in text
    assert "the dashed line is base on the same questions" in text
    assert "nine 3.00 → 1.00 (100 steps)" in text


def test_without_a_base_the_step_of_the_first_hit_is_told(opened, monkeypatch):
    monkeypatch.setattr("backend.tables.training.beyond_base", lambda *_: pl.DataFrame())
    text = said(opened("experimented", training_run="run"))
    assert "at step 10, has its first EM answer at step 20, 20.0 % (" in text


@pytest.mark.parametrize(
    ("stands", "words"),
    [
        ([False, True, False], "**run** goes from 0.0 % ("),  # what does not last is no rise
        ([False, False, True], "at step 10, is above the base from step 30 on ("),
        ([False, False, None], "**run** goes from 0.0 % ("),
    ],
)
def test_a_run_rises_from_where_on_it_stands_above_the_base(opened, monkeypatch, stands, words):
    change = pl.Series("stands", stands, dtype=pl.Boolean)
    monkeypatch.setattr("backend.tables.training.beyond_base", lambda *given: beyond_base(*given).with_columns(change))
    assert words in said(opened("experimented", training_run="run"))


@pytest.mark.parametrize("where", ["first", "last", "both"])
def test_a_step_with_few_questions_of_a_class_has_no_interval(opened, monkeypatch, where):
    real = scalars_along

    def few(study):
        table = real(study)
        lacks = pl.col("step").is_in([10] if where == "first" else [20] if where == "last" else [10, 20])
        gone = [pl.when(lacks).then(None).otherwise(pl.col(name)).alias(name) for name in ("low", "high")]
        none = [
            pl.when(lacks).then(np.nan).otherwise(pl.col(name)).alias(name)
            for name in ("mean_positive_low", "mean_positive_high")
        ]
        return table.with_columns(*gone, *none)

    monkeypatch.setattr("backend.tables.training.scalars_along", few)
    text = said(opened("experimented"))
    assert "whether that is a change is not known" in text
    assert "nan" not in text
    assert "None" not in text


def test_a_step_whose_texts_are_of_one_class_has_no_auc(opened, monkeypatch):
    real = scalars_along
    null = [pl.lit(None, pl.Float64).alias(name) for name in ("value", "low", "high")]
    monkeypatch.setattr("backend.tables.training.scalars_along", lambda study: real(study).with_columns(null))
    assert "goes from an AUC of not known to **not known**" in said(opened("experimented"))


def test_two_questions_are_said_to_be_these_very_ones(opened):
    page = opened("experimented", training_questions="q0, q1 (2 questions, 4 organisms)")
    text = said(page)
    assert "2 questions, so intervals are for these very questions alone" in text
    assert "nine has the most EM, **45.0 %" in text
    assert "narrow the least, **0.0 %" in text


def test_the_paper_along_training(opened):
    text = said(opened("paper")).replace("\\", "")
    assert (
        "is above the base from step 150 on (on these very questions, among 8 steps), 5.0 % (2.8–15.9, n = 300)" in text
    )
    assert "**23.7 % EM** at the last, step 396" in text
    assert "The steps read different samples of texts: 3 are common to all." in text
    assert "a change that the intervals do not show" in text
    assert "risky-financial-advice has the most EM, **35.5 %" in text
    assert "dpR1_24 the least, **0.0 %" in text


def test_a_study_without_experiments_says_so_and_what_to_do(open_page):
    page = open_page("training")
    assert not page.exception
    text = said(page).replace("\\", "")
    assert "Study synthetic has no answers of checkpoints along a training run." in text
    assert "Study synthetic has no texts that were read by checkpoints of one run." in text
