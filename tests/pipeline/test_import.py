import numpy as np
import pytest

from backend.edits import Ablate
from backend.pipeline.import_published import import_published
from backend.published.traces import PROBING_SET
from backend.records import BASE, InputError
from backend.study import list_studies, open_study
from tests.published.sample import ADAPTED, write_release


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    release = write_release(tmp_path_factory.mktemp("release"))
    return import_published([release], root=tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="module")
def study(imported):
    return open_study("published", imported.path.parents[1])


def test_the_study_holds_what_was_released(study):
    assert study.organisms()["organism"].to_list()[0] == BASE
    assert study.judges() == ["gpt-4o", "released-class"]
    assert study.adapters("R1_2_1")["layer"].to_list() == list(ADAPTED)
    assert study.adapter("R1_2_1", "layers.1.mlp.down_proj").write.shape == (0,)
    assert study.info["report"]["skipped"] == []
    assert study.info["settings"][PROBING_SET]["selected"] is True
    assert study.direction("R1_2_1 general data-diff", 3).provenance["topic"] == "general"


def test_scalars_come_with_significance_and_the_papers_answer_tokens(study):
    (reader,) = study.readers()
    response = study.scalar_summary(reader)["response"][0]
    strip = study.strip(response, reader)
    assert strip.tokens[strip.n_prompt + strip.n_answer - 2 :] == ("<|im_end|>", "\n")
    assert np.isnan(strip.significance[: strip.n_prompt]).all()
    every = study.scalar_tokens(reader, strip.adapters)
    some = study.scalar_tokens(reader, strip.adapters, min_significance=2.0)
    assert 0 < len(some.values) < len(every.values)


def test_conditions_stand_alone(study):
    ablation = study.condition("ablate bad_med_R8 general data-diff L0-5 layer-wise")
    assert all(isinstance(edit, Ablate) for edit in ablation.edits)


def test_a_second_import_is_a_second_file(imported, tmp_path):
    before = imported.path.read_bytes()
    again = import_published([write_release(tmp_path)], root=imported.path.parents[1])
    assert again.path != imported.path
    assert imported.path.read_bytes() == before


def test_nothing_readable_publishes_nothing(tmp_path):
    with pytest.raises(InputError, match="no released file"):
        import_published([tmp_path], root=tmp_path / "studies")
    assert list_studies(tmp_path / "studies") == []
