"""The engine: it streams what `sample` writes, rows enter and leave at any step, errors stay where they belong."""

import copy
import dataclasses
import queue
import random
import threading
import time
from typing import Any

import numpy as np
import pytest

from backend.edits import PLAIN, Ablate, Add, Clamp, Gain, Level, Where
from backend.records import InputError, Sampling
from backend.subject.chat import prompt_ids
from backend.subject.decode import Request, sample
from backend.subject.trace import Text, trace
from backend.worker.protocol import (
    Arm,
    Busy,
    Done,
    End,
    Failed,
    Generation,
    Start,
    Token,
    generation_from_json,
    generation_to_json,
)
from tests.worker.conftest import CONTEXT, direction, endless, wait

ARMS = (Arm("base"), Arm("organism", (Gain("o", 1.0),)), Arm("steered", (Gain("o", 1.0), Add(direction(), 2.0))))


def generation(text="hello", arms=ARMS[:1], seed=0, capture=(), **sampling):
    how = Sampling(**{"max_new_tokens": 12, **sampling})
    return Generation(({"role": "user", "content": text},), tuple(arms), how, seed, tuple(capture))


class Ear:
    """Collects what an engine delivers."""

    def __init__(self):
        self.events = []
        self._queue = queue.Queue()

    def __call__(self, events):
        self._queue.put(list(events))

    def until(self, kind=(Done, Failed)):
        while not self.events or not isinstance(self.events[-1], kind):
            self.events += self._queue.get(timeout=10)
        return self.events

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def run(engine, asked):
    ear = Ear()
    engine.submit(asked, ear)
    ear.until()
    return ear


def written(subject, asked):
    """What `sample` writes for the same request: arm -> answer ids."""
    ids = prompt_ids(subject.tokenizer, asked.messages[-1]["content"])
    requests = [Request(i, ids, arm.edits, asked.sampling, asked.seed) for i, arm in enumerate(asked.arms)]
    return {s.key: s for s in sample(subject, requests)}


def test_an_answer_is_a_start_then_tokens_then_an_end_an_arm_then_done(subject, engines):
    asked = generation(arms=ARMS, capture=("o",), seed=5)
    ear = run(engines(subject), asked)
    start, *rest, done = ear.events
    assert start.arms == ("base", "organism", "steered")
    assert "".join(start.prompt_tokens) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    expected = written(subject, asked)
    for arm in range(3):
        own = [event for event in rest if event.arm == arm]
        assert isinstance(own[-1], End)
        tokens = own[:-1]
        assert tuple(token.id for token in tokens) == expected[arm].answer_ids
        assert "".join(token.text for token in tokens) == expected[arm].text
        assert own[-1].reason == ("stop" if expected[arm].finished else "length")
    assert isinstance(done, Done)
    assert done.tokens == len(ear.of(Token))
    assert done.seconds > 0


def test_the_same_seed_makes_arms_without_a_difference_the_same(subject, engines):
    ear = run(engines(subject), generation(arms=[Arm("a"), Arm("b", (Gain("o", 0.0),))], temperature=1.0))
    ids = [[token.id for token in ear.of(Token) if token.arm == arm] for arm in (0, 1)]
    assert ids[0] == ids[1]


def test_streamed_scalars_are_the_traces_and_only_where_asked_for(subject, engines):
    asked = generation(arms=ARMS[1:2], capture=("o",), seed=2)
    tokens = run(engines(subject), asked).of(Token)
    ids = prompt_ids(subject.tokenizer, "hello")
    [traced] = trace(subject, [Text("r", ids, tuple(token.id for token in tokens))], "o")
    streamed = np.stack([token.scalars["o"] for token in tokens], axis=1)
    np.testing.assert_allclose(streamed, traced.scalars[:, len(ids) - 1 : -1], atol=2e-4)
    assert run(engines(subject), generation()).of(Token)[0].scalars == {}


def test_users_share_passes_without_changing_each_others_answers(subject, engines):
    engine = engines(endless(subject, seconds=0.002))
    asked = [generation(f"question {i}", ARMS[: 1 + i % 3], seed=i, max_new_tokens=10 + i) for i in range(8)]
    ears = [Ear() for _ in asked]
    for one, ear in zip(asked, ears, strict=True):
        engine.submit(one, ear)
        time.sleep(0.01)
    for ear in ears:
        ear.until()
    for one, ear in zip(asked, ears, strict=True):
        for arm, expected in written(subject, one).items():
            assert tuple(token.id for token in ear.of(Token) if token.arm == arm) == expected.answer_ids


