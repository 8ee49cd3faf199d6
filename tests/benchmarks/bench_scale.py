"""A hundred million scalars in DuckDB, as one file and over Parquet parts: `python -m tests.benchmarks.bench_scale`.

Made-up scalars of nine adapters at every token of 55,556 texts of 200 tokens, in the columns and the order of a study's
table `scalars` (backend/study/schema.py). Prints bytes and seconds of what the pages ask for. A script, not a test.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path

import duckdb

ADAPTERS, TOKENS, PROMPT = 9, 200, 20
COLUMNS = "reader INTEGER, adapter INTEGER, segment TINYINT, response INTEGER, position INTEGER, value FLOAT"
MADE = f"""
SELECT 1::INTEGER AS reader, {{adapter}}::INTEGER AS adapter,
    (CASE WHEN position < {PROMPT} THEN 0 ELSE 1 END)::TINYINT AS segment, response::INTEGER AS response,
    position::INTEGER AS position,
    ((hash(response, position, {{adapter}}) % 1000000) / 1e5
        + (hash(position, response) % 1000) / 1e3 - 5)::FLOAT AS value
FROM range({{texts}}) r(response), range({TOKENS}) p(position)
ORDER BY segment, response, position
"""
ASKED = {  # what a page asks, as its query
    "one adapter at every answer token (histogram, probe)": (
        "SELECT response, position, value FROM scalars WHERE reader = 1 AND adapter = 4 AND segment = 1"
    ),
    "tokens with the largest scalar of an adapter": (
        "SELECT response, position, value FROM scalars WHERE reader = 1 AND adapter = 4 AND segment = 1 "
        "ORDER BY value DESC, response, position LIMIT 20"
    ),
    "one text, all adapters (strip)": (
        "SELECT adapter, position, value FROM scalars WHERE reader = 1 AND response = 31415"
    ),
    "answer tokens above a threshold, by text": (
        "SELECT response, count(*) FROM scalars WHERE reader = 1 AND adapter = 4 AND segment = 1 AND value > 4 "
        "GROUP BY response"
    ),
    "mean, least and largest of every text and adapter": (
        "SELECT adapter, response, avg(value), min(value), max(value) FROM scalars WHERE reader = 1 AND segment = 1 "
        "GROUP BY adapter, response"
    ),
}


def main() -> None:
    """Make both, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where 2 GB may go")
    parser.add_argument("--scalars", type=float, default=1e8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    texts = round(options.scalars / ADAPTERS / TOKENS)
    shutil.rmtree(options.root, ignore_errors=True)
    parts = options.root / "parts"
    file = options.root / "study.duckdb"
    parts.mkdir(parents=True)
    print(
        f"{texts * ADAPTERS * TOKENS:,} scalars of {texts:,} texts, {options.threads} threads, "
        f"duckdb {duckdb.__version__}"
    )
    with duckdb.connect(str(file), config={"threads": options.threads, "preserve_insertion_order": True}) as writing:
        start = time.perf_counter()
        writing.execute(f"CREATE TABLE scalars ({COLUMNS})")
        for adapter in range(ADAPTERS):
            writing.execute(f"INSERT INTO scalars {MADE.format(adapter=adapter, texts=texts)}")
        writing.execute("CHECKPOINT")
        print(f"one file: written in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        for adapter in range(ADAPTERS):
            to = parts / f"adapter-{adapter}.parquet"
            own = f"SELECT * FROM scalars WHERE adapter = {adapter}"
            writing.execute(f"COPY ({own}) TO '{to}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)")
        print(f"parts: written in {time.perf_counter() - start:.0f} s")
    sizes = {"one file": file.stat().st_size, "parts": sum(part.stat().st_size for part in parts.iterdir())}
    for name, size in sizes.items():
        print(f"{name}: {size / 1e9:.2f} GB, {size / (texts * ADAPTERS * TOKENS):.1f} bytes a scalar")
    with (
        duckdb.connect(str(file), read_only=True, config={"threads": options.threads}) as one,
        duckdb.connect(config={"threads": options.threads}) as many,
    ):
        many.execute(f"CREATE VIEW scalars AS SELECT * FROM read_parquet('{parts}/*.parquet')")
        for what, query in ASKED.items():
            print(f"{what}: one file {_seconds(one, query):.2f} s, parts {_seconds(many, query):.2f} s")


def _seconds(connection: duckdb.DuckDBPyConnection, query: str) -> float:
    """The median of three, as columns for the page."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        connection.execute(query).fetchnumpy()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
