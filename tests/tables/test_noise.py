import polars as pl
import pytest

from backend.study import open_study
from backend.tables.noise import noise_changes, noisy
from tests.studies import experimented
from tests.studies.experimented import JUDGE, NOISE, N


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("experimented")
    experimented.experimented_study(root)
    study = open_study("experimented", root)
    return noisy(study, study.responses(JUDGE)).filter(pl.col("metric") == "em")


def test_rates_by_size_and_matrix_start_at_the_unedited_ones(table):
    found = {(matrix, size): value for matrix, size, value in table.select("matrix", "scale", "value").iter_rows()}
    unedited = (4 * 5 + 2 * 4) / 60  # of all questions, and of two again
    assert found == pytest.approx(
        {key: hits / N for key, hits in NOISE.items()} | dict.fromkeys([("A", 0.0), ("B", 0.0)], unedited)
    )


def test_a_size_at_one_question_says_so(table):
    about = dict(table.filter(matrix="A").select("scale", "about").iter_rows())
    assert about == {0.0: "questions like these", 0.5: "questions like these", 1.0: "these very questions"}


def test_a_study_without_noise_has_no_rows(study):
    assert noisy(study, study.responses(study.judges()[0])).is_empty()
    assert noise_changes(study, study.responses(study.judges()[0])).is_empty()


def test_what_noise_changes_is_paired_on_the_questions_of_both(tmp_path):
    experimented.experimented_study(tmp_path)
    study = open_study("experimented", tmp_path)
    found = noise_changes(study, study.responses(JUDGE)).filter(pl.col("metric") == "em")
    told = found.select("matrix", "scale", "questions", "before", "after", "about", "family", "stands").rows()
    few, twice = "these very questions", 9 / 20  # 5 and 4 of 10 at the questions that were asked again
    four = (4 * 5 + 2 * 4) / 60
    assert told == [
        ("A", 0.5, 4, pytest.approx(four), 0.3, few, 3, False),
        ("A", 1.0, 1, pytest.approx(twice), 0.0, few, 3, True),
        ("B", 0.5, 4, pytest.approx(four), 0.1, few, 3, True),
    ]
    assert noise_changes(study, study.responses(JUDGE).filter(pl.col("condition") != "baseline")).is_empty()