def test_a_request_that_does_not_fit_waits_for_all_its_rows(subject, engines):
    engine = engines(endless(subject), capacity=4)
    first, second = Ear(), Ear()
    running = engine.submit(generation(arms=ARMS, max_new_tokens=2000), first)
    first.until(Token)
    waiting = engine.submit(generation(arms=ARMS[:2], max_new_tokens=3), second)
    last = engine.submit(generation(max_new_tokens=3), Ear())
    assert [engine.ahead(job) for job in (running, waiting, last)] == [0, 0, 1]
    time.sleep(0.1)
    second.until(Start)
    assert not second.of(Token)
    assert (engine.health().active, engine.health().waiting) == (3, 2)
    assert engine.cancel(running)
    assert second.until()[-1].tokens == 6
    assert [end.reason for end in first.until()[-4:-1]] == ["cancelled"] * 3


def test_newcomers_do_not_starve_who_is_being_answered(subject, engines):
    engine = engines(endless(subject, seconds=0.01))
    ear = Ear()
    job = engine.submit(generation(max_new_tokens=2000), ear)
    ear.until(Token)
    for seed in range(60):  # several a pass, each gone after its first token
        engine.submit(generation(seed=seed, max_new_tokens=1), Ear())
        time.sleep(0.005)
    engine.cancel(job)
    ear.until()
    assert len(ear.of(Token)) > 8


def test_a_waiting_request_can_be_cancelled(subject, engines):
    engine = engines(endless(subject), capacity=2)
    first, second = Ear(), Ear()
    engine.submit(generation(arms=ARMS[:2], max_new_tokens=2000), first)
    first.until(Token)
    job = engine.submit(generation(arms=ARMS[:2]), second)
    assert engine.cancel(job)
    second.until()
    assert second.events[1:] == [End(0, "cancelled"), End(1, "cancelled"), Done(0.0, 0)]
    assert not engine.cancel(job)


def test_the_queue_is_bounded(subject, engines):
    engine = engines(endless(subject), capacity=1, queue=2)
    first = Ear()
    engine.submit(generation(max_new_tokens=2000), first)
    first.until(Token)
    for _ in range(2):
        engine.submit(generation(), Ear())
    with pytest.raises(Busy, match="2 requests wait for the model already: try again"):
        engine.submit(generation(), Ear())


WRONG = {
    "layer": ((Add(direction(layer=6), 1.0),), "arm 'x': layer 6 does not exist: tiny has layers 0 to 5"),
    "width": ((Add(direction(width=7), 1.0),), "direction 'v' has 7 dimensions"),
    "organism": ((Gain("p", 1.0),), "no organism named 'p'"),
    "adapter": ((Gain("o", 1.0, ("layers.9.mlp.down_proj",)),), "has no adapter 'layers.9.mlp.down_proj'"),
    "strength": ((Add(direction(), 1e300),), "beyond any use"),
    "gains": ((Gain("o", 1e6),) * 8, "not finite"),
}


@pytest.mark.parametrize(("edits", "message"), WRONG.values(), ids=WRONG)
def test_edits_that_do_not_fit_the_model_are_refused_before_they_queue(subject, engines, edits, message):
    with pytest.raises(InputError, match=message):
        engines(subject).submit(generation(arms=[Arm("x", edits)]), Ear())


def test_prompts_that_do_not_fit_the_model_are_refused_with_the_numbers(subject, engines):
    engine = engines(subject)
    with pytest.raises(InputError, match=rf"the prompt has 40\d\d tokens and up to 200 more .* reads {CONTEXT}"):
        engine.submit(generation("x" * 4000, max_new_tokens=200), Ear())
    with pytest.raises(InputError, match="400,000 characters"):
        engine.submit(generation("x" * 400_000), Ear())
    with pytest.raises(InputError, match="prompt is empty"):
        engine.submit(generation("  "), Ear())
    with pytest.raises(InputError, match="'p' were asked for, but no such organism is loaded: there is o"):
        engine.submit(generation(capture=["p"]), Ear())
    subject.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match=r"chat template of .* refuses the turns user: roles must alternate"):
        engine.submit(generation(), Ear())


VALUES: list[Any] = [None, True, 0, -1, 3, 1.5, 1e308, float("nan"), float("inf"), 10**400, "", "o", "x" * 300]
VALUES += ["\ud800", "AAAA", "//9/fw==", [], {}, [[]], [None], {"kind": "gain"}, [1, 2], "base", 2**31]


def mutated(value, random):
    """A deep copy with one part replaced by anything, or gone."""
    value = copy.deepcopy(value)
    holders = list(holders_of(value))
    holder, key = random.choice(holders)
    if random.random() < 0.15:
        del holder[key]
    else:
        holder[key] = copy.deepcopy(random.choice(VALUES))
    return value


def holders_of(value):
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in entries:
        yield value, key
        yield from holders_of(part)


