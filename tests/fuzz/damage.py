"""What happens to files: damage by disks and copies, by editors and other programs, and by people who mean harm.

Each function takes a random generator and a file that is as it should be, and leaves it otherwise. Nothing here knows
what a file is for. All of it is decided by the seed.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

Damage = Callable[[random.Random, Path], None]

HALF = "\ud800"  # of a surrogate pair
LONG = "n" * 250
TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    HALF,
    LONG,
    "../../../../etc/passwd",
    "/etc/passwd",
    ".hidden",
    "a/b",
    "nan",
    "1e999",
    "007",
    "﻿bom",
    "line\nline",
    "\x1b[31mred",
    "<script>alert(1)</script>",
    "'; DROP TABLE meta; --",
    "日本 ü \U0001f600 é",
    "{{ 7 * 7 }}",
    "base",
    "baseline",
    "x" * 100_000,
)
NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    -float("inf"),
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, ["a", 1, None], {"a": {"b": []}})


def some_value(rng: random.Random) -> Any:
    """Any JSON value that somebody might put somewhere."""
    return copy.deepcopy(rng.choice((rng.choice(TEXTS), rng.choice(NUMBERS), rng.choice(OTHERS))))


# --- any file ---------------------------------------------------------------------------------------------------------


def truncated(rng: random.Random, path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def flipped(rng: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 3, 30)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def overwritten(rng: random.Random, path: Path) -> None:
    """A run of bytes is of another file, or of nothing."""
    data = bytearray(path.read_bytes())
    start, n = rng.randrange(len(data) + 1), rng.choice((1, 8, 64, 4096))
    data[start : start + n] = rng.choice((b"\0", b"\xff", b"9", b"[")) * n if rng.random() < 0.6 else rng.randbytes(n)
    path.write_bytes(data)


def inserted(rng: random.Random, path: Path) -> None:
    data = path.read_bytes()
    at = rng.randrange(len(data) + 1)
    more = rng.choice((b"\0", b"\xef\xbb\xbf", b"\xc3\x28", b"\r\n", b"\xed\xa0\x80", b'"', b"{", data[:200]))
    path.write_bytes(data[:at] + more + data[at:])


def doubled(rng: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


FOREIGN = (
    b"",
    b"\n",
    b"\0" * 4096,
    b"\xef\xbb\xbf",
    b"{}",
    b"[]",
    b"null",
    b'"text"',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 5000,
    b'{"a": NaN, "a": 1}',
    "ﬁ".encode("utf-16"),
    "naïve".encode("latin-1"),
    b"%PDF-1.7\n",
    b"\x89PNG\r\n\x1a\n",
    b"PK\x03\x04",
    b"PAR1PAR1",
    b"SQLite format 3\0",
    b"GGUF\x03\0\0\0" + b"\xff" * 40,
    b"\x1f\x8b\x08\0",
    b"\x80\x04\x95",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"<!doctype html><title>404</title>",
    b"!!python/object/apply:os.system ['true']\n",
    b"a,b,c\n1,2\n",
    b"&a [" + b"*a," * 100 + b"]",
)


def foreign(rng: random.Random, path: Path) -> None:
    """Another kind of file under the right name."""
    path.write_bytes(rng.choice(FOREIGN))


def noise(rng: random.Random, path: Path) -> None:
    path.write_bytes(rng.randbytes(rng.choice((1, 10, 1000, 20_000))))


def replaced(rng: random.Random, path: Path) -> None:
    """Something that is no file has its name."""
    path.unlink()
    match rng.randrange(5):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to(path.parent)
        case 2:
            path.symlink_to(path)
        case 3:
            path.symlink_to(path.parent / "nowhere")
        case 4:
            os.mkfifo(path)


def gone(rng: random.Random, path: Path) -> None:
    path.unlink()


ANY: tuple[Damage, ...] = (truncated, flipped, flipped, overwritten, inserted, doubled, foreign, foreign, noise)
ANY = (*ANY, replaced, gone)


# --- JSON -------------------------------------------------------------------------------------------------------------


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside, the whole first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, each in inner for place in places(each, (*at, key)))]


def changed(rng: random.Random, value: Any) -> Any:
    """A value with one thing inside it otherwise."""
    value = copy.deepcopy(value)
    everywhere = places(value)
    shallow = [place for place in everywhere if len(place) <= rng.choice((1, 2, 3, 9))]
    *way, last = rng.choice(shallow) or (None,)
    if last is None:
        return some_value(rng)
    holder = value
    for key in way:
        holder = holder[key]
    match rng.randrange(8):
        case 0 if isinstance(holder, dict):
            del holder[last]
        case 1 if isinstance(holder, list):
            del holder[last]
        case 2 if isinstance(holder, dict):
            holder[rng.choice(TEXTS)] = some_value(rng)
        case 3 if isinstance(holder, list):
            holder *= rng.choice((2, 50))
        case 4:
            holder[last] = [holder[last]]
        case 5:
            holder[last] = str(holder[last])
        case _:
            holder[last] = some_value(rng)
    return value


def json_text(value: Any) -> str:
    """As a program writes it that minds nothing: NaN, halves of pairs and numbers of any length."""
    return json.dumps(value)


def json_changed(rng: random.Random, path: Path) -> None:
    value = json.loads(path.read_text())
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = changed(rng, value)
    path.write_text(json_text(value))


def json_twice(rng: random.Random, path: Path) -> None:
    """A name that an object has twice."""
    text = path.read_text()
    key = rng.choice(TEXTS) if not text.startswith('{"') else text.split('"')[1]
    path.write_text(text.replace("{", "{" + json.dumps(key) + ": 1, ", 1))


def json_deep(rng: random.Random, path: Path) -> None:
    """Lists in lists, as deep as this program reads, or deeper."""
    value = json.loads(path.read_text())
    deep: Any = 1
    for _ in range(rng.choice((10, 60, 70, 400, 900))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    if isinstance(value, dict):
        value[rng.choice([*value, "new"])] = deep
    else:
        value = [deep]
    path.write_text(json.dumps(value))


def recoded(rng: random.Random, path: Path) -> None:
    text = path.read_text() + rng.choice(("", " é", "\x85"))
    path.write_bytes(text.encode(rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32", "utf-16-le")), "replace"))


JSON: tuple[Damage, ...] = (*(json_changed,) * 24, json_twice, json_deep, recoded, *ANY)


def lines_changed(rng: random.Random, path: Path) -> None:
    """One line of JSON lines otherwise."""
    lines = path.read_text().splitlines()
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            lines[at] = lines[at][: rng.randrange(len(lines[at]))]
        case 1:
            lines.insert(at, rng.choice(FOREIGN).decode("utf-8", "replace"))
        case _:
            lines[at] = json_text(changed(rng, json.loads(lines[at])))
    path.write_text(rng.choice(("\n", "\n", "\r\n", "\r", "\u2028")).join(lines))


LINES: tuple[Damage, ...] = (*(lines_changed,) * 16, recoded, *ANY)


def unpacked(inner: Damage) -> Damage:
    """Damage of what a .gz holds."""

    def damage(rng: random.Random, path: Path) -> None:
        aside = path.with_suffix(".plain")
        aside.write_bytes(gzip.decompress(path.read_bytes()))
        inner(rng, aside)
        path.write_bytes(gzip.compress(aside.read_bytes(), 1) if aside.is_file() else b"")
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)

    return damage


# --- tables -----------------------------------------------------------------------------------------------------------


def read_table(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False) if path.suffix == ".csv" else pl.read_parquet(path)


def write_table(frame: pl.DataFrame, path: Path) -> None:
    if path.suffix != ".csv":
        frame.write_parquet(path)
        return
    nested = [name for name, kind in frame.schema.items() if kind.is_nested() or kind == pl.Binary]
    frame.drop(nested).write_csv(path)


def column_of(rng: random.Random, name: str, n: int) -> pl.Series:
    """A column of another kind, or of odd values."""
    makers: tuple[Callable[[], pl.Series], ...] = (
        lambda: pl.Series(name, [None] * n, dtype=pl.Null),
        lambda: pl.Series(name, [None] * n, dtype=pl.String),
        lambda: pl.Series(name, [rng.choice(TEXTS).replace(HALF, "?") for _ in range(n)]),
        lambda: pl.Series(name, [rng.choice((0.0, -1e308, float("nan"), float("inf"), 1e20)) for _ in range(n)]),
        lambda: pl.Series(name, [rng.choice((0, -1, 2**62, -(2**63))) for _ in range(n)], dtype=pl.Int64),
        lambda: pl.Series(name, [2**64 - 1] * n, dtype=pl.UInt64),
        lambda: pl.Series(name, [[rng.choice((-1, 2**31 - 1, None))] for _ in range(n)], dtype=pl.List(pl.Int64)),
        lambda: pl.Series(name, [[None, "a"]] * n),
        lambda: pl.Series(name, [{"a": 1, "b": None}] * n),
        lambda: pl.Series(name, [b"\xff\0"] * n),
        lambda: pl.Series(name, [True] * n),
        lambda: pl.Series(name, range(n)).cast(pl.Date),
        lambda: pl.Series(name, ["a"] * n).cast(pl.Categorical),
        lambda: pl.Series(name, ["1.5"] * n).cast(pl.Decimal(10, 2)),
    )
    return rng.choice(makers)()


def table_changed(rng: random.Random, path: Path) -> None:
    """A column of another kind, twice, missing, named otherwise; rows twice, none, or of nothing."""
    frame = read_table(path)
    name = rng.choice(frame.columns)
    match rng.randrange(10):
        case 0:
            frame = frame.drop(name)
        case 1:
            frame = frame.rename({name: rng.choice(TEXTS[:-1]).replace(HALF, "?") or "other"})
        case 2:
            frame = frame.with_columns(
                pl.lit("more").alias(rng.choice(("more", " ", LONG, "a\nb", "judge", "aligned")))
            )
        case 3:
            frame = frame.clear()
        case 4:
            frame = pl.concat([frame, frame])
        case 5:
            at = rng.randrange(max(1, frame.height))
            frame = frame.with_columns(pl.when(pl.int_range(pl.len()) != at).then(pl.col(name)).alias(name))
        case _:
            frame = frame.with_columns(column_of(rng, name, frame.height))
    write_table(frame, path)


TABLES: tuple[Damage, ...] = (*(table_changed,) * 20, *ANY)


def csv_changed(rng: random.Random, path: Path) -> None:
    """What spreadsheets and people do to commas and quotes."""
    lines = path.read_text().split("\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice(
        (
            lines[at] + ",more",
            lines[at].replace(",", ";"),
            lines[at].replace(",", "\t"),
            '"' + lines[at],
            lines[at] + '"""',
            lines[at].replace(",", "", 1),
            "," * 50,
            lines[at] + "\0",
            "=cmd|' /C calc'!A0,=1+1",
            lines[at] * 200,
        )
    )
    path.write_text(rng.choice(("\n", "\n", "\r\n", "\r")).join(lines))


