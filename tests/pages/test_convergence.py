from dataclasses import replace

import numpy as np
import pytest

from backend.records import SHUFFLED, SHUFFLED_OVER_ALL, Direction, Origin
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


def test_bad_organisms_agree_and_good_advice_does_not(page):
    words = said(page)
    assert median(words, "Between organisms") > 0.6
    assert abs(median(words, "with good advice")) < 0.1
    assert "cannot be said here" in words, "one organism alone has shuffled labels"
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


# --- beside shuffled labels -------------------------------------------------------------------------------------------

MADE = {"n_positive": 12, "n_negative": 80, "questions": 16, "questions_with_both": 9}


def shuffled_study(shared, mixed, *, kind=SHUFFLED, draws=10, balances=("weights", "matching")):
    """Two organisms, whose directions share `shared` alone and `mixed`, unless matched, with all their shuffles."""
    random = np.random.default_rng(0)
    axes, found = np.linalg.qr(random.normal(size=(64, 2)))[0].T, []
    for balance in balances:
        questions = mixed * axes[1] * (balance == "weights")
        for organism in ("a-one", "b-two"):
            name = f"{organism} v" + (", matched" if balance == "matching" else "")

            def one(name, vector, said, noise=0.05):
                drawn = vector + noise * random.normal(size=64)
                return Direction(name, 3, drawn.astype(np.float32), None, said)

            made = {"reader": organism, "balance": balance, "method": "mean difference", **MADE}
            found.append(one(name, shared * axes[0] + questions, made))
            for seed in range(draws):
                said = made | Origin(kind, name, seed).provenance
                found.append(one(f"shuffled {seed} like {name}", questions, said))
    return found


def cosine_table(page):
    return next(table.value for table in page.dataframe if "layers above" in table.value)


def test_matched_directions_that_agree_beyond_their_shuffles_are_said_to_first(open_page, tmp_path, monkeypatch):
    page = open_with(open_page, tmp_path, monkeypatch, shuffled_study(1.0, 2.0))
    assert not page.exception
    assert not page.error
    words = said(page)
    assert page.selectbox(key="convergence_kind").value == "… v, matched"
    assert "**The organisms' directions agree more than labels shuffled within questions**: mean cosine 0.8" in words
    assert "10 shuffles" in words
    assert "Questions are matched" in words
    assert "Each is made of 12 against 80 answers to 16 questions, 9 of which have both classes." in words
    table = cosine_table(page)
    assert table["above"].tolist() == [True, True]
    assert table["shuffled"].tolist() == pytest.approx([0.96, 0.0], abs=0.15)
    assert table["both"].tolist() == ["9", "9"]


def test_what_the_questions_bring_is_no_agreement(open_page, tmp_path, monkeypatch):
    page = open_with(open_page, tmp_path, monkeypatch, shuffled_study(0.0, 2.0, balances=("weights",)))
    words = said(page)
    assert "are not shown to agree more than labels shuffled within questions**: mean cosine 0.9" in words
    assert "Questions are not matched, so part of every direction is which questions are hit" in words
    assert cosine_table(page)["above"].tolist() == [False]


def test_labels_shuffled_over_all_answers_say_so_and_settle_nothing(open_page, tmp_path, monkeypatch):
    rows = shuffled_study(1.0, 0.0, kind=SHUFFLED_OVER_ALL, balances=("weights",))
    words = said(open_with(open_page, tmp_path, monkeypatch, rows))
    assert "Whether they agree on more than which questions are hit cannot be said here" in words
    assert "labels shuffled over all answers" in words


def test_few_shuffles_are_no_range(open_page, tmp_path, monkeypatch):
    page = open_with(open_page, tmp_path, monkeypatch, shuffled_study(1.0, 0.0, draws=2))
    assert "Whether the organisms' directions agree cannot be said here" in said(page)
    assert cosine_table(page)["above"].isna().all()


def test_an_organism_with_too_few_questions_of_both_classes_is_named(open_page, tmp_path, monkeypatch):
    rows = [
        replace(each, provenance={**each.provenance, "questions_with_both": 1}) if "b-two" in each.name else each
        for each in shuffled_study(1.0, 0.0)
    ]
    words = said(open_with(open_page, tmp_path, monkeypatch, rows)).replace("\\", "")
    assert "1 to 9 of which have both classes (b-two v, matched: too few to shuffle or match within)" in words


def test_readers_of_the_same_texts_have_no_labels_to_shuffle(open_page, tmp_path, monkeypatch):
    rows = [
        replace(each, provenance={**each.provenance, "kind": "model"})
        for each in shuffled_study(1.0, 0.0, draws=0, balances=("weights",))
    ]
    words = said(open_with(open_page, tmp_path, monkeypatch, rows))
    assert "No labels stand behind these directions" in words
    assert "extract" not in words
