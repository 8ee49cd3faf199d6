import numpy as np
import pytest

from backend.edits import Receipt
from backend.worker.client import Done, End, Failed, Start, Token, Waiting
from backend.worker.protocol import generation_from_json
from panels.run import LiveAnswer, LiveRun, same_controls, scale_of

ASKED = generation_from_json({"prompt": "q", "arms": [{"name": "A"}, {"name": "A", "draw": 1}], "seed": 3})


def run(*answers):
    return LiveRun("0" * 32, ASKED, 0.0, answers)


def answer(*pieces):
    growing = LiveAnswer()
    for at, piece in enumerate(pieces):
        growing.token(piece, {"med": np.array([at, 10 * at], dtype=np.float32)})
    return growing


def test_scalars_belong_to_the_token_before_the_one_they_came_with():
    values = answer("a", "b", "c").values("med", 1)
    assert values[:2].tolist() == [10, 20]
    assert np.isnan(values[2])


def test_an_edited_answer_says_what_its_edits_did_or_that_it_was_stopped():
    edited = LiveAnswer(edited=True)
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


def test_an_event_is_taken_once_and_in_its_place():
    growing = run()
    for number, event in enumerate([Start("i", ("q",), ("A", "A")), Token(0, 1, "a"), Token(1, 2, "b")]):
        growing.take(number, event)
    growing.take(1, Token(0, 1, "a"))  # said again by another connection
    growing.take(9, Token(0, 9, "z"))  # ahead of what is missing
    assert [each.text for each in growing.answers] == ["a", "b"]
    growing.take(growing.heard - 1, Waiting(2))
    assert growing.state == "Waiting: 2 requests come first."
    assert growing.heard == 3


def test_what_still_grew_when_it_ended_is_stopped():
    growing = run()
    for number, event in enumerate([Start("i", (), ("A", "A")), Token(0, 1, "a"), End(1, "length"), Failed("no")]):
        growing.take(number, event)
    assert growing.over
    assert growing.error == "no"
    assert [each.reason for each in growing.answers] == ["cancelled", "length"]
    assert growing.answers[0].state == "1 tokens, stopped"


def test_a_long_prompt_says_how_far_it_is_read():
    growing = run()
    growing.take(-1, Waiting(0, 128, 512))
    assert growing.state == "Reading the prompt: 128 of 512 tokens."


def test_a_lane_goes_on_with_its_first_answer():
    growing = run(answer("a", "b"), answer("x"))
    growing.take(0, Done(1.0, 3))
    on = growing.followed("more")
    assert [message["content"] for message in on.messages] == ["q", "ab", "more"]
    assert (on.seed, on.arms) == (3, ASKED.arms)
    assert same_controls([ASKED], [LiveRun("1" * 32, on, 0.0)])
    assert not same_controls([generation_from_json({"prompt": "q", "arms": [{"name": "A"}], "seed": 3})], [growing])


def test_all_answers_share_one_scale():
    assert scale_of([run(answer("a", "b"), answer(*"abcdef"))], "med", 0) == pytest.approx(5, rel=0.05)
    assert scale_of([run(answer(), answer())], "med", 0) == 1
    assert scale_of([], "med", 0) == 1
