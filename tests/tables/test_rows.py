import numpy as np
import polars as pl

from backend.tables.features import Features
from backend.tables.rows import count_rows, labelled

FEATURES = Features(np.arange(12.0).reshape(6, 2), np.array([0, 0, 1, 2, 2, 2]), ("a", "b", "c"), ("x", "y"), "tokens")


def classes(**labels):
    rows = [(name, label, f"question {name}") for name, label in labels.items()]
    return pl.DataFrame(rows, ["response", "label", "question_id"], orient="row")


def test_every_token_has_the_class_and_the_question_of_its_response():
    rows = labelled(FEATURES, classes(c=True, a=False, elsewhere=True))
    assert rows.values.tolist() == FEATURES.values[[0, 1, 3, 4, 5]].tolist()
    assert rows.labels.tolist() == [False, False, True, True, True]
    assert rows.response.tolist() == [0, 0, 2, 2, 2]
    assert len(np.unique(rows.questions)) == 2
    assert rows.names == FEATURES.names


def test_rows_are_counted_as_they_would_be_labelled():
    both = classes(c=True, a=False)
    rows = labelled(FEATURES, both)
    assert count_rows(FEATURES, both) == (rows.labels.sum(), (~rows.labels).sum())


def test_where_every_response_has_a_class_values_are_not_copied():
    assert labelled(FEATURES, classes(a=True, b=False, c=True)).values is FEATURES.values
