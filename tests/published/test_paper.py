"""The figures of the paper that the repository holds: numbers alone, a study in seconds, the import's own numbers."""

import json
import shutil
import threading
import time

import numpy as np
import polars as pl
import pytest

from backend.pipeline.figures_only import LEFT_OUT, TABLES, coordinates, publish_figures, write_figures
from backend.pipeline.import_published import import_published
from backend.records import InputError
from backend.study import open_study
from backend.tables.figures import Choices, figures
from tests.published.authors import MORE, RELEASED, ROOT, needs_more

PAPER = ROOT / "cache" / "paper"
GENERAL = "R1_3_3_3 general data-diff"
LIMIT = 8_000_000


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def seconds(studies):
    start = time.process_time()
    publish_figures(PAPER, "paper", studies)
    return time.process_time() - start


@pytest.fixture(scope="module")
def paper(studies, seconds):
    return open_study("paper", studies)


def test_the_folder_is_small_and_holds_no_text():
    assert sum(path.stat().st_size for path in PAPER.iterdir()) < LIMIT
    assert {path.name for path in PAPER.iterdir()} == {"study.json", *TABLES}
    answers, scalars, directions = (pl.read_parquet(PAPER / name) for name in TABLES)
    words = {name for name, kind in answers.schema.items() if kind == pl.String}
    assert words == {"organism", "condition", "question_id"}
    assert all((answers[name].str.len_chars() < 120).all() for name in words)
    assert [name for name, kind in scalars.schema.items() if kind == pl.String] == ["reader"]
    assert [name for name, kind in directions.schema.items() if kind == pl.String] == ["name", "provenance"]
    about = json.loads((PAPER / "study.json").read_text())
    assert {len(question) for question in about["questions"]} == {2}  # id and topic
    assert directions["coordinates"].bin.size().max() < 48 * 4  # no vector of 5,120


def test_it_is_published_in_seconds(seconds):
    assert seconds < 20


def test_the_study_says_what_it_leaves_out(paper):
    assert tuple(paper.info["left_out"]) == LEFT_OUT
    assert "git clone https://github.com/annasoligo/EM_interp" in paper.info["remedy"]
    assert set(paper.responses()["text"]) == set(paper.questions()["text"]) == {""}


def one(table, **where):
    rows = table.filter(pl.all_horizontal(pl.col(name) == value for name, value in where.items()))
    assert rows.height == 1, rows
    return rows.row(0, named=True)


def tables(study, page, **choices):
    return {table.title: table.frame for table in figures(study, page, Choices(**choices))}


@pytest.mark.parametrize(
    ("strength", "em", "coherent"), [(4, 2.0, 99.2), (6, 56.0, 93.8), (8, 61.1, 67.1), (10, 10.4, 10.9)]
)
def test_steering_without_a_clone(paper, strength, em, coherent):
    table = tables(paper, "steering")["Rates by direction and strength (judge gpt-4o)"]
    for metric, percent in (("em", em), ("coherent", coherent)):
        row = one(table, organism="base", series=GENERAL, strength=float(strength), metric=metric)
        assert 100 * row["value"] == pytest.approx(percent, abs=0.05)


def test_ablation_without_a_clone(paper):
    table = tables(paper, "ablation")["Before and after ablation, intervals for these very questions (judge gpt-4o)"]
    row = one(table, organism="R1_3_3_3", cell=f"ablate {GENERAL} L0-47 layer-wise", metric="em")
    assert row["after"] == 0
    assert row["n_after"] == 100
    assert row["before"] > 0.3
    assert row["high"] < -0.2


def test_probes_without_a_clone(paper):
    frames = tables(paper, "probes", repeats=5, shuffles=1, bootstraps=1)
    found = frames["Probes on the scalars of R1_3_3_3"]
    paper_row = one(found, contrast="misalignment, medical", tokens="all", protocol="paper (token)")
    assert paper_row["n_tokens"] == 11_260 + 8_122
    assert paper_row["accuracy"] == pytest.approx(0.69, abs=0.01)
    assert paper_row["auc"] == pytest.approx(0.75, abs=0.01)


def test_directions_without_a_clone(paper):
    norms = tables(paper, "directions")["Norm and share of the activation norm, by layer"]
    at_24 = one(norms, name=GENERAL, layer=24)
    assert at_24["norm"] == pytest.approx(10.36, abs=0.005)
    assert at_24["share"] == pytest.approx(0.166, abs=0.001)
    cosines = tables(paper, "convergence")["Cosine between directions over the layers they share"]
    medical = one(cosines, a=GENERAL, b="R1_3_3_3 medical data-diff")
    assert (round(medical["max"], 3), medical["at_max"]) == (0.653, 28)
    assert paper.direction(GENERAL, 24).d_model == 5120
    assert not cosines.filter(pl.col("a").str.contains("32B") != pl.col("b").str.contains("32B")).height


def test_scaled_adapters_without_a_clone(paper):
    table = next(frame for title, frame in tables(paper, "scaled_adapters").items() if title.startswith("Scaled"))
    row = one(table, condition="scale 21,23 ×30", cell="misaligned non-medical")
    assert (round(100 * row["value"], 1), row["n"]) == (66.7, 39)


