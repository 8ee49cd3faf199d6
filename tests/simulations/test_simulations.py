"""The command runs, counts as it should, and writes below its mark alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.simulations.__main__ import DOCUMENT, MARK, PARTS
from tests.simulations.areas import topics
from tests.simulations.counting import Counted
from tests.simulations.methods import DIFFERENCES, TESTS
from tests.simulations.trained import ASKED, _direction, _probe, _said, features
from tests.simulations.truths import TRUTHS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", TRUTHS)
def test_truths_have_the_means_they_say(name):
    rates_a, rates_b, truth = TRUTHS[name](np.random.default_rng(0), (4000, 8), 0.2, 0.2)
    assert rates_a.mean() == pytest.approx(0.2, abs=0.01)
    assert (rates_a - rates_b).mean() == pytest.approx(truth, abs=0.01)


def test_a_setting_is_counted():
    counted = Counted()
    for ends in ((-0.1, 0.1), (0.05, 0.2), (-0.4, 0.0), (-0.3, -0.1)):
        counted.add(ends, 0.1)
    assert (counted.runs, counted.held, counted.clear) == (4, 2, 2)
    assert counted.points == pytest.approx(100 * (0.2 + 0.15 + 0.4 + 0.2) / 4)


def test_methods_are_clear_where_there_is_no_doubt_and_are_not_without_hits():
    n = np.full(8, 50.0)
    for name, method in DIFFERENCES.items():
        low, high = method(np.arange(20.0, 28), n, np.zeros(8), n)
        assert low > 0, name
        low, high = method(np.zeros(8), n, np.zeros(8), n)
        assert low <= 0 <= high, name
        if name not in TESTS:
            assert -1 <= low <= high <= 1


def test_a_trained_probe_is_clear_of_a_strong_signal_and_gets_no_verdict_from_two_questions():
    rng, nine = np.random.default_rng(0), features(9)
    assert _probe(rng, ASKED["0.3 · 0.3"], 16, lambda *given: nine(*given) + given[1][:, None], 1) is True
    for judged in (_probe(rng, topics(0.0), 8, nine, 1), _direction(rng, topics(0.0), 8, nine)):
        assert judged is None  # the positive class is in two questions
    assert _direction(rng, ASKED["0.3 · 0.3"], 16, lambda *given: nine(*given) + given[1][:, None]) is True
    labels, codes = ASKED["three questions"](rng, 8)
    assert len(np.unique(codes[labels])) == 3


def test_a_share_of_false_verdicts_is_bold_where_it_is_surely_too_large():
    assert _said([True] * 3 + [False] * 97) == "3.0 (0)"
    assert _said([True] * 20 + [False] * 60 + [None] * 20) == "**25.0** (20)"
    assert _said([True] * 9 + [None] * 91) == "– (91)"


def test_the_command_writes_below_its_mark(tmp_path):
    out = tmp_path / "statistics.md"
    out.write_text(f"Words.\n\n{MARK}\n\nold tables")
    parts = ["few", "families"]
    command = [sys.executable, "-m", "tests.simulations", "--runs", "2", "--parts", *parts, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    head, tables = out.read_text().split(MARK)
    assert head == "Words.\n\n"
    assert "old tables" not in tables
    assert "### Few hits" in tables
    assert all(line in done.stdout for line in tables.splitlines())


def test_the_document_has_every_table():
    text = DOCUMENT.read_text()
    assert MARK in text
    assert len(PARTS) <= text.split(MARK)[1].count("### ")