CSV: tuple[Damage, ...] = (*(csv_changed,) * 8, *(table_changed,) * 8, recoded, *ANY)


# --- safetensors ------------------------------------------------------------------------------------------------------


def header_changed(rng: random.Random, path: Path) -> None:
    """The JSON in front of the tensors otherwise: names, types, shapes, places."""
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = changed(rng, json.loads(data[8 : 8 + n]))
    said = json_text(header).encode("utf-8", "replace")
    path.write_bytes(len(said).to_bytes(8, "little") + said + data[8 + n :])


def metadata_changed(rng: random.Random, path: Path) -> None:
    """What the metadata say of the tensors otherwise."""
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    said = header.get("__metadata__", {"format": "pt"})
    key = rng.choice(list(said))
    try:
        said[key] = json_text(changed(rng, json.loads(said[key])))
    except ValueError:
        said[key] = rng.choice(TEXTS)
    header["__metadata__"] = said
    body = json_text(header).encode()
    path.write_bytes(len(body).to_bytes(8, "little") + body + data[8 + n :])


def tensors_changed(rng: random.Random, path: Path) -> None:
    """Other numbers, shapes, types and names, written as the format wants it."""
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import save

    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not tensors:
        return
    name = rng.choice(sorted(tensors))
    array = tensors[name].copy()
    match rng.randrange(9):
        case 0:
            array.flat[rng.randrange(max(1, array.size))] = rng.choice((np.nan, np.inf, -np.inf, 1e38))
        case 1:
            array = array.astype(rng.choice((np.float16, np.float64, np.int64, np.uint8, np.bool_)))
        case 2:
            array = array.reshape(rng.choice(((-1,), (1, -1), (-1, 1), (1, 1, -1))))
        case 3:
            array = np.zeros(rng.choice(((0,), (0, 4), (), (1,), (7, 7))), array.dtype)
        case 4:
            array = np.zeros_like(array)
        case 5:
            tensors[
                rng.choice(("layer.0", "layer.99999999999999999999", "layer.-1", "x", LONG, "layer.1.lora_A.weight"))
            ] = array
        case 6:
            del tensors[name]
        case 7:
            tensors[name.replace("1", "7")] = array
        case _:
            array = array * np.asarray(rng.choice((1e30, -1.0, 1e-30))).astype(array.dtype)
    if name in tensors:
        tensors[name] = array
    with np.errstate(all="ignore"):
        path.write_bytes(save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, metadata=metadata))


