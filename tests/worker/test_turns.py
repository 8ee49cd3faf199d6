"""Whose turn it is: users, memory, long prompts; and who fails when something fails."""

import time
from collections.abc import Hashable
from itertools import pairwise

import pytest

from backend.edits import Add, Gain
from backend.records import InputError
from backend.subject.chat import prompt_ids
from backend.subject.decode import Decoder, Request, sample
from backend.worker.protocol import Arm, Busy, Done, Failed, Token
from backend.worker.room import Room
from tests.worker.conftest import direction, endless, wait
from tests.worker.test_engine import ARMS, Ear, generation, written

LONG_TEXT = "a long prompt " * 150  # 2100 tokens and the template's


def counted(subject):
    """The (rows, tokens) of every forward pass from now on."""
    passes = []
    subject.model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return passes


# --- users ---


def test_users_take_turns_whoever_came_first(subject, engines):
    engine = engines(endless(subject), capacity=1)
    running = Ear()
    first = engine.submit(generation(max_new_tokens=2000), running, user="many")
    running.until(Token)
    many = [engine.submit(generation(max_new_tokens=1), Ear(), user="many") for _ in range(3)]
    one = engine.submit(generation(max_new_tokens=1), Ear(), user="one")
    other = [engine.submit(generation(max_new_tokens=1), Ear(), user="other") for _ in range(2)]
    ahead = {job: engine.ahead(job) for job in (*many, one, *other)}
    assert sorted(ahead, key=ahead.get) == [one, other[0], many[0], other[1], many[1], many[2]]
    engine.cancel(first)


def test_one_user_cannot_fill_the_queue(subject, engines):
    engine = engines(endless(subject), capacity=1, queue=4, queue_of_one=2)
    ear = Ear()
    engine.submit(generation(max_new_tokens=2000), ear, user="a")
    ear.until(Token)
    for _ in range(2):
        engine.submit(generation(), Ear(), user="a")
    with pytest.raises(Busy, match="2 of yours") as caught:
        engine.submit(generation(), Ear(), user="a")
    assert (caught.value.status, caught.value.retry > 0) == (429, True)
    for _ in range(2):
        engine.submit(generation(), Ear(), user="b")
    with pytest.raises(Busy, match="4 requests wait"):
        engine.submit(generation(), Ear(), user="c")


# --- memory ---


def test_a_token_takes_what_its_keys_and_values_take(subject):
    layers, heads, size = 6, 2, 8
    assert Room.of(subject).token == layers * 2 * heads * size * 4
    assert Room(100, 1000).holds(2, 5)
    assert not Room(100, 1000).holds(2, 6)


def test_a_request_waits_until_the_longest_texts_have_room_together(subject, engines):
    token = Room.of(subject).token
    length = len(prompt_ids(subject.tokenizer, "hello")) + 100
    engine = engines(endless(subject), memory=2 * length * token)
    first, second, third = Ear(), Ear(), Ear()
    running = engine.submit(generation(max_new_tokens=100), first)
    first.until(Token)
    engine.submit(generation(max_new_tokens=101), second)  # its row is longer, and so is then the other's
    engine.submit(generation(max_new_tokens=1), third)  # there is room for it, but it is not its turn
    time.sleep(0.1)
    assert engine.health().active == 1
    engine.cancel(running)
    second.until(Token)
    health = engine.health()
    assert (health.memory, health.per_token) == (2 * length * token, token)
    with pytest.raises(InputError, match=r"3 answers of up to .* tokens may take"):
        engine.submit(generation(arms=ARMS, max_new_tokens=100), Ear())


# --- long prompts ---


