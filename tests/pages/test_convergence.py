import numpy as np
import pytest

from backend.records import Direction
from backend.study import Draft
from tests.conftest import said
from tests.studies import swept


@pytest.fixture
def page(open_swept):
    page = open_swept("convergence")
    assert not page.exception
    assert not page.error
    return page


def median(words, group):
    return float(words.split(f"{group}: median ")[1].split(" ")[0])


def test_bad_organisms_agree_and_their_controls_do_not(page):
    words = said(page)
    assert median(words, "Between organisms") > 0.6
    assert abs(median(words, "with good advice")) < 0.1
    assert abs(median(words, "with labels shuffled within questions")) < 0.1
    assert "3 pairs" in words
    assert "random directions of 32 dimensions" in words


def test_the_layer_chooses_the_matrix(page):
    before = [chart.proto.spec for chart in page.get("vega_lite_chart")]
    page.selectbox(key="convergence_layer").set_value(2).run()
    assert not page.exception
    assert "Every two at layer 2" in said(page)
    assert [chart.proto.spec for chart in page.get("vega_lite_chart")] != before


def test_every_direction_of_the_matrix_can_be_sent(page):
    buttons = {button.key for button in page.button}
    assert {f"convergence_send_{swept.named(name)}" for name in swept.ORGANISMS} <= buttons


def test_one_organism_has_nothing_to_converge_with(open_page):
    page = open_page("convergence")
    assert not page.exception
    assert not page.error
    assert "nothing to converge" in page.info[0].value
    assert len(page.get("vega_lite_chart")) == 3  # the comparison of any two stays


def open_with(open_page, tmp_path, monkeypatch, directions):
    with Draft("own", root=tmp_path) as draft:
        draft.meta(title="Own", base="none")
        for organism in ("base", "a-one", "b-two"):
            draft.add_organism(organism, base="none", adapters=(), record={})
        draft.add_directions(directions)
        draft.publish()
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    return open_page("convergence", study="own")


def one(name, layer, width=8):
    return Direction(name, layer, np.ones(width, dtype=np.float32))


def test_layers_absent_from_one_organism_are_named(open_page, tmp_path, monkeypatch):
    directions = [*(one("v of a-one", layer) for layer in (1, 2, 3)), one("v of b-two", 2), one("v of b-two", 3)]
    page = open_with(open_page, tmp_path, monkeypatch, directions)
    assert not page.exception
    assert not page.error
    assert "v of b\\-two has no layer 1" in said(page)


def test_directions_of_other_widths_are_not_compared(open_page, tmp_path, monkeypatch):
    page = open_with(open_page, tmp_path, monkeypatch, [one("v of a-one", 1), one("v of b-two", 1, width=16)])
    assert not page.exception
    assert not page.error
    assert "cannot be compared" in page.info[0].value


def test_a_study_without_directions_says_so(open_page, tmp_path, monkeypatch):
    page = open_with(open_page, tmp_path, monkeypatch, [])
    assert not page.exception
    assert "holds no directions" in page.error[0].value


def test_the_ceiling_is_drawn_where_the_record_has_halves(open_page, tmp_path, monkeypatch):
    half = {"split_half_cosine": [0.5, 0.3, 0.7]}
    rows = [Direction(f"v of {name}", 1, np.ones(8, dtype=np.float32), None, half) for name in ("a-one", "b-two")]
    page = open_with(open_page, tmp_path, monkeypatch, rows)
    assert median(said(page), "the ceiling that their stability allows") == 0.67  # 2 h / (1 + h)
