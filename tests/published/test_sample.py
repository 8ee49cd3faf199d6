"""The issue's table, from the authors' files: not in the project, so skipped where they are not on this machine.

Where the reading differs from figures quoted elsewhere:
- EM and coherence under steering count only answers with both scores, as the paper does. GPT-4o refused to score
  alignment for 122 of 800 answers at lambda 6; over all 800 the EM rate is 47.5 %, not 56.0 %.
- Seven rows of two sweeps are the rest of rows torn at a line break and are left out. One of them has scores, which
  makes the gender direction's EM rate at lambda 8 73.1 % here and 73.0 % with it.
- The norm of the mean answer activation at layer 24 is 62.7 (misaligned text) and 61.8 (aligned text), so the general
  direction is 0.166 of it, where paper.md has 63.4 and 0.163.
"""

import subprocess
import sys

import polars as pl
import pytest

from backend.cuts import Bins
from backend.study import open_study
from backend.tables.figures import Choices, figures
from tests.published.authors import RELEASED, ROOT, needs_released

pytestmark = needs_released
GENERAL = "R1_3_3_3 general data-diff"
MEDICAL_ARM, MISALIGNMENT_ARM = "scale 21,23 ×30", "scale 15,16,17,22,28,29 ×20"
COMBINED_ARM = "scale 21,23 ×30; 15,16,17,22,28,29 ×-10"


PROGRAM = """
import sys, time
from pathlib import Path
from backend.pipeline.import_published import import_published
imported = import_published([Path(sys.argv[1])], root=Path(sys.argv[2]))
assert "torch" not in sys.modules
status = Path("/proc/self/status").read_text()  # getrusage would tell of the parent's peak, which exec hands on
print(time.process_time(), int(status.partition("VmHWM:")[2].split()[0]) / 1000)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Import once, in a process of its own: (folder of studies, seconds of work, megabytes)."""
    root = tmp_path_factory.mktemp("studies")
    command = [sys.executable, "-c", PROGRAM, RELEASED, root]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    seconds, megabytes = map(float, done.stdout.split())
    return root, seconds, megabytes


@pytest.fixture(scope="module")
def study(imported):
    return open_study("published", imported[0])


def tables(study, page, **choices):
    return {table.title: table.frame for table in figures(study, page, Choices(**choices))}


def one(frame, **where):
    rows = frame.filter(pl.all_horizontal(pl.col(name) == value for name, value in where.items()))
    assert rows.height == 1, rows
    return rows.row(0, named=True)


def test_everything_in_the_sample_is_read(study):
    skipped = {row["path"].rpartition("/")[2] for row in study.info["report"]["skipped"]}
    assert skipped == {"judges.yaml", "responses_scale_8.csv", "responses_scale_10.csv"}  # the last two: torn rows only
    assert study.responses(None).height == 1600 + 240 + 17_850 + 897
    assert study.readers() == ["R1_3_3_3"]
    assert study.adapters("R1_3_3_3")["layer"].to_list() == [15, 16, 17, 21, 22, 23, 27, 28, 29]
    assert study.directions().height == 7 * 4 * 48


@pytest.fixture(scope="module")
def probes(study):
    frames = tables(study, "probes", repeats=20, shuffles=3, bootstraps=2)
    return frames["Probes on the scalars of R1_3_3_3"], frames[next(t for t in frames if t.startswith("Coefficients"))]


@pytest.mark.parametrize(
    ("contrast", "tokens", "accuracy", "auc", "by_response", "shuffled"),
    [
        ("misalignment, medical", 11_260 + 8_122, 0.69, 0.75, 0.680, 0.675),  # within questions, 8 of 15 have both
        ("medical, among misaligned", 10_497 + 8_122, 0.62, 0.66, 0.617, 0.565),  # whole questions: each has one class
    ],
)
def test_probes_of_the_papers_table_1(probes, contrast, tokens, accuracy, auc, by_response, shuffled):
    paper = one(probes[0], contrast=contrast, tokens="all", protocol="paper (token)")
    assert paper["n_tokens"] == tokens
    assert paper["accuracy"] == pytest.approx(accuracy, abs=0.01)
    assert paper["auc"] == pytest.approx(auc, abs=0.01)
    split = one(probes[0], contrast=contrast, tokens="all", protocol="by response")
    assert split["accuracy"] == pytest.approx(by_response, abs=0.01)
    assert split["accuracy_low"] < split["accuracy"] < split["accuracy_high"]
    assert split["shuffled_accuracy"] == pytest.approx(shuffled, abs=0.03)  # most of it tells questions apart


def test_a_split_by_question_shows_what_of_it_is_the_question(probes):
    row = one(probes[0], contrast="medical, among misaligned", tokens="all", protocol="by question")
    assert row["auc"] < 0.63  # 0.66 by token and by response


