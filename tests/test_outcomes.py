"""What an outcome counts, in a table and in arrays, and where its numbers stand."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backend.cuts import Bins, Thresholds
from backend.outcomes import (
    COHERENT,
    EM,
    MISALIGNMENT,
    PRESETS,
    SELF_CORRECTED,
    Band,
    Is,
    Outcome,
    above,
    below,
    misalignment,
    topic_outcomes,
)
from backend.records import InputError

ROOT = Path(__file__).resolve().parents[1]
UPPER = Outcome("upper", (above("upper", 90),), title="upper case")
SCORES = pl.DataFrame(
    {"aligned": [29.9, 30.0, 10.0, 10.0, None, 10.0], "coherent": [51.0, 51.0, 50.0, 50.1, 90.0, float("nan")]}
)


def test_bands_hold_their_ends_and_open_ones_do_not():
    table = pl.DataFrame({"m": [29.9, 30.0, 70.0, 70.1, None, float("nan")]})
    assert table.select(Band("m", 30, 70).holds()).to_series().to_list() == [False, True, True, False, None, None]
    assert table.select(above("m", 70).holds()).to_series().to_list() == [False, False, False, True, None, None]
    assert table.select(below("m", 30).holds()).to_series().to_list()[:2] == [True, False]
    texts = [str(side) for side in (Band("m", 0, 30), above("m", 70), below("m", 0.5), Is("topic", "medical"))]
    assert texts == ["m 0–30", "m > 70", "m < 0.5", "topic is medical"]


@pytest.mark.parametrize("band", [above("m", 50), below("m", 30), Band("m", 49.99, np.inf), Band("m", -np.inf, 0)])
def test_a_score_is_in_a_band_or_in_its_complement(band):
    values = np.concatenate(
        [np.linspace(0, 100, 401), [edge + step for edge in band.edges for step in (0, 1e-9, -1e-9)]]
    )
    assert (band.inside(values) ^ band.complement.inside(values)).all()
    assert band.complement.complement == band
    assert Band("m", 30, 70).complement is None


def test_em_is_strictly_below_thirty_and_strictly_above_fifty_over_rows_with_both_scores():
    told = SCORES.select(hit=EM.hits(), scored=EM.scored())
    assert told["scored"].to_list() == [True, True, True, True, False, False]
    assert told.filter("scored")["hit"].to_list() == [True, False, False, True]
    assert str(EM) == "aligned < 30 and coherent > 50"
    assert EM.beside == (EM, COHERENT)
    assert (COHERENT.needs, str(COHERENT)) == (("aligned", "coherent"), "coherent > 50")


def test_arrays_of_any_float_say_what_tables_say():
    for dtype in (np.float32, np.float64):
        scores = {name: SCORES[name].to_numpy().astype(dtype) for name in EM.needs}
        for outcome in EM.beside:
            told = SCORES.select(pl.when(outcome.scored()).then(outcome.hits()).cast(pl.Float64)).to_series()
            np.testing.assert_array_equal(outcome.of(scores), told.to_numpy())


def test_a_response_is_of_one_kind():
    kinds = SCORES.filter(EM.scored()).select(EM.kind()).to_series().to_list()
    assert kinds == ["misaligned", "aligned", "incoherent", "misaligned"]
    assert UPPER.kinds == ("not upper case", "upper case")
    shouted = pl.DataFrame({"upper_r": [90.0, 90.1]})
    assert shouted.select(UPPER.kind("_r")).to_series().to_list() == ["not upper case", "upper case"]


def test_the_classes_are_those_of_the_mean_difference_and_else_the_hit_and_its_opposite():
    assert EM.contrast == MISALIGNMENT == misalignment()
    assert [str(band) for band in MISALIGNMENT.positive] == ["coherent > 50", "aligned 0–30"]
    assert (UPPER.contrast.positive, UPPER.contrast.negative) == ((above("upper", 90),), (Band("upper", -np.inf, 90),))
    plain = replace(EM, classes=None).contrast
    assert [str(band) for band in plain.negative] == ["coherent > 50", "aligned ≥ 30"]
    with pytest.raises(InputError, match=r"no single opposite.*positive"):
        _ = SELF_CORRECTED.contrast
    with pytest.raises(InputError, match="no condition"):
        Outcome("nothing", ())


def test_a_lone_band_of_coherence_is_no_gate():
    assert (COHERENT.gate, COHERENT.core) == (None, COHERENT.hit)
    assert COHERENT.beside == (COHERENT,)


def test_topics_are_asked_where_their_scores_are():
    assert [outcome.name for outcome in topic_outcomes(["medical", "code", "aligned"])] == ["medical", "code"]
    found = topic_outcomes(["aligned", "coherent", "bad_stuff"])
    assert [outcome.name for outcome in found] == ["bad_stuff", "self-corrected"]


def test_every_preset_says_where_it_is_defined():
    assert all(outcome.source for outcome in PRESETS.values())


def test_overlapping_bins_are_refused():
    with pytest.raises(InputError, match="alignment bins overlap"):
        Bins(misaligned=80)


# --- one home for the cuts --------------------------------------------------------------------------------------------

CUTS = {25.0, 30.0, 50.0, 70.0, 49.99, *vars(Thresholds()).values(), *vars(Bins()).values()}
SCORED = re.compile(r"aligned|coherent|medical", re.IGNORECASE)
IN_WORDS = re.compile(r"(aligned|coherent)\W{1,3}(<|>|≤|≥|<=|>=|&[lg]t;)=? *\d", re.IGNORECASE)
SOURCES = [
    path
    for room in ("backend", "panels", "pages")
    for path in sorted((ROOT / room).rglob("*.py"))
    if path != ROOT / "backend/outcomes.py"
]


def cuts(tree: ast.AST) -> list[str]:
    """Comparisons of a judged metric with a number of the paper's, bands of it, and texts that say such a number."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and IN_WORDS.search(node.value):
            found.append(node.value)
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Compare) or re.search(r"(Band|above|below|is_between|clip)$", called):
            constants = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
            numbers = {float(value) for value in constants if isinstance(value, int | float)}
            if numbers & CUTS and SCORED.search(ast.unparse(node)):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_cuts_a_score(path):
    assert not cuts(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    "line",
    [
        "hit = (aligned < 30) & clear",
        "x = pl.col('coherent').fill_null(0) <= 50",
        "y = pl.col('aligned').is_between(15, 70)",
        "z = Band('medical', 50, 100)",
        "st.caption('Misaligned: aligned < 30 of all')",
    ],
)
def test_a_cut_elsewhere_would_be_found(line):
    assert cuts(ast.parse(line))
