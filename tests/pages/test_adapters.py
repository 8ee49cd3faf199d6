import re

import pytest

from tests.conftest import said


def drawn(page) -> list[str]:
    return list(page.selectbox(key="scalars_adapter").options)


def test_the_default_view_draws_every_adapter(open_page):
    page = open_page("adapters")
    assert not page.exception
    assert not page.error
    assert len(drawn(page)) == 9
    assert len(page.get("vega_lite_chart")) == 10  # the separations, and a distribution each
    assert "9 of 9 adapters" in said(page)


def test_the_intervals_are_named_and_the_stricter_ones_linked(open_page):
    page = open_page("adapters")
    assert re.search(r"Of \d+ adapters, \d+ (is|are) clear alone, \d+ after correction", said(page))
    assert "(specialisation?study=synthetic)" in said(page)


def test_the_layer_filter_leaves_the_adapters_of_those_layers(open_page):
    page = open_page("adapters")
    page.slider(key="scalars_layers").set_value((2, 4)).run()
    assert not page.exception
    assert [name.split(".")[1] for name in drawn(page)] == ["2", "3", "4"]


def test_no_module_is_an_empty_filter_with_a_message(open_page):
    page = open_page("adapters")
    page.multiselect(key="scalars_modules").set_value([]).run()
    assert not page.exception
    assert "widen the filters" in said(page)


def test_another_adapter_has_other_extreme_tokens(open_page):
    page = open_page("adapters")
    before = [element.value for element in page.html]
    page.selectbox(key="scalars_adapter").select_index(4).run()
    assert not page.exception
    assert [element.value for element in page.html] != before


def test_classes_may_be_organisms(open_page):
    page = open_page("adapters")
    page.selectbox(key="scalars_contrast").set_value("bad-medical vs base").run()
    assert not page.exception
    assert not page.error
    assert "80 bad-medical and 80 base responses" in said(page).replace("\\", "")


def test_another_response_has_another_heat_strip(open_page):
    page = open_page("adapters")
    before = page.html[-2].value
    page.selectbox(key="scalars_response").select_index(5).run()
    assert not page.exception
    assert page.html[-2].value != before


def test_a_link_reproduces_the_view(open_page):
    page = open_page("adapters", scalars_layers=["3", "6"], scalars_adapter="layers.5.mlp.down_proj")
    assert not page.exception
    assert page.slider(key="scalars_layers").value == (3, 6)
    assert page.selectbox(key="scalars_adapter").value.startswith("layers.5")


@pytest.mark.parametrize("name", ["adapters", "responses"])
def test_nothing_of_a_model_becomes_html(open_page, name):
    assert "<script" not in "\n".join(element.value for element in open_page(name).html)
