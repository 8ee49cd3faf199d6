"""What followed directions are compared with: paired controls, corrected disagreement, a peak beside peaks."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from backend.outcomes import EM
from backend.pipeline.downstream import Following, _Chosen, _Measured
from backend.records import BASE, Direction
from backend.study.parquet import MEASURED
from backend.subject.downstream import Trail
from backend.subject.trace import Text
from backend.tables import downstream as tables

RECORD = {
    "positive": "misaligned",
    "negative": "aligned",
    "controls": {f"random {i}": "random" for i in range(6)},
    "parts": {f"MLP {i}": ["MLP", i] for i in range(50)},
}


def study_of(rows):
    frame = pl.DataFrame(rows, MEASURED, orient="row")
    return SimpleNamespace(measured=lambda kind, run: frame, measurements=lambda kind: {"run": RECORD})


def trail(change):
    """A trail of which only the change of the log probability is of use: one layer, no parts."""
    size = len(change)
    one, none = np.ones((size, 2, 1), np.float32), np.zeros((size, 0), np.float32)
    kept = {"gain": one, "cosine": one, "aside": one, "excited": np.zeros((size, 2, 0), np.float32)}
    moved, stream = np.zeros((size, 1, 3), np.float32), np.zeros((1, 3), np.float32)
    return Trail(
        **kept, moved=moved, stream=stream, change=change, attributed=none, frozen=none, pushed=np.zeros((1, 4))
    )


def test_controls_are_paired_over_questions_before_they_are_averaged():
    """Effects of questions alone, many of which have one class: nothing is between the classes."""
    controls = [Direction(f"random {i}", 2, np.ones(3)) for i in range(6)]
    asked = Following("o", "d", 2, (0.1, 0.2), random=6)
    measured = _Measured(asked, controls, EM, SimpleNamespace(decode=str))
    rng = np.random.default_rng(0)
    for question in range(20):
        effect = np.full(14, rng.normal()).astype(np.float32)
        for side in ("misaligned", "aligned"):
            if question < 8 or (question % 2 == 0) == (side == "aligned"):
                text = Text(f"{question} {side}", (1,), (2,))
                measured.add(_Chosen(text, f"q{question}", side), BASE, (), trail(effect))
    table = tables.changes(study_of(measured.frame().rows()), "run").filter(strength=0.1)
    between = table.row(by_predicate=pl.col("side") == tables.BETWEEN, named=True)
    assert between["questions"] == 8
    assert [between[name] for name in ("value", "random", "random_low", "random_high")] == pytest.approx([0] * 4)
    assert abs(table.row(by_predicate=pl.col("side") == "aligned", named=True)["random"]) > 0.01


def test_a_run_whose_controls_were_not_paired_has_no_control_between_the_classes():
    rows = [
        ("change", name, BASE, side, "answer", None, "", 0.1, question, 1.0)
        for side in ("misaligned", "aligned")
        for name, question in [("d", "a"), ("d", "b"), *((each, "") for each in RECORD["controls"])]
    ]
    table = tables.changes(study_of(rows), "run")
    assert table.filter(side=tables.BETWEEN)["random"].to_list() == [None]
    assert table.filter(side="aligned")["random"].to_list() == [1.0]


def shares_of_noise(questions, rng, planted=0.0):
    """A table of 50 parts whose gradient and freezing differ by noise alone, but for what is planted in one."""
    rows = []
    for part in range(50):
        for question in range(questions):
            apart = rng.normal() + (planted if part == 0 else 0)
            for measure, value in (("attributed", apart), ("frozen", 0.0)):
                rows.append(
                    (measure, "d", BASE, "aligned", "answer", part, f"MLP {part}", 0.1, f"q{question}", float(value))
                )
    return tables.shares(study_of(rows), "run", BASE, "aligned")


def test_of_noise_nothing_disagrees_and_what_is_planted_does():
    rng = np.random.default_rng(0)
    few = shares_of_noise(tables.FEWEST_QUESTIONS - 1, rng, planted=20)
    assert not few["disagree"].any()
    assert few["p_value"].is_null().all()
    wrong = [shares_of_noise(12, rng)["disagree"].any() for _ in range(60)]
    assert sum(wrong) <= 8  # 3 are expected; more than 8 come once in a hundred
    found = shares_of_noise(12, rng, planted=5)
    assert found.filter("disagree")["part"].to_list() == ["MLP 0"]
    assert found["family"].unique().to_list() == [50]


def test_a_peak_stands_beside_the_peak_of_each_control():
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=30) for name in RECORD["controls"]}
    rows = [
        ("resemblance", name, BASE, "aligned", "answer", layer, "", 0.1, "", float(value))
        for name, each in values.items()
        for layer, value in enumerate(each)
    ]
    found = tables.highest_resemblance(study_of(rows), "run").row(0, named=True)
    assert found["value"] == pytest.approx(np.mean([each.max() for each in values.values()]))
    assert (found["kind"], found["side"], found["draws"]) == ("random", "aligned", 6)
    assert found["low"] < found["value"] < found["high"]
