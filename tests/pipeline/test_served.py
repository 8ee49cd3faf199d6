"""What Live is served with is the study's own: its folder's model and organisms, or a line on what is missing."""

import json

import pytest

from backend.pipeline.folder import StudyFolder
from backend.pipeline.served import Served, of_folder, of_study
from backend.records import InputError
from backend.study import Draft


@pytest.fixture
def folder(tmp_path):
    for organism in ("a", "b"):
        (tmp_path / "mine" / "organisms" / organism).mkdir(parents=True)
        (tmp_path / "mine" / "organisms" / organism / "adapter_config.json").write_text("{}")
    (tmp_path / "mine" / "study.json").write_text(json.dumps({"title": "Mine", "base": "my/model"}))
    return StudyFolder(tmp_path / "mine")


@pytest.fixture
def studies(tmp_path, folder):
    """A study that remembers its folder, and one that has none."""
    for name, meta in (("mine", {"folder": str(folder.path)}), ("imported", {})):
        with Draft(name, root=tmp_path / "studies") as draft:
            draft.meta(title="Mine", base="my/model", **meta)
            for organism in ("base", "a", "b"):
                draft.add_organism(organism, base="my/model", adapters=(), record={})
            draft.publish()
    return tmp_path / "studies"


def test_a_study_is_served_with_the_organisms_of_its_folder(studies, folder):
    assert of_study("mine", studies) == of_folder(folder) == Served("my/model", folder.organisms)
    assert list(folder.organisms) == ["a", "b"]


def test_a_folder_that_is_gone_leaves_the_model_alone_and_is_named(studies, folder):
    folder.path.rename(folder.path.with_name("moved"))
    served = of_study("mine", studies)
    assert (served.model, served.organisms) == ("my/model", {})
    assert f"{folder.path}, from which the study 'mine' was built, is not there any more" in served.missing
    assert "--folder" in served.missing


def test_a_folder_of_another_model_is_not_worn(studies, folder):
    (folder.path / "study.json").write_text(json.dumps({"title": "Other", "base": "other"}))
    served = of_study("mine", studies)
    assert (served.model, served.organisms) == ("my/model", {})
    assert "is of other now" in served.missing


def test_organisms_that_are_gone_are_named(studies, folder):
    (folder.path / "organisms" / "b" / "adapter_config.json").unlink()
    served = of_study("mine", studies)
    assert list(served.organisms) == ["a"]
    assert "has no b any more" in served.missing


def test_a_study_without_a_folder_is_served_without_a_model(studies):
    served = of_study("imported", studies)
    assert (served.model, served.organisms) == (None, {})
    assert "--folder" in served.missing
    assert "--model" in served.missing


def test_a_study_that_there_is_not_is_refused(studies):
    with pytest.raises(InputError, match="no study 'other'"):
        of_study("other", studies)
