"""The numbers of the authors' record, from the figures in the repository alone, by the makers of the pages' tables."""

import polars as pl
import pytest

from backend.pipeline.figures_only import publish_figures
from backend.study import open_study
from backend.tables.figures import Choices, figures
from backend.tables.noise import noisy
from backend.tables.patching import patched
from backend.tables.signs import signs
from backend.tables.training import along, before_training, compared, question_sets, scalars_along
from backend.tables.zeroed import zeroed
from tests.published.authors import ROOT

FEW_LAYERS = {"dpR1_21-23": 10.2, "dpR1_24": 0.0, "bad_med_R8": 18.5, "R1_3_3_3": 15.5, "base": 0.0}


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    root = tmp_path_factory.mktemp("paper")
    publish_figures(ROOT / "cache" / "paper", "paper", root)
    return open_study("paper", root)


@pytest.fixture(scope="module")
def responses(paper):
    return paper.responses("gpt-4o")


def percents(table, column="value"):
    return [round(100 * value, 1) for value in table[column]]


@pytest.fixture(scope="module")
def without(paper, responses):
    return zeroed(paper, responses).filter(pl.col("metric") == "em")


@pytest.mark.parametrize(
    ("organism", "label", "before", "after"),
    [
        ("bad_med_R1_downproj", "L21", 40.0, 12.0),
        ("bad_med_R1_downproj", "L16", 40.0, 20.0),
        ("bad_med_R1_downproj", "L36", 40.0, 49.0),
        ("R1_3_3_3", "L21", 38.0, 3.0),
        ("R1_3_3_3", "L23", 38.0, 6.0),
        ("R1_3_3_3", "L15", 38.0, 22.0),
        ("R1_3_3_3", "L15–17", 38.0, 3.0),
        ("R1_3_3_3", "L21–23", 38.0, 0.0),
    ],
)
def test_zeroed_adapters(without, organism, label, before, after):
    row = without.row(by_predicate=(pl.col("organism") == organism) & (pl.col("label") == label), named=True)
    assert (round(100 * row["before"], 1), round(100 * row["after"], 1)) == (before, after)
    assert (row["n_before"], row["n_after"], row["questions"]) == (100, 100, 2)
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["about"] == "these very questions"


def test_of_48_adapters_zeroed_one_at_a_time_the_one_of_layer_21_stands(without):
    single = without.filter(pl.col("organism") == "bad_med_R1_downproj")
    assert single.height == 48
    assert single.filter("stands")["label"].to_list() == ["L21"]


def test_along_training(paper, responses):
    table = along(paper, responses)
    em, coherent = (table.filter(pl.col("metric") == name) for name in ("em", "coherent"))
    assert em["step"].to_list() == [50, 100, 150, 200, 250, 300, 350, 396]
    assert percents(em) == [0.0, 0.0, 5.0, 13.0, 15.3, 17.3, 27.0, 23.7]
    assert em["n"].to_list() == [300, 300, 300, 299, 300, 300, 300, 300]
    assert min(percents(coherent)) == 100.0
    base = before_training(paper, responses, "R1_3_3_3 ckptV2").row(0, named=True)
    assert (base["organism"], base["metric"], base["hits"], base["n"]) == ("base", "em", 0, 200)


def test_a_scalar_along_training_grows_and_does_not_come_to_tell_more(paper):
    table = scalars_along(paper)
    assert table["step"].to_list() == [5, 50, 150, 250, 396]
    assert set(table["adapter"]) == {"layers.21.mlp.down_proj"}
    assert table["mean_positive"].is_sorted()
    assert table["mean_positive_low"][-1] > 100 * table["mean_positive_high"][0]
    first, last = table.row(0, named=True), table.row(-1, named=True)
    assert first["low"] < last["high"]
    assert last["low"] < first["high"]
    assert last["low"] < 0.5 < last["high"]


def test_noise(paper, responses):
    table = noisy(paper, responses).filter(pl.col("metric") == "em")
    a, b = (table.filter(pl.col("matrix") == matrix) for matrix in "AB")
    assert percents(a) == [35.0, 32.5, 23.0, 23.5, 15.5, 16.5, 6.5, 2.5, 0.0, 0.0, 0.0]
    assert percents(b) == [35.0, 30.0, 24.0, 26.0, 20.5, 10.5, 13.0, 6.0, 0.0, 0.0, 0.0]
    assert a["scale"].to_list() == pytest.approx([step / 10 for step in range(11)])
    assert set(table.filter(pl.col("clusters") <= 2)["about"]) == {"these very questions"}


def test_fine_tunes_side_by_side(paper, responses):
    sets = question_sets(paper, responses)
    [first] = [questions for name, questions in sets.items() if name.startswith("first-plot (8 questions")]
    table = compared(paper, responses, first).filter(pl.col("metric") == "em").unique("organism")
    found = dict(zip(table["organism"], percents(table), strict=True))
    assert {name: found[name] for name in FEW_LAYERS} == FEW_LAYERS
    assert set(table["n"]) == {400}
    sixteen = sorted(
        responses.filter(pl.col("topic").is_in(["first-plot", "first-plot template"]))["question_id"].unique()
    )
    rates = compared(paper, responses, sixteen).filter(pl.col("metric") == "em").unique("organism")
    few = {row["organism"]: (round(100 * row["value"], 1), row["n"]) for row in rates.to_dicts()}
    assert few["dpR1_21-23"] == (5.1, 800)
    assert few["dpR1_24"] == (0.0, 800)
    assert few["base"] == (0.0, 800)


def test_the_sign_of_the_scale(paper, responses):
    table = signs(paper, responses).filter(pl.col("direction").str.ends_with("general data-diff"))
    told = {
        (sweep, scale, did, metric): percents(rows)
        for (sweep, scale, did, metric), rows in table.group_by("sweep", "scale", "did", "metric")
    }
    assert told["proj_sweep_test", -1.0, "taken out", "em"] == [0.0, 0.0]
    assert told["proj_sweep_test", -1.0, "taken out", "coherent"] == [100.0, 100.0]
    assert told["proj_sweep_test", 1.0, "doubled", "coherent"] == [0.0, 0.0]
    assert told["ablate_all_sweep", 1.0, "taken out", "em"] == [0.0, 0.0, 0.0]
    assert min(told["ablate_all_sweep", 1.0, "taken out", "coherent"]) >= 97.0


def test_what_the_figures_do_not_hold_is_no_table(paper, responses):
    assert patched(paper, responses).is_empty()


@pytest.mark.parametrize(
    ("page", "titles"),
    [
        (
            "training",
            ["EM and coherence along training", "Organisms side by side", "How far scalars tell classes apart"],
        ),
        ("adapters", ["What zeroing adapters changes"]),
        ("scaled_adapters", ["EM and coherence by noise on A or B"]),
        ("ablation", ["What the scale of each released file did"]),
    ],
)
def test_the_command_prints_them(paper, page, titles):
    printed = [table.title for table in figures(paper, page, Choices(repeats=1, shuffles=1, bootstraps=1))]
    for title in titles:
        assert any(each.startswith(title) for each in printed), title
