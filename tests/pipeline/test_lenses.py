"""Which vectors get a lens: what a vector was made as decides, and where a module writes, never what it is called."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from backend.analysis.directions.random_directions import random_direction, random_subspace
from backend.pipeline.lenses import add_lenses
from backend.records import RESIDUAL_WRITERS, Adapter, Direction
from tests.studies import tiny

V = Direction("v", 2, np.random.default_rng(0).normal(size=tiny.D_MODEL).astype(np.float32), 4.0)


class Draft:
    """Keeps whose lenses were added."""

    def __init__(self):
        self.lenses, self.adapters = [], []

    def add_lens(self, name, layer, *, top, bottom):
        self.lenses.append(name)

    def add_adapter_lens(self, organism, name, *, top, bottom):
        self.adapters.append(name)


@pytest.fixture(scope="module")
def subject():
    return tiny.subject()


def test_controls_have_no_lens_and_a_direction_has_one_whatever_its_name(subject):
    held = [
        replace(V, name="random walk"),
        replace(V, name="shuffled deck"),
        replace(random_direction(V), name="mine"),
        *random_subspace(V, 2),
        replace(V, name="random 0 like v"),  # as an earlier build named a control, with no record of it
        replace(V, name="narrow", vector=V.vector[:8]),
    ]
    draft = Draft()
    add_lenses(draft, subject, held)
    assert sorted(draft.lenses) == ["random walk", "shuffled deck"]


@pytest.mark.parametrize("module", [*(f"a.{name}" for name in RESIDUAL_WRITERS), "mlp.up_proj"])
def test_every_write_vector_that_ends_in_the_residual_stream_has_one(subject, module):
    adapter = Adapter(f"layers.2.{module}", 2, module, 0, 1.0, np.ones(4, np.float32), V.vector)
    worn = replace(subject, organisms={"o": SimpleNamespace(adapters=(adapter,))})
    draft = Draft()
    add_lenses(draft, worn, ())
    assert draft.adapters == ([adapter.name] if module != "mlp.up_proj" else [])
