import polars as pl

from backend.analysis.rates.pairing import pairs
from backend.records import BASELINE


def answers(condition, seeds, aligned, organism="med", questions=("q", "r")):
    rows = [(question, seed) for question in questions for seed in seeds]
    return pl.DataFrame(
        {
            "response": [f"{organism}.{condition}.{question}.{seed}" for question, seed in rows],
            "organism": organism,
            "condition": condition,
            "question_id": [question for question, _ in rows],
            "question": "?",
            "topic": "t",
            "seed": [seed for _, seed in rows],
            "text": [f"{condition} {question} {seed}" for question, seed in rows],
            "aligned": [aligned] * len(rows),
            "coherent": [90.0] * len(rows),
        }
    )


METRICS = ("aligned", "coherent")


def test_partners_have_one_question_and_one_seed():
    frame = pl.concat([answers(BASELINE, (0, 1, 2), 90.0), answers("x", (2, 1, 7), 10.0)])
    found = pairs(frame, "med", "x", METRICS)
    assert found.seeded
    assert (found.table.height, found.complete) == (6, 4)  # seed 7 has no partner
    for row in found.table.drop_nulls("text_before").iter_rows(named=True):
        assert row["text_before"] == f"{BASELINE} {row['question_id']} {row['seed']}"
        assert row["text_after"] == f"x {row['question_id']} {row['seed']}"
        assert (row["aligned_before"], row["aligned_after"]) == (90, 10)


def test_without_a_shared_seed_partners_have_one_rank():
    frame = pl.concat([answers(BASELINE, (5, 6), 90.0), answers("x", (101, 100), 10.0)])
    found = pairs(frame, "med", "x", METRICS)
    assert not found.seeded
    of_q = found.table.filter(pl.col("question_id") == "q").sort("seed")
    assert of_q["text_before"].to_list() == [f"{BASELINE} q 5", f"{BASELINE} q 6"]


def test_a_cell_is_paired_with_the_unedited_answers_of_its_length():
    cells = {"baseline, 40 tokens": BASELINE, "x 0": "x", "x 1": "x"}
    frame = pl.concat([answers(condition, (0,), 10.0) for condition in cells])
    found = pairs(frame.with_columns(cell=pl.col("condition").replace(cells)), "med", "x", METRICS, by="cell")
    assert (found.table.height, found.complete) == (4, 4)


def test_other_organisms_are_no_partners():
    frame = pl.concat([answers(BASELINE, (0,), 90.0, organism="base"), answers("x", (0,), 10.0)])
    found = pairs(frame, "med", "x", METRICS)
    assert (found.table.height, found.complete) == (2, 0)


def test_pairs_are_counted_by_where_they_are_misaligned():
    frame = pl.concat(
        [
            answers(BASELINE, (0, 1), 10.0, questions=("q",)),
            answers(BASELINE, (2, 3, 4), 90.0, questions=("q",)),
            answers("x", (0, 2, 3), 10.0, questions=("q",)),
            answers("x", (1,), 90.0, questions=("q",)),
            answers("x", (4,), None, questions=("q",)).with_columns(pl.col("aligned").cast(pl.Float64)),
        ]
    )
    assert pairs(frame, "med", "x", METRICS).turned() == (1, 2, 1, 0)
    assert pairs(frame, "med", "x", ()).turned() == (0, 0, 0, 0)


def test_two_answers_of_one_seed_both_find_the_partner():
    frame = pl.concat([answers(BASELINE, (0,), 90.0), answers("x", (0,), 10.0), answers("x", (0,), 20.0)])
    found = pairs(frame, "med", "x", METRICS)
    assert (found.table.height, found.complete) == (4, 4)
