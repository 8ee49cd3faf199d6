"""Residual means, directions and lenses come back as they were put in."""

import numpy as np
import pytest

from backend.records import Direction, InputError, Question, Response, Trace
from backend.study import Draft, open_study
from tests.studies import synthetic
from tests.studies.synthetic import ADAPTERS, JUDGE, ORGANISM


def test_residual_means_carry_the_planted_direction(study):
    means = study.residual_means(ORGANISM, 6)
    assert means.means.shape == (319, synthetic.D_MODEL)
    assert means.means.dtype == np.float32
    assert set(study.responses()["response"]) - set(means.responses) == {"base.baseline.wish.1"}, "the empty answer"
    aligned = dict(study.responses(JUDGE).select("response", "aligned").iter_rows())
    bad = np.array([(aligned[r] or 100) < 30 for r in means.responses])
    gap = means.means[bad].mean(0) - means.means[~bad].mean(0)
    planted = study.direction("misalignment", 6)
    assert gap @ planted.unit == pytest.approx(planted.norm, rel=0.2)
    counts = dict(study.responses().select("response", "n_answer").iter_rows())
    assert means.counts.tolist() == [counts[r] for r in means.responses]
    assert study.residual_layers(ORGANISM) == list(range(synthetic.N_LAYERS))


def test_residual_means_of_some_responses_are_those_of_all(study):
    means = study.residual_means(ORGANISM, 6)
    some = study.residual_means(ORGANISM, 6, responses=means.responses[30:2:-7])
    assert some.responses == means.responses[30:2:-7][::-1]
    at = [means.responses.index(response) for response in some.responses]
    np.testing.assert_array_equal(some.means, means.means[at])
    np.testing.assert_array_equal(some.counts, means.counts[at])
    assert not study.residual_means(ORGANISM, 6, responses=[]).responses


def test_mean_projections_weigh_tokens_and_follow_the_responses_asked_for(study):
    planted = study.direction("misalignment", 6)
    found = study.mean_projections(planted, ORGANISM)
    assert list(found) == list(range(synthetic.N_LAYERS))
    means = study.residual_means(ORGANISM, 6)
    along = means.means @ planted.unit
    assert found[6] == pytest.approx(float((along * means.counts).sum() / means.counts.sum()), rel=1e-4)
    aligned = dict(study.responses(JUDGE).select("response", "aligned").iter_rows())
    bad = [response for response in means.responses if (aligned[response] or 100) < 30]
    good = [response for response in means.responses if (aligned[response] or 0) > 70]
    apart = study.mean_projections(planted, ORGANISM, responses=bad)[6]
    apart -= study.mean_projections(planted, ORGANISM, responses=good)[6]
    assert apart == pytest.approx(planted.norm, rel=0.2)
    assert study.mean_projections(planted, ORGANISM, responses=[]) == {}
    np.testing.assert_allclose(study.mean_stream(ORGANISM)[6] @ planted.unit, found[6], rtol=1e-4)
    with pytest.raises(InputError, match="another model"):
        study.mean_projections(Direction("x", 6, np.ones(3, np.float32)), ORGANISM)


def test_activation_norm_weighs_tokens(tmp_path):
    """10 tokens of norm 1 and 30 of norm 3 have the mean norm 2.5."""
    with Draft("s", tmp_path) as draft:
        draft.add_organism("base", base="b", adapters=(), record={})
        draft.add_questions([Question("q", "Q", "t")])
        draft.add_responses(Response(r, "base", "baseline", "q", "Q", "t", 0, "") for r in "ab")
        for name, n, norm in (("a", 10, 1), ("b", 30, 3)):
            mean, tokens = np.ones((2, 3), np.float32), ("x",) * n
            norms = np.array([norm, 10 * norm], np.float32)
            draft.add_traces([Trace(name, "base", tokens, 0, np.zeros((0, n), np.float32), mean, mean, n, norms)])
        draft.publish()
    study = open_study("s", tmp_path)
    np.testing.assert_allclose(study.activation_norm("base"), [2.5, 25])
    assert study.strip("a", "base").scalars.shape == (0, 10)
    assert study.scalar_tokens("base", []).values.shape == (0, 0)


def test_directions_come_back(study):
    stack = study.direction_stack("medical")
    assert [d.layer for d in stack] == list(range(12))
    for mine, planted in zip(stack, synthetic.directions("medical"), strict=True):
        np.testing.assert_array_equal(mine.vector, planted.vector)
        assert (mine.activation_norm, mine.provenance) == (planted.activation_norm, planted.provenance)
    frame = study.directions()
    assert frame["name"].unique(maintain_order=True).to_list() == ["misalignment", "medical"]
    assert frame.filter(name="medical", layer=6)["norm"].item() == pytest.approx(4.0)


def test_directions_near_a_layer_are_those_of_the_nearest_they_have(study, tmp_path):
    assert [(d.name, d.layer) for d in study.directions_near(99)] == [("misalignment", 11), ("medical", 11)]
    with Draft("few", root=tmp_path) as draft:
        draft.meta(title="few", base="b", layers=9, d_model=2)
        for name, layer in (("v", 2), ("v", 6), ("u", 8)):
            draft.add_directions([Direction(name, layer, np.full(2, layer, dtype=np.float32))])
        draft.publish()
    near = open_study("few", tmp_path).directions_near(4)
    assert [(d.name, d.layer, d.vector[0]) for d in near] == [("v", 2, 2), ("u", 8, 8)]


def test_what_vectors_promote_and_suppress(tmp_path):
    with Draft("lenses", root=tmp_path) as draft:
        draft.meta(title="Lenses", base="tiny")
        draft.add_organism("o", base="tiny", adapters=synthetic.adapters(), record={})
        draft.add_lens("v", 3, top=[(" power", 5.0), ("<b>", 4.5)], bottom=[(" kind", -5.0)])
        draft.add_adapter_lens("o", ADAPTERS[0], top=[(" doctor", 4.0)], bottom=[])
        with pytest.raises(InputError, match="lens"):
            draft.add_lens("v", 3, top=[], bottom=[])
        with pytest.raises(InputError, match="add the organism first"):
            draft.add_adapter_lens("o", "layers.99", top=[], bottom=[])
        draft.publish()
    study = open_study("lenses", tmp_path)
    assert study.lens("v", 3).rows() == [
        ("top", 1, " power", 5.0),
        ("top", 2, "<b>", 4.5),
        ("bottom", 1, " kind", -5.0),
    ]
    assert study.adapter_lens("o", ADAPTERS[0])["token"].to_list() == [" doctor"]
    assert study.lens("v", 4).is_empty()
    assert study.adapter_lens("o", ADAPTERS[1]).is_empty()
    assert study.lens("v", 4).columns == ["side", "rank", "token", "value"]
