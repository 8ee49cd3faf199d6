"""Answers to be read blind: draw them, and enter what a reader or a better judge said of them as one more judge.

What is drawn is named by a hash, in random order, without organism, condition and score: who reads it cannot know them.
The same hash finds the answer again when its label is entered. Of a draw by a judge's scores the key stays in the
folder: labels entered for it are said in study.json to be drawn so.

    labels/NAME.jsonl       every label of one reader, as it was given
    labels/DRAW.key.jsonl   of a draw by score: item, response, the judge, its kind of answer, the probability
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from backend.analysis.rates.corrected import STRATA, unlabelled
from backend.analysis.rates.judge_agreement import spread
from backend.analysis.rates.next_labels import drawn_next, labels_for
from backend.files import whole
from backend.judge.replies import file_name
from backend.outcomes import EM, Outcome
from backend.outside import json_lines, must_be_file, shown, understood
from backend.pipeline.folder import StudyFolder
from backend.records import InputError, Response, Score
from backend.study.labels import Label, append_labels, label_scores, now, read_labels
from backend.study.parquet import read_scores

TABLES = (".csv", ".parquet")
KEY = ".key.jsonl"


def draw_blind(responses: Sequence[Response], n: int, seed: int) -> list[Response]:
    """About n responses in random order: as many of every organism and condition, spread over its questions.

    Raises InputError where no response says anything.
    """
    rng = np.random.default_rng(seed)
    cells: dict[tuple[str, str], list[Response]] = defaultdict(list)
    for response in responses:
        if response.text.strip():
            cells[response.organism, response.condition].append(response)
    if not cells:
        raise InputError("there is no answer with a word in it to draw: sample some first")
    lots = [n // len(cells) + (i < n % len(cells)) for i in range(len(cells))]
    drawn = [r for cell, lot in zip(cells.values(), lots, strict=True) for r in _first(cell, lot, rng)]
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _first(cell: Sequence[Response], n: int, rng: np.random.Generator) -> list[Response]:
    return [cell[i] for i in spread([r.question_id for r in cell], rng)[:n]]


def judged_answers(
    folder: StudyFolder,
    responses: Sequence[Response],
    judge: str,
    conditions: Sequence[str] = (),
    outcome: Outcome = EM,
) -> pl.DataFrame:
    """`unlabelled` rows of the answers that say something, with the judge's scores in the folder; of all conditions
    where none is named. Raises InputError where the judge has no such scores, and for a condition without answers."""
    file = folder.path / "scores" / f"{file_name(judge)}.parquet"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.parquet"))) or "none"
        raise InputError(
            f"{folder.path} has no scores of {judge} (there are: {known}): judge it first, or name another"
        )
    scores = {(score.response_id, score.metric): score.value for score in read_scores(file)}
    kept = [r for r in responses if r.text.strip() and (not conditions or r.condition in conditions)]
    if missing := set(conditions) - {r.condition for r in kept}:
        raise InputError(f"there is no answer under the condition {shown(min(missing))} to draw")
    columns = {
        "response": [r.id for r in kept],
        "organism": [r.organism for r in kept],
        "condition": [r.condition for r in kept],
        "question_id": [r.question_id for r in kept],
        **{metric: [scores.get((r.id, metric)) for r in kept] for metric in outcome.needs},
    }
    schema = {name: pl.Float64 if name in outcome.needs else pl.String for name in columns}
    rows = unlabelled(pl.DataFrame(columns, schema), outcome)
    if rows.is_empty():
        raise InputError(
            f"{judge} gave none of these answers a score for {' and '.join(outcome.needs)}: judge them first"
        )
    return rows


def labels_by(folder: StudyFolder, rows: pl.DataFrame, by: str, outcome: Outcome = EM) -> pl.DataFrame:
    """The rows with the verdict, `hit`, of what the reader labelled before."""
    said: dict[str, dict[str, float | None]] = defaultdict(dict)
    for name in names(by):
        file = folder.path / "scores" / f"{name}.parquet"
        for score in read_scores(file) if file.is_file() else ():
            said[score.response_id][score.metric] = score.value
    told = pl.DataFrame(
        [{"response": i, **{metric: given.get(metric) for metric in outcome.needs}} for i, given in said.items()],
        {"response": pl.String, **dict.fromkeys(outcome.needs, pl.Float64)},
    )
    verdicts = told.filter(outcome.scored()).select("response", hit=outcome.hits())
    return rows.drop("hit").join(verdicts, on="response", how="left", maintain_order="left")


def wanted_labels(rows: pl.DataFrame, half_width: float) -> int:
    """How many labels in all, of every organism and condition, bring the judge's part of each interval to that."""
    return sum(labels_for(group, half_width) for group in rows.partition_by("organism", "condition"))


