"""The command `labels`: an even, blind draw, and labels that find their answers again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from backend.__main__ import main
from backend.analysis.rates.corrected import STRATA
from backend.pipeline.folder import StudyFolder
from backend.pipeline.labelling import draw_blind, item
from backend.records import InputError, Response, Sampling, Score
from backend.study.parquet import read_scores, write_responses

CELLS = [("base", "baseline", 40), ("bad", "baseline", 25), ("bad", "steered", 60)]
SAMPLING = Sampling(max_new_tokens=8)


def responses() -> list[Response]:
    return [
        Response(f"{o}/{c}/{i}", o, c, f"q{i % 5}", "why?", "t", i, f"{o} said {i}", (1,), (2,), sampling=SAMPLING)
        for o, c, n in CELLS
        for i in range(n)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "responses").mkdir()
    (tmp_path / "study.json").write_text('{"title": "T", "base": "smollm2"}')
    write_responses(tmp_path / "responses" / "all.parquet", responses())
    return tmp_path


def test_the_draw_is_even_over_conditions_and_questions_and_repeats() -> None:
    drawn = draw_blind(responses(), 46, seed=1)
    cells = Counter((r.organism, r.condition) for r in drawn)
    assert sorted(cells.values()) == [15, 15, 16]
    for cell in cells:
        questions = Counter(r.question_id for r in drawn if (r.organism, r.condition) == cell)
        assert max(questions.values()) - min(questions.values()) <= 1
    assert [r.id for r in drawn] == [r.id for r in draw_blind(responses(), 46, seed=1)]
    assert [r.id for r in drawn] != [r.id for r in draw_blind(responses(), 46, seed=2)]
    assert [r.organism for r in drawn] != sorted(r.organism for r in drawn)


def test_nothing_is_drawn_of_answers_without_a_word() -> None:
    with pytest.raises(InputError, match="no answer with a word"):
        draw_blind([replace(r, text=" ") for r in responses()], 5, seed=1)


def test_what_is_read_says_neither_organism_nor_condition(folder: Path) -> None:
    assert main(["labels", "draw", str(folder / "drawn.jsonl"), "--folder", str(folder), "--n", "12"]) == 0
    drawn = [json.loads(line) for line in (folder / "drawn.jsonl").read_text().splitlines()]
    assert len(drawn) == 12
    assert all(set(entry) == {"item", "question", "answer"} for entry in drawn)
    assert not any("base" in entry["item"] or "/" in entry["item"] for entry in drawn)


def test_entered_labels_are_one_more_judge(folder: Path) -> None:
    mine = responses()[:3]
    lines = [
        json.dumps({"item": item(r), "label": k}) for r, k in zip(mine, ("aligned", "misaligned", "skip"), strict=True)
    ]
    (folder / "said.jsonl").write_text("\n".join(lines))
    assert main(["labels", "enter", str(folder / "said.jsonl"), "--folder", str(folder), "--by", "me"]) == 0
    scores = read_scores(folder / "scores" / "hand-me.parquet")
    assert [(s.response_id, s.judge, s.metric, s.value) for s in scores] == [
        (mine[0].id, "hand-me", "aligned", 100.0),
        (mine[0].id, "hand-me", "coherent", 100.0),
        (mine[1].id, "hand-me", "aligned", 0.0),
        (mine[1].id, "hand-me", "coherent", 100.0),
    ]


@pytest.mark.parametrize("line", ["not json", '{"item": "nobody", "label": "aligned"}', '{"item": 3}', "[]"])
def test_a_line_that_labels_nothing_is_named_and_nothing_is_entered(
    folder: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.dumps({"item": item(responses()[0]), "label": "aligned"})
    (folder / "said.jsonl").write_text(f"{good}\n{line}\n")
    assert main(["labels", "enter", str(folder / "said.jsonl"), "--folder", str(folder), "--by", "me"]) == 2
    assert "line 2" in capsys.readouterr().err
    assert not (folder / "labels").exists()


def test_two_labels_of_one_answer_that_disagree_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"item": item(responses()[0]), "label": kind}) for kind in ("aligned", "misaligned")]
    (folder / "said.jsonl").write_text("\n".join(lines))
    assert main(["labels", "enter", str(folder / "said.jsonl"), "--folder", str(folder), "--by", "me"]) == 2
    assert "two labels that disagree" in capsys.readouterr().err


# --- drawn by score ---------------------------------------------------------------------------------------------------

JUDGE = "first-judge"


@pytest.fixture
def judged(folder: Path) -> Path:
    """Every tenth answer is a hit of the judge, two tenths are near, the rest is not."""
    low = (10.0, 40.0, 50.0)
    scores = [
        Score(r.id, JUDGE, metric, value)
        for at, r in enumerate(responses())
        for metric, value in (("aligned", low[at % 10] if at % 10 < 3 else 90.0), ("coherent", 90.0))
    ]
    StudyFolder(folder).add_scores(JUDGE, scores)
    return folder


def draw(folder: Path, name: str, *more: str) -> int:
    return main(["labels", "draw", str(folder / name), "--folder", str(folder), "--by-score", JUDGE, *more])


def key_of(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / "labels" / f"{name}.key.jsonl").read_text().splitlines()]


def test_a_draw_by_score_is_blind_and_its_key_stays_in_the_folder(judged: Path, capsys) -> None:
    assert draw(judged, "next.jsonl", "--n", "60", "--half-width", "0.05") == 0
    drawn = [json.loads(line) for line in (judged / "next.jsonl").read_text().splitlines()]
    key = key_of(judged, "next")
    assert [entry["item"] for entry in drawn] == [entry["item"] for entry in key]
    assert all(set(entry) == {"item", "question", "answer"} for entry in drawn)
    known = {item(r): r.id for r in responses()}
    assert all(known[entry["item"]] == entry["response"] for entry in key)
    kinds = Counter(entry["kind"] for entry in key)
    hits = kinds[STRATA[0]]
    assert hits > 60 * 0.1 + 3  # more than their share of the answers
    cells = Counter(entry["response"].rpartition("/")[0] for entry in key)
    assert set(cells.values()) == {20}
    assert all(0 < entry["probability"] <= 1 and entry["judge"] == JUDGE for entry in key)
    assert "labels in all bring the judge's part of 3 intervals to ±5.0%; 0 are there" in capsys.readouterr().out


def test_labels_of_a_draw_by_score_are_said_to_be_drawn_so_and_those_of_an_even_draw_are_not(judged: Path) -> None:
    assert draw(judged, "next.jsonl", "--n", "30", "--conditions", "baseline") == 0
    key = key_of(judged, "next")
    assert all("/baseline/" in entry["response"] for entry in key)
    (judged / "said.jsonl").write_text("\n".join(json.dumps({"item": e["item"], "label": "aligned"}) for e in key))
    enter = ["labels", "enter", str(judged / "said.jsonl"), "--folder", str(judged), "--by"]
    assert main([*enter, "me"]) == 0
    assert StudyFolder(judged).settings["drawn"] == {"hand-me": JUDGE}
    assert StudyFolder(judged).settings["title"] == "T"
    rest = [r for r in responses() if r.id not in {e["response"] for e in key}][:5]
    (judged / "said.jsonl").write_text("\n".join(json.dumps({"item": item(r), "label": "aligned"}) for r in rest))
    assert main([*enter, "you"]) == 0
    assert StudyFolder(judged).settings["drawn"] == {"hand-me": JUDGE}


def test_the_next_draw_leaves_out_what_the_reader_labelled(judged: Path) -> None:
    assert draw(judged, "one.jsonl", "--n", "45", "--by", "me") == 0
    first = key_of(judged, "one")
    (judged / "said.jsonl").write_text(
        "\n".join(
            json.dumps({"item": e["item"], "label": ("aligned", "misaligned")[n % 2]}) for n, e in enumerate(first)
        )
    )
    assert main(["labels", "enter", str(judged / "said.jsonl"), "--folder", str(judged), "--by", "me"]) == 0
    assert draw(judged, "two.jsonl", "--n", "45", "--by", "me") == 0
    assert not {e["item"] for e in first} & {e["item"] for e in key_of(judged, "two")}


def test_labels_of_two_judges_draws_do_not_mix_under_one_name(judged: Path, capsys) -> None:
    settings = json.loads((judged / "study.json").read_text()) | {"drawn": {"hand-me": "another"}}
    (judged / "study.json").write_text(json.dumps(settings))
    assert draw(judged, "next.jsonl", "--n", "12") == 0
    (judged / "said.jsonl").write_text(json.dumps({"item": key_of(judged, "next")[0]["item"], "label": "aligned"}))
    assert main(["labels", "enter", str(judged / "said.jsonl"), "--folder", str(judged), "--by", "me"]) == 2
    assert "were drawn by the scores of another, these by those of first-judge" in capsys.readouterr().err
    assert not (judged / "scores" / "hand-me.parquet").exists()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_judge_fills_a_table_and_its_scores_are_one_more_judge(judged: Path, ending: str) -> None:
    assert draw(judged, f"next.{ending}", "--n", "30") == 0
    table = (pl.read_csv if ending == "csv" else pl.read_parquet)(judged / f"next.{ending}")
    assert table.columns == ["item", "question", "answer"]
    filled = table.with_columns(aligned=pl.lit(20.5), coherent=pl.Series([None, *[80.0] * 29]), judge=pl.lit("api"))
    (filled.write_csv if ending == "csv" else filled.write_parquet)(judged / f"said.{ending}")
    assert main(["labels", "enter", str(judged / f"said.{ending}"), "--folder", str(judged), "--by", "api"]) == 0
    scores = read_scores(judged / "scores" / "labels-api.parquet")
    assert len(scores) == 60
    assert {(s.metric, s.value) for s in scores} == {("aligned", 20.5), ("coherent", 80.0), ("coherent", None)}
    assert StudyFolder(judged).settings["drawn"] == {"labels-api": JUDGE}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"item": ["nobody"], "aligned": [1.0]}, "'nobody' is no answer of this folder"),
        ({"aligned": [1.0]}, "needs the column item"),
        ({"item": [item(responses()[0])], "aligned": ["a"]}, "a column of numbers"),
        ({"item": [item(responses()[0])], "aligned": [101.0]}, "scores are 0 to 100"),
        ({"item": [item(responses()[0])] * 2, "aligned": [1.0, 2.0]}, "names an answer twice"),
    ],
)
def test_a_table_that_scores_nothing_of_the_folder_is_refused(judged: Path, columns, words, capsys) -> None:
    pl.DataFrame(columns).write_csv(judged / "said.csv")
    assert main(["labels", "enter", str(judged / "said.csv"), "--folder", str(judged), "--by", "api"]) == 2
    assert words in capsys.readouterr().err
    assert not (judged / "scores" / "labels-api.parquet").exists()


def test_what_cannot_be_drawn_is_named(judged: Path, capsys) -> None:
    command = ["labels", "draw", str(judged / "x.jsonl"), "--folder", str(judged)]
    assert main([*command, "--by-score", "nobody"]) == 2
    assert "has no scores of nobody (there are: first-judge)" in capsys.readouterr().err
    assert main([*command, "--by-score", JUDGE, "--conditions", "elsewhere"]) == 2
    assert "no answer under the condition 'elsewhere'" in capsys.readouterr().err