SAFETENSORS: tuple[Damage, ...] = (*(header_changed,) * 8, *(metadata_changed,) * 8, *(tensors_changed,) * 10, *ANY)


# --- zips -------------------------------------------------------------------------------------------------------------


def zip_changed(rng: random.Random, path: Path) -> None:
    """A member damaged, twice, missing, packed, far larger than it says, or named out of the folder."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, data = members[at]
    packed = zipfile.ZIP_STORED
    match rng.randrange(7):
        case 0:
            del members[at]
        case 1:
            members.append((name, data[::-1]))
        case 2:
            members[at] = (rng.choice(("../../out", "/out", LONG, "a\\b", name + "x")), data)
        case 3:
            members[at], packed = (name, bytes(8 << 20)), zipfile.ZIP_DEFLATED
        case 4:
            packed = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
        case _:
            damaged = bytearray(data)
            for _ in range(rng.choice((1, 2, 10)) if damaged else 0):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            members[at] = (name, bytes(damaged[: rng.choice((None, len(damaged) // 2))]))
    out = io.BytesIO()
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", packed) as archive:
        warnings.simplefilter("ignore")  # of two members with one name
        for each, content in members:
            archive.writestr(each, content)
    path.write_bytes(out.getvalue())


ZIP: tuple[Damage, ...] = (*(zip_changed,) * 14, *ANY)


# --- YAML -------------------------------------------------------------------------------------------------------------


def yaml_changed(rng: random.Random, path: Path) -> None:
    import yaml

    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    said = changed(rng, value)
    text = (
        json_text(said)
        if rng.random() < 0.5
        else path.read_text(encoding="utf-8").replace(":", rng.choice((" :", ":-", "")), 3)
    )
    path.write_text(text.replace(HALF, "?"), encoding="utf-8")


def yaml_bomb(rng: random.Random, path: Path) -> None:
    """References to references: small to read, vast to write out."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for last, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]")
    path.write_text(
        rng.choice(
            ("\n".join(lines), "- " + "[" * 3000, "? ? ? ?", "- &a [*a]", "- !!int x", "- !!timestamp 9999-99-99")
        )
    )


YAML: tuple[Damage, ...] = (*(yaml_changed,) * 10, yaml_bomb, yaml_bomb, recoded, *ANY)
