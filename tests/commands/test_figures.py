import argparse
import json

import polars as pl
import pytest

import backend.pipeline.import_published as importing
from backend import study as studies
from backend.__main__ import parser
from backend.commands.figures import as_text
from backend.pipeline.import_published import import_published
from backend.study import open_study
from backend.tables.figures import Table
from tests.published.sample import write_release


def parsed(*words: str) -> argparse.Namespace:
    return parser().parse_args(words)


@pytest.fixture
def study(tmp_path):
    import_published([write_release(tmp_path / "release")], root=tmp_path / "studies")
    return open_study("published", tmp_path / "studies")


def test_the_import_prints_what_it_found(tmp_path, monkeypatch, capsys):
    release = write_release(tmp_path / "release")
    (release / "EM_interp/odd.csv").write_text("a\n1\n")
    run = importing.import_published
    monkeypatch.setattr(importing, "import_published", lambda paths, name: run(paths, root=tmp_path, name=name))
    options = parsed("import-published", str(release), "--name", "mine")
    options.run(options)
    printed = capsys.readouterr().out
    assert "sweep: 30 answers in 5 files" in printed
    assert "EM_interp/odd.csv: lies where" in printed
    assert "published study 'mine'" in printed


def test_figures_print_text_or_json(study, monkeypatch, capsys):
    monkeypatch.setattr(studies, "open_study", lambda name: study)
    options = parsed("figures", "published", "--page", "scaled_adapters", "--coherent", "90")
    options.run(options)
    assert "coherent >= 90" in capsys.readouterr().out
    options = parsed("figures", "published", "--page", "directions", "--json")
    options.run(options)
    assert json.loads(capsys.readouterr().out)[0]["rows"][0]["norm"] > 0


def test_text_has_aligned_columns_and_dashes_for_nothing():
    frame = pl.DataFrame({"name": ["long name", "b"], "value": [0.5, None]})
    assert list(as_text(Table("p", "Title", frame, ("n",))))[1:] == [
        "[p] Title",
        "  name       value",
        "  long name  0.500",
        "  b          -",
        "  note: n",
    ]
