import polars as pl
import pytest

from backend.study import open_study
from backend.tables.zeroed import _label, labels_of_units, zeroed
from tests.studies import experimented
from tests.studies.experimented import IN_ZEROING, JUDGE, NINE, ZEROED, N


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("experimented")
    experimented.experimented_study(root)
    study = open_study("experimented", root)
    return zeroed(study, study.responses(JUDGE)).filter(pl.col("metric") == "em")


def test_each_is_compared_with_the_unedited_answers_of_its_experiment(table):
    assert table["organism"].unique().to_list() == [NINE]
    assert table["label"].to_list() == ["L1", "L2", "L4", "L1–2"]
    assert table["before"].to_list() == [IN_ZEROING / N] * 4
    assert table["n_before"].to_list() == [2 * N] * 4
    assert table["after"].to_list() == [hits / N for hits in ZEROED.values()]
    assert table["difference"].to_list() == pytest.approx([(hits - IN_ZEROING) / N for hits in ZEROED.values()])


def test_two_questions_are_these_very_ones_and_single_adapters_are_a_family(table):
    assert set(table["about"]) == {"these very questions"}
    assert table["family"].to_list() == [3, 3, 3, 1]
    assert table["stands"].to_list() == [False, False, False, True]  # 1 of 20 against 8 of 20 has q = 0.06 among three


def test_a_study_without_zeroed_adapters_has_no_rows(study):
    assert zeroed(study, study.responses(study.judges()[0])).is_empty()


@pytest.mark.parametrize(("parts", "about"), [(2, "these very questions"), (3, "questions like these")])
def test_a_change_over_four_questions_is_of_these_and_over_six_of_others(tmp_path, parts, about):
    """As on a story's card: no sign-flip test of five questions reaches 5 %."""
    experimented.experimented_study(tmp_path)
    study = open_study("experimented", tmp_path)
    split = pl.format("{}.{}", "question_id", pl.col("seed") % parts)
    found = zeroed(study, study.responses(JUDGE).with_columns(question_id=split)).filter(pl.col("metric") == "em")
    assert set(found["questions"]) == {2 * parts}
    assert set(found["about"]) == {about}


SEVERAL = {
    f"layers.{layer}.mlp.{module}": f"L{layer} mlp.{module}"
    for layer in (1, 2, 4)
    for module in ("up_proj", "down_proj")
}


@pytest.mark.parametrize(
    ("units", "label"),
    [
        (["layers.2.mlp.down_proj"], "L2 mlp.down_proj"),
        (list(SEVERAL), "L1–2, 4"),
        (["layers.1.mlp.up_proj", "layers.1.mlp.down_proj"], "L1"),
        (["layers.1.mlp.up_proj", "layers.2.mlp.up_proj"], "L1–2 mlp.up_proj"),
        (["layers.1.mlp.up_proj", "layers.2.mlp.down_proj"], "L1 mlp.up_proj, L2 mlp.down_proj"),
    ],
)
def test_modules_of_one_layer_are_told_apart(units, label):
    assert _label(units, SEVERAL) == label


def test_adapters_have_the_labels_of_their_layers(tmp_path):
    experimented.experimented_study(tmp_path)
    assert list(labels_of_units(open_study("experimented", tmp_path), NINE).values()) == ["L1", "L2", "L4", "L6"]
