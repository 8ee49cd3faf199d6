"""One adapter's page over the synthetic study with lenses."""

import pytest

from backend.study import open_study
from panels.stacks import write_vectors
from tests.conftest import said
from tests.studies import gained, synthetic
from tests.studies.synthetic import LAYERS


@pytest.fixture(scope="module")
def gained_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    gained.gained_study(root)
    return root


@pytest.fixture
def open_gained(open_page, gained_root, monkeypatch):
    def run(**query):
        monkeypatch.setenv("EM_STUDIES", str(gained_root))
        monkeypatch.setenv("EM_STUDY", "gained")
        return open_page("one_adapter", **query)

    return run


def words(page):
    return said(page).replace("\\", "")


def test_everything_about_one_adapter(open_gained):
    page = open_gained(adapter_name="layers.8.mlp.down_proj")
    assert not page.exception
    assert not page.error
    assert "mlp.down_proj, layer 8" in words(page)
    assert "What does L8 write?" in [heading.value for heading in page.subheader]
    assert len(page.get("vega_lite_chart")) == 8  # two distributions, two courses, the lens, three cosines


def test_next_and_previous_go_round_and_change_what_is_shown(open_gained):
    page = open_gained()
    assert "layer 1" in words(page)
    first = [element.value for element in page.html]
    page.button(key="adapter_next").click().run()
    assert page.selectbox(key="adapter_name").value.startswith("layers.2.")
    assert "layer 2" in words(page)
    assert [element.value for element in page.html] != first
    page.button(key="adapter_previous").click().run()
    page.button(key="adapter_previous").click().run()
    assert page.selectbox(key="adapter_name").value.startswith(f"layers.{LAYERS[-1]}.")


def test_keys_are_bound(open_gained):
    page = open_gained()
    assert page.button(key="adapter_next").proto.shortcut.lower() == "right"
    assert page.button(key="adapter_previous").proto.shortcut.lower() == "left"


def test_a_study_without_lenses_says_so(open_page):
    page = open_page("one_adapter")
    assert not page.exception
    assert "No lens is stored" in words(page)


def test_model_text_is_never_html(open_gained):
    page = open_gained()
    assert "<script" not in "\n".join(element.value for element in page.html)


def test_write_vectors_behind_a_norm_are_compared_with_nothing_and_the_page_says_why(open_page, tmp_path, monkeypatch):
    adapters = synthetic.adapters()
    altered = {synthetic.ORGANISM: [each.name for each in adapters[:2]]}
    synthetic.synthetic_study(tmp_path, "normed", rows=4, altered=altered)
    monkeypatch.setenv("EM_STUDIES", str(tmp_path))
    page = open_page("one_adapter", study="normed")
    assert not page.exception
    assert "as by a norm" in said(page)
    assert said(page).count("Not shown: this model changes what the adapter writes") == 2
    alts = {chart.proto.alt for chart in page.get("vega_lite_chart")}
    page = open_page("one_adapter", study="normed", adapter_name=adapters[2].name)
    assert "as by a norm" not in said(page)
    assert len({chart.proto.alt for chart in page.get("vega_lite_chart")}) > len(alts)
    vectors = write_vectors(open_study("normed", tmp_path))
    assert [name for _, name, _ in vectors] == [each.name for each in adapters[2:]]
