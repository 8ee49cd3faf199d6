"""Answers with a planted direction between their classes."""

import numpy as np

from backend.analysis.directions.answers import Answers, Means

LAYER = 3


def answers(means, counts, labels, groups=None, norm=None):
    """Answers at LAYER alone; `means` is (answer, d_model)."""
    return Answers(Means({LAYER: means}, counts, {} if norm is None else {LAYER: norm}), labels, groups)


def planted(*, responses=300, d_model=32, size=2.0, confound=0.0, seed=0):
    """Means, tokens, labels and questions of answers, and the vector between the classes.

    Questions differ in how often they are answered positively and, with `confound`, in where their answers lie.
    """
    rng = np.random.default_rng(seed)
    question = rng.integers(0, 10, responses)
    labels = rng.random(responses) < np.linspace(0.05, 0.7, 10)[question]
    vector = rng.standard_normal(d_model)
    vector *= size / np.linalg.norm(vector)
    topic = confound * np.outer(np.linspace(-1, 1, 10), rng.standard_normal(d_model))
    means = rng.standard_normal((responses, d_model)) + np.outer(labels, vector) + topic[question]
    return means.astype(np.float32), rng.integers(1, 80, responses), labels, question, vector
