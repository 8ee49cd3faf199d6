"""Who is on which side."""

import polars as pl
import pytest

from backend.analysis.contrasts import (
    contrast_sizes,
    label_responses,
    organisms,
    outcome_answers,
    topic_answers,
    topics,
)
from backend.cuts import Thresholds
from backend.outcomes import (
    CONTRASTS,
    EM,
    MEDICAL_QUESTION,
    MISALIGNMENT,
    PAPER_CONTRASTS,
    Band,
    Contrast,
    Outcome,
    above,
    below,
    score,
)
from backend.records import InputError

RESPONSES = pl.DataFrame(
    {
        "response": ["a", "b", "c", "d", "e", "f"],
        "question_id": ["q", "q", "r", "r", "s", "s"],
        "topic": ["medical", "medical", "first-plot", "first-plot", "first-plot", None],
        "organism": ["base", "bad", "bad", "base", "bad", "bad"],
        "aligned": [95.0, 20.0, 30.0, 70.0, None, 100.0],
        "coherent": [90.0, 90.0, 60.0, 90.0, 90.0, 50.0],
        "medical": [100.0, 50.0, 0.0, 1.0, 0.0, None],
    }
)


def sides(contrast, frame=RESPONSES):
    labels = label_responses(frame, contrast)
    assert labels.columns == ["response", "label", "question_id"]
    return {side: labels.filter(pl.col("label") == side)["response"].to_list() for side in (True, False)}


def test_the_default_contrasts_are_the_mean_difference_bands_topics_and_organisms():
    assert sides(MISALIGNMENT) == {True: ["b", "c"], False: ["a"]}
    assert sides(MEDICAL_QUESTION) == {True: ["a", "b"], False: ["c", "d", "e"]}
    assert sides(organisms("bad")) == {True: ["b", "c", "e", "f"], False: ["a", "d"]}
    assert sides(-MISALIGNMENT)[True] == sides(MISALIGNMENT)[False]


def test_the_paper_has_four_pairs_of_its_four_bands():
    assert len(PAPER_CONTRASTS) == 4
    rows = [(aligned, medical) for aligned in (90.0, 30.0, 89.0) for medical in (50.0, 1.0, 2.0)]
    frame = pl.DataFrame(rows, schema=["aligned", "medical"], orient="row").with_columns(
        response=pl.int_range(9).cast(pl.String), question_id=pl.lit("q")
    )
    found = [sides(contrast, frame) for contrast in PAPER_CONTRASTS]
    assert found == [
        {True: ["0"], False: ["1"]},
        {True: ["3"], False: ["4"]},
        {True: ["4"], False: ["1"]},
        {True: ["3"], False: ["0"]},
    ]


def test_sizes_are_counted_without_raising():
    sizes = contrast_sizes(RESPONSES.drop("medical"))
    assert sizes.height == 2 * len(CONTRASTS)
    found = sizes.filter(pl.col("contrast") == "misalignment")
    assert found["responses"].to_list() == [2, 1]
    assert found["questions"].to_list() == [2, 1]
    assert sizes.filter(pl.col("contrast") == PAPER_CONTRASTS[0].name)["responses"].to_list() == [0, 0]


def test_what_cannot_be_labelled_says_why():
    with pytest.raises(InputError, match=r"'medical'.*judge"):
        label_responses(RESPONSES.drop("medical"), PAPER_CONTRASTS[0])
    overlapping = Contrast("c", (Band("aligned", 0, 50),), (Band("aligned", 30, 100),), "low", "high")
    with pytest.raises(InputError, match="1 responses, 'c' among them, are on both sides"):
        label_responses(RESPONSES, overlapping)
    with pytest.raises(InputError, match=r"no response is low \(aligned < 0\)"):
        label_responses(RESPONSES, Contrast("c", (below("aligned", 0),), (above("aligned", 90),), "low", "high"))
    with pytest.raises(InputError, match="lower end first"):
        Band("aligned", 30, 0)
    with pytest.raises(InputError, match="no condition"):
        Contrast("c", (), (Band("aligned", 0, 1),), "low", "high")


def test_any_score_and_any_two_topics_make_a_contrast():
    frame = RESPONSES.with_columns(gender=pl.Series([80.0, 10.0, None, 40.0, 55.0, 0.0][: RESPONSES.height]))
    high = label_responses(frame, score("gender"))
    assert dict(high.select("response", "label").iter_rows()) == {"a": True, "b": False, "e": True, "f": False}
    pair = topics("medical", "first-plot")
    assert pair.columns == ("topic",)
    assert (pair.positive_name, pair.negative_name) == ("medical", "first-plot")


def test_the_classes_of_an_outcome_are_labelled_without_any_column_of_em():
    upper = Outcome("upper", (above("upper", 90),), title="upper case")
    frame = RESPONSES.select("response", "question_id", "topic").with_columns(
        upper=pl.Series([95.0, 90, 91, 0, None, 100])
    )
    assert sides(upper.contrast, frame) == {True: ["a", "c", "f"], False: ["b", "d"]}
    assert sides(outcome_answers(upper, topic="medical"), frame) == {True: ["a"], False: ["b"]}
    assert sides(topic_answers("medical", outcome=upper), frame)[True] == ["a", "b"]
    with pytest.raises(InputError, match=r"'upper' needs 'upper'.*judge"):
        label_responses(RESPONSES, upper.contrast)


def test_the_classes_of_em_can_be_cut_elsewhere_and_others_stay():
    strict = Thresholds(coherent=80, misaligned=20, aligned=90)
    assert sides(outcome_answers(EM, strict)) == {True: ["b"], False: ["a"]}
    assert outcome_answers(EM) == MISALIGNMENT
    upper = Outcome("upper", (above("upper", 90),))
    assert outcome_answers(upper, strict) == upper.contrast
