"""Every page says what it answers; where the story has a step for it, what this study answers."""

import ast

import pytest

from backend.outcomes import EM
from backend.study import open_study
from backend.tables.claims import Evidence, Telling
from backend.tables.story import story, told
from tests.test_architecture import ROOT

SAYS_IT_ITSELF = {"overview", "judges", "live", "studies"}


def test_every_page_opens_with_what_it_answers():
    for page in (ROOT / "pages").glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(page.read_text())) if isinstance(node, ast.Call)]
        opened = [call for call in calls if ast.unparse(call.func) == "opening"]
        assert len(opened) == (page.stem not in SAYS_IT_ITSELF), page.name
        assert all("?" in ast.literal_eval(call.args[1]) for call in opened), page.name


@pytest.mark.parametrize(("page", "step"), [("steering", "added"), ("ablation", "removed")])
def test_a_page_opens_with_the_storys_sentence(open_swept, sweeps, page, step):
    shown = open_swept(page)
    assert not shown.exception
    study = open_study("swept", sweeps)
    judge = study.judges()[0]
    claims = story(Telling(Evidence(study, judge, study.responses(judge)), EM))
    claim = next(claim for claim in claims if claim.step == step)
    opened = [each.value.replace("\\", "") for each in shown.markdown if each.value.startswith("**In this study:**")]
    assert opened == [f"**In this study:** {claim.said}  \n:small[:gray[{claim.about}.]]"]


def test_one_step_alone_is_the_step_of_the_story(sweeps):
    study = open_study("swept", sweeps)
    judge = study.judges()[0]
    material = Telling(Evidence(study, judge, study.responses(judge)), EM)
    assert [told(material, claim.step).said for claim in story(material)] == [claim.said for claim in story(material)]
