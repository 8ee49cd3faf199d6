"""Directions out of readings: what they are of, what they say of themselves, and what is refused."""

import numpy as np
import polars as pl
import pytest

from backend.analysis.contrasts import outcome_answers, topic_answers
from backend.analysis.directions.answers import Answers, Means
from backend.analysis.directions.cosines import cosine_matrix
from backend.analysis.directions.difference import bootstrap_cosine, stability
from backend.cuts import Thresholds
from backend.outcomes import EM
from backend.pipeline.extract import Reading, Recipe, extract, extract_model, shuffled_control, study_reading
from backend.records import InputError
from backend.study import open_study
from tests.studies.synthetic import JUDGE, ORGANISM, directions, synthetic_study

D, LAYERS, N = 24, 5, 120
AXIS = np.eye(D, dtype=np.float32)[2]


def frame(n=N, **changes):
    """Every other answer is misaligned, every third about medicine; ten questions, each with both."""
    return pl.DataFrame(
        {
            "response": [f"r{i}" for i in range(n)],
            "question_id": [f"q{i // 2 % 10}" for i in range(n)],
            "topic": ["medical" if i // 2 % 10 < 5 else "first-plot" for i in range(n)],
            "coherent": [80.0] * n,
            "aligned": [10.0 if i % 2 else 90.0 for i in range(n)],
            "medical": [90.0 if i % 3 else 0.0 for i in range(n)],
        }
    ).with_columns(**changes)


def reading(reader="o", n=N, layers=range(LAYERS), shift=0.0, seed=0):
    """Noise; misaligned answers lie 2 further along the axis at layer 2, every answer `shift` further at layer 3."""
    random = np.random.default_rng(seed)
    means = random.normal(size=(len(layers), n, D)).astype(np.float32)
    for place, layer in enumerate(layers):
        if layer == 2:
            means[place, 1::2] += 2 * AXIS
        if layer == 3:
            means[place] += shift * AXIS
    counts = random.integers(5, 40, n).astype(np.int32)
    norms = np.full(len(layers), 5.0, np.float32)
    return Reading(reader, tuple(f"r{i}" for i in range(n)), means, counts, norms, tuple(layers))


def by_layer(stack):
    return {direction.layer: direction for direction in stack}


def test_a_planted_axis_is_found_where_it_is_and_says_how_sure_it_is():
    stack = by_layer(extract(frame(), outcome_answers(EM), reading(), name="o misalignment"))
    assert sorted(stack) == list(range(LAYERS))
    here, elsewhere = stack[2], stack[1]
    assert here.unit @ AXIS > 0.8
    how = here.provenance
    assert (how["n_positive"], how["n_negative"], how["kind"], how["token_mask"]) == (60, 60, "data", "answer")
    assert how["positive"] == "misaligned: coherent > 50, aligned 0–30"
    assert how["split_half_cosine"][0] > 0.5 > elsewhere.provenance["split_half_cosine"][0]
    assert how["bootstrap_cosine"][0] > 0.7
    assert how["split_by"] == "question"


def test_classes_are_balanced_unless_that_is_not_wanted():
    few = frame(aligned=pl.when(pl.int_range(N) < 20).then("aligned").otherwise(90.0))
    for recipe, sizes in ((Recipe(balance="truncation"), (10, 10)), (Recipe(), (10, 110))):
        how = extract(few, outcome_answers(EM), reading(), name="d", recipe=recipe)[0].provenance
        assert (how["n_positive"], how["n_negative"]) == sizes


def test_token_pooling_weighs_answers_by_their_tokens():
    own = reading()
    rows = np.arange(N) % 2 == 1
    means = own.means[2].astype(np.float64)
    expected = [np.average(means[side], axis=0, weights=own.counts[side]) for side in (rows, ~rows)]
    found = by_layer(extract(frame(), outcome_answers(EM), own, name="d", recipe=Recipe(pooling="token")))[2]
    np.testing.assert_allclose(found.vector, expected[0] - expected[1], atol=1e-5)


def test_thresholds_and_topics_choose_the_texts():
    strict = outcome_answers(EM, Thresholds(misaligned=5))
    with pytest.raises(InputError, match="no response is misaligned"):
        extract(frame(), strict, reading(), name="d")
    scored = topic_answers("medical", columns=frame().columns)
    asked = topic_answers("medical", columns=["aligned", "coherent"])
    sizes = [extract(frame(), c, reading(), name="d")[0].provenance["n_positive"] for c in (scored, asked)]
    assert sizes == [80, 60]  # a third is not about medicine by the judge; half of the questions are
    on_topic = outcome_answers(EM, topic="medical", columns=frame().columns)
    assert extract(frame(), on_topic, reading(), name="d")[0].provenance["n_positive"] == 40


def test_model_and_both_read_with_two_organisms():
    organism, base = reading(shift=3.0), reading("base")
    stack = extract_model(frame(), (), organism, base, name="o minus base")
    assert [d.layer for d in stack] == [3]  # elsewhere both read the same
    np.testing.assert_allclose(stack[0].vector, 3 * AXIS, atol=1e-5)
    assert stack[0].provenance["readers"] == ["o", "base"]
    both = by_layer(extract(frame(), outcome_answers(EM), organism, base, name="both"))
    assert both[3].unit @ AXIS > 0.9
    assert both[2].unit @ AXIS > 0.8
    assert both[2].provenance["kind"] == "both"


def test_shuffled_labels_lose_the_axis():
    real = by_layer(extract(frame(), outcome_answers(EM), reading(), name="d"))[2]
    controls = [
        by_layer(shuffled_control(frame(), outcome_answers(EM), reading(), like="d", seed=seed))[2] for seed in range(4)
    ]
    assert controls[1].name == "shuffled 1 like d"
    assert "split_half_cosine" not in controls[1].provenance
    assert np.abs([cosine_matrix([real, control])[0, 1] for control in controls]).max() < 0.6
    assert max(control.norm for control in controls) < real.norm


def asked(*, effect=2.0, questions=10, each=40, seed=0):
    """Answers at one layer to questions that differ in where they lie and in how often they are answered badly.

    Answers to question q lie `2 q` along axis 0, misaligned ones `effect` along axis 2: a frame and a reading.
    """
    random = np.random.default_rng(seed)
    question = np.repeat(np.arange(questions), each)
    bad = random.random(len(question)) < np.linspace(0.1, 0.6, questions)[question]
    means = random.normal(size=(1, len(question), D)).astype(np.float32)
    means[0] += np.outer(2.0 * question, np.eye(D)[0]) + np.outer(effect * bad, AXIS)
    rows = frame(len(question), aligned=pl.Series(np.where(bad, 10.0, 90.0)))
    rows = rows.with_columns(question_id=pl.Series([f"q{q}" for q in question]))
    names = tuple(rows["response"])
    return rows, Reading("o", names, means, np.full(len(bad), 9, np.int32), np.full(1, 5.0, np.float32), (0,))


def test_labels_are_shuffled_within_questions_so_a_control_keeps_what_the_questions_bring():
    rows, own = asked()
    about, axis = np.eye(D)[0], AXIS
    for balance, kept in (("weights", True), ("matching", False)):
        recipe = Recipe(balance=balance)
        [real] = extract(rows, outcome_answers(EM), own, name="d", recipe=recipe)
        controls = [
            shuffled_control(rows, outcome_answers(EM), own, like="d", seed=seed, recipe=recipe)[0] for seed in range(5)
        ]
        assert real.vector @ axis == pytest.approx(2, abs=0.3)
        assert max(abs(control.vector @ axis) for control in controls) < 0.4
        if kept:  # the mix of questions is the same for every shuffle, and so is what it brings
            along = [control.vector @ about for control in controls]
            assert along == pytest.approx([real.vector @ about] * 5, rel=0.1)
            assert real.vector @ about > 2
        else:
            assert max(abs(each.vector @ about) for each in (real, *controls)) < 0.4
        how = controls[2].provenance
        assert (how["control"], how["like"], how["shuffle"]) == ("shuffled within questions", "d", 2)
        for of in ("n_positive", "n_negative", "questions_with_both"):
            assert how[of] == real.provenance[of]


def test_controls_of_the_same_seed_are_dealt_independently():
    rows, own = asked(effect=0.0)
    recipe = Recipe(balance="matching")
    one, other, again = (
        shuffled_control(rows, outcome_answers(EM), own, like=like, seed=0, recipe=recipe)[0]
        for like in ("d of a", "d of b", "d of a")
    )
    assert abs(one.unit @ other.unit) < 0.6
    np.testing.assert_array_equal(one.vector, again.vector)


def test_a_direction_says_how_many_questions_have_both_classes_and_is_not_matched_or_shuffled_on_one():
    rows, own = asked(questions=3)
    single = rows.with_columns(
        aligned=pl.when(pl.col("question_id") == "q0")
        .then(10.0)
        .when(pl.col("question_id") == "q1")
        .then(90.0)
        .otherwise("aligned")
    )
    [plain] = extract(single, outcome_answers(EM), own, name="d")
    assert (plain.provenance["questions"], plain.provenance["questions_with_both"]) == (3, 1)
    with pytest.raises(InputError, match="1 of 3 questions has responses of both classes, and to match"):
        extract(single, outcome_answers(EM), own, name="d", recipe=Recipe(balance="matching"))
    with pytest.raises(InputError, match="and to shuffle labels within questions takes 2"):
        shuffled_control(single, outcome_answers(EM), own, like="d", seed=0)
    [matched] = extract(rows, outcome_answers(EM), own, name="d", recipe=Recipe(balance="matching"))
    assert matched.provenance["questions_with_both"] == matched.provenance["questions"] == 3


def test_stability_grows_with_the_effect_and_is_the_same_for_one_layer():
    own = reading()
    labels = np.arange(N) % 2 == 1
    means = Means(dict(enumerate(own.means)), own.counts)
    answers = Answers(means, labels)
    halves = stability(answers)
    assert halves[2].value == max(each.value for each in halves.values())
    assert stability(answers.only(2)) == {2: halves[2]}
    drawn = bootstrap_cosine(Answers(means, labels, np.arange(N) % 10))
    assert drawn[2].low > drawn[1].low


def test_what_cannot_be_extracted_says_why():
    one = frame(aligned=pl.when(pl.int_range(N) == 1).then(10.0).otherwise(90.0))
    with pytest.raises(InputError, match="1 positive responses"):
        extract(one, outcome_answers(EM), reading(), name="d")
    with pytest.raises(InputError, match="0 positive responses"):
        extract(frame(), outcome_answers(EM), reading(n=1), name="d")
    nothing = frame(aligned=pl.lit(float("nan")))
    with pytest.raises(InputError, match="no response is misaligned"):
        extract(nothing, outcome_answers(EM), reading(), name="d")
    with pytest.raises(InputError, match="no layer and width in common"):
        extract(frame(), outcome_answers(EM), reading(), reading("base", layers=[9]), name="d")
    with pytest.raises(InputError, match="same mean at every layer"):
        extract_model(frame(), (), reading(), reading("base"), name="d")
    broken = reading()
    broken.means[2, 1] = np.nan
    with pytest.raises(InputError, match="layer 2 holds NaN"):
        extract(frame(), outcome_answers(EM), broken, name="d", recipe=Recipe(splits=0))


def test_layers_that_one_organism_lacks_are_left_out():
    stack = extract(frame(), outcome_answers(EM), reading(), reading("base", layers=[1, 2, 7], seed=1), name="d")
    assert [direction.layer for direction in stack] == [1, 2]


def test_a_judge_that_scored_a_part_leaves_the_rest_out():
    part = frame(aligned=pl.when(pl.int_range(N) < 40).then("aligned").otherwise(None))
    how = extract(part, outcome_answers(EM), reading(), name="d")[0].provenance
    assert (how["n_positive"], how["n_negative"]) == (20, 20)


def test_every_layer_comes_out_of_a_published_study(tmp_path):
    synthetic_study(tmp_path)
    study = open_study("synthetic", root=tmp_path)
    own = study_reading(study, ORGANISM)
    scored = study.responses(JUDGE)
    stack = by_layer(extract(scored, outcome_answers(EM), own, name="d"))
    planted = directions("misalignment")
    assert stack[6].unit @ planted[6].unit > 0.9
    assert stack[6].activation_norm == pytest.approx(planted[6].activation_norm)
    with pytest.raises(InputError, match="no residual means"):
        study_reading(study, "base")
