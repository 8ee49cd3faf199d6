import pytest

from backend.pipeline.figures_only import publish_figures
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
    assert "**longer run** goes from 10.0 % (" in longer
    assert "at step 20 to **30.0 % (" in longer
    text = said(opened("experimented", training_run="run"))
    assert "**run** has the first EM answers at step 20, 20.0 % (" in text
    assert "n = 40), and **60.0 % EM** at the last, step 30" in text
    assert "without training 0.0 % (0.0–" in text
    assert "4 questions; intervals are for questions like these" in text
    assert "the dashed line is base on the same questions" in text
    assert "nine 3.00 → 1.00 (100 steps)" in text


def test_two_questions_are_said_to_be_these_very_ones(opened):
    page = opened("experimented", training_questions="q0, q1 (2 questions, 4 organisms)")
    text = said(page)
    assert "2 questions, so intervals are for these very questions alone" in text
    assert "nine has the most EM, **45.0 %" in text
    assert "narrow the least, **0.0 %" in text


def test_the_paper_along_training(opened):
    text = said(opened("paper")).replace("\\", "")
    assert "has the first EM answers at step 150, 5.0 % (2.8–15.9, n = 300)" in text
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
