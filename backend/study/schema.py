"""Where studies lie on disk and the tables of one: what publishing and reading must agree on, and nothing else.

A study is a folder `<root>/<name>/` of files `<stamp>.duckdb`. The newest stamp is the study; a file never changes
after it got that name. Everything that refers to a response, an organism or an adapter does so by a small integer.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

from backend.records import InputError

STUDIES = Path(os.environ.get("EM_STUDIES") or Path(__file__).resolve().parents[2] / "cache" / "studies")
FORMAT = 1  # changes when an older reader would misread a newer file
LONGEST = 200  # bytes of a study's name, which is a folder's
LONGEST_KEY = 1000  # characters of any name in it
SUFFIX = ".duckdb"
SEGMENTS = {"prompt": (0, 0), "answer": (1, 1), "all": (0, 2)}  # first and last code; 2 is the end-of-turn token

# Files of format 1 are of five generations: the first has none of `projections`, `lens`, `sources` and `measured`, each
# later one has one more. `means` is there where traces held residual means. `Connection._has` asks which there are.
TABLES = """
CREATE TABLE meta (key TEXT, value TEXT);
CREATE TABLE organisms (organism INTEGER, name TEXT, base TEXT, record TEXT);
CREATE TABLE adapters (organism INTEGER, adapter INTEGER, name TEXT, layer INTEGER, module TEXT, component INTEGER,
    scaling DOUBLE, write_norm DOUBLE, read_vector BLOB, write_vector BLOB);
CREATE TABLE questions (id TEXT, text TEXT, topic TEXT);
CREATE TABLE conditions (name TEXT, edits TEXT);
CREATE TABLE responses (response INTEGER, id TEXT, organism TEXT, condition TEXT, question_id TEXT, question TEXT,
    topic TEXT, seed BIGINT, text TEXT, prompt_ids INTEGER[], answer_ids INTEGER[], finished BOOLEAN,
    temperature DOUBLE, top_p DOUBLE, max_new_tokens BIGINT);
CREATE TABLE scores (response INTEGER, judge TEXT, metric TEXT, value DOUBLE, raw TEXT);
CREATE TABLE traces (reader INTEGER, response INTEGER, n_prompt INTEGER, n_answer INTEGER, tokens TEXT[]);
CREATE TABLE scalars (reader INTEGER, adapter INTEGER, segment TINYINT, response INTEGER, position INTEGER,
    value FLOAT);
CREATE TABLE summaries (reader INTEGER, adapter INTEGER, segment TINYINT, response INTEGER, n INTEGER,
    mean DOUBLE, sd DOUBLE, min DOUBLE, max DOUBLE);
CREATE TABLE significance (reader INTEGER, response INTEGER, position INTEGER, value FLOAT);
CREATE TABLE norms (reader INTEGER, layer INTEGER, response INTEGER, value FLOAT);
CREATE TABLE directions (name TEXT, layer INTEGER, vector BLOB, norm DOUBLE, activation_norm DOUBLE, provenance TEXT);
CREATE TABLE projections (reader INTEGER, response INTEGER, direction TEXT, layer INTEGER, position INTEGER,
    value FLOAT);
CREATE TABLE lens (kind TEXT, owner TEXT, layer INTEGER, side TEXT, rank INTEGER, token TEXT, value DOUBLE);
CREATE TABLE sources (response INTEGER, source TEXT);
CREATE TABLE measured (kind TEXT, run TEXT, measure TEXT, vector TEXT, reader TEXT, side TEXT, segment TEXT,
    layer INTEGER, part TEXT, strength DOUBLE, question TEXT, value DOUBLE);
"""
MEANS = "CREATE {kind} TABLE {name} (reader INTEGER, segment TINYINT, layer INTEGER, response INTEGER, mean FLOAT[{d}])"


def list_studies(root: Path = STUDIES) -> list[str]:
    """Names of the studies that have a published file, in alphabetical order."""
    names = {path.parent.name for path in Path(root).glob(f"*/*{SUFFIX}")}
    return sorted(name for name in names if not name.startswith("."))  # what a killed removal left aside


def newest(name: str, root: Path = STUDIES) -> Path:
    """The published file of a study. Raises InputError when there is none, naming what there is."""
    files = published(check_name(name), root)
    if not files:
        others = ", ".join(list_studies(root)) or "none yet"
        raise InputError(
            f"there is no study {name!r} in {root} (studies there: {others}). Build it with: {build_command(name)}"
        )
    return files[-1]


def build_command(name: str, folder: str | None = None) -> str:
    """The command that builds a study, of the folder that it is from where that is known."""
    where = shlex.quote(folder) if folder else "YOUR-FOLDER"
    return f"python -m backend build --folder {where} --name {shlex.quote(name)}"


def published(name: str, root: Path) -> list[Path]:
    """All published files of a study, oldest first."""
    return sorted(Path(root, name).glob(f"*{SUFFIX}"), key=lambda path: path.stem)


def check_name(name: str) -> str:
    """The name of a study, when it can be the name of a folder. Raises InputError otherwise."""
    if not re.fullmatch(r"\w[\w .-]*", name) or len(name.encode()) > LONGEST:
        raise InputError(
            f"{name[:LONGEST]!r} cannot name a study: use letters, digits, spaces, '.', '-' and '_', "
            f"at most {LONGEST} bytes"
        )
    return name


def check_key(kind: str, key: Any) -> None:
    """Raises InputError where a text cannot be the name of anything in a study: links and files hold it too."""
    if isinstance(key, str) and (len(key) > LONGEST_KEY or re.search("[\\0\ud800-\udfff]", key)):
        raise InputError(
            f"the {kind} {key[:80]!r} cannot be named so: use at most {LONGEST_KEY} characters, none of them NUL or "
            "half of a surrogate pair"
        )