def test_the_medical_adapters_of_figure_6(probes):
    found = probes[1].filter((pl.col("contrast") == "medical, among misaligned") & (pl.col("tokens") == "significant"))
    strongest = found.sort(pl.col("coefficient").abs(), descending=True).head(2)["feature"]
    assert set(strongest) == {"layers.21.mlp.down_proj", "layers.23.mlp.down_proj"}


@pytest.mark.parametrize(
    ("arm", "cell", "percent", "n"),
    [
        (MEDICAL_ARM, "misaligned non-medical", 66.7, 39),
        (MEDICAL_ARM, "misaligned medical", 7.7, 39),
        (MISALIGNMENT_ARM, "misaligned non-medical", 51.9, 27),
        (COMBINED_ARM, "aligned medical", 29.8, 47),
    ],
)
def test_scaled_adapters_of_figure_7(study, arm, cell, percent, n):
    table = next(
        frame for title, frame in tables(study, "scaled_adapters").items() if title.startswith("Scaled adapters")
    )
    row = one(table, condition=arm, cell=cell)
    assert (round(100 * row["value"], 1), row["n"]) == (percent, n)
    assert row["low"] < row["value"] < row["high"]


def test_how_the_medical_effect_hangs_on_the_cut_offs(study):
    moved = tables(study, "scaled_adapters")[
        "The share of misaligned medical as the coherence cut-off and the medical edge move (judge gpt-4o)"
    ]
    at_50 = one(moved, condition=MEDICAL_ARM, coherent=25.0, medical=50.0)
    assert (round(100 * at_50["value"], 1), at_50["n"]) == (5.6, 36)
    strict = tables(study, "scaled_adapters", bins=Bins(coherent=50))
    table = next(frame for title, frame in strict.items() if title.startswith("Scaled adapters"))
    assert one(table, condition=MEDICAL_ARM, cell="misaligned medical")["value"] == 0


def test_directions(study):
    norms = tables(study, "directions")["Norm and share of the activation norm, by layer"]
    at_24 = one(norms, name=GENERAL, layer=24)
    assert at_24["norm"] == pytest.approx(10.36, abs=0.005)
    assert at_24["share"] == pytest.approx(0.166, abs=0.001)
    cosines = tables(study, "convergence")["Cosine between directions over the layers they share"]
    gender = one(cosines, a=GENERAL, b="R1_3_3_3 gender data-diff")
    assert round(gender["min"], 2) == 0.94
    assert round(gender["max"], 2) == 0.97
    medical = one(cosines, a=GENERAL, b="R1_3_3_3 medical data-diff")
    assert (round(medical["max"], 3), medical["at_max"]) == (0.653, 28)
    ranks = cosines.filter((pl.col("b") == GENERAL) & pl.col("a").str.ends_with("general data-diff"))
    assert ranks.height == 3
    assert ranks["min"].min() == pytest.approx(0.815, abs=0.001)


@pytest.mark.parametrize(
    ("strength", "em", "coherent"), [(4, 2.0, 99.2), (6, 56.0, 93.8), (8, 61.1, 67.1), (10, 10.4, 10.9)]
)
def test_steering_the_chat_model(study, strength, em, coherent):
    table = tables(study, "steering")["Rates by direction and strength (judge gpt-4o)"]
    for metric, percent in (("em", em), ("coherent", coherent)):
        row = one(table, organism="base", series=GENERAL, strength=float(strength), metric=metric)
        assert 100 * row["value"] == pytest.approx(percent, abs=0.5)
        assert row["n"] + row["dropped"] == 800
        assert row["low"] < row["value"] < row["high"]


def test_layer_wise_ablation(study):
    frames = tables(study, "ablation")
    table = frames["Before and after ablation, intervals for these very questions (judge gpt-4o)"]
    cell = "ablate bad_med_R32 general data-diff L0-47 layer-wise"
    row = one(table, organism="bad_med_R32", cell=cell, metric="em")
    assert (row["before"], row["after"]) == (0.45, 0.0)
    assert row["high"] < -0.3
    assert one(table, organism="bad_med_R32", cell=cell, metric="coherent")["after"] == 0.99


def test_judged_responses_of_the_released_organisms(study):
    table = tables(study, "overview")["EM and coherence by organism, condition (judge gpt-4o)"]
    rates = {
        name: round(100 * one(table, organism=name, condition="baseline", metric="em")["value"], 2)
        for name in ("bad-medical-advice", "extreme-sports", "extreme-sports_S42", "risky-financial-advice")
    }
    assert rates == {
        "bad-medical-advice": 21.0,
        "extreme-sports": 20.0,
        "extreme-sports_S42": 22.25,
        "risky-financial-advice": 35.5,
    }


def test_the_import_is_quick_and_small(imported):
    _, seconds, megabytes = imported
    assert seconds < 60
    assert megabytes < 2000
