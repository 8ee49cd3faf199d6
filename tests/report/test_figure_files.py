"""A figure as files: the rows that are drawn, with title, study, judge and n inside; and Python that gives numbers."""

import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import altair as alt
import polars as pl
import pytest
from PIL import Image

import backend
from backend.charts.shares import rate_chart
from backend.report.figure_files import FigureFile, snippet
from backend.tables.figures import Choices, figures
from tests.published.authors import ROOT

ROWS = pl.DataFrame(
    {
        "organism": ["base", "=HYPERLINK(1)"],
        "condition": ["baseline"] * 2,
        **{"value": [0.1, float("nan")], "low": [0.05, 0.0], "high": [0.2, 0.3]},
        **{"hits": [10, 0], "n": [100, 16], "clusters": [8, 8], "units": [[1, 2], []], "odds": [0.1, float("inf")]},
    }
)


@pytest.fixture
def made() -> FigureFile:
    chart = rate_chart(ROWS, title="share")
    reference = alt.Chart(pl.DataFrame({"at": [0.5]})).mark_rule().encode(x="at:Q")
    return FigureFile("rates", "EM of two organisms", alt.layer(reference, chart), "a study", "a judge")


def test_what_it_is_of_is_counted_from_the_rows(made):
    assert made.about == ["study a study", "judge a judge", "n 16–100", "questions 8"]


def test_the_csv_holds_the_rows_and_reads_again(made):
    text = made.csv()
    assert text.startswith("# EM of two organisms\n# study a study\n# judge a judge\n# n 16–100\n# questions 8\n")
    every = pl.read_csv(io.StringIO(text), comment_prefix="#")
    assert every["table"].unique(maintain_order=True).to_list()[0] == "1 rule"
    assert every["at"].to_list() == [0.5, None, None]
    rows = every.filter(pl.col("at").is_null())
    assert rows["n"].to_list() == [100, 16]
    assert rows["organism"].to_list() == ["base", "'=HYPERLINK(1)"]
    assert rows["units"].to_list() == ["[1, 2]", "[]"]


def test_the_csv_of_several_tables_names_each_and_records_are_whole():
    one = pl.DataFrame({"a": [1, 2], "record": [{"x": 1, "y": "é"}, {"x": 2, "y": None}], "of": ["t", "u"]})
    other = pl.DataFrame({"a": [0.5], "of": [3]})
    bars = alt.Chart(one).mark_bar().encode(x="a:Q")
    points = alt.Chart(one).mark_point().encode(x="a:Q")
    made = FigureFile("k", "t", alt.layer(bars, points, alt.Chart(other).mark_rule().encode(x="a:Q")), "s")
    rows = pl.read_csv(io.StringIO(made.csv()), comment_prefix="#")
    assert rows["table"].to_list() == ["1 bar point", "1 bar point", "2 rule"]
    assert rows["a"].to_list() == [1, 2, 0.5]
    assert rows["of"].to_list() == ["t", "u", "3"]
    assert [json.loads(each) for each in rows["record"].drop_nulls()] == one["record"].to_list()
    alone = pl.read_csv(io.StringIO(FigureFile("k", "t", bars, "s").csv()), comment_prefix="#")
    assert alone.columns == ["a", "record", "of"]


def test_vega_lite_is_whole_json_with_rows_and_title(made):
    spec = json.loads(made.vega_lite(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert spec["title"]["text"] == "EM of two organisms"
    assert spec["title"]["subtitle"] == ["study a study · judge a judge · n 16–100 · questions 8"]
    rows = max(spec["datasets"].values(), key=len)
    assert [row["n"] for row in rows] == [100, 16]
    assert rows[1]["value"] is None
    assert rows[1]["odds"] is None
    assert alt.Chart.from_dict({name: value for name, value in spec.items() if name != "usermeta"})


def test_pictures_say_what_they_show(made):
    drawn = ET.fromstring(made.svg())
    assert "EM of two organisms" in drawn.attrib["aria-label"]
    assert "study a study · judge a judge · n 16–100 · questions 8" in "".join(drawn.itertext())
    with Image.open(io.BytesIO(made.png())) as picture:
        assert picture.format == "PNG"


def test_altairs_own_way_with_rows_does_not_matter(made):
    """Another thread may have set it to give rows away by name, as Streamlit does while it draws."""
    with alt.data_transformers.enable("default", max_rows=1):
        assert max(map(len, made.spec()["datasets"].values())) == 2


@pytest.mark.parametrize("name", backend.__all__)
def test_every_name_of_the_library_is_there_and_told(name):
    assert getattr(backend, name) is not None
    assert f"`{name}`" in (ROOT / "docs/python.md").read_text()


def test_importing_a_part_does_not_load_the_rest():
    code = "import sys, backend, backend.records; print({'polars', 'duckdb', 'altair', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "set()", out.stderr


def pages() -> list[str]:
    return ["start", *(path.stem for path in sorted((ROOT / "pages").glob("*.py")))]


@pytest.mark.parametrize("page", pages())
def test_every_snippet_runs(page, studies, monkeypatch, capsys):
    few = Choices(repeats=2, shuffles=2, bootstraps=10)
    monkeypatch.setattr(backend, "figures", lambda study, page: figures(study, page, few), raising=False)
    monkeypatch.setattr("backend.study.schema.STUDIES", studies)
    monkeypatch.setattr(backend, "open_study", lambda name: backend.study.open_study(name, studies), raising=False)
    exec(snippet(page, "synthetic", "distilled"), {})
    out = capsys.readouterr().out
    if page == "downstream":  # which this study has no measurement for
        assert out.splitlines()[:2] == [
            "downstream: this study has no direction that was followed downstream",
            "shape: (0, 0)",
        ]
    else:
        assert len(out) > 100


def test_code_in_the_document_runs(studies, monkeypatch):
    text = (ROOT / "docs/python.md").read_text()
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    assert blocks
    opened = backend.study.open_study("synthetic", studies)
    monkeypatch.setattr(backend, "open_study", lambda name: opened, raising=False)
    assert all(hasattr(opened, name) for name in re.findall(r"`study\.(\w+)", text))
    names: dict = {}
    for block in blocks:
        exec(block, names)
