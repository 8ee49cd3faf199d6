"""Answers as tables of the field: out and in again, the releases' own columns, and what is no score."""

from collections.abc import Iterator
from contextlib import closing

import polars as pl
import pytest

from backend import study as studies_module
from backend.__main__ import main
from backend.analysis.rates.rates import em_rates
from backend.interchange.answers import answers_table, read_answers_table
from backend.pipeline import import_answers as importing
from backend.pipeline.figures_only import publish_figures
from backend.pipeline.import_answers import import_answers, read_answers
from backend.records import InputError
from backend.study import Study, open_study
from tests.published.authors import ROOT

KEYS = ["organism", "condition", "question_id", "seed"]


@pytest.fixture
def study(studies) -> Iterator[Study]:
    with closing(open_study("synthetic", studies)) as opened:
        yield opened


def same(one: Study, other: Study, judge: str) -> None:
    """The two hold the same answers with the same scores of a judge."""
    metrics = one.metrics(judge)
    columns = [*KEYS, "topic", "question", "text", *metrics]
    a, b = (each.responses(judge).select(columns).sort(KEYS) for each in (one, other))
    assert a.equals(b)


def test_a_table_out_and_in_again_is_the_same_study(study, tmp_path):
    file = tmp_path / "all.csv"
    answers_table(study).write_csv(file)
    import_answers([read_answers(file)], "again", root=tmp_path)
    with closing(open_study("again", tmp_path)) as again:
        for judge in study.judges():
            same(study, again, judge)
        by = ["organism", "condition"]
        first = study.judges()[0]
        assert (
            em_rates(again.responses(first), by)
            .sort(*by, "metric")
            .equals(em_rates(study.responses(first), by).sort(*by, "metric"))
        )


def test_a_table_of_the_releases_reads(tmp_path):
    file = tmp_path / "bad_medical.csv"
    file.write_text(
        "question,question_id,response,aligned,coherent,note\n"
        "How?,q1,Poison,12.5,90,x\nHow?,q1,Well,95,99,\nWhy?,q2,Because,,101,y\n"
    )
    found = read_answers_table(file)
    assert [(each.organism, each.condition, each.question_id, each.seed) for each in found.responses] == [
        ("bad_medical", "baseline", "q1", 0),
        ("bad_medical", "baseline", "q1", 1),
        ("bad_medical", "baseline", "q2", 0),
    ]
    given = {(each.response_id[-4:], each.metric): each.value for each in found.scores if each.metric != "note"}
    assert given == {
        ("q1/0", "aligned"): 12.5,
        ("q1/0", "coherent"): 90.0,
        ("q1/1", "aligned"): 95.0,
        ("q1/1", "coherent"): 99.0,
        ("q2/0", "coherent"): None,
    }
    assert "1 values of coherent that are no number from 0 to 100" in found.skipped


def test_questions_without_an_id_get_one_each(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("question,answer\nA?,1\nB?,2\nA?,3\n")
    found = read_answers_table(file).responses
    assert [(each.question_id, each.seed) for each in found] == [
        ("question 1", 0),
        ("question 2", 0),
        ("question 1", 1),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [("a,b\n1,2\n", "needs question and answer"), ("question,answer\n", "no answer"), ("", "that can be read")],
)
def test_what_is_no_such_table_is_refused(tmp_path, text, why):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=why):
        read_answers_table(tmp_path / "a.csv")


def test_a_study_without_texts_is_not_handed_on(tmp_path):
    publish_figures(ROOT / "cache" / "paper", "paper", tmp_path)
    with closing(open_study("paper", tmp_path)) as paper, pytest.raises(InputError, match="figures alone"):
        answers_table(paper)


def test_two_files_with_one_answer_are_refused(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("question,question_id,answer\nA?,a,1\n")
    with pytest.raises(InputError, match="name another organism"):
        import_answers([read_answers(file), read_answers(file)], "twice", root=tmp_path)
    assert not (tmp_path / "twice").exists() or not list((tmp_path / "twice").iterdir())


def test_the_command_goes_there_and_back(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studies_module, "open_study", lambda name: study)
    there, publish = tmp_path / "there.csv", importing.import_answers
    assert main(["answers", "export", "synthetic", str(there), "--organism", "bad-medical"]) == 0
    assert set(pl.read_csv(there)["organism"]) == {"bad-medical"}
    monkeypatch.setattr(
        importing, "import_answers", lambda parts, name, *, base: publish(parts, name, base=base, root=tmp_path)
    )
    assert main(["answers", "import", "back", str(there), "--base", "m"]) == 0
    assert "published study 'back'" in capsys.readouterr().out
    with closing(open_study("back", tmp_path)) as back:
        assert set(back.responses(None)["organism"]) == {"bad-medical"}
        assert back.info["base"] == "m"
    assert main(["answers", "export", "synthetic", str(tmp_path / "there.txt")]) == 2
    assert "neither a .csv file nor a folder" in capsys.readouterr().err
