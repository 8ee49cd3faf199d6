import numpy as np
import pytest

from backend.records import InputError
from backend.tables.adapters import MEAN, response_scalars
from backend.tables.features import (
    has_significance,
    mean_residuals,
    of_responses,
    placed_scalars,
    projections,
    token_scalars,
)
from tests.studies.synthetic import ORGANISM


@pytest.fixture(scope="module")
def names(study):
    return tuple(study.adapters(ORGANISM)["name"][:3])


def test_the_mean_over_tokens_is_the_scalar_of_the_response(study, names):
    tokens = token_scalars(study, ORGANISM, names)
    means = of_responses(response_scalars(study, ORGANISM, names), names, MEAN, 0.0)
    assert tokens.by_token
    assert not means.by_token
    of = dict(zip(means.responses, means.values, strict=True))
    for at, name in enumerate(tokens.responses):
        assert tokens.values[tokens.response == at].mean(axis=0) == pytest.approx(of[name], abs=1e-5)


def test_places_count_answer_tokens_from_one(study, names):
    every = token_scalars(study, ORGANISM, names)
    first = placed_scalars(study, ORGANISM, names, 1, 1)
    starts = np.flatnonzero(np.diff(every.response, prepend=-1))
    assert np.array_equal(first.values, every.values[starts])
    with pytest.raises(InputError, match="choose smaller positions"):
        placed_scalars(study, ORGANISM, names, 10_000, 10_001)


def test_a_projection_is_the_residual_along_the_unit_direction(study):
    layer = 6
    whole = mean_residuals(study, ORGANISM, layer)
    along = projections(study, whole, ("misalignment",))
    assert along.values[:, 0] == pytest.approx(whole.values @ study.direction("misalignment", layer).unit, abs=1e-5)
    assert along.responses == whole.responses
    with pytest.raises(InputError, match="direction"):
        projections(study, whole, ("nothing",))


def test_a_study_without_significance_has_no_significant_tokens(study, names):
    if has_significance(study, ORGANISM):
        assert token_scalars(study, ORGANISM, names, significant=True).values.size
        return
    with pytest.raises(InputError):
        token_scalars(study, ORGANISM, names, significant=True)
