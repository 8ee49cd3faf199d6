"""Two organisms that answer the same questions, with labels that tell nothing within one: no agreement may be found."""

import numpy as np
import pytest

from tests.benchmarks.convergence import Setting, verdicts

STUDIES = 80


def share(setting, key):
    """In which share of the studies `key` is so."""
    rng = np.random.default_rng(7)
    return float(np.mean([found[key] for _ in range(STUDIES) if (found := verdicts(setting, rng))]))


@pytest.mark.parametrize("balance", ["weights", "matching"])
def test_labels_that_tell_nothing_are_seldom_called_agreement(balance):
    """At most 2.5 of 100; of 80, more than 7 come up once in a thousand times."""
    assert share(Setting(each=12), f"within, {balance}") <= 7 / STUDIES


def test_labels_shuffled_over_all_answers_would_call_most_of_them_agreement():
    assert share(Setting(each=12), "over all, weights") > 0.5


def test_a_shared_axis_is_found_by_matching():
    assert share(Setting(effect=6.0), "within, matching") > 0.8
