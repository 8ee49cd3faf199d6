"""Scalars: every way of asking gives what the strips hold, and arithmetic agrees with numpy."""

import numpy as np
import polars as pl
import pytest

from backend.records import InputError
from tests.studies.synthetic import ADAPTERS, JUDGE, ORGANISM


def labels(study, metric="medical"):
    return study.responses(JUDGE).drop_nulls().select("response", label=pl.col(metric) > 50)


def strips(study, segment, ids):
    """Values (token, adapter) of a segment, straight from the strips."""
    parts = []
    for name in ids:
        strip = study.strip(name, ORGANISM)
        start, stop = {
            "prompt": (0, strip.n_prompt),
            "answer": (strip.n_prompt, strip.n_prompt + strip.n_answer),
            "all": (0, len(strip.tokens)),
        }[segment]
        parts.append(strip.scalars[:, start:stop].T)
    return np.concatenate(parts)


@pytest.mark.parametrize("segment", ["prompt", "answer", "all"])
def test_scalar_tokens_are_those_of_the_strips(study, segment):
    ids = study.responses()["response"].to_list()[40:60]
    table = study.scalar_tokens(ORGANISM, ADAPTERS, segment=segment, responses=ids)
    np.testing.assert_array_equal(table.values, strips(study, segment, ids))
    assert table.values.dtype == np.float32
    assert table.responses == tuple(ids)
    for i in (0, len(table.position) // 2, -1):
        strip = study.strip(table.responses[table.response[i]], ORGANISM)
        np.testing.assert_array_equal(strip.scalars[:, table.position[i]], table.values[i])


def test_adapters_come_in_the_order_asked_for(study):
    one = study.scalar_tokens(ORGANISM, [ADAPTERS[7], ADAPTERS[0]]).values
    all_of_them = study.scalar_tokens(ORGANISM, ADAPTERS).values
    np.testing.assert_array_equal(one, all_of_them[:, [7, 0]])


def test_significance_keeps_tokens_of_at_least_that_much(study):
    table = study.scalar_tokens(ORGANISM, ADAPTERS[:1], min_significance=1.0)
    every = study.scalar_tokens(ORGANISM, ADAPTERS[:1])
    kept = {(table.responses[r], p) for r, p in zip(table.response, table.position, strict=True)}
    for name in every.responses[:30]:
        values = study.strip(name, ORGANISM).significance
        assert {p for r, p in kept if r == name} == set(np.flatnonzero(values >= 1.0))
    assert 0 < len(kept) < len(every.values)


def test_summaries_agree_with_numpy(study):
    name = "bad-medical.baseline.wish.4"
    rows = study.scalar_summary(ORGANISM).filter(response=name, segment="answer")
    values = strips(study, "answer", [name]).T.astype(np.float64)
    assert rows["adapter"].to_list() == ADAPTERS
    np.testing.assert_allclose(rows["mean"], values.mean(axis=1))
    np.testing.assert_allclose(rows["sd"], values.std(axis=1, ddof=1))
    np.testing.assert_array_equal(rows.select("min", "max"), np.stack([values.min(1), values.max(1)], axis=1))
    assert set(rows["n"]) == {values.shape[1]}


def test_summaries_of_some_adapters(study):
    every = study.scalar_summary(ORGANISM)
    some = study.scalar_summary(ORGANISM, ADAPTERS[2:4])
    assert some.rows() == every.filter(pl.col("adapter").is_in(ADAPTERS[2:4])).rows()


def test_planted_codes_are_seen(study):
    """Adapters of layers 3 and 4 separate the topics; those of 1, 2, 8 and 9 do not."""
    frame = study.scalar_summary(ORGANISM).filter(segment="answer").join(labels(study), on="response")
    means = frame.group_by("adapter", "label").agg(pl.col("mean").mean()).pivot("label", index="adapter", values="mean")
    gaps = dict(means.select("adapter", (pl.col("true") - pl.col("false"))).iter_rows())
    assert {name for name, gap in gaps.items() if gap > 2} == {ADAPTERS[2], ADAPTERS[3]}


@pytest.mark.parametrize("largest", [True, False])
def test_top_tokens_are_the_extremes_with_their_context(study, largest):
    top = study.top_tokens(ORGANISM, ADAPTERS[3], k=6, largest=largest)
    values = np.sort(study.scalar_tokens(ORGANISM, [ADAPTERS[3]]).values[:, 0])
    np.testing.assert_array_equal(top["value"], values[::-1][:6] if largest else values[:6])
    for row in top.iter_rows(named=True):
        strip = study.strip(row["response"], ORGANISM)
        at = row["position"]
        assert row["token"] == strip.tokens[at]
        assert row["before"] == "".join(strip.tokens[max(0, at - 8) : at])
        assert row["after"] == "".join(strip.tokens[at + 1 : at + 9])
        assert strip.scalars[3, at] == np.float32(row["value"])


def test_top_tokens_of_some_responses(study):
    ids = study.responses()["response"].to_list()[5:8]
    assert set(study.top_tokens(ORGANISM, ADAPTERS[0], k=10_000, responses=ids)["response"]) == set(ids)
    assert study.top_tokens(ORGANISM, ADAPTERS[0], responses=[]).is_empty()
    first = study.top_tokens(ORGANISM, ADAPTERS[0], k=2000, segment="prompt", responses=ids)
    assert first.filter(position=0)["before"].to_list() == [""] * 3


def test_shares_of_tokens_above_a_threshold(study):
    names = [ADAPTERS[1], ADAPTERS[0]]
    shares = study.scalar_shares(ORGANISM, names, 0.5)
    assert shares.columns == ["response", *names]
    for row in shares.sample(10, seed=0).iter_rows(named=True):
        strip = study.strip(row["response"], ORGANISM)
        values = strip.scalars[[1, 0], strip.n_prompt : strip.n_prompt + strip.n_answer]
        assert [row[name] for name in names] == pytest.approx((values > 0.5).mean(axis=1).tolist())


@pytest.mark.parametrize("statistic", ["mean", "min", "max"])
def test_a_statistic_of_responses_is_that_of_the_summaries(study, statistic):
    names = [ADAPTERS[4], ADAPTERS[2]]
    wide = study.scalar_statistic(ORGANISM, names, statistic)
    long = study.scalar_summary(ORGANISM, names).filter(segment="answer")
    assert wide["response"].to_list() == long["response"].unique(maintain_order=True).to_list()
    for name in names:
        assert wide[name].to_list() == long.filter(adapter=name)[statistic].to_list()
    with pytest.raises(InputError, match="statistic of scalars 'sd'"):
        study.scalar_statistic(ORGANISM, names, "sd")


@pytest.mark.parametrize("segment", ["prompt", "answer"])
def test_a_column_of_scalars_is_that_of_the_table(study, segment):
    column, read = study.scalar_column(ORGANISM, ADAPTERS[5], segment), study.readings(ORGANISM)
    table = study.scalar_tokens(ORGANISM, [ADAPTERS[5]], segment=segment)
    np.testing.assert_array_equal(column.values, table.values[:, 0])
    np.testing.assert_array_equal(column.position, table.position)
    assert read["response"].gather(column.reading).to_list() == [table.responses[row] for row in table.response]
    assert np.bincount(column.reading, minlength=read.height).tolist() == read[f"n_{segment}"].to_list()
