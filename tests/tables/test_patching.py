import pytest

from backend.study import open_study
from backend.tables.patching import patched
from tests.studies import experimented
from tests.studies.experimented import IN_SWAP, JUDGE, NINE, PATCHED, N


def test_a_prompt_is_compared_with_itself_in_the_same_run(tmp_path):
    experimented.experimented_study(tmp_path)
    study = open_study("experimented", tmp_path)
    table = patched(study, study.responses(JUDGE))
    assert table["metric"].to_list() == ["em", "coherent"]
    row = table.row(0, named=True)
    assert (row["organism"], row["run"], row["question_id"], row["donor"]) == (NINE, "swap", "q0", "q1")
    assert (row["before"], row["after"], row["n_before"], row["n_after"]) == (IN_SWAP / N, PATCHED / N, N, N)
    assert row["difference"] == pytest.approx((PATCHED - IN_SWAP) / N)
    assert (row["verdict"], row["family"]) == ("lower", 1)
    assert table["difference"][1] == 0


def test_a_study_without_patches_has_no_rows(study):
    assert patched(study, study.responses(study.judges()[0])).is_empty()
