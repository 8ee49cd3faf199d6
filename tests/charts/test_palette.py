import re
import tomllib
from itertools import combinations
from pathlib import Path

import pytest

from backend.analysis.conditions.controls import CONTROLS, GOOD, ITSELF
from backend.analysis.rates import fourway
from backend.charts import palette
from backend.charts.palette import (
    CELLS,
    CHOSEN,
    INK,
    INKS,
    LOWEST,
    NEGATIVE,
    NEUTRAL,
    OUTCOMES,
    POSITIVE,
    TELLS,
    VERDICTS,
    direction_scale,
    judge_scale,
    organism_scale,
    role_scale,
)
from backend.charts.strip import MOST_ALPHA
from backend.outcomes import EM
from backend.records import BASE

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for path in (*ROOT.glob("backend/**/*.py"), *ROOT.glob("pages/*.py"), *ROOT.glob("panels/**/*.py"))
    if path.name != "palette.py"
]
THEMES = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"]
PAGES = {name: THEMES[name]["backgroundColor"] for name in ("light", "dark")}
SPELLED = re.compile(r"""\#[0-9A-Fa-f]{6}\b|\#[0-9A-Fa-f]{8}\b|\brgba?\(|\bhsla?\(|["'](?:white|black|gr[ae]y)["']""")


def channels(colour):
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def luminance(colour):
    """As WCAG 2 and Vega have it."""
    shares = [value / 255 for value in channels(colour)]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def over(colour, below, opacity):
    mixed = (round(opacity * a + (1 - opacity) * b) for a, b in zip(channels(colour), channels(below), strict=True))
    return "#" + "".join(f"{value:02X}" for value in mixed)


def scale(of):
    found = of.to_dict()
    return dict(zip(found["domain"], found["range"], strict=True))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_colour_is_spelled_out_in_the_palette_alone(path):
    assert not SPELLED.findall(path.read_text())


def test_what_the_reader_chose_wears_a_colour_of_its_own():
    spelled = SPELLED.findall(Path(palette.__file__).read_text())
    assert spelled.count(CHOSEN) == 1
    assert len(spelled) == len(set(spelled)) > 12  # each colour once
    lists = (palette._ORGANISMS, palette._DIRECTIONS, palette._JUDGES, palette._CUTS, palette._ROLES.values())
    assert not any(CHOSEN in some for some in (*lists, CELLS.values(), VERDICTS, TELLS.values()))


@pytest.mark.parametrize("page", PAGES)
def test_text_is_read_on_either_page(page):
    chosen = INKS["light"] if luminance(PAGES[page]) > 0.2 else INKS["dark"]  # what INK asks Vega for
    assert chosen == THEMES[page]["textColor"]
    assert f"luminance(background) > 0.2 ? '{INKS['light']}' : '{INKS['dark']}'" == INK.to_dict()["expr"]
    assert contrast(chosen, PAGES[page]) >= 4.5
    for tint in (POSITIVE, NEGATIVE):  # the strongest of a token strip
        assert contrast(chosen, over(tint, PAGES[page], MOST_ALPHA)) >= 4.5
    assert contrast(over(chosen, PAGES[page], 0.65), PAGES[page]) >= 4.5  # faint text of a strip


@pytest.mark.parametrize("full", [POSITIVE, NEGATIVE, *OUTCOMES.values()])
def test_text_is_read_on_a_cell_of_any_strength(full):
    for share in range(101):
        cell = over(full, LOWEST, share / 100)
        ink = palette.ON_DEEP if luminance(cell) < palette._DEEP else palette.ON_PALE
        assert contrast(ink, cell) >= 4.5


@pytest.mark.parametrize("background", PAGES.values())
def test_marks_stand_out_on_either_page(background):
    for colour in (POSITIVE, NEGATIVE, NEUTRAL, CHOSEN, *VERDICTS, *TELLS.values(), *OUTCOMES.values()):
        assert contrast(colour, background) >= 3
    # Many colours at once are told apart by how light they are too, so some stay below 3; names stand beside them.
    for some in (palette._ORGANISMS, palette._DIRECTIONS, palette._JUDGES, tuple(palette._ROLES.values())):
        assert all(contrast(colour, background) >= 2 for colour in some)


def test_no_two_of_a_kind_share_a_colour():
    for some in (palette._ORGANISMS, palette._DIRECTIONS, palette._JUDGES, palette._CUTS):
        assert len(set(some)) == len(some)
    for colours in (CELLS, TELLS, dict(enumerate(VERDICTS)), palette._ROLES):
        assert len(set(colours.values())) == len(colours)
    assert not set(palette._JUDGES) & set(VERDICTS)
    assert not set(palette._DIRECTIONS) & set(palette._ROLES.values())


def test_cells_and_kinds_of_answers_are_those_that_are_counted():
    assert set(CELLS) == set(fourway.CELLS)
    assert len(VERDICTS) == len(EM.kinds)


def test_a_control_has_one_colour_among_directions_and_among_roles():
    names = {f"a {kind}": kind for kind in CONTROLS}
    drawn = scale(direction_scale(["v", *names], {"v": ITSELF, **names}))
    kinds = scale(role_scale([ITSELF, *CONTROLS]))
    assert {names[name]: colour for name, colour in drawn.items() if name in names} == {
        kind: colour for kind, colour in kinds.items() if kind != ITSELF
    }
    assert len(set(kinds.values())) == len(kinds)
    assert scale(role_scale(["before", GOOD], before=NEUTRAL))["before"] == NEUTRAL


def test_an_organism_and_a_judge_keep_their_colour_whatever_else_is_drawn():
    every = ["x", BASE, "y", "z"]
    for of in (organism_scale, judge_scale):
        whole = scale(of(every, every))
        for some in (*combinations(every, 2), ["z"]):
            assert scale(of(list(some), every)) == {name: whole[name] for name in some}
