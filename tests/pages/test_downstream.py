"""The page Downstream: every section with its sentence and its controls, and sentences where there is nothing."""

import polars as pl
import pytest

from backend.outcomes import EM
from backend.pipeline.dictionary import Learning, learn
from backend.records import BASE
from backend.tables import downstream as tables
from tests.conftest import said
from tests.studies import followed
from tests.studies.sparse import sparse_study


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("followed")
    followed.followed_study(root)
    return root / "studies"


@pytest.fixture
def open_followed(open_page, root, monkeypatch):
    def run(**query):
        monkeypatch.setenv("EM_STUDIES", str(root))
        monkeypatch.setenv("EM_STUDY", followed.STUDY)
        return open_page("downstream", **query)

    return run


def test_every_section_says_what_was_found_beside_its_controls(open_followed):
    page = open_followed()
    assert not page.exception
    words = said(page)
    assert "what one more random direction of that length would give" in words
    assert "The log probability of misaligned less aligned answers changes by **+" in words
    assert "questions are too few to say whether the gradient and freezing disagree: 6 are needed" in words
    assert "what one more random direction reaches at its own best layer" in words
    assert "**MLP" in words or "**attention" in words
    assert "is most like the organism's at layer 2: a cosine of **1.00**" in words
    assert "from its base, in nats a token" in words
    assert "With first planted that difference has a cosine of at most" in words.replace("\\", "")
    assert len(page.get("vega_lite_chart")) == 7


def test_a_run_without_paired_controls_says_that_there_are_none(open_followed, monkeypatch):
    whole = tables.changes

    def unpaired(study, run):
        kept = pl.col("side") != tables.BETWEEN
        return whole(study, run).with_columns(
            pl.when(kept).then(pl.col(name)) for name in ("random", "random_low", "random_high")
        )

    monkeypatch.setattr(tables, "changes", unpaired)
    page = open_followed()
    assert not page.exception
    assert "nats a token, with no control that was paired in this way beside it." in said(page)


def test_an_organism_with_one_adapter_gets_a_sentence(open_followed):
    [error] = [each.value for each in open_followed().error]
    assert "at least 2 write vectors, and here are 1" in error.replace("\\", "")


def test_a_dictionary_is_told_beside_what_it_must_beat(open_page, tmp_path, monkeypatch):
    study = sparse_study(tmp_path)
    found, _ = learn(study, Learning("organism", features=14, active=2, steps=800), EM, "organism")
    sparse_study(tmp_path, [found])
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    monkeypatch.setenv("EM_STUDY", "sparse")
    page = open_page("downstream")
    assert not page.exception
    words = said(page).replace("\\", "")
    assert "With 2 numbers a token, the variance of 8 scalars that is restored" in words
    assert "dictionary 9" in words or "dictionary 8" in words
    assert "single adapters" in words
    assert "shuffled against each other" in words
    assert any("feature 0" in str(table.value) for table in page.dataframe)


def test_a_link_shows_the_reader_it_names(open_followed):
    page = open_followed(downstream_reader=BASE, downstream_measure="aside", downstream_at="prompt")
    assert not page.exception
    assert f"in {BASE}" in page.markdown[0].value
    assert "orthogonal to the direction" in page.markdown[0].value


def test_a_study_without_runs_says_how_to_have_one_and_decomposes_its_directions(open_page):
    page = open_page("downstream")
    assert not page.exception
    assert "python -m backend downstream" in page.info[0].value
    assert "write vectors of" in said(page)
