import numpy as np

from backend.analysis.probes.rivals import length_features, topic_word_features


def test_words_are_whole_and_of_any_case():
    values, names = topic_word_features(["Doctors and a doctor; indoctrination", "MONEY, money", "", "human women"])
    counts = np.expm1(values).round().astype(int)
    assert names == ("medical words", "money words", "gender words")
    assert counts.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_longer_answers_have_larger_features():
    values, _ = length_features([0, 1, 50])
    assert values.shape == (3, 1)
    assert (np.diff(values[:, 0]) > 0).all()