@pytest.mark.parametrize("edits", [(), (Gain("o", 5.0), Add(direction(), 2.0))], ids=["plain", "edited"])
def test_a_prompt_that_is_read_in_pieces_gives_the_same_answer_and_receipts(subject, edits):
    ids = prompt_ids(subject.tokenizer, LONG_TEXT)
    requests = [
        Request(0, ids, edits, seed=1, receipts=True),
        Request(1, ids, (), seed=2),
        Request(2, ids, edits, seed=3),
    ]
    expected = {one.key: one for one in sample(subject, requests)}
    decoder = Decoder(subject, piece=100)
    decoder.admit(requests)
    passes = counted(subject)
    found: dict[Hashable, list[int]] = {key: [] for key in range(3)}
    receipts = {}
    while decoder.active:
        for emission in decoder.step():
            found[emission.key].append(emission.token_id)
            receipts[emission.key] = emission.receipts
    assert {key: tuple(tokens) for key, tokens in found.items()} == {k: one.answer_ids for k, one in expected.items()}
    kinds = 2 if edits else 1
    assert max(tokens for _, tokens in passes) == 100 // kinds
    assert {rows for rows, tokens in passes if tokens > 1} == {kinds}
    for one, other in zip(receipts[0], expected[0].receipts, strict=True):
        assert (one.words.split(",")[0], one.places) == (other.words.split(",")[0], other.places)
        assert one.changed == pytest.approx(other.changed, rel=1e-3)


def test_a_late_arrival_does_not_wait_for_a_long_prompt(subject, engines):
    engine = engines(endless(subject, seconds=0.003), piece=64)
    writing, reading, late = Ear(), Ear(), Ear()
    jobs = [engine.submit(generation(max_new_tokens=2000), writing)]
    writing.until(Token)
    passes, heard = counted(subject), []
    jobs.append(engine.submit(generation(LONG_TEXT, max_new_tokens=1000), reading))
    wait(lambda: engine.progress(jobs[1])[0])
    whole = len(prompt_ids(subject.tokenizer, LONG_TEXT))
    assert engine.progress(jobs[1])[1] == whole

    def hear(events):
        heard.append(len(passes))  # first at its Start, when it is queued
        late(events)

    jobs.append(engine.submit(generation("hi", max_new_tokens=2000), hear))
    late.until(Token)
    own = passes.index((1, len(prompt_ids(subject.tokenizer, "hi"))))
    assert own - heard[0] <= 2
    assert engine.progress(jobs[1])[0] < whole
    reading.until(Token)
    steps = [tokens for _, tokens in passes]
    pieces = [i for i, tokens in enumerate(steps) if tokens == 64]
    assert len(pieces) == whole // 64
    assert all(1 in steps[a:b] for a, b in pairwise(pieces))  # the others go on in between
    for job in jobs:
        engine.cancel(job)


def test_a_prompt_can_be_cancelled_while_it_is_read(subject, engines):
    engine = engines(endless(subject, seconds=0.02), piece=16)
    ear = Ear()
    job = engine.submit(generation(LONG_TEXT), ear)
    wait(lambda: engine.progress(job)[0])
    assert engine.cancel(job)
    assert ear.until()[-1].tokens == 0
    assert engine.health().active == 0


# --- failures ---


def poisoned(subject, when):
    """Passes over such token ids, (row, token), fail."""

    def hook(module, args, kwargs):
        if when(kwargs["input_ids"]):
            raise RuntimeError("out of memory")

    subject.model.register_forward_pre_hook(hook, with_kwargs=True)


def test_a_pass_that_fails_once_costs_nobody_an_answer(subject, engines):
    engine = engines(endless(subject, seconds=0.001))
    left = [3]

    def third(ids):
        left[0] -= ids.shape == (2, 1)
        return ids.shape == (2, 1) and left[0] == 0

    poisoned(subject, third)
    asked = [generation("a", ARMS[1:2], seed=1, max_new_tokens=12), generation("b", seed=2, max_new_tokens=12)]
    ears = [Ear(), Ear()]
    for one, ear in zip(asked, ears, strict=True):
        engine.submit(one, ear)
    assert all(isinstance(ear.until()[-1], Done) for ear in ears)
    for one, ear in zip(asked, ears, strict=True):  # the engine is at rest: two threads cannot read one model at once
        assert tuple(token.id for token in ear.of(Token)) == written(subject, one)[0].answer_ids
    assert left[0] <= 0


