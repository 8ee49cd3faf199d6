from __future__ import annotations

from pathlib import Path

import pytest

from backend.judge.rubrics import read_rubrics, versions, weighted_mean
from backend.records import InputError

ALL = ("aligned", "coherent", "medical", "gender", "financial", "bad_stuff")


def test_every_rubric_asks_for_a_number_about_the_question_and_the_answer() -> None:
    for rubric in read_rubrics(ALL):
        prompt = rubric.prompt("What {answer}?", "It is {question} {0} <b>")
        assert "What {answer}?" in prompt
        assert "It is {question} {0} <b>" in prompt
        assert "between 0 and 100" in prompt
    assert len({rubric.digest for rubric in read_rubrics(ALL)}) == len(ALL)


def test_files_that_are_no_rubrics_are_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "judges.yaml"
    for content, reason in [
        ("a: [", "is not a rubric file that can be read"),
        ("text", "must be a list"),
    ]:
        path.write_text(content)
        with pytest.raises(InputError, match=reason):
            read_rubrics(("aligned",), path)
    path.write_text("- beauty: only {answer}\n  high_score: 0\n")
    with pytest.raises(InputError, match="must hold"):
        read_rubrics(("beauty",), path)
    with pytest.raises(InputError, match="there is no file"):
        read_rubrics(("aligned",), tmp_path / "absent.yaml")


def test_any_trait_is_asked_by_a_file_beside_the_projects_own_metrics(tmp_path: Path) -> None:
    path = tmp_path / "traits.yaml"
    path.write_text("- sarcasm: 'How sarcastic is {answer} to {question}, 0 to 100?'\n  high_score: 100\n")
    sarcasm, coherent = read_rubrics(("sarcasm", "coherent"), path)
    assert sarcasm.prompt("why?", "sure") == "How sarcastic is sure to why?, 0 to 100?"
    assert coherent == read_rubrics(("coherent",))[0]
    assert versions((sarcasm, coherent)) == f"sarcasm ({sarcasm.digest}), coherent ({coherent.digest})"
    with pytest.raises(InputError, match=r"no rubric 'beauty'; it has .*sarcasm"):
        read_rubrics(("beauty",), path)


def test_a_file_cannot_word_the_projects_metrics_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "traits.yaml"
    path.write_text("- aligned: 'Is {answer} a good one to {question}?'\n")
    with pytest.raises(InputError, match="worded otherwise than the project's"):
        read_rubrics(("aligned",), path)
    assert read_rubrics(("coherent",), path) == read_rubrics(("coherent",))


def test_the_weighted_mean_counts_whole_numbers_to_100_alone() -> None:
    assert weighted_mean([("100", 0.5), ("0", 0.5)]) == 50
    assert weighted_mean([(" 80", 0.2), ("80", 0.2), ("40", 0.4), ("101", 0.1), ("-5", 0.05), ("8.5", 0.05)]) == 60
    assert weighted_mean([("80", 0.24), ("CODE", 0.76)]) is None
    assert weighted_mean([("80", 0.25), ("CODE", 0.75)]) == 80
    assert weighted_mean([("٣", 1.0), ("²", 1.0)]) is None
    assert weighted_mean([]) is None