def test_whatever_is_sent_is_served_or_refused_in_a_sentence(subject, engines):
    edits = (Gain("o", 1.0, ("layers.1.mlp.down_proj",)), Add(direction(), 1.0, (1,)), Ablate(direction()))
    arms = [Arm("a"), Arm("b", edits)]
    asked = generation_to_json([{"role": "user", "content": "hi"}], arms, Sampling(max_new_tokens=1), 0, ["o"])
    engine = engines(subject, queue=10_000, queue_of_one=10_000)
    rng = random.Random(0)
    served, refusals = [], []
    for _ in range(1500):
        ear = Ear()
        try:
            engine.submit(generation_from_json(mutated(mutated(asked, rng), rng)), ear)
            served.append(ear)
        except InputError as error:
            refusals.append(str(error))
    assert all(10 < len(refusal) < 600 for refusal in refusals)
    assert 30 < len(served) < 1000
    assert all(isinstance(ear.until()[-1], Done) for ear in served)


def break_when(subject, condition):
    """Raise in the middle of the model's forward pass when `condition(rows, tokens)` holds."""

    def hook(module, inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        if condition(*hidden.shape[:2]):
            raise RuntimeError("out of memory\nand more")

    subject.blocks[3].register_forward_hook(hook)


def test_an_error_while_one_enters_is_its_own(subject, engines):
    break_when(subject, lambda rows, tokens: tokens > 100)
    engine = engines(endless(subject))
    good, bad = Ear(), Ear()
    asked = generation(arms=ARMS, max_new_tokens=40)
    engine.submit(asked, good)
    good.until(Token)
    engine.submit(generation("x" * 200), bad)
    assert bad.until()[-1] == Failed("the engine failed while writing this answer (RuntimeError: out of memory)")
    good.until()
    for arm, expected in written(subject, asked).items():
        assert tuple(token.id for token in good.of(Token) if token.arm == arm) == expected.answer_ids
    assert engine.health().active == 0


def test_an_error_in_a_shared_pass_ends_it_and_the_next_request_is_served(subject, engines):
    broken = threading.Event()
    break_when(subject, lambda rows, tokens: broken.is_set() and tokens == 1)
    engine = engines(endless(subject))
    ears = [Ear(), Ear()]
    for ear in ears:
        engine.submit(generation(arms=ARMS, max_new_tokens=2000), ear)
        ear.until(Token)
    broken.set()
    assert all(isinstance(ear.until()[-1], Failed) for ear in ears)
    broken.clear()
    assert engine.health().active == 0
    assert run(engine, generation(max_new_tokens=5)).events[-1].tokens == 5


def test_numbers_that_overflow_in_one_arm_leave_the_others_alone(subject, engines):
    wild = Arm("wild", (Add(direction(), 1e6), Gain("o", 1e6)))
    asked = generation(arms=[ARMS[0], wild, ARMS[1]], capture=("o",))
    ear = run(engines(endless(subject, 0)), asked)
    assert isinstance(ear.events[-1], Done)
    for arm in (0, 2):
        tokens = [token for token in ear.of(Token) if token.arm == arm]
        assert tuple(token.id for token in tokens) == written(subject, asked)[arm].answer_ids
        assert all(np.isfinite(token.scalars["o"]).all() for token in tokens)


def test_closing_ends_every_request_and_refuses_new_ones(subject, engines):
    engine = engines(endless(subject), capacity=1)
    ears = [Ear(), Ear()]
    for ear in ears:
        engine.submit(generation(max_new_tokens=2000), ear)
    ears[0].until(Token)
    engine.close()
    assert all("ended before" in ear.until()[-1].message for ear in ears)
    with pytest.raises(Busy, match="stopping"):
        engine.submit(generation(), Ear())


def test_a_finished_request_leaves_nothing_behind(subject, engines):
    engine = engines(subject)
    for _ in range(3):
        ear = run(engine, generation(arms=ARMS, max_new_tokens=3))
        assert not engine.cancel(ear.events[0].id)
    wait(lambda: engine.health().active == 0)
    assert not engine._running
    assert not engine._cancelled
    assert not subject.model.lm_head._forward_hooks
    assert all(not block._forward_hooks for block in subject.blocks)


def test_receipts_come_with_the_end_of_each_arm_and_only_where_asked_for(subject, engines):
    v = direction()
    arms = (
        Arm("base"),
        Arm("steered", (Gain("o", 1.0), Add(v, 2.0, where=PLAIN))),
        Arm("nowhere", (Clamp(v, Level((1.0,)), None, (2,), Where(tokens=(258,))),)),
    )
    engine = engines(subject)
    asked = generation(arms=arms, seed=1)
    ends = run(engine, dataclasses.replace(asked, receipts=True)).of(End)
    told = {end.arm: end.receipts for end in ends}
    prompt = len(prompt_ids(subject.tokenizer, "hello"))
    assert told[0] == ()
    [added] = told[1]
    assert (added.layers, added.prompt) == ((2,), prompt - 1)
    assert added.change == pytest.approx(2 * v.norm, rel=1e-5)
    [nothing] = told[2]
    assert "did nothing" in nothing.words
    assert all(end.receipts == () for end in run(engine, asked).of(End))