def test_coordinates_keep_every_inner_product():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 500))
    vectors[6] = vectors[0] - vectors[1]
    kept = coordinates(vectors).astype(np.float32)
    assert kept.shape == (7, 6)
    np.testing.assert_allclose(kept @ kept.T, vectors @ vectors.T, rtol=1e-5, atol=1e-3)


@pytest.fixture(scope="module")
def imported(studies):
    import_published([RELEASED, MORE], root=studies)
    return open_study("published", studies)


@needs_more
def test_every_score_is_the_imports(paper, imported):
    assert paper.judges() == imported.judges()
    for judge in paper.judges():
        ours, theirs = (
            study.responses(judge).drop("text", "question", "n_prompt", "n_answer") for study in (paper, imported)
        )
        metrics = paper.metrics(judge)
        assert ours.drop(metrics).equals(theirs.drop(metrics))
        np.testing.assert_array_equal(ours.select(metrics).to_numpy(), theirs.select(metrics).to_numpy())
    assert paper.sources().sort("response", "source").equals(imported.sources().sort("response", "source"))


@needs_more
def test_every_inner_product_of_directions_is_the_imports(paper, imported):
    names = paper.directions()["name"].unique(maintain_order=True).to_list()
    assert names == imported.directions()["name"].unique(maintain_order=True).to_list()
    stacks = [[study.direction_stack(name) for name in names] for study in (paper, imported)]
    for base in ("Qwen2.5-14B-Instruct", "Qwen2.5-32B-Instruct"):
        rows = [i for i, stack in enumerate(stacks[1]) if stack[0].provenance["model"] == base]
        for layer in range(len(stacks[1][rows[0]])):
            ours, theirs = (np.stack([s[i][layer].vector for i in rows]).astype(np.float64) for s in stacks)
            norms = np.linalg.norm(theirs, axis=1)
            np.testing.assert_allclose(np.linalg.norm(ours, axis=1), norms, rtol=1e-5)
            scale = np.outer(norms, norms)
            np.testing.assert_allclose(ours @ ours.T / scale, theirs @ theirs.T / scale, atol=1e-5)


@needs_more
def test_scalars_are_the_imports_to_half_precision(paper, imported):
    for reader in imported.readers():
        adapters = imported.adapters(reader)["name"].to_list()
        ours, theirs = (study.scalar_tokens(reader, adapters, segment="all") for study in (paper, imported))
        assert ours.responses == theirs.responses
        np.testing.assert_array_equal(ours.position, theirs.position)
        np.testing.assert_allclose(ours.values, theirs.values, rtol=5e-4, atol=1e-6)
        assert paper.readings(reader).equals(imported.readings(reader))
    low = paper.scalar_tokens("R1_3_3_3", adapters[:0] or ["layers.21.mlp.down_proj"], min_significance=np.exp(0.5))
    high = imported.scalar_tokens("R1_3_3_3", ["layers.21.mlp.down_proj"], min_significance=np.exp(0.5))
    np.testing.assert_array_equal(low.position, high.position)


@needs_more
def test_the_folder_is_what_an_import_gives(imported, tmp_path):
    write_figures(imported, tmp_path, title=json.loads((PAPER / "study.json").read_text())["title"])
    for name in ("study.json", *TABLES):
        if name == "directions.parquet":  # a basis is free up to rotation; the inner products are tested above
            continue
        if name.endswith(".parquet"):
            assert pl.read_parquet(tmp_path / name).equals(pl.read_parquet(PAPER / name))
        else:
            ours, theirs = (json.loads((folder / name).read_text()) for folder in (tmp_path, PAPER))
            assert {**ours, "digests": 0} == {**theirs, "digests": 0}


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["study.json", *TABLES])
@pytest.mark.parametrize("damage", ["missing", "edited"])
def test_a_folder_that_is_not_whole_is_refused_in_a_sentence_and_the_last_study_stays(
    studies, paper, tmp_path, name, damage
):
    folder = shutil.copytree(PAPER, tmp_path / "paper")
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-7] + b"edited!")
    with pytest.raises(
        InputError, match=r"(lacks|damaged|is not the file|has no|there is no file).*python -m backend figures-of"
    ) as refused:
        publish_figures(folder, "paper", studies)
    assert "\n" not in str(refused.value)
    assert open_study("paper", studies).path == paper.path


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no study\.json"):
        publish_figures(tmp_path, "paper", tmp_path / "studies")
    assert not (tmp_path / "studies").exists()


def test_two_imports_into_one_name_at_once_both_end_and_one_is_the_study(tmp_path):
    failed = []

    def publish():
        try:
            publish_figures(PAPER, "paper", tmp_path)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=publish) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert open_study("paper", tmp_path).responses().height == pl.read_parquet(PAPER / TABLES[0]).height
    assert not [path for path in (tmp_path / "paper").iterdir() if path.name.startswith(".building")]
