"""A planted direction is followed from the folder to the tables of a study, beside its controls."""

import json

import numpy as np
import polars as pl
import pytest

from backend.outcomes import EM
from backend.pipeline.downstream import KIND, Following, follow
from backend.pipeline.measured import measurements
from backend.records import BASE, Direction, InputError
from backend.tables import downstream as tables
from tests.studies import planted, tiny
from tests.studies.followed import LAYER, NAME, RUN, followed_study


def nothing(*_):
    return None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    every = followed_study(tmp_path_factory.mktemp("downstream"))
    return every.folder, every.subject, every.found, every.study


def test_what_was_kept_is_read_again_and_published(made):
    folder, _, found, study = made
    again, _ = measurements(folder.path)
    assert (again.kind, again.name, again.record) == (KIND, RUN, json.loads(json.dumps(found.record)))
    assert study.measured(KIND, RUN)["value"].to_list() == again.frame["value"].to_list()
    assert study.measurements(KIND)[RUN]["direction"] == NAME
    assert study.measurements("another") == {}
    with pytest.raises(InputError, match="no run of the kind 'downstream' 'else'"):
        study.measured(KIND, "else")


def test_the_change_at_the_layer_itself_is_the_vector(made):
    study = made[-1]
    for measure, value in (("gain", 1), ("cosine", 1), ("aside", 0)):
        own, controls = tables.course(study, RUN, measure, "answer")
        there = own.filter(pl.col("layer") == LAYER)
        assert there["value"].to_list() == pytest.approx([value] * 2, abs=5e-3)
        assert set(own["layer"]) == set(range(LAYER, tiny.N_LAYERS))
        assert set(controls["kind"]) == {"random"}
        assert controls["draws"].unique().to_list() == [6]


def test_small_lengths_are_linear_and_a_large_one_is_said(made):
    table = tables.linearity(made[-1], RUN).filter(pl.col("reader") == BASE)
    least, twice, large = table["value"]
    assert least == pytest.approx(1)
    assert twice == pytest.approx(1, abs=0.02)
    assert abs(large - 1) > 5 * abs(twice - 1)


def test_the_planted_tokens_are_those_that_move(made):
    table = tables.tokens(made[-1], RUN).filter(pl.col("reader") == BASE)
    assert set(table["token"].head(15)) <= set(planted.CAPITALS)
    assert table["low"].head(15).min() > 0


def test_misaligned_answers_become_likelier_and_aligned_ones_less_so(made):
    table = tables.changes(made[-1], RUN).filter(pl.col("reader") == BASE, pl.col("strength") == 0.2)
    sides = {row["side"]: row for row in table.to_dicts()}
    assert sides["misaligned"]["value"] > 0 > sides["aligned"]["value"]
    between = sides[tables.BETWEEN]
    assert between["low"] < between["value"] < between["high"]
    assert between["value"] > 3 * abs(between["random"])


def test_shares_are_of_the_parts_behind_and_say_where_they_disagree(made):
    study = made[-1]
    record = study.measurements(KIND)[RUN]
    sides = [tables.shares(study, RUN, "first", side) for side in ("misaligned", "aligned", tables.BETWEEN)]
    for table in sides:
        assert set(table["part"]) == {name for name, (_, layer) in record["parts"].items() if layer > LAYER}
        assert table["questions"].min() >= 2
        assert table["apart"].to_numpy() == pytest.approx((table["attributed"] - table["frozen"]).to_numpy())
        assert (table["disagree"] == (table["q_value"] < 0.05).fill_null(value=False)).all()
        assert (table["p_value"].is_null() == (table["questions"] < tables.FEWEST_QUESTIONS)).all()


def test_the_organism_is_moved_as_the_direction_moves_the_base(made):
    """The paper's appendix D, where it must hold: the organism's adapter writes the direction, at the layer."""
    own, controls = tables.resemblance(made[-1], RUN)
    there = own.filter(pl.col("layer") == LAYER)
    assert there["value"].min() > 0.99
    chance = controls.filter(pl.col("layer") == LAYER)
    assert chance["high"].max() < 0.9
    assert (chance["low"] < 0).all()


def test_the_planted_direction_is_explained_by_the_write_vector_or_says_why_not(made):
    study = made[-1]
    with pytest.raises(InputError, match="at least 2 write vectors, and here are 1"):
        tables.decomposition(study, "first", NAME, LAYER)
    assert set(tables.decomposable(study, "first")) >= {NAME, "first minus base, neutral"}
    with pytest.raises(InputError, match="has no adapters"):
        tables.decomposable(study, BASE)


def test_what_cannot_be_followed_is_refused(made):
    folder, subject, *_ = made
    for change, why in (
        ({"layer": 5, "direction": NAME}, "has no layer 5"),
        ({"direction": "none"}, "no direction 'none'"),
        ({"organism": "nobody"}, "no scores|no response|nobody"),
    ):
        asked = Following(**{"organism": "first", "direction": NAME, "layer": LAYER, **change})
        with pytest.raises(InputError, match=why):
            follow(folder, subject, asked, EM, "x", nothing)
    with pytest.raises(InputError, match="lengths above 0"):
        Following("first", NAME, LAYER, (0.0,))
    folder.add_directions([Direction("unknown norm", LAYER, np.ones(tiny.D_MODEL))])
    with pytest.raises(InputError, match="does not know the activation norm"):
        follow(folder, subject, Following("first", "unknown norm", LAYER), EM, "x", nothing)
