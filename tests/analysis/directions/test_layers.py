import numpy as np
import pytest

from backend.analysis.directions.difference import held_out_projections, mean_difference, project
from backend.analysis.directions.layers import Means, contrast_profile, direction_profile
from backend.records import InputError

LAYERS = (3, 7)


def planted(responses: int = 240, width: int = 12) -> tuple[Means, np.ndarray, np.ndarray]:
    """Means, labels and questions: the classes lie apart at layer 7 and not at layer 3."""
    rng = np.random.default_rng(3)
    labels, questions = rng.random(responses) < 0.4, np.arange(responses) % 12
    by_layer = {layer: rng.normal(5, 1, size=(responses, width)).astype(np.float32) for layer in LAYERS}
    by_layer[7][labels, 0] += 2
    return Means(by_layer, rng.integers(1, 9, responses), {3: 20.0, 7: 40.0}), labels, questions


@pytest.mark.parametrize("pooling", ["response", "token"])
def test_a_profile_is_what_each_layer_gives_alone(pooling):
    means, labels, questions = planted()
    found = contrast_profile(means, labels, questions, name="v", pooling=pooling, provenance={"study": "s"})
    for layer in LAYERS:
        at = means.at(layer)
        alone = mean_difference(at, means.counts, labels, name="v", layer=layer, pooling=pooling)
        np.testing.assert_array_equal(found.directions[layer].vector, alone.vector)
        assert found.directions[layer].activation_norm == means.norms[layer]
        assert found.directions[layer].provenance == {**alone.provenance, "study": "s"}
        held_out = held_out_projections(at, means.counts, labels, questions, pooling=pooling)
        np.testing.assert_array_equal(found.projections[layer], held_out)
    aucs = dict(found.table.select("layer", "auc").iter_rows())
    assert aucs[7] > 0.85
    assert abs(aucs[3] - 0.5) < 0.15


def test_what_all_responses_have_in_common_moves_no_held_out_projection():
    means, labels, questions = planted()
    moved = Means({layer: at + 30 for layer, at in means.by_layer.items()}, means.counts, means.norms)
    one, other = (contrast_profile(each, labels, questions, name="v") for each in (means, moved))
    for layer in LAYERS:
        np.testing.assert_allclose(one.projections[layer], other.projections[layer], atol=1e-3)


def test_picked_rows_are_those_rows_and_can_be_picked_again():
    means, labels, questions = planted()
    first, second = np.flatnonzero(labels | (questions < 9)), np.arange(0, 150, 2)
    picked = means.rows(first).rows(second)
    np.testing.assert_array_equal(picked.at(7), means.by_layer[7][first][second])
    np.testing.assert_array_equal(picked.counts, means.counts[first][second])
    assert picked.by_layer is means.by_layer  # nothing was copied


def test_a_direction_made_elsewhere_is_measured_from_the_mean_response():
    means, labels, questions = planted()
    made = mean_difference(means.at(7), means.counts, labels, name="v", layer=7)
    found = direction_profile({7: made, 20: made}, means, labels, questions)
    assert list(found.directions) == [7]
    assert found.projections[7].mean() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(np.diff(found.projections[7]), np.diff(project(means.at(7), made)), atol=1e-5)


def test_a_class_from_one_question_is_refused():
    means, labels, _ = planted()
    with pytest.raises(InputError, match="two groups"):
        contrast_profile(means, labels, labels, name="v")
