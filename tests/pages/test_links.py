"""Whatever a link asks for is obeyed or named: every page with every query parameter that it reads, given nonsense.

Which those are is asked of the drawn widgets; that none is missed, of the source.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from backend.outcomes import EM
from backend.pipeline.dictionary import Learning, learn
from backend.records import Score
from backend.study import open_study, with_scores
from backend.tables.claims import Evidence, Telling
from backend.tables.story import story
from tests.studies.experimented import experimented_study
from tests.studies.fake_worker import fake_worker
from tests.studies.followed import followed_study
from tests.studies.gained import gained_study
from tests.studies.shouted import UPPER, shouted_study
from tests.studies.sparse import sparse_study
from tests.studies.swept import Shape, swept_study
from tests.studies.synthetic import JUDGE, synthetic_study

ROOT = Path(__file__).resolve().parents[2]
WIDGETS = (
    "selectbox",
    "multiselect",
    "slider",
    "select_slider",
    "number_input",
    "text_input",
    "text_area",
    "toggle",
    "button_group",
)
NONSENSE = "n0nsense"
ANY = {
    "live_prompt",
    "live_system",
    "responses_search",
    "study",
}  # any text is what they are for; an unknown study is named elsewhere
LATER = {"probes_lens": "after a training", "probes_groups": "of adapters in layers apart"}  # widgets not drawn here
OWN_WORDS = {"live_worn_a", "live_worn_b", "live_direction_b_0", "live_layer_b_0", "live_unit_b_0", "live_where_b_0"}
OWN_WORDS |= {"live_at_b_0", "live_gate_b_0", "live_side_b_0", "live_to_b_0"}
EDIT = {"live_edits_b": "1", "live_direction_b_0": "misalignment", "live_layer_b_0": "3"}
PAGES = [  # page, study, and what else a link says, for widgets that are there only then
    ("overview", "synthetic", {}),
    ("overview", "gained", {}),
    ("overview", "shouted", {}),
    ("overview", "synthetic", {"beside": "judged"}),
    ("responses", "synthetic", {}),
    ("judges", "synthetic", {}),
    ("judges", "judged", {}),
    ("robustness", "synthetic", {}),
    ("training", "experimented", {}),
    ("adapters", "experimented", {}),
    ("scaled_adapters", "experimented", {}),
    ("directions", "experimented", {}),
    ("adapters", "synthetic", {}),
    ("one_adapter", "synthetic", {}),
    ("specialisation", "gained", {"map_statistic": "share above"}),
    ("probes", "synthetic", {"probes_penalty": "elastic net", "probes_tokens": "position"}),
    ("probes", "synthetic", {"probes_features": "Scalars of each response"}),
    ("probes", "synthetic", {"probes_features": "Mean residual along directions"}),
    ("directions", "synthetic", {}),
    ("directions", "synthetic", {"directions_more": "Token by token"}),
    ("directions", "swept", {"directions_more": "Token by token"}),
    ("convergence", "swept", {}),
    ("steering", "swept", {}),
    ("ablation", "swept", {}),
    ("steering", "lengths", {}),
    ("ablation", "lengths", {}),
    ("scaled_adapters", "gained", {}),
    ("downstream", "followed", {}),
    ("downstream", "sparse", {}),
    ("live", "synthetic", EDIT),
    ("live", "synthetic", {**EDIT, "live_gate_b_0": "misalignment"}),
    ("live", "synthetic", {**EDIT, "live_kind_b_0": "Ablate"}),
    ("live", "synthetic", {**EDIT, "live_kind_b_0": "Clamp", "live_tokens": "9"}),
]


@pytest.fixture(scope="module")
def every_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("linked")
    synthetic_study(root)
    swept_study(root)
    swept_study(root, "lengths", shape=Shape(samples=1, layers=6, cut=40, whole="random"))
    gained_study(root)
    gained_study(root, "judged")
    experimented_study(root)
    study = open_study("judged", root)
    given = study.responses(JUDGE).drop_nulls(["aligned", "coherent"]).select("response", "aligned", "coherent")
    again = [(answer, 100 - aligned, coherent) for answer, aligned, coherent in given.iter_rows()]
    metrics = ("aligned", "coherent")
    with_scores(
        study, [Score(of, "second", name, v, "") for of, *both in again for name, v in zip(metrics, both, strict=True)]
    )
    shouted_study(root, "em", UPPER)
    apart = tmp_path_factory.mktemp("followed")
    followed_study(apart)
    shutil.copytree(apart / "studies" / "followed", root / "followed")
    found, _ = learn(sparse_study(root), Learning("organism", features=14, active=2, steps=50), EM, "organism")
    sparse_study(root, [found])
    return root


@pytest.fixture(scope="module")
def follow(every_study: Path) -> Iterator[Callable[..., AppTest]]:
    """Follow a link to a page of the navigation, through the app's entry."""
    with pytest.MonkeyPatch.context() as patch, fake_worker() as worker:
        patch.setenv("EM_STUDIES", str(every_study))
        patch.setenv("EM_STUDY", "synthetic")
        patch.setenv("EM_WORKER_URL", worker.url)
        patch.setenv("EM_CACHE", str(every_study / "cache"))
        first = AppTest.from_file(ROOT / "streamlit_app.py", default_timeout=90).run()

        def run(name: str, **query: str | list[str]) -> AppTest:
            page = AppTest.from_file(ROOT / "streamlit_app.py", default_timeout=90)
            page._registered_pages = first._registered_pages
            page.switch_page(f"pages/{name}.py")
            for key, value in query.items():
                page.query_params[key] = value
            return page.run()

        yield run


