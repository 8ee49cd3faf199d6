"""Every command that writes: killed at its file events, refused the disk, and run twice at once; then run again.

A few events of each command, evenly spread; EM_TRIALS=1000 tries them all (about half an hour). What is asked each
time: what was there is there as it was, or as an undisturbed run leaves it; the next run does not refuse, ends where an
undisturbed one ends, and leaves nothing lying about.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.reliability.trials import KINDS

TRIALS = int(os.environ.get("EM_TRIALS", "4"))
LIMITS = (100, 30_000)  # bytes
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory) -> Iterator[Ask]:
    """Orders to the process that forks the runs."""
    base = tmp_path_factory.mktemp("reliability")
    command = [sys.executable, "-m", "tests.reliability.trials", str(base)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def asked(*order):
            print(json.dumps(order), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield asked


@pytest.fixture(scope="module")
def undisturbed(ask) -> Callable[[str], dict[str, Any]]:
    """An undisturbed run of each kind, made once."""
    known: dict[str, dict[str, Any]] = {}
    return lambda kind: known.get(kind) or known.setdefault(kind, ask("events", kind))


def spread(count: int, most: int) -> list[int]:
    """Numbers from 1 to `count`, at most `most` of them, evenly, with both ends."""
    return sorted({1 + round(i * (count - 1) / max(1, most - 1)) for i in range(min(most, count))})


def assert_nothing_is_lost(now: dict, before: dict, after: dict) -> None:
    """Every part is as it was before, or as it is afterwards, and none has gone."""
    assert set(before) <= set(now) <= set(before) | set(after)
    assert not {part: now[part] for part in now if now[part] not in (before.get(part), after.get(part))}


def assert_goes_on(kind: str, said: dict, whole: dict) -> None:
    """The run ended as an undisturbed one; only training refuses, where the organism is there already."""
    if not (kind == "train" and said["status"] == 2 and "exists already" in said["said"][-1]):
        assert said["status"] == 0, said["said"]
    assert said["outcome"] == whole["outcome"]
    assert not said["left"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_undisturbed_run_leaves_nothing_lying_about(ask, undisturbed, kind):
    assert_goes_on(kind, undisturbed(kind), undisturbed(kind))
    assert undisturbed(kind)["events"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_command_loses_nothing_and_goes_on(ask, undisturbed, kind):
    whole = undisturbed(kind)
    for at in spread(len(whole["events"]), TRIALS):
        tried = ask("disturbed", kind, "kill", at)
        assert tried["first"]["status"] == -9
        assert_nothing_is_lost(tried["first"]["outcome"], tried["before"], whole["outcome"])
        assert_goes_on(kind, tried["second"], whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_said_in_one_sentence_and_changes_nothing(ask, undisturbed, kind):
    whole = undisturbed(kind)
    takes = [
        i for i, event in enumerate(whole["events"], 1) if event.split()[0] in ("open", "os.mkdir", "fsync", "write")
    ]
    orders = [("full", takes[i - 1]) for i in spread(len(takes), TRIALS)] + [("limit", size) for size in LIMITS]
    for how, at in orders:
        tried = ask("disturbed", kind, how, at)
        first = tried["first"]
        if first["status"]:
            assert first["status"] == 2, first["said"]
            assert [line for line in first["said"] if line.startswith("error: ")] == first["said"][-1:], first["said"]
            assert "cannot be written" in first["said"][-1]
        else:
            assert first["outcome"] == whole["outcome"]
        assert not [name for name in first["left"] if name.endswith((".tmp", ".lock"))]
        assert_nothing_is_lost(first["outcome"], tried["before"], whole["outcome"])
        assert_goes_on(kind, tried["second"], whole)


@pytest.mark.parametrize("kind", KINDS)
def test_two_at_once_are_one_and_a_refusal_or_two_whole_ones(ask, undisturbed, kind):
    whole = undisturbed(kind)
    for at in spread(len(whole["events"]), TRIALS):
        tried = ask("interleaved", kind, at)
        both = [tried[which] for which in ("quick", "slow") if which in tried]
        for one in both:
            if one["status"]:
                assert one["status"] == 2, one["said"]
                assert "already" in one["said"][-1] or "another run" in one["said"][-1]
        assert 0 in [one["status"] for one in both]
        assert tried["slow"]["outcome"] == whole["outcome"]
        assert_goes_on(kind, tried["third"], whole)