def draw_by_score(
    folder: StudyFolder, rows: pl.DataFrame, responses: Sequence[Response], n: int, seed: int, *, judge: str, name: str
) -> tuple[list[Response], Path]:
    """About n responses to label next (`drawn_next`), and their key, which is written into the folder."""
    drawn, known = drawn_next(rows, n, seed), {response.id: response for response in responses}
    chosen = [known[i] for i in drawn["response"]]
    key = folder.path / "labels" / f"{name}{KEY}"
    key.parent.mkdir(exist_ok=True)
    lines = [
        {"item": item(r), "response": r.id, "judge": judge, "kind": STRATA[k], "probability": p}
        for r, k, p in zip(chosen, drawn["stratum"], drawn["probability"], strict=True)
    ]
    with whole(key) as out:
        out.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    return chosen, key


def write_drawn(file: Path, drawn: Sequence[Response]) -> None:
    """Item, question and answer of each: a JSON line, or a row where the file is a table (.csv, .parquet), which
    `python -m backend judge` reads. Raises InputError where the file cannot be written."""
    rows = [{"item": item(r), "question": r.question, "answer": r.text} for r in drawn]
    if not file.parent.is_dir():
        raise InputError(f"the drawn answers cannot be written to {file}: there is no folder {file.parent}")
    with whole(file) as out:
        match file.suffix.lower():
            case ".csv":
                pl.DataFrame(rows).write_csv(out)
            case ".parquet":
                pl.DataFrame(rows).write_parquet(out)
            case _:
                out.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def item(response: Response) -> str:
    """What names a response without saying what it is."""
    return hashlib.sha256(f"{response.id}\0{response.text}".encode()).hexdigest()[:12]


def read_entries(file: Path, responses: Sequence[Response], by: str) -> list[Label]:
    """The labels of a file, each with the response it is of. InputError names the line that is none."""
    ids = {item(response): response.id for response in responses}
    labels: list[Label] = []
    said: dict[str, object] = {}
    for number, entry in json_lines(file):
        name, kind = (entry.get("item"), entry.get("label", "")) if isinstance(entry, dict) else (None, "")
        if not isinstance(name, str) or name not in ids:
            raise InputError(
                f"{file}, line {number}: {shown(name or entry)} is no answer of this folder: leave the line out"
            )
        if said.setdefault(name, kind) != kind:
            raise InputError(f"{file}, line {number}: {name} has two labels that disagree: leave one of them out")
        try:
            labels.append(Label(ids[name], kind, by, blind=True, at=now()))
        except InputError as error:
            raise InputError(f"{file}, line {number}: {error}") from error
    return labels