def bound(page: AppTest) -> set[str]:
    """The query parameters that the widgets on a page are bound to."""
    return {
        widget.proto.query_param_key
        for kind in WIDGETS
        for widget in page.get(kind)
        if getattr(widget.proto, "query_param_key", "")
    }


def told(page: AppTest) -> str:
    """What a page warns of, as plain text."""
    return "\n".join(each.value for each in (*page.warning, *page.error)).replace("\\", "")


SEEN: set[str] = set()  # query parameters that the tests below have tried


@pytest.mark.parametrize(("name", "study", "more"), PAGES, ids=[f"{name}-{study}-{len(m)}" for name, study, m in PAGES])
def test_a_page_names_every_value_that_it_does_not_have(follow, name, study, more):
    whole = follow(name, study=study, **more)
    assert not whole.exception
    assert "The link" not in told(whole)
    keys = bound(whole) - ANY
    SEEN.update(keys)
    decide = keys & set(whole.session_state["links_held"]) if "links_held" in whole.session_state else set()
    together = follow(name, **{"study": study, **more, **dict.fromkeys(keys - decide - set(more), NONSENSE)})
    assert not together.exception
    for key in keys - decide - set(more) - OWN_WORDS:
        assert f"The link asks for {key} = {NONSENSE}, which" in told(together), key
    for key in OWN_WORDS & keys:
        assert NONSENSE in told(follow(name, **{"study": study, **more, key: NONSENSE})), key
    for key in decide:
        page = follow(name, **{"study": study, **more, key: NONSENSE})
        assert not page.exception
        assert re.search(rf"The link names the .* '{NONSENSE}', which is not there, so nothing is shown", told(page)), (
            key
        )
        box = page.get_by_key(key)
        assert box.value == NONSENSE  # nothing in its place until somebody chooses
        page = box.set_value(next(text for text in box.options if text != NONSENSE)).run()
        assert NONSENSE not in told(page), key


def test_live_runs_nothing_until_somebody_takes_what_is_shown_in_place_of_what_was_asked(follow):
    page = follow("live", **EDIT, live_strength_b_0="a lot", live_tokens="5")
    assert "live_strength_b_0 = a lot, which is not offered here: shown is 1.0" in told(page)
    assert page.button(key="live_go").disabled
    page.number_input(key="live_seed").set_value(3).run()
    assert "a lot" in told(page)  # another widget settles nothing
    assert page.button(key="live_go").disabled
    page.button(key="links_go_on").click().run()
    assert not told(page)
    assert not page.button(key="live_go").disabled
    chosen = follow("live", **EDIT, live_strength_b_0="a lot")
    chosen.number_input(key="live_strength_b_0").set_value(2.0).run()
    assert not told(chosen)
    assert not chosen.button(key="live_go").disabled


