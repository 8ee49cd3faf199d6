"""What an option's text means. What it must not be is in test_commands, over every option of every command."""

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from backend.commands import values
from backend.edits import Where


def test_ranges_are_numbers_each_once():
    assert values.layers("9-11,15") == (9, 10, 11, 15)
    assert values.layers("3, 1-2,2-4") == (3, 1, 2, 4)
    assert values.layers_or_none("none") == ()
    assert values.seeds_or_none("2147483648") == (2**31,)


def test_strengths_are_shares_or_raw():
    assert values.strengths("4%, 8%") == ((0.04, 0.08), True)
    assert values.strengths("-1,0.5") == ((-1.0, 0.5), False)


def test_tokens_are_named_by_part_and_narrowed():
    assert values.where("all") == Where()
    assert values.where("paper") == Where(sink=True)
    assert values.where("answer,first=5,after=2") == Where("answer", first=5, after=2)
    assert values.where("prompt, no-special,tokens=9+3") == Where("prompt", tokens=(3, 9), special=False)
    assert values.targets("mean, zero") == ("mean", "zero")
    for wrong in ("answers", "answer,5", "all,first=0", "all,tokens=x", ""):
        with pytest.raises(ArgumentTypeError, match="names no tokens"):
            values.where(wrong)
    with pytest.raises(ArgumentTypeError, match="is not zero, mean"):
        values.targets("zero,median")


def test_names_may_have_the_signs_of_the_names_around_them():
    assert values.addition("v: L1:16:-2.5") == ("v: L1", 16, -2.5)
    assert values.ablated_layer("a:b:3") == ("a:b", 3)
    assert values.organism("o=hub/name=x") == ("o", Path("hub/name=x"))
    assert values.group("late ones=17-19,2") == ("late ones", (17, 18, 19, 2))
    assert values.organism_folder("a/.hidden/o") == Path("a/.hidden/o")
    assert values.name("steer L12 8%, medical") == "steer L12 8%, medical"
    assert values.judge("local:" + "deep/" * 60 + "model").endswith("model")


@pytest.mark.parametrize(
    ("of", "text", "rule"),
    [
        (values.whole(1, 8), "9", "'9' is no whole number from 1 to 8"),
        (values.number(most=1, above=0), "0", "'0' is not a finite number, above 0 and at most 1"),
        (values.number(), "nan", "'nan' is not a finite number"),
        (values.layers, "5-3", "'5-3' is not numbers up to 999 and ranges of them, as 9-11,15"),
        (values.seeds_or_none, "0-5000", "'0-5000' is more than 1000 numbers: ask for fewer"),
        (values.prices, "1", "'1' is not IN,OUT in dollars per million tokens, such as 2.5,10"),
    ],
)
def test_a_refusal_says_value_and_rule(of, text, rule):
    with pytest.raises(ArgumentTypeError) as refused:
        of(text)
    assert str(refused.value) == rule