def test_a_failure_of_long_ago_is_no_second_one(subject, engines):
    """The pass that fails once is each request's only one: no pass succeeds between the two failures."""
    engine = engines(endless(subject, seconds=0.001))
    fails = []

    def once(ids):
        if ids.shape == (1, 1) and len(fails) < 1:
            fails.append(ids)
            return True
        return False

    poisoned(subject, once)
    for seed in range(3):
        ear = Ear()
        fails.clear()
        engine.submit(generation(seed=seed, max_new_tokens=2), ear)
        assert isinstance(ear.until()[-1], Done)
        assert len(fails) == 1
        assert len(ear.of(Token)) == 2


def test_who_is_gone_has_answered_for_the_failure(subject, engines):
    """One fails alone and is dropped; the next pass of the others that fails is a first one."""
    engine = engines(endless(subject, seconds=0.001))
    bad = prompt_ids(subject.tokenizer, "bad one")
    state = {"broken": False, "passes": 0}

    def fails(ids):
        if not state["broken"]:
            return False
        if ids.shape == (2, 1) or ids[0, : len(bad)].tolist() == list(bad):
            return True
        state["passes"] += ids.shape == (1, 1)
        return ids.shape == (1, 1) and state["passes"] == 1

    poisoned(subject, fails)
    good, ill = Ear(), Ear()
    engine.submit(generation("good", max_new_tokens=40), good)
    engine.submit(generation("bad one", max_new_tokens=2000), ill)
    ill.until(Token)
    state["broken"] = True
    assert isinstance(ill.until()[-1], Failed)
    assert isinstance(good.until()[-1], Done)
    assert len(good.of(Token)) == 40


def test_rows_are_free_when_their_end_is_heard(subject, engines):
    engine = engines(endless(subject))
    ear, active = Ear(), []

    def hear(events):
        active.append(engine.health().active)
        ear(events)

    job = engine.submit(generation(max_new_tokens=2000), hear)
    ear.until(Token)
    engine.cancel(job)
    assert isinstance(ear.until()[-1], Done)
    assert active[-1] == 0


def test_rows_are_counted_while_readings_come_and_go(subject):
    decoder = Decoder(subject)

    class Going:
        """A reading during whose count another one comes, as in the engine's thread."""

        @property
        def rows(self):
            decoder._readings.append(Going())
            return [1, 2]

    decoder._readings.append(Going())
    assert decoder.active == 2


def test_who_fails_again_alone_has_failed_and_the_others_go_on(subject, engines):
    engine = engines(endless(subject, seconds=0.001))
    bad = prompt_ids(subject.tokenizer, "bad one")
    broken = [False]

    def holds_bad(ids):
        return broken[0] and (ids.shape == (2, 1) or ids[0, : len(bad)].tolist() == list(bad))

    poisoned(subject, holds_bad)
    good, ill = Ear(), Ear()
    engine.submit(generation("good", max_new_tokens=40), good)
    engine.submit(generation("bad one", max_new_tokens=2000), ill)
    ill.until(Token)
    broken[0] = True
    assert isinstance(ill.until()[-1], Failed)
    assert "out of memory" in ill.events[-1].message
    assert isinstance(good.until()[-1], Done)
    assert len(good.of(Token)) == 40


def test_numbers_that_are_not_finite_end_their_own_request_alone(subject, engines):
    engine = engines(subject)
    nan = []

    def hook(module, inputs, output):
        if len(output) == 2 and nan:
            output[1] = float("nan")
        return output

    subject.model.lm_head.register_forward_hook(hook)
    endless(subject, seconds=0.001)
    good, ill = Ear(), Ear()
    engine.submit(generation(max_new_tokens=60), good)
    good.until(Token)
    engine.submit(generation("other", arms=[Arm("a")], max_new_tokens=2000), ill)
    ill.until(Token)
    nan.append(True)
    last = ill.until()[-1]
    assert isinstance(last, Failed)
    assert "not finite" in last.message
    assert isinstance(good.until()[-1], Done)
    assert len(good.of(Token)) == 60