def test_a_link_of_the_time_of_one_edited_answer_asks_for_the_same(follow):
    earlier = {"live_edits": "1", "live_direction_0": "misalignment", "live_layer_0": "3", "live_strength_0": "2.5"}
    page = follow("live", study="synthetic", **earlier, live_plain="bad-medical", live_gain_L5="4", live_seed="7")
    assert not page.exception
    assert not told(page)
    held = {"edits_b": 1, "direction_b_0": "misalignment", "layer_b_0": 3, "strength_b_0": 2.5, "worn_a": "bad-medical"}
    for key, value in {**held, "gain_b_L5": 4, "seed": 7}.items():
        assert page.session_state[f"live_{key}"] == value, key


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("directions", {"directions_pooling": "per response"}),  # a default, as its widget spells it
        ("directions", {"directions_pooling": "per token", "directions_layer": "2"}),
        ("probes", {"probes_penalty": "L2", "probes_seed": "7"}),
        ("overview", {"overview_topics": ["medical", "first-plot"], "judge": "distilled"}),
        ("adapters", {"scalars_layers": ["2", "5"], "scalars_misalignment_pos_aligned": ["0", "20"]}),
        ("live", {**EDIT, "live_strength_b_0": "1.1310734", "live_tokens": "80", "live_worn_b": "bad-medical"}),
        ("responses", {"response": "bad-medical.baseline.health.0", "responses_search": "the"}),
    ],
)
def test_a_link_that_is_obeyed_is_not_spoken_of(follow, name, query):
    assert "The link" not in told(follow(name, **query))


@pytest.mark.parametrize("study", ["swept", "gained"])
def test_every_link_of_the_story_opens_its_page_in_the_same_state(follow, every_study, study):
    opened = open_study(study, every_study)
    judge = opened.judges()[0]
    claims = story(Telling(Evidence(opened, judge, opened.responses(judge)), EM))
    linked = [claim for claim in claims if claim.page]
    assert len(linked) >= 3
    for claim in linked:
        page = follow(claim.page, **claim.query)
        assert not page.exception
        assert not page.error
        assert "The link" not in told(page), claim.step
        for key, value in claim.query.items():
            held = page.session_state[key]
            assert held == value or str(held) == value, key


def test_two_studies_beside_each_other_are_in_the_link(follow):
    page = follow("overview", study="synthetic", beside="gained", beside_other="base · baseline")
    assert not page.exception
    assert "The link" not in told(page)
    assert page.get_by_key("beside_this").value == "bad-medical · baseline"
    text = "\n".join(each.value for each in page.markdown).replace("\\", "")
    assert "synthetic: bad-medical · baseline" in text
    assert "gained: base · baseline" in text
    assert "Paired by 8 shared questions; interval for questions like these" in text


def test_the_best_cells_of_two_studies_get_no_verdict(follow, every_study):
    page = follow("overview", study="swept", beside="lengths")
    assert not page.exception
    [told_of] = [each.value.replace("\\", "") for each in page.markdown if each.value.startswith("3\\. Adding")]
    counts = []
    for name in ("swept", "lengths"):
        study = open_study(name, every_study)
        judge = study.judges()[0]
        claims = story(Telling(Evidence(study, judge, study.responses(judge)), EM))
        said = next(claim.said for claim in claims if claim.step == "added")
        counts += re.findall(r"(\d+) cells", said)[:1]
    assert "each is the most of its study's cells ({} and {})".format(*counts) in told_of
    assert "no verdict" in told_of


def test_what_a_page_offers_in_part_and_what_it_never_heard_of_are_named(follow):
    page = follow("overview", overview_topics=["medical", "astrology"], utm_source="mail")
    assert "overview_topics = medical, astrology, which is not offered here: shown is medical." in told(page)
    assert "utm_source = mail, which this page does not use as it is now" in told(page)
    far = follow("live", live_temperature="99")
    assert "live_temperature = 99, which is not offered here" in told(far)


def test_no_parameter_of_the_source_was_missed():
    if len(SEEN) < 100:
        pytest.skip("needs the tests above in the same process")
    missed = [
        f"{path.name}: {key}"
        for path in sorted((*(ROOT / "pages").glob("*.py"), *(ROOT / "panels").glob("*.py")))
        for key in parameters(path)
        if not any(re.fullmatch(key, seen) for seen in SEEN | ANY | set(LATER))
    ]
    assert not missed


def parameters(path: Path) -> Iterator[str]:
    """The keys of widgets that links can set, as patterns: what is computed stands for anything."""
    tree = ast.parse(path.read_text())
    constants = {
        ast.unparse(node.targets[0]): node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and len(node.targets) == 1
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {each.arg: each.value for each in call.keywords}
        if "key" in given and ("bind" in given or ast.unparse(call.func) == "choose_linked"):
            yield pattern(given["key"], constants)


def pattern(node: ast.expr, constants: Mapping[str, ast.expr]) -> str:
    match node:
        case ast.Constant():
            return re.escape(str(node.value))
        case ast.JoinedStr():
            return "".join(
                re.escape(str(each.value)) if isinstance(each, ast.Constant) else ".*" for each in node.values
            )
        case ast.Name() if node.id in constants:
            return pattern(constants[node.id], constants)
        case _:
            return ".*"
