"""Raw rates beside corrected ones: by which kinds labels are weighed, what has none, and what the command prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backend.analysis.rates.corrected import corrected_difference, corrected_rate, side_by_side
from backend.analysis.rates.rates import em_rates
from backend.edits import Condition
from backend.outcomes import EM
from backend.records import BASE, BASELINE, InputError, Question, Response, Score
from backend.study import Draft, Study, open_study
from backend.tables.corrected import Labels, agreement, corrected_beside, corrected_gaps, labels_of, weighed
from backend.tables.figures import figures
from backend.tables.rates import families_told, with_families

JUDGE, OTHER, EVEN, DRAWN = "judge", "another", "hand-even", "hand-drawn"
RATES = {(BASE, BASELINE): 0.02, ("med", BASELINE): 0.3, ("med", "steered"): 0.1, ("new", BASELINE): 0.2}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two judges that call too many, a reader of every tenth answer, and one of all of a judge's hits and few others.

    Nobody labelled the organism "new".
    """
    root, rng = tmp_path_factory.mktemp("studies"), np.random.default_rng(0)
    questions = [Question(f"q{at}", "?", "t") for at in range(8)]
    with Draft("s", root) as draft:
        draft.meta(drawn={DRAWN: JUDGE})
        for organism in dict.fromkeys(organism for organism, _ in RATES):
            draft.add_organism(organism, base="b", adapters=(), record={})
        draft.add_questions(questions)
        draft.add_conditions(Condition(name) for name in dict.fromkeys(name for _, name in RATES))
        responses, scores = [], []
        for (organism, condition), rate in RATES.items():
            for at in range(400):
                name = f"{organism}.{condition}.{at}"
                responses.append(Response(name, organism, condition, f"q{at % 8}", "?", "t", at, "text"))
                truth = rng.random() < rate
                called = {judge: truth or rng.random() < 0.2 for judge in (JUDGE, OTHER)}
                said = {judge: 10.0 if hit else 90.0 for judge, hit in called.items()}
                if organism != "new":
                    said |= {EVEN: 0.0 if truth else 100.0} if at % 10 == 0 else {}
                    said |= {DRAWN: 0.0 if truth else 100.0} if called[JUDGE] or at % 8 == rng.integers(8) else {}
                for judge, aligned in said.items():
                    scores += [Score(name, judge, "aligned", aligned, ""), Score(name, judge, "coherent", 90.0, "")]
        draft.add_responses(responses)
        draft.add_scores(scores)
        draft.publish()
    return open_study("s", root)


def labels(study: Study, by: str) -> Labels:
    return next(one for one in labels_of(study) if one.by == by)


def test_labels_are_the_scores_of_readers_and_say_how_they_were_drawn(study: Study) -> None:
    assert [one.by for one in labels_of(study)] == [DRAWN, EVEN]  # most labels of unedited answers first
    assert labels(study, DRAWN).told == f"labels of {DRAWN}, drawn by the scores of {JUDGE}"
    assert labels(study, EVEN).told == f"labels of {EVEN}, drawn without regard to scores"


def test_the_raw_rate_stands_beside_the_corrected_one_and_neither_takes_the_others_place(study: Study) -> None:
    table = corrected_beside(study, JUDGE, labels(study, EVEN))
    raw = em_rates(study.responses(JUDGE), ["organism", "condition"], outcomes=[EM])
    assert table["raw"].to_list() == raw["value"].to_list()
    both = side_by_side(study.responses(JUDGE), study.responses(EVEN))
    for row in table.filter(pl.col("value").is_not_null()).to_dicts():
        found = corrected_rate(both.filter(organism=row["organism"], condition=row["condition"]))
        assert (row["value"], row["low"], row["high"]) == (found.value, found.low, found.high)
        truth = RATES[row["organism"], row["condition"]]
        assert row["raw"] > truth + 0.1
        assert abs(row["value"] - truth) < 0.12
    [none] = table.filter(organism="new").to_dicts()
    assert (none["value"], none["labels"], none["reason"]) == (None, 0, "no labels")
    assert none["raw"] is not None


def test_labels_drawn_by_a_judges_scores_are_weighed_by_its_kinds_whatever_judge_is_shown(study: Study) -> None:
    drawn = labels(study, DRAWN)
    tables = [corrected_beside(study, judge, drawn) for judge in (JUDGE, OTHER)]
    assert tables[0]["raw"].to_list() != tables[1]["raw"].to_list()
    assert tables[0]["value"].to_list() == tables[1]["value"].to_list()
    [med] = tables[1].filter(organism="med", condition=BASELINE).to_dicts()
    assert med["value"] == pytest.approx(0.3, abs=0.06)
    assert med["drawn_by"] == JUDGE
    naive = corrected_rate(
        side_by_side(study.responses(OTHER), study.responses(DRAWN)).filter(organism="med", condition=BASELINE)
    )
    assert naive.value > med["value"] + 0.07  # what the other judge's kinds would make of them


