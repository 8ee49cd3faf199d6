import re

import numpy as np
import pytest

from backend.charts.strip import (
    MOST_ALPHA,
    colour,
    common_scale,
    heat_strip,
    legend,
    plain_text,
    token_strip,
    token_table,
)

EVIL = ["<script>alert(1)</script>", '"><img src=x onerror=1>', "&amp;", "a\nb"]


def alphas(html: str) -> list[float]:
    return [float(alpha) for alpha in re.findall(r"rgba\(\d+,\d+,\d+,([\d.]+)\)", html)]


def test_zero_and_nothing_are_transparent():
    assert colour(0.0, 1.0) == "transparent"
    assert colour(float("nan"), 1.0) == "transparent"


@pytest.mark.parametrize("value", [1e-3, 0.5, 1.0, 7.0, 1e9])
def test_the_sign_is_the_hue_and_the_size_the_strength(value):
    assert colour(value, 1.0).startswith("rgba(213,94,0,")
    assert colour(-value, 1.0).startswith("rgba(0,114,178,")
    assert alphas(colour(value, 1.0)) == [round(min(value, 1.0) * MOST_ALPHA, 3)]


def test_no_colour_hides_the_text():
    html = token_strip(["x"] * 200, np.random.default_rng(0).standard_normal(200, np.float32) * 10, scale=1.0)
    assert max(alphas(html)) <= 0.6


def test_nothing_of_a_model_is_interpreted():
    rows = {"<b>": np.ones(4, np.float32)}
    context = {"value": 1.0, "before": EVIL[0], "token": EVIL[1], "after": EVIL[2], "note": EVIL[1], "link": EVIL[1]}
    for html in (
        token_strip(EVIL, np.ones(4, np.float32), scale=1.0, name="<i>"),
        heat_strip(EVIL, rows, scale=1.0),
        token_table([context], scale=1.0),
        plain_text("".join(EVIL)),
        legend(1.0, "<u>"),
    ):
        assert not re.findall(r"<(script|img|b|i|u)[ >]", html)
        for attribute in re.findall(r'(?:title|aria-label)="([^"]*)"', html):
            assert "<" not in attribute


def test_newlines_are_shown_and_kept():
    html = token_strip(["a\n"], np.ones(1, np.float32), scale=1.0)
    assert "a↵\n</span>" in html


def test_every_token_says_its_value_and_position():
    html = token_strip([" one", " two"], np.array([0.25, np.nan], np.float32), scale=1.0, name="L3", first=10)
    assert 'aria-label="L3 +0.250\ntoken &#39; one&#39; at 10"' in html
    assert "L3: no value" in html
    assert html.count("title=") == html.count("aria-label=") == 2


def test_the_scale_is_not_ruled_by_one_outlier():
    values = np.random.default_rng(1).standard_normal(1000, np.float32)
    values[0] = 1e6
    assert 2 < common_scale(values) < 5
    assert all(common_scale(np.array(none, np.float32)) == 1.0 for none in ([], [np.nan] * 3, [0.0] * 3))


def test_a_heat_strip_has_a_cell_for_every_adapter_and_token():
    rows = {f"L{layer}": np.full(5, layer + 1.0, np.float32) for layer in range(3)}
    html = heat_strip(list("hello"), rows, scale=3.0)
    assert len(alphas(html)) == 15
    assert all(f">{name}<" in html for name in rows)


def test_tokens_and_values_must_match():
    with pytest.raises(ValueError):
        token_strip(["a", "b"], np.ones(3, np.float32), scale=1.0)
