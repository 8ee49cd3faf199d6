"""A study with one more judge is a new build that differs in nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.records import InputError, Score
from backend.study import open_study, with_scores
from tests.studies.synthetic import JUDGE, synthetic_study


@pytest.fixture
def root(tmp_path: Path) -> Path:
    synthetic_study(tmp_path, rows=1)
    return tmp_path


def test_the_new_build_holds_both_judges_and_the_old_one_is_untouched(root: Path) -> None:
    old = open_study("synthetic", root)
    ids = old.responses()["response"].to_list()
    scores = [Score(i, "second", m, float(n), "said") for n, i in enumerate(ids) for m in ("coherent", "aligned")]
    path = with_scores(old, scores)
    new = open_study("synthetic", root)
    assert (new.path, old.judges(), new.judges()) == (path, [JUDGE], [JUDGE, "second"])
    assert new.metrics("second") == ["coherent", "aligned"]
    assert new.responses("second")["aligned"].to_list() == list(range(len(ids)))
    assert new.responses(JUDGE).equals(old.responses(JUDGE))
    assert sorted(path.parent.glob(".building-*")) == []


def test_a_judge_that_scores_again_replaces_its_own(root: Path) -> None:
    first = open_study("synthetic", root).responses()["response"][0]
    for value in (10.0, 20.0):
        with_scores(open_study("synthetic", root), [Score(first, "second", "aligned", value, "")])
    assert open_study("synthetic", root).scores(first).filter(judge="second")["value"].to_list() == [20.0]


def test_a_score_of_nothing_is_refused_and_nothing_is_published(root: Path) -> None:
    study = open_study("synthetic", root)
    with pytest.raises(InputError, match="'nowhere'"):
        with_scores(study, [Score("nowhere", "second", "aligned", 1.0, "")])
    assert open_study("synthetic", root).path == study.path


def test_a_damaged_study_is_not_published_again(root: Path) -> None:
    study = open_study("synthetic", root)
    first = study.responses()["response"][0]
    content = bytearray(study.path.read_bytes())
    for at in range(3 * 4096 + 262_144 // 2, len(content), 262_144):
        content[at] ^= 0xFF
    study.path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be published again with these scores"):
        with_scores(study, [Score(first, "second", "aligned", 1.0, "")])
    assert [path.name for path in study.path.parent.glob("*.duckdb")] == [study.path.name]
    assert sorted(study.path.parent.glob(".building-*")) == []
