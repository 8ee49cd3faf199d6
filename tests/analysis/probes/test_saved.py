"""A saved probe comes back as it was, with its recipe, and a file that is none is refused in words."""

import json

import numpy as np
import pytest

from backend.analysis.probes.probe import ProbeSettings, train_probe
from backend.analysis.probes.saved import load_probe, save_probe
from backend.records import InputError


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    response = np.repeat(np.arange(40), 5)
    labels = response % 2 == 0
    values = rng.normal(size=(200, 3)) + labels[:, None]
    settings = ProbeSettings(split="response", C=None, shuffles=0, bootstraps=5)
    return train_probe(values, labels, response, names=["a", "b <x>", "ü"], settings=settings), settings, values


def test_a_probe_comes_back_with_its_recipe(trained):
    report, settings, values = trained
    saved = load_probe(save_probe(report, settings, {"study": "demo", "bands": {"aligned": [0, 30]}}))
    assert (saved.probe.decision(values) == report.probe.decision(values)).all()
    assert saved.probe.names == report.probe.names
    assert saved.settings == settings
    assert saved.made_of == {"study": "demo", "bands": {"aligned": [0, 30]}}
    assert saved.metrics["auc"] == report.metrics["auc"]


@pytest.mark.parametrize(
    "broken",
    [
        b"\x80\x04\x95",  # a pickle
        b"[]",
        b'{"kind": "linear probe"}',
        b'{"kind": "other", "format": 1}',
        b'{"kind": "linear probe", "format": 1, "probe": {"names": ["a"], "bias": 0, "mean": [0]}}',
    ],
)
def test_what_is_no_saved_probe_is_refused(broken):
    with pytest.raises(InputError, match="probe"):
        load_probe(broken)


@pytest.mark.parametrize(
    ("field", "value"), [("weights", [1.0]), ("scale", [1.0, 0.0, 1.0]), ("mean", [None, 1.0, 1.0])]
)
def test_weights_that_do_not_fit_are_refused(trained, field, value):
    report, settings, _ = trained
    text = json.loads(save_probe(report, settings, {}))
    text["probe"][field] = value
    with pytest.raises(InputError, match="saved probe"):
        load_probe(json.dumps(text))
