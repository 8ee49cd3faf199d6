"""Organisms and adapters come back with their vectors."""

import json

import numpy as np
import pytest

from backend.records import InputError
from tests.studies import synthetic
from tests.studies.synthetic import ADAPTERS, ORGANISM


def test_adapters_come_back_with_their_vectors(study):
    stored = study.adapter(ORGANISM, ADAPTERS[4])
    planted = synthetic.adapters()[4]
    np.testing.assert_array_equal(stored.read, planted.read)
    np.testing.assert_array_equal(stored.write, planted.write)
    assert (stored.name, stored.layer, stored.scaling) == (planted.name, planted.layer, planted.scaling)
    assert study.adapters(ORGANISM)["name"].to_list() == ADAPTERS
    assert study.adapters(ORGANISM)["index"].to_list() == list(range(9))
    assert study.adapters("base").is_empty()
    assert dict(study.organisms().select("organism", "n_adapters").iter_rows()) == {"base": 0, ORGANISM: 9}
    assert json.loads(study.organisms()["record"][1])["steps"] == 60


def test_vectors_of_several_adapters_are_those_of_each(study):
    names = [ADAPTERS[4], ADAPTERS[1]]
    for side in ("read", "write"):
        found = study.adapter_vectors(ORGANISM, names, side)
        assert all(
            np.array_equal(v, getattr(study.adapter(ORGANISM, n), side)) for v, n in zip(found, names, strict=True)
        )
    with pytest.raises(InputError, match="side"):
        study.adapter_vectors(ORGANISM, names, "sideways")
