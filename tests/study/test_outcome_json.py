"""Outcomes as people write them into study.json: what is understood, and what is refused in words."""

import json
from pathlib import Path

import pytest

from backend.outcomes import COHERENT, EM, PRESETS, Band, Is, IsNot, above, below
from backend.records import InputError
from backend.study.outcome_json import named_outcome, outcomes_of, outcomes_to_json

UPPER = {"name": "upper", "title": "upper case", "hit": [{"metric": "upper", "above": 90}], "among": ["upper"]}
FULL = {
    **UPPER,
    "hit": [{"metric": "upper", "at_least": 49.99, "below": 90}, {"metric": "coherent", "above": 50}],
    "among": ["aligned"],
    "positive": [{"metric": "upper", "above": 90}, {"column": "topic", "is": "medical"}],
    "negative": [{"metric": "upper", "at_most": 10}, {"column": "topic", "is_not": "medical"}],
    "positive_name": "shouted",
    "negative_name": "said",
    "source": "this study",
}


def of(*entries):
    return outcomes_of({"outcomes": json.loads(json.dumps(entries))})


def test_a_study_that_says_nothing_asks_for_em():
    assert outcomes_of({}) == outcomes_of({"outcomes": None}) == (EM,)
    assert of("em", "coherent") == (EM, COHERENT)


def test_an_outcome_of_a_rule_needs_a_name_and_a_hit_alone():
    [short] = of({"name": "upper", "hit": [{"metric": "upper", "above": 90}]})
    assert (short.title, short.needs, str(short)) == ("upper", ("upper",), "upper > 90")
    assert short.contrast.negative == (Band("upper", -float("inf"), 90),)
    [upper] = of(UPPER)
    assert (upper.kinds, upper.contrast.name) == (("not upper case", "upper case"), "upper")


def test_everything_that_can_be_said_is_understood():
    [full] = of(FULL)
    assert full.hit == (Band("upper", 49.99, below("upper", 90).high), above("coherent", 50))
    assert full.needs == ("aligned", "upper", "coherent")
    assert full.contrast.positive == (above("upper", 90), Is("topic", "medical"))
    assert full.contrast.negative == (Band("upper", -float("inf"), 10), IsNot("topic", "medical"))
    assert full.kinds == ("said", "shouted", "incoherent")


def test_what_is_written_is_read_again():
    outcomes = of(*PRESETS, UPPER, {**FULL, "name": "full"})
    written = json.loads(json.dumps(outcomes_to_json(outcomes)))
    assert written[: len(PRESETS)] == list(PRESETS)
    assert outcomes_of({"outcomes": written}) == outcomes


def test_an_outcome_is_found_by_name():
    outcomes = of("em", UPPER)
    assert named_outcome(outcomes, None) == EM
    assert named_outcome(outcomes, "upper").title == "upper case"
    with pytest.raises(InputError, match=r"no outcome 'lower'.*em, upper"):
        named_outcome(outcomes, "lower")


def but(**changes):
    return [{**FULL, **changes}]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("em", "list of 1 to 32"),
        ([], "list of 1 to 32"),
        ({"em": 1}, "list of 1 to 32"),
        (["em"] * 33, "list of 1 to 32"),
        (["em", "em"], "two outcomes 'em'"),
        (["lies"], "no outcome 'lies': name one of em"),
        ([None], "no outcome None"),
        ([["em"]], r"no outcome \['em'\]"),
        (but(name="em"), "'em' is the paper's"),
        (but(name="self-corrected"), "is the paper's"),
        (but(name=""), "name of an outcome is ''"),
        (but(name=7), "name of an outcome is 7"),
        (but(name="a.b"), "letters, digits"),
        (but(name="^.*$"), "letters, digits"),
        (but(name="x" * 65), "64 at most"),
        (but(hits=[]), "unknown key 'hits'.*hit, among"),
        (but(title=""), "'' as title"),
        (but(title="two\nlines"), "as title"),
        (but(title="x" * 201), "as title"),
        (but(hit=[]), "list of 1 to 16 conditions as hit.*for example"),
        (but(hit=None), "not None"),
        (but(hit="upper > 90"), "conditions as hit"),
        (but(hit=[{"metric": "upper", "above": 90}] * 17), "1 to 16"),
        (but(hit=[{"column": "topic", "is": "medical"}]), "scores alone"),
        (but(hit=["upper"]), "is 'upper': give a metric with above"),
        (but(hit=[{"metric": "upper"}]), "give a metric with above"),
        (but(hit=[{"above": 3}]), "give a metric with above"),
        (but(hit=[{"metric": "upper", "over": 3}]), "give a metric with above"),
        (but(hit=[{"metric": "upper", "above": 3, "at_least": 3}]), "give a metric with above"),
        (but(hit=[{"metric": "upper", "above": 60, "below": 40}]), "lower end first"),
        (but(hit=[{"metric": "upper", "above": True}]), "cuts at True"),
        (but(hit=[{"metric": "upper", "above": "90"}]), "cuts at '90'"),
        (but(hit=[{"metric": "upper", "above": float("nan")}]), "cuts at nan"),
        (but(hit=[{"metric": "upper", "above": float("inf")}]), "cuts at inf"),
        (but(hit=[{"metric": "upper", "above": 101}]), "from 0 to 100"),
        (but(hit=[{"metric": "upper", "above": 10**400}]), "from 0 to 100"),
        (but(hit=[{"metric": "upper", "above": 1e-7}]), "six decimals"),
        (but(hit=[{"metric": "text", "above": 1}]), "'text', which is no score"),
        (but(hit=[{"metric": "*", "above": 1}]), "letters, digits"),
        (but(hit=[{"metric": ["upper"], "above": 1}]), "letters, digits"),
        (but(among="upper"), "list of metrics"),
        (but(among=["organism"]), "no score"),
        (but(among=[{}]), "letters, digits"),
        (but(positive=[]), "conditions as positive"),
        (but(negative=[{"column": "text", "is": "x"}]), "a column is one of organism"),
        (but(negative=[{"column": ["topic"], "is": "x"}]), "a column is one of organism"),
        (but(negative=[{"column": "topic", "is": 3}]), "3 as is"),
        (but(positive_name="said"), "two names"),
        (but(negative_name="incoherent"), "neither 'incoherent'"),
    ],
)
def test_what_is_no_outcome_is_refused_in_words(entries, says):
    with pytest.raises(InputError, match=says) as refused:
        outcomes_of({"outcomes": entries})
    assert len(str(refused.value)) < 500


def test_a_hit_without_one_opposite_must_name_its_negative_class():
    two = {"name": "loud", "hit": [{"metric": "upper", "above": 90}, {"metric": "marks", "above": 50}]}
    with pytest.raises(InputError, match=r"'loud'.*which its negative class"):
        of(two)
    [loud] = of({**two, "negative": [{"metric": "upper", "below": 10}]})
    assert loud.contrast.positive == loud.hit


def test_the_outcomes_of_the_readme_are_outcomes():
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (upper,) = outcomes_of(json.loads(text[text.index('{"title": "Shouting"') :].partition("```")[0]))
    assert (upper.name, upper.title, str(upper)) == ("upper", "upper case", "upper > 90")
