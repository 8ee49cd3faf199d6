import numpy as np
import pytest

from backend.analysis.directions.answers import Answers, Means
from backend.analysis.directions.difference import MeanDifference
from backend.analysis.directions.layers import contrast_profile, direction_profile
from backend.analysis.directions.separation import HeldOut, project
from backend.records import InputError

LAYERS = (3, 7)


def planted(responses: int = 240, width: int = 12) -> Answers:
    """Answers whose classes lie apart at layer 7 and not at layer 3."""
    rng = np.random.default_rng(3)
    labels, questions = rng.random(responses) < 0.4, np.arange(responses) % 12
    by_layer = {layer: rng.normal(5, 1, size=(responses, width)).astype(np.float32) for layer in LAYERS}
    by_layer[7][labels, 0] += 2
    return Answers(Means(by_layer, rng.integers(1, 9, responses), {3: 20.0, 7: 40.0}), labels, questions)


@pytest.mark.parametrize("pooling", ["response", "token"])
@pytest.mark.parametrize("balance", ["truncation", "weights", "matching"])
def test_a_profile_is_what_each_layer_gives_alone(pooling, balance):
    answers = planted()
    found = contrast_profile(answers, name="v", pooling=pooling, balance=balance, provenance={"study": "s"})
    for layer in LAYERS:
        alone = answers.only(layer)
        made = MeanDifference.of(alone, name="v", pooling=pooling, balance=balance).at(layer)
        np.testing.assert_array_equal(found.directions[layer].vector, made.vector)
        assert found.directions[layer].activation_norm == answers.means.norms[layer]
        assert found.directions[layer].provenance == {**made.provenance, "study": "s"}
        judged = HeldOut.of(alone, pooling=pooling, balance="matching" if balance == "matching" else "weights")
        np.testing.assert_array_equal(found.projections[layer], judged.project(layer))
    aucs = dict(found.table.select("layer", "auc").iter_rows())
    assert aucs[7] > 0.85
    assert abs(aucs[3] - 0.5) < 0.15


def test_what_all_responses_have_in_common_moves_no_held_out_projection():
    answers = planted()
    means = answers.means
    moved = Means({layer: at + 30 for layer, at in means.by_layer.items()}, means.counts, means.norms)
    one = contrast_profile(answers, name="v")
    other = contrast_profile(Answers(moved, answers.labels, answers.groups), name="v")
    for layer in LAYERS:
        np.testing.assert_allclose(one.projections[layer], other.projections[layer], atol=1e-3)


def test_a_direction_made_elsewhere_is_measured_from_the_mean_response():
    answers = planted()
    made = MeanDifference.of(answers, name="v").at(7)
    found = direction_profile({7: made, 20: made}, answers)
    assert list(found.directions) == [7]
    assert found.projections[7].mean() == pytest.approx(0, abs=1e-5)
    along = project(answers.means.at(7), made)
    np.testing.assert_allclose(np.diff(found.projections[7]), np.diff(along), atol=1e-5)


def test_a_class_from_one_question_is_refused():
    answers = planted()
    with pytest.raises(InputError, match="two groups"):
        contrast_profile(Answers(answers.means, answers.labels, answers.labels), name="v")
