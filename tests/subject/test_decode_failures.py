"""A pass that fails costs no token and no row: what is drawn is told, and what was not told is drawn again."""

import pytest

from backend.records import Sampling
from backend.subject import decode, key_values, rows
from backend.subject.decode import Decoder, Request, sample
from tests.studies import tiny

PROMPTS = [(5, 9, 40, 77), (8, 8, 100, 31, 64, 200, 17, 3, 90), (130, 21), tuple(range(10, 60))]


def always(options):
    return True


def leaving(options):
    return "drop" in options


def requests(likeliest=None):
    """Of different lengths, drawn at random, so that a number drawn twice would show."""
    return [
        Request(i, prompt, sampling=Sampling(max_new_tokens=6 + 3 * i), seed=i, likeliest=likeliest)
        for i, prompt in enumerate(PROMPTS)
    ]


def driven(decoder):
    """Every key's tokens and ends, by steps of which some fail; and how many failed."""
    found, ends, failures = {}, {}, 0
    for _ in range(200):
        if not decoder.active:
            return found, ends, failures
        try:
            emissions = decoder.step()
        except RuntimeError:
            failures += 1
            emissions, failed = decoder.recover()
            assert not failed
        for emission in emissions:
            assert emission.key not in ends
            found.setdefault(emission.key, []).append(emission.token_id)
            if emission.finished:
                ends[emission.key] = emission.finished
    raise AssertionError("somebody hangs")


def expected(subject):
    return {one.key: list(one.answer_ids) for one in sample(subject, requests())}


def failing(monkeypatch, module, name, calls, asked=always):
    """A function that fails at these of its calls with such options, counted from 1."""
    right, count = getattr(module, name), [0]

    def wrong(*args, **kwargs):
        count[0] += asked(kwargs)
        if asked(kwargs) and count[0] in calls:
            raise RuntimeError("out of memory")
        return right(*args, **kwargs)

    monkeypatch.setattr(module, name, wrong)


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (decode, "keep_rows", {1}),  # when the first row leaves
        (decode, "keep_rows", {1, 2, 3}),
        (rows, "draw", {2, 8, 14}),  # beside those of the rows that are read anew
        (rows, "likelihood", {6, 11, 30}),  # in the middle of a batch: rows before it have theirs
    ],
)
def test_nothing_is_lost_or_drawn_twice_where_a_step_fails(monkeypatch, module, name, calls):
    subject = tiny.subject()
    right = expected(subject)
    failing(monkeypatch, module, name, calls, leaving if name == "keep_rows" else always)
    decoder = Decoder(subject)
    decoder.admit(requests(likeliest=2))
    found, ends, failures = driven(decoder)
    assert failures == len(calls)
    assert found == right
    assert set(ends) == set(right)


def test_who_was_told_its_end_is_gone_whatever_fails(monkeypatch):
    subject = tiny.subject()
    decoder = Decoder(subject)
    decoder.admit([Request("a", PROMPTS[0], sampling=Sampling(max_new_tokens=1)), requests()[3]])
    failing(monkeypatch, decode, "keep_rows", {1}, leaving)
    first = decoder.step()
    assert [emission.finished for emission in first if emission.key == "a"] == ["length"]
    assert decoder.active == 1
    decoder.remove("a")
    _, ends, failures = driven(decoder)
    assert failures == 1
    assert list(ends) == [3]


def test_removing_raises_nothing_and_frees_its_place_at_once(monkeypatch):
    subject = tiny.subject()
    decoder = Decoder(subject, capacity=4)
    decoder.admit(requests())
    decoder.step()
    failing(monkeypatch, decode, "keep_rows", {1})
    decoder.remove(1)
    assert decoder.active == 3
    with pytest.raises(RuntimeError):
        decoder.step()
    emissions, failed = decoder.recover()
    assert {emission.key for emission in emissions} == {0, 2, 3}
    assert not failed


@pytest.mark.parametrize("call", [1, 2, 5, 12])
def test_a_newcomer_that_does_not_fit_leaves_the_others_as_they_were(monkeypatch, call):
    subject = tiny.subject()
    right = expected(subject)
    decoder = Decoder(subject)
    decoder.admit(requests()[:2])
    found = {emission.key: [emission.token_id] for emission in decoder.step()}
    failing(monkeypatch, key_values, "_padded", {call})  # in the middle of some layer
    decoder.admit(requests()[2:])
    with pytest.raises(RuntimeError):
        decoder.enter()
    more, _, failures = driven(decoder)
    assert failures == 0
    assert {key: found[key] + more[key] for key in found} == {key: right[key] for key in found}


@pytest.mark.parametrize(("module", "name"), [(rows, "draw"), (decode, "keep_rows")])
def test_a_prompt_that_fails_after_its_last_piece_is_read_anew(monkeypatch, module, name):
    subject = tiny.subject()
    right = expected(subject)[3]
    decoder = Decoder(subject, piece=16)
    decoder.admit(requests()[3:])
    failing(monkeypatch, module, name, {1})
    found, ends, failures = driven(decoder)
    assert failures == 1
    assert found == {3: right}
    assert list(ends) == [3]


def test_rows_that_are_done_at_their_first_token_take_no_memory(monkeypatch):
    subject = tiny.subject()
    decoder = Decoder(subject, capacity=2)
    decoder.admit([Request("long", PROMPTS[0], sampling=Sampling(max_new_tokens=40))])
    decoder.step()
    for i in range(10):
        decoder.admit([Request(i, PROMPTS[1], sampling=Sampling(max_new_tokens=1))])
        decoder.step()
        assert len(decoder._rows) <= 2
    decoder.remove("long")
    assert decoder.active == 0
    assert decoder._cache is None