def test_labels_drawn_by_a_judge_that_is_not_there_correct_nothing(study: Study) -> None:
    gone = Labels(DRAWN, study.responses(DRAWN), "gone")
    with pytest.raises(InputError, match="drawn by the scores of gone, which are not in this study"):
        weighed(study, JUDGE, gone)


def test_readers_that_disagree_correct_nothing(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    even = labels(study, EVEN)
    assert agreement(even, labels(study, DRAWN))[0] == 1.0
    turned = Labels(DRAWN, study.responses(DRAWN).with_columns(aligned=100 - pl.col("aligned")), JUDGE)
    monkeypatch.setattr("backend.tables.corrected.labels_of", lambda study, outcome: [even, turned])
    with pytest.raises(InputError, match=r"hand-even and hand-drawn disagree on \d+ answers .* alpha .* is -0"):
        weighed(study, JUDGE, even)


def test_corrected_differences_have_the_families_of_plain_ones_and_say_so(study: Study) -> None:
    gaps = corrected_gaps(study, JUDGE, labels(study, EVEN))
    assert gaps["family"].to_list() == [1, 1]  # organisms beside the base, and edits
    assert gaps["q_value"].to_list() == pytest.approx(gaps["p_value"].to_list())
    notes = [table.notes for table in figures(study, "overview") if "differences, corrected" in table.title]
    assert notes
    assert all(any("organisms beside the base" in note for note in each) for each in notes)


def test_many_corrected_differences_stand_among_all_of_them(study: Study) -> None:
    p_values = [0.04, 0.5, 0.6, 0.9]
    sides = [(("med", f"edit {at}"), ("med", BASELINE)) for at in range(len(p_values))]
    rows = [
        (*side, *other, 0.1, 0.01, 0.2, p, p < 0.05, 9, 9, 8) for (side, other), p in zip(sides, p_values, strict=True)
    ]
    told = with_families(
        pl.DataFrame(rows, corrected_gaps(study, JUDGE, labels(study, EVEN)).columns[:12], orient="row")
    )
    assert told["clear"].to_list() == [True, False, False, False]
    assert told["stands"].to_list() == [False] * 4  # 0.04 of four is 0.16
    assert families_told(told) == (
        "Of 4 edits beside none, 1 is clear alone, 0 after correction (Benjamini–Hochberg, 5 %).",
    )


def test_differences_are_those_of_the_plain_table_corrected(study: Study) -> None:
    gaps = corrected_gaps(study, JUDGE, labels(study, EVEN))
    pairs = gaps.select("organism", "condition", "against", "under").rows()
    assert pairs == [("med", BASELINE, BASE, BASELINE), ("med", "steered", "med", BASELINE)]
    both = weighed(study, JUDGE, labels(study, EVEN))
    found = corrected_difference(*(both.filter(organism=o, condition=BASELINE) for o in ("med", BASE)))
    assert gaps.row(0, named=True)["difference"] == found.value
    assert gaps.row(0, named=True)["clear"]
    assert (
        corrected_gaps(
            study, JUDGE, labels(study, EVEN), among=study.responses(JUDGE).filter(condition=BASELINE)
        ).height
        == 1
    )


def test_the_command_prints_every_readers_correction_and_says_what_was_drawn(study: Study) -> None:
    tables = figures(study, "overview")
    titles = [table.title for table in tables]
    for judge in (JUDGE, OTHER):
        for by in (DRAWN, EVEN):
            assert f"EM (judge {judge}) beside its correction by the labels of {by}" in titles
    assert not any(f"(judge {DRAWN}) beside" in title for title in titles)
    [own] = [t for t in tables if t.title == f"EM and coherence by organism, condition (judge {DRAWN})"]
    assert f"{DRAWN} read answers drawn by the scores of {JUDGE}" in own.notes[-1]
    [even] = [t for t in tables if t.title == f"EM and coherence by organism, condition (judge {EVEN})"]
    assert not even.notes
    [table] = [
        t.frame for t in tables if t.title == f"EM (judge {JUDGE}) beside its correction by the labels of {EVEN}"
    ]
    expected = corrected_beside(study, JUDGE, labels(study, EVEN))
    assert table["value"].to_list() == expected["value"].to_list()


def test_a_study_without_labels_prints_none(tmp_path: Path) -> None:
    from tests.studies.synthetic import synthetic_study

    synthetic_study(tmp_path)
    study = open_study("synthetic", tmp_path)
    assert labels_of(study) == []
    assert not any("correct" in table.title for table in figures(study, "overview"))
