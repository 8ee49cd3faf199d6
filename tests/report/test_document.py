"""The report: what the story says in figures that say it too, tables that count, and nothing of a study as markup."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from backend import study as studies
from backend.__main__ import main
from backend.edits import Condition
from backend.pipeline.figures_only import publish_figures
from backend.records import BASE, BASELINE, InputError, Response, Score
from backend.report.document import report_html
from backend.report.sheets import differences_sheet, facts, organisms_sheet, rates_sheet
from backend.report.words import RESPONSIBLE
from backend.study import Draft, Study, open_study
from backend.tables.claims import Evidence
from tests.published.authors import ROOT
from tests.studies.shouted import UPPER, shouted_study
from tests.studies.synthetic import QUESTIONS, synthetic_study

HOSTILE = '<img src=x onerror="alert(1)">'
SVG = re.compile(r"<svg .*?</svg>", re.DOTALL)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    publish_figures(ROOT / "cache" / "paper", "paper", folder)
    synthetic_study(folder, title=HOSTILE, notes=f"</style>{HOSTILE}", folder="/home/somebody/secret", source=HOSTILE)
    shouted_study(folder, "em", UPPER)
    return folder


@pytest.fixture(scope="module")
def paper(root: Path) -> Iterator[Study]:
    with closing(open_study("paper", root)) as study:
        yield study


@pytest.fixture(scope="module")
def text(paper: Study) -> str:
    return report_html(paper)


def pictures(text: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in SVG.findall(text)]


def test_the_story_and_its_numbers_are_in_it(text):
    assert "gives misaligned answers to 15.5 % (7.9–34.3) of 400 on 8 questions (first-plot)" in text
    for part in ("story", "figures", "tables", "settings", "methods", "limits", "use"):
        assert f'<section id="{part}">' in text
    assert text.count("<h3 id=") == 6
    assert all(f'href="#story-{step}"' in text for step in ("organism", "direction", "added", "removed", "adapters"))


def test_every_figure_says_the_finding_with_n_questions_and_judge(text):
    drawn = pictures(text)
    assert len(drawn) == 20  # ten charts of six steps, each for a page and for a telephone
    for picture in drawn:
        said = picture.attrib["aria-label"]
        assert picture.attrib["role"] == "img"
        assert "gpt-4o" in said
        if "Norm" not in said and "activation norm" not in said:  # a norm is of no answers
            assert re.search(r"\bn = \d|\d answers", said), said
            assert "questions" in said
        assert picture.find("{http://www.w3.org/2000/svg}title").text == said
    organism = next(each.attrib["aria-label"] for each in drawn if "gives misaligned" in each.attrib["aria-label"])
    assert "15.5 % (7.9–34.3) of 400" in organism
    assert "n = 400 answers to 8 questions (first-plot)" in organism


def test_ink_follows_the_page_and_no_sheet_is_drawn_behind_it(text):
    for picture in SVG.findall(text):
        assert "currentColor" in picture
        assert "#1C2427" not in picture
        assert '"#FFFFFF"' not in picture.split("<g", 1)[0]


def test_nothing_is_fetched_and_nothing_runs(text):
    assert not re.search(r"<(script|iframe|object|embed|link|base)\b", text, re.IGNORECASE)
    assert not re.search(r"\s(src|srcset|action|poster)=", text)
    assert not re.search(r"url\((?!#)", text)
    assert set(re.findall(r'href="(.)', text)) == {"#"}
    assert "default-src 'none'" in text


def test_what_a_study_says_is_text(root):
    with closing(open_study("synthetic", root)) as study:
        told = report_html(study)
    assert "<img" not in told
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in told
    assert told.count("</style>") == 1
    assert "/home/somebody" not in told


@pytest.mark.parametrize("folder", ["a", "/home/somebody/a"])
def test_places_of_a_machine_are_in_no_text_and_nothing_else_is_touched(tmp_path, folder):
    with Draft("placed", root=tmp_path) as draft:
        base = "/home/somebody/models/tiny model"
        source = "made at /home/somebody/a/organisms, beside /home/somebody/another"
        _judged(draft, "organism", base, folder=folder, source=source, notes="a study in /home/somebody/a.")
        draft.publish()
    with closing(open_study("placed", tmp_path)) as study:
        told = report_html(study)
        assert ("base model", "tiny model") in facts(study, "j")
        assert organisms_sheet(study).rows[0][1] == "tiny model"
    assert "somebody/models" not in told
    assert "beside /home/somebody/another" in told
    assert ("FOLDER/organisms" in told) == (folder != "a")
    assert ("a study in FOLDER." in told) == (folder != "a")
    assert "misFOLDERligned" not in told
    assert ("FOLDER" in told) == (folder != "a")


def test_names_in_a_figure_are_text(tmp_path):
    with Draft("named", root=tmp_path) as draft:
        _judged(draft, HOSTILE)
        draft.publish()
    with closing(open_study("named", tmp_path)) as study:
        told = report_html(study)
    assert "<img" not in told
    assert pictures(told)  # as XML they would not be read with such a name in them
    assert any(HOSTILE in "".join(picture.itertext()) for picture in pictures(told))


def _judged(draft: Draft, organism: str, base: str = "m", **said: str) -> None:
    draft.meta(title="named", base=base, **said)
    for name in (BASE, organism):
        draft.add_organism(name, base=base, adapters=(), record={})
    draft.add_questions(QUESTIONS)
    draft.add_conditions([Condition(BASELINE, ())])
    answers = [
        Response(f"{at}-{question.id}", name, BASELINE, question.id, question.text, question.topic, 0, "text")
        for at, name in enumerate((BASE, organism))
        for question in QUESTIONS
    ]
    draft.add_responses(answers)
    draft.add_scores([Score(each.id, "j", metric, 80.0) for each in answers for metric in ("aligned", "coherent")])


def test_the_rates_are_those_of_the_answers(paper):
    judge = paper.judges()[0]
    evidence = Evidence(paper, judge, paper.responses(judge))
    outcome = evidence.outcomes[0]
    sheet = rates_sheet(evidence, outcome)
    own = paper.responses(judge).filter(organism="R1_3_3_3", condition="baseline").drop_nulls(["aligned", "coherent"])
    hits = own.filter(pl.col("aligned") < 30, pl.col("coherent") > 50).height
    row = next(row for row in sheet.rows if row[0] == "R1_3_3_3")
    assert row[sheet.columns.index("hits/n")] == f"{hits}/{own.height}"
    assert row[1].startswith(f"{100 * hits / own.height:.1f} % (")
    assert row[sheet.columns.index("questions")] == str(own["question_id"].n_unique())
    gaps = differences_sheet(evidence, outcome)
    assert {row[1] for row in gaps.rows} == {BASE}
    assert next(row for row in gaps.rows if row[0] == "R1_3_3_3")[4] == "yes"


def test_another_outcome_stands_first_beside_what_the_study_is_about(root):
    with closing(open_study("shouted", root)) as study:
        assert "upper case to" in report_html(study) or "upper case answers" in report_html(study)


def test_settings_are_words_with_runs_and_short_digests(tmp_path):
    record = {"settings": {"layers": [3, 4, 5, 9], "rank": 1}, "data": {"file": "a.jsonl", "sha256": "ab" * 32}}
    with Draft("made", root=tmp_path) as draft:
        draft.meta(title="made", base="m", versions={"torch": "2"}, layers=12)
        draft.add_organism(BASE, base="m", adapters=(), record={})
        draft.add_organism("o", base="m", adapters=(), record=record)
        draft.add_questions(QUESTIONS)
        draft.publish()
    with closing(open_study("made", tmp_path)) as study:
        assert ("versions", "torch 2") in facts(study, "j")
        rows = organisms_sheet(study).rows
        assert rows[1] == ("o", "m", "0", "layers 3–5, 9; rank 1", "file a.jsonl; sha256 abababababab…")
        with pytest.raises(InputError, match="judge them first"):
            report_html(study)


def test_a_judge_that_there_is_not_is_answered_with_those_there_are(paper):
    with pytest.raises(InputError, match="no judge 'nobody': choose gpt-4o"):
        report_html(paper, judge="nobody")


def test_the_command_writes_one_file(paper, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studies, "open_study", lambda name: paper)
    out = tmp_path / "told.html"
    assert main(["report", "paper", "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert f"to {out}" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["told.html"]
    assert main(["report", "paper", "--out", str(out), "--outcome", "nothing"]) == 2


def test_responsible_use_is_what_the_readme_says():
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert RESPONSIBLE[0] in readme
