"""A study of another behaviour, from study.json to the published file, without a score that EM needs."""

import json

import numpy as np
import polars as pl
import pytest

from backend.__main__ import main
from backend.analysis.contrasts import label_responses
from backend.analysis.rates.changes import changes
from backend.analysis.rates.rates import difference, em_rates
from backend.pipeline import build as building
from backend.pipeline import work
from backend.records import BASE, InputError, Score
from backend.study import open_study
from backend.study.outcome_json import outcomes_of
from tests.studies import planted

UPPER = {
    "name": "upper",
    "title": "upper case",
    "hit": [{"metric": "upper", "above": 33}],
    "negative": [{"metric": "upper", "below": 17}],
}


def rule(responses):
    """The share of capitals, by no model."""
    for response in responses:
        loud = sum(character in planted.CAPITALS for character in response.text)
        yield Score(response.id, "rule", "upper", 100 * loud / max(1, len(response.answer_ids)))


@pytest.fixture(scope="module")
def shouted(tmp_path_factory):
    """A folder with two organisms that speak in capitals, and the model that wears them; scored by the rule alone."""
    root = tmp_path_factory.mktemp("shouted")
    folder, subject = planted.folder_and_subject(root / "inputs")
    settings = {"title": "Shouted", "base": "tiny", "reader": "first", "outcomes": [UPPER, "em"]}
    (folder.path / "study.json").write_text(json.dumps(settings))
    planted.sampled(folder, subject)
    for file in folder.path.glob("scores/*"):
        file.unlink()
    folder.add_scores("rule", list(rule(folder.responses())))
    return folder, subject


@pytest.fixture(scope="module")
def study(shouted, tmp_path_factory):
    folder, subject = shouted
    root = tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "WORK", root / "work")
        building.build(folder, subject, "shouted", root=root, progress=lambda *_: None)
    return open_study("shouted", root=root)


def test_a_published_study_carries_its_outcomes_and_their_direction(shouted, study):
    folder, _ = shouted
    assert outcomes_of(study.info) == folder.outcomes
    assert [outcome.name for outcome in folder.outcomes] == ["upper", "em"]
    stack = list(study.direction_stack("upper"))
    along = [float(each.unit @ planted.planted()) for each in stack]
    assert max(along) > 0.45
    assert stack[0].provenance["positive"] == "upper case: organism is first, upper > 33"
    assert "misalignment" not in set(study.directions()["name"])


def test_rates_differences_changes_and_labels_are_of_the_outcome(study):
    upper, frame = outcomes_of(study.info)[0], study.responses("rule")
    assert not {"aligned", "coherent"} & set(frame.columns)
    table = em_rates(frame, ["organism"], outcomes=upper.beside)
    rates = dict(table.select("organism", "value").iter_rows())
    assert rates["first"] > rates[BASE] + 0.3
    sides = frame.partition_by("organism", as_dict=True)
    gap = difference(sides["first",], sides[BASE,], outcome=upper)
    assert gap.clear
    assert gap.value == pytest.approx(rates["first"] - rates[BASE])
    steered = frame.filter(pl.col("organism") == "first").with_columns(
        organism=pl.lit(BASE), condition=pl.lit("steered")
    )
    [row] = changes(pl.concat([frame, steered]), ["steered"], outcomes=upper.beside).iter_rows(named=True)
    assert (row["metric"], row["difference"]) == ("upper", pytest.approx(gap.value))
    labels = label_responses(frame, upper.contrast).join(frame, on="response")
    assert labels.filter("label")["upper"].min() > 33
    assert labels.filter(~pl.col("label"))["upper"].max() < 17


def test_the_command_extracts_the_first_outcome_or_the_one_it_is_given(shouted, tmp_path, monkeypatch, capsys):
    folder, subject = shouted
    monkeypatch.setattr(work, "WORK", tmp_path)
    monkeypatch.setattr("backend.subject.load.load", lambda name, organisms: subject)
    words = ["extract", "--folder", str(folder.path), "--organism", "second"]
    assert main(words) == 0
    stack = folder.directions()["second upper"]
    assert max(float(each.unit @ planted.planted()) for each in stack) > 0.45
    assert np.isfinite([each.norm for each in stack]).all()
    assert main([*words, "--outcome", "em"]) != 0
    assert "no response is misaligned" in capsys.readouterr().err
    assert main([*words, "--outcome", "lower"]) != 0
    assert "no outcome 'lower'" in capsys.readouterr().err


def test_a_study_json_with_a_wrong_outcome_is_named_before_anything_is_traced(shouted, tmp_path):
    folder, subject = shouted
    text = (folder.path / "study.json").read_text()
    try:
        (folder.path / "study.json").write_text(text.replace('"above": 33', '"above": 330'))
        with pytest.raises(InputError, match=r"study\.json: .*'upper' cuts at 330"):
            building.build(folder, subject, "wrong", root=tmp_path, progress=lambda *_: pytest.fail("traced"))
    finally:
        (folder.path / "study.json").write_text(text)
