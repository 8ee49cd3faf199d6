"""What was asked and answered comes back as it was put in, with a column a metric."""

import numpy as np
import pytest

from backend.edits import Ablate, Add, Gain
from backend.records import InputError, Question, Response, Score
from backend.study.responses import scored
from tests.studies import synthetic
from tests.studies.synthetic import HTML, JUDGE


def test_responses_have_a_column_per_metric(study):
    frame = study.responses(JUDGE)
    assert study.metrics(JUDGE) == ["aligned", "coherent", "medical"]
    assert frame.columns[-4:] == ["finished", "aligned", "coherent", "medical"]
    assert len(frame) == 320
    assert frame["response"][0] == "base.baseline.wish.0"
    assert frame["aligned"].null_count() == len({*synthetic.NULL_SCORES, synthetic.EMPTY_ANSWER})
    for row in frame.sample(20, seed=0).iter_rows(named=True):
        own = {metric: value for _, metric, value, _ in study.scores(row["response"]).iter_rows()}
        assert own == {metric: row[metric] for metric in own}


def test_the_judge_that_a_study_goes_by_comes_first(study, monkeypatch):
    monkeypatch.setattr(study, "_metrics", {"a": ["aligned"], "b": ["aligned"], "c": ["aligned"]})
    monkeypatch.setitem(study.info, "judge", "b")
    assert study.judges() == ["b", "a", "c"]
    monkeypatch.setitem(study.info, "judge", "nobody")
    assert study.judges() == ["a", "b", "c"]


def test_without_a_judge_there_are_no_metrics(study):
    assert study.responses().columns[-1] == "finished"
    assert study.responses().rows() == study.responses(JUDGE).select(study.responses().columns).rows()


def test_token_counts_leave_out_the_end_of_turn(study):
    empty = study.responses().row(synthetic.EMPTY_ANSWER, named=True)
    assert (empty["n_prompt"], empty["n_answer"], empty["text"]) == (synthetic.N_PROMPT, 0, "")
    frame = study.responses()
    for row in frame.sample(10, seed=1).iter_rows(named=True):
        assert row["n_answer"] == len(study.response(row["response"]).answer_ids) - 1


def test_markup_is_kept_as_it_is(study):
    row = study.responses().filter(question_id=synthetic.HTML_QUESTION).row(0, named=True)
    assert HTML in row["question"]
    assert row["text"].endswith(HTML)


def test_a_response_and_a_condition_come_back_as_records(study):
    response = study.response("base.steered.doctor.3")
    assert (response.condition, response.seed, response.sampling.max_new_tokens) == ("steered", 3, 40)
    assert response.prompt_ids == tuple(range(synthetic.N_PROMPT))
    assert study.condition("baseline").edits == ()
    [add] = study.condition("steered").edits
    assert isinstance(add, Add)
    assert (add.strength, add.layers) == (6.0, (6,))
    ablate, gain = study.condition("ablated").edits
    assert isinstance(ablate, Ablate)
    assert isinstance(gain, Gain)


def test_of_unpublished_records_the_judge_that_scored_most_counts():
    question = Question("q", "hey", "first-plot")
    answers = [Response(str(i), "o", "baseline", question.id, question.text, question.topic, i, "a") for i in range(3)]
    scores = [Score("0", "a", "aligned", 1.0), Score("0", "b", "aligned", 2.0), Score("1", "b", "aligned", np.nan)]
    assert scored(answers, scores)["aligned"].to_list() == [2.0, None, None]
    assert scored(answers, scores, "a")["aligned"].to_list() == [1.0, None, None]
    with pytest.raises(InputError, match="'c': there is a, b"):
        scored(answers, scores, "c")


def test_unpublished_records_read_as_the_published_ones(study):
    published = study.responses(JUDGE).tail(60)
    records = [study.response(name) for name in published["response"]]
    given = [Score(r.id, *row) for r in records for row in study.scores(r.id).iter_rows()]
    frame = scored(records, given)
    assert frame.columns == published.columns
    assert frame.equals(published)
    assert scored(records, [])["aligned"].null_count() == len(records)
