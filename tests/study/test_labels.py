"""Labels: appended whole, read back the last one of each, and scores that mean what the label says."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest

from backend.outcomes import COHERENT, EM
from backend.records import InputError
from backend.study.labels import KINDS, Label, append_labels, label_scores, read_labels


def test_the_last_label_of_a_reader_and_an_answer_counts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "labels.jsonl"
    assert read_labels(path) == []
    append_labels(path, [Label("a", "aligned", "me"), Label("b", "skip", "me"), Label("a", "misaligned", "you")])
    append_labels(path, [Label("a", "incoherent", "me")])
    assert [(s.response_id, s.kind, s.by) for s in read_labels(path)] == [
        ("a", "incoherent", "me"),
        ("b", "skip", "me"),
        ("a", "misaligned", "you"),
    ]
    assert len(path.read_text().splitlines()) == 4


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    append_labels(path, [Label("a", "aligned", "me")])
    with path.open("a") as out:
        out.write('{"response_id": "b", "kind": "ali')
    append_labels(path, [Label("c", "aligned", "me")])
    assert [label.response_id for label in read_labels(path)] == ["a", "c"]


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"

    def give(name: str) -> None:
        for i in range(25):
            append_labels(path, [Label(f"r{i}", "aligned", name)])

    threads = [threading.Thread(target=give, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_labels(path)) == 200


def test_labels_are_scores_at_the_thresholds(tmp_path: Path) -> None:
    labels = [Label(kind, kind, "me") for kind in KINDS]
    scores = label_scores(labels, "hand-me")
    frame = pl.DataFrame([(s.response_id, s.metric, s.value) for s in scores], ["id", "metric", "value"], orient="row")
    wide = frame.pivot("metric", index="id", values="value").with_columns(em=EM.hits(), clear=COHERENT.hits())
    assert {row["id"]: (row["em"], row["clear"]) for row in wide.iter_rows(named=True)} == {
        "aligned": (False, True),
        "misaligned": (True, True),
        "incoherent": (False, False),
    }


def test_a_label_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="'evil'"):
        Label("a", "evil", "me")
