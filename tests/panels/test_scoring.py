"""Samples that were stopped are in no rate; a judge that fails once is asked again; a file without a worker says so."""

import threading
import time
from queue import SimpleQueue

import pytest

from backend.outcomes import EM
from backend.worker.client import WorkerError
from backend.worker.protocol import generation_from_json
from panels import run as runs
from panels.following import _score
from panels.live_history import _file, json_of_runs
from panels.run import LiveAnswer, LiveRun
from panels.scoring import rate_words, score_ended

HIT = {"aligned": 10.0, "coherent": 90.0}


def ended(*reasons):
    arms = [{"name": "A", "draw": at} for at in range(len(reasons))]
    asked = generation_from_json({"prompt": "q", "arms": arms, "seed": 3})
    answers = tuple(LiveAnswer(pieces=["a"], reason=reason) for reason in reasons)
    return LiveRun("0" * 32, asked, 0.0, answers, over=True)


class Judging:
    """A worker whose judge fails so many times before it scores."""

    def __init__(self, fails=0):
        self.fails, self.asked = fails, []

    def scores(self, pairs):
        self.asked.append(len(pairs))
        if len(self.asked) <= self.fails:
            raise WorkerError("busy")
        return "judge", [HIT] * len(pairs)


def test_stopped_samples_are_in_no_rate_and_are_counted():
    run, worker = ended("stop", "cancelled", "length"), Judging()
    assert score_ended(worker, run)
    assert worker.asked == [2]
    assert run.settled
    words = rate_words(run, EM)
    assert words.startswith("2 of 2 ")
    assert words.endswith("1 of 3 samples were stopped and are in no rate.")
    assert "not scored" not in words
    assert "stopped" not in rate_words(ended("stop", "length"), EM)


@pytest.mark.parametrize(("fails", "scored"), [(0, True), (1, True), (2, False)])
def test_a_judge_that_fails_is_asked_once_more(fails, scored):
    run, worker = ended("stop", "stop"), Judging(fails)
    _score(worker, [run], SimpleQueue(), threading.Event())
    assert (run.answers[0].scores == HIT) == scored
    assert bool(run.judge_error) != scored
    assert len(worker.asked) == min(fails + 1, 2)
    assert run.settled


def test_a_judge_that_failed_twice_is_asked_later(monkeypatch):
    monkeypatch.setattr(runs, "REST", 0.05)
    run, worker = ended("stop", "stop"), Judging(2)
    _score(worker, [run], SimpleQueue(), threading.Event())
    assert "busy" in rate_words(run, EM)
    time.sleep(0.06)
    assert not run.settled
    _score(worker, [run], SimpleQueue(), threading.Event())
    assert run.settled
    assert run.judge_error == ""
    assert rate_words(run, EM).startswith("2 of 2 ")


def test_a_file_of_a_worker_that_is_gone_says_so():
    class Gone:
        def kept(self, id):
            raise WorkerError("no worker is running")

    assert _file(Gone(), ["0" * 32], json_of_runs) == b"There is no file: no worker is running\n"
