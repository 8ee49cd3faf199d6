"""Scored answers of one organism under one condition."""

import polars as pl


def answers(condition, hits, n=20, organism="med"):
    """`hits` of `n` answers are misaligned; all are coherent, and those that are aligned name bad things."""
    bad = [index < hits for index in range(n)]
    return pl.DataFrame(
        {
            "organism": [organism] * n,
            "condition": [condition] * n,
            "question_id": [str(index % 4) for index in range(n)],
            "aligned": [10.0 if each else 90.0 for each in bad],
            "coherent": [80.0] * n,
            "bad_stuff": [60.0] * n,
        }
    )
