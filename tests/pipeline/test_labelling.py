"""The command `labels`: an even, blind draw, and labels that find their answers again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.pipeline.labelling import draw_blind, item
from backend.records import InputError, Response, Sampling
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
