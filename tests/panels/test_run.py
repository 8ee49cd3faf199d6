import numpy as np
import pytest

from backend.edits import Receipt
from panels.run import LiveAnswer, LiveRun


def answer(*pieces):
    growing = LiveAnswer("base")
    for at, piece in enumerate(pieces):
        growing.token(piece, {"med": np.array([at, 10 * at], dtype=np.float32)})
    return growing


def test_scalars_belong_to_the_token_before_the_one_they_came_with():
    values = answer("a", "b", "c").values("med", 1)
    assert values[:2].tolist() == [10, 20]
    assert np.isnan(values[2])


def test_an_edited_answer_says_what_its_edits_did_or_that_it_was_stopped():
    edited = LiveAnswer("x", edited=True)
    assert edited.effects == []
    edited.reason = "cancelled"
    assert "stopped before the receipt" in edited.effects[0]
    edited.receipts = (Receipt("ablate", "v", (1,), 0, 41, 41, 41 * 12.3, 41 * 150.0), Receipt("steer", "w"))
    assert edited.effects == [
        "ablate v: acted at 41 answer tokens of 1 layer, mean change 12.3 = 8.2% of the stream's norm",
        "steer w: did nothing, no token was changed",
    ]


def test_an_answer_without_tokens_has_no_values():
    assert answer().values("med", 0).shape == (0,)


@pytest.mark.parametrize(("organism", "adapter"), [("other", 0), ("med", 7)])
def test_an_adapter_that_was_not_streamed_has_no_values(organism, adapter):
    assert np.isnan(answer("a", "b").values(organism, adapter)).all()


def test_bytes_of_a_character_are_shown_as_one_token():
    tokens, values = answer("a", "", "é").printed("med", 0)
    assert tokens == ["a", "é"]
    assert values[0] == 1


def test_text_is_whole_and_what_still_grows_is_stopped():
    run = LiveRun("q", "s", (answer("a", "", "b"), answer()))
    run.answers[1].reason = "length"
    run.close()
    assert run.answers[0].text == "ab"
    assert [a.reason for a in run.answers] == ["cancelled", "length"]
    assert run.answers[0].state == "3 tokens, stopped"


def test_both_answers_share_one_scale():
    run = LiveRun("q", "s", (answer("a", "b"), answer(*"abcdef")))
    assert run.scale("med", 0) == pytest.approx(5, rel=0.05)
    assert LiveRun("q", "s", (answer(), answer())).scale("med", 0) == 1