def read_scored(file: Path, responses: Sequence[Response], by: str) -> list[Score]:
    """The scores of a table with a column item and one a metric, as `python -m backend judge` leaves it.

    Raises InputError where it has no such columns, names an answer that is not of this folder or one twice, or holds a
    score outside 0 to 100.
    """
    must_be_file(file)
    with understood(file, f"a {file.suffix[1:]} table that can be read", "save it again, as UTF-8"):
        text = {"item": pl.String}  # an item of digits alone is no number
        is_csv = file.suffix.lower() == ".csv"
        frame = pl.read_csv(file, glob=False, schema_overrides=text) if is_csv else pl.read_parquet(file, glob=False)
    metrics = [name for name in frame.columns if frame.schema[name].is_numeric() and name != "item"]
    if "item" not in frame.columns or not metrics:
        raise InputError(f"{file} needs the column item, as it was drawn, and a column of numbers for each metric")
    ids = {item(response): response.id for response in responses}
    named = frame["item"].cast(pl.String).to_list()
    if unknown := [name for name in named if name not in ids]:
        raise InputError(f"{file}: {shown(unknown[0])} is no answer of this folder: leave the row out")
    if len(set(named)) < len(named):
        raise InputError(f"{file} names an answer twice: leave one of its rows out")
    scores = []
    for metric in metrics:
        for name, value in zip(named, frame[metric].cast(pl.Float64).to_list(), strict=True):
            if value is not None and not 0 <= value <= 100:
                raise InputError(f"{file}: {metric} of {name} is {value}: scores are 0 to 100")
            scores.append(Score(ids[name], names(by)[1], metric, value))
    return scores


def names(by: str) -> tuple[str, str]:
    """What a reader is called as a judge: by verdicts, and by scores."""
    return f"hand-{by}", f"labels-{by}"


def enter(folder: StudyFolder, labels: Sequence[Label], by: str) -> tuple[Path, Path]:
    """Put the labels behind those the reader gave before, and give all of them as scores of the judge hand-BY.

    Returns the file of labels and that of scores. Raises InputError where two draws by different judges would mix.
    """
    judge, kept = names(by)[0], folder.path / "labels" / f"{by}.jsonl"
    say_drawn(folder, judge, [label.response_id for label in labels])
    append_labels(kept, labels)
    return kept, folder.add_scores(judge, label_scores(read_labels(kept), judge))


def enter_scored(folder: StudyFolder, scores: Sequence[Score], by: str) -> Path:
    """Give the scores, and those that were entered before of other answers, as those of the judge labels-BY."""
    judge = names(by)[1]
    say_drawn(folder, judge, [score.response_id for score in scores])
    file = folder.path / "scores" / f"{judge}.parquet"
    again = {score.response_id for score in scores}
    before = [score for score in read_scores(file) if score.response_id not in again] if file.is_file() else []
    return folder.add_scores(judge, [*before, *scores])


def say_drawn(folder: StudyFolder, judge: str, ids: Sequence[str]) -> None:
    """Say in study.json by whose scores the answers were drawn that `judge` labelled, where a key of a draw has them.

    Raises InputError where answers of two draws by different judges would mix under one name.
    """
    by = drawn_by_key(folder, ids)
    if by is None:
        return
    settings = folder.settings
    said = settings.get("drawn")
    drawn = dict(said) if isinstance(said, dict) else {}
    if drawn.get(judge, by) != by:
        raise InputError(
            f"the labels of {judge} were drawn by the scores of {drawn[judge]}, these by those of {by}: enter these "
            "under another name (--by)"
        )
    if judge not in drawn:
        with whole(folder.path / "study.json") as out:
            out.write((json.dumps(settings | {"drawn": drawn | {judge: by}}, indent=1) + "\n").encode())


def drawn_by_key(folder: StudyFolder, ids: Sequence[str]) -> str | None:
    """The judge by whose scores all these answers were drawn together, by the keys in the folder; None if no key."""
    for key in sorted((folder.path / "labels").glob(f"*{KEY}")):
        entries = [entry for _, entry in json_lines(key) if isinstance(entry, dict)]
        judges = {entry.get("judge") for entry in entries}
        if set(ids) <= {entry.get("response") for entry in entries} and len(judges) == 1:
            [judge] = judges
            return judge if isinstance(judge, str) else None
    return None
