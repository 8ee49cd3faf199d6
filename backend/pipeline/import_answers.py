"""Answers of other tools become a study: files in, one published study out, without a model.

It refuses to know the forms of files, and to judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backend.interchange.answers import Imported, read_answers_table, together
from backend.interchange.inspect_log import read_eval_log
from backend.records import BASE, BASELINE, InputError, Question
from backend.study import STUDIES, Draft, check_name

LOGS, TABLES = (".eval", ".json"), (".csv",)


def read_answers(
    path: Path, *, organism: str | None = None, condition: str | None = None, times: float = 1
) -> Imported:
    """A file by its suffix: a log of Inspect, or a table. Raises InputError on any other."""
    match path.suffix.lower():
        case ".eval" | ".json":
            return read_eval_log(path, organism=organism, condition=condition, times=times)
        case ".csv":
            return read_answers_table(path, organism=organism, condition=condition or BASELINE)
    raise InputError(f"{path}: answers are read from {', '.join((*LOGS, *TABLES))}")


def import_answers(
    parts: Sequence[Imported], name: str, *, base: str = "not recorded", title: str = "", root: Path = STUDIES
) -> Path:
    """Publish a study of answers that others sampled and judged; returns its file.

    The base stands beside the organisms whether it answered or not. Raises InputError where two parts hold one answer.
    """
    check_name(name)
    found = together(parts)
    organisms = dict.fromkeys([BASE, *(each.organism for each in found.responses)])
    questions = {each.question_id: Question(each.question_id, each.question, each.topic) for each in found.responses}
    with Draft(name, root=root) as draft:
        draft.meta(title=title or f"{name}: imported answers", base=base, notes="\n".join(found.skipped))
        for organism in organisms:
            draft.add_organism(organism, base=base, adapters=(), record={"source": "imported answers"})
        draft.add_questions(questions.values())
        draft.add_conditions(found.conditions)
        draft.add_responses(found.responses)
        draft.add_scores(found.scores)
        return draft.publish()
