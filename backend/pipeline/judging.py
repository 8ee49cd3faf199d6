"""What can be judged: a study folder, a published study, or any table of questions and answers.

Knows where answers come from, where their scores go, and what to say of those without a number. Refuses to know who
judges.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any, Protocol

import polars as pl

from backend.files import whole
from backend.judge import Answer
from backend.judge.api import FAILED
from backend.judge.replies import file_name
from backend.judge.table import read_table
from backend.outside import shown
from backend.pipeline.folder import StudyFolder
from backend.records import InputError, Score
from backend.study import list_studies, open_study, with_scores

TABLES = (".parquet", ".csv")
MOST_REASONS = 12
LONGEST_REASON = 2000  # characters; what a judge said is printed whole up to here
WIDTH = 110  # of a printed line


@dataclass
class Tally:
    """What was scored, what has no number, and why."""

    numbers: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)  # (metric, why)

    @property
    def failed(self) -> int:
        """Scores that another run may still get."""
        return sum(n for (_, why), n in self.reasons.items() if why.startswith(FAILED))

    def count(self, scores: Iterable[Score]) -> Iterator[Score]:
        """Pass the scores through."""
        for score in scores:
            if score.value is None:
                self.reasons[score.metric, score.raw.strip() or "(nothing said)"] += 1
            else:
                self.numbers += 1
            yield score

    def lines(self) -> Iterator[str]:
        """The tally in words."""
        without = self.reasons.total()
        yield f"{self.numbers:,} scores" + (
            f"; {without:,} without a number:" if without else ", none without a number"
        )
        for (metric, why), n in self.reasons.most_common(MOST_REASONS):
            more = f" … ({len(why) - LONGEST_REASON:,} more characters)" if len(why) > LONGEST_REASON else ""
            yield fill(f"{n:,} × {metric}: {why[:LONGEST_REASON]}{more}", WIDTH, **_INDENT)
        if len(self.reasons) > MOST_REASONS:
            yield f"  and {len(self.reasons) - MOST_REASONS} more reasons"
        if self.failed:
            yield f"{self.failed:,} scores failed: run the command again, it asks for these alone"


_INDENT: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "      ", "break_on_hyphens": False}


# --- where answers come from and scores go ----------------------------------------------------------------------------


class Target(Protocol):
    """Holds answers, and takes their scores."""

    @property
    def where(self) -> str:
        """Where the answers are from."""

    def answers(self) -> list[Answer]:
        """All of them. Raises InputError where there is none."""

    def keep(self, judge: str, scores: Sequence[Score]) -> str:
        """Put the scores where they belong; says where that is."""


def target(path: Path, out: Path | None = None) -> Target:
    """What `path` names: a table (its scores go to `out`), a study folder, or a published study.

    Raises InputError where it names none of them, or `out` is missing or of no use.
    """
    if path.suffix.lower() in TABLES:
        if out is None:
            raise InputError(f"{path} is a table: say with --out where the table with the scores goes")
        return TableTarget(path, out)
    if out is not None:
        raise InputError("--out is for tables (.parquet, .csv): the scores of a study stay with the study")
    if path.is_dir():
        return FolderTarget(StudyFolder(path))
    if str(path) in list_studies():
        return StudyTarget(str(path))
    raise InputError(
        f"{str(path)!r} is no study folder, no .parquet or .csv file, and no published study "
        f"(there are: {', '.join(list_studies()) or 'none'})"
    )


@dataclass(frozen=True)
class FolderTarget:
    """A study folder; its scores go to scores/JUDGE.parquet, and into the study when it is built again."""

    folder: StudyFolder

    @property
    def where(self) -> str:
        """Where the answers are from."""
        return str(self.folder.path)

    def answers(self) -> list[Answer]:
        """All of the folder."""
        return [(r.id, r.question, r.text) for r in self.folder.answers()]

    def keep(self, judge: str, scores: Sequence[Score]) -> str:
        """Replace the judge's scores; says where they are."""
        return f"{self.folder.add_scores(file_name(judge), scores)}: build the study again to see them"


@dataclass(frozen=True)
class StudyTarget:
    """A published study; its scores go into a new build."""

    name: str

    @property
    def where(self) -> str:
        """Where the answers are from."""
        return f"the study {self.name!r}"

    def answers(self) -> list[Answer]:
        """All of the study."""
        return list(open_study(self.name).responses().select("response", "question", "text").iter_rows())

    def keep(self, judge: str, scores: Sequence[Score]) -> str:
        """Publish the study with the scores; says where."""
        return f"published {with_scores(open_study(self.name), scores)} with the scores of {judge}"


@dataclass(frozen=True)
class TableTarget:
    """A Parquet or CSV file with a question and a response or answer in each row."""

    path: Path
    out: Path

    @property
    def where(self) -> str:
        """Where the answers are from."""
        return str(self.path)

    def answers(self) -> list[Answer]:
        """Every pair of question and answer once, named by a hash of both."""
        if self.out.suffix.lower() not in TABLES:
            raise InputError(f"--out must end in {' or '.join(TABLES)}, unlike {self.out}")
        pairs = _pairs(read_table(self.path), self.path)
        return [(_pair_id(*pair), *pair) for pair in dict.fromkeys(pairs)]

    def keep(self, judge: str, scores: Sequence[Score]) -> str:
        """Write the table with a column a metric, null where there is no number; says where."""
        frame = read_table(self.path)
        ids = pl.Series("pair", [_pair_id(*pair) for pair in _pairs(frame, self.path)])
        metrics = list(dict.fromkeys(score.metric for score in scores))
        taken = set(frame.columns) & {*metrics, "judge"}
        names = {metric: f"{metric} ({judge})" if taken else metric for metric in metrics}
        rows = {(s.response_id, s.metric): s.value for s in scores}
        columns = [pl.Series(names[m], [rows[i, m] for i in ids], dtype=pl.Float64) for m in metrics]
        nested = [name for name, kind in frame.schema.items() if kind.is_nested() or kind == pl.Binary]
        if nested and self.out.suffix.lower() == ".csv":
            raise InputError(
                f"{self.path} has the columns {', '.join(nested)}, which are no plain values and fit no CSV: "
                "give --out the ending .parquet"
            )
        scored = frame.with_columns(*columns, *([] if taken else [pl.lit(judge).alias("judge")]))
        with whole(self.out) as out:
            write = scored.write_parquet if self.out.suffix.lower() == ".parquet" else scored.write_csv
            write(out)
        added = ", ".join(names.values())
        why = f" ({', '.join(sorted(taken))} was there already)" if taken else ""
        return f"{self.out}: {scored.height:,} rows with {added}{why}"


def _pairs(frame: pl.DataFrame, path: Path) -> list[tuple[str, str]]:
    """(question, answer) of every row; what is missing is empty."""
    answer = next((name for name in ("response", "answer") if name in frame.columns), None)
    if "question" not in frame.columns or answer is None:
        there = shown(", ".join(frame.columns)) if frame.width else "none"
        raise InputError(f"{path} needs the columns question and response (or answer); it has {there}")
    if not frame.height:
        raise InputError(f"{path} has no rows: there is nothing to judge")
    try:
        return list(frame.select(pl.col("question", answer).cast(pl.String).fill_null("")).iter_rows())
    except pl.exceptions.PolarsError as error:
        kinds = " and ".join(f"{name} of {frame.schema[name]}" for name in ("question", answer))
        raise InputError(f"{path} has the columns {kinds}: both must be text") from error


def _pair_id(question: str, answer: str) -> str:
    return hashlib.sha256(f"{question}\0{answer}".encode()).hexdigest()[:24]
