"""A study whose scalars are planted sparse features: the dictionary finds them, and says what beats what."""

import json

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from backend.outcomes import EM
from backend.pipeline import dictionary as pipeline
from backend.pipeline.dictionary import Learning, learn
from backend.records import InputError
from tests.studies.sparse import ADAPTERS, ATOMS, PLANTED, QUESTIONS, sparse_study

ASKED = Learning("organism", features=14, active=2, steps=2500)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return sparse_study(tmp_path_factory.mktemp("sparse"))


@pytest.fixture(scope="module")
def learned(study):
    return learn(study, ASKED, EM, "sparse")


def numbers(found, measure):
    return found.frame.filter(pl.col("measure") == measure)


def test_planted_features_are_in_the_dictionary(learned):
    _, dictionary = learned
    unit = dictionary.decoder / np.linalg.norm(dictionary.decoder, axis=1, keepdims=True)
    assert ((ATOMS @ unit.T).max(axis=1) > 0.95).sum() >= PLANTED - 2


def test_it_restores_more_than_adapters_components_and_shuffled_scalars(learned):
    table = numbers(learned[0], "variance")
    means = dict(table.group_by("vector").agg(pl.col("value").mean()).iter_rows())
    assert table["question"].n_unique() == QUESTIONS
    others = (pipeline.COMPONENTS, pipeline.ADAPTERS, pipeline.SHUFFLED)
    assert means[pipeline.OWN] > max(means[name] for name in others) + 0.1


def test_one_feature_tells_what_one_adapter_does_not(learned):
    one = numbers(learned[0], "auc").filter(pl.col("strength") == 1)
    values = dict(one.select("vector", "value").iter_rows())
    assert values[pipeline.OWN] > 0.95
    assert values[pipeline.OWN] > values[pipeline.ADAPTERS]
    tells = numbers(learned[0], "tells").sort("value")["part"][-1]
    tokens = numbers(learned[0], "token").filter(pl.col("part") == tells)["vector"].to_list()
    assert sum("⟦w0 ⟧" in token for token in tokens) >= len(tokens) - 3


def test_files_are_those_of_sae_lens_and_read_again(learned, tmp_path):
    found, dictionary = learned
    pipeline.write(tmp_path / "kept", dictionary, found.record)
    said = json.loads((tmp_path / "kept/cfg.json").read_text())
    assert (said["architecture"], said["d_in"], said["d_sae"], said["k"]) == ("topk", ADAPTERS, 14, 2)
    weights = load_file(tmp_path / "kept/sae_weights.safetensors")
    assert {name: value.shape for name, value in weights.items()} == {
        "W_enc": (ADAPTERS, 14),
        "b_enc": (14,),
        "W_dec": (14, ADAPTERS),
        "b_dec": (ADAPTERS,),
    }
    again = pipeline.read(tmp_path / "kept", found.record["adapters"])
    scalars = np.random.default_rng(1).standard_normal((50, ADAPTERS))
    assert again.restored(scalars) == pytest.approx(dictionary.restored(scalars), abs=1e-4)
    with pytest.raises(InputError, match="learned on another organism or study"):
        pipeline.read(tmp_path / "kept", ["another"] * ADAPTERS)
    (tmp_path / "kept/sae_weights.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match="a dictionary's weights"):
        pipeline.read(tmp_path / "kept", found.record["adapters"])


def test_who_read_nothing_has_no_dictionary(study):
    with pytest.raises(InputError, match="has read no text with adapters of its own"):
        learn(study, Learning("base"), EM, "x")
