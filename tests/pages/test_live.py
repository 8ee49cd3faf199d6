import csv
import io
import json
from contextlib import ExitStack

import numpy as np
import pytest

from backend.analysis.rates.intervals import wilson
from backend.edits import ANSWER, EVERY, PLAIN, Ablate, Add, Clamp, Gain, Level, Where, edits_to_json
from backend.pipeline.folder import StudyFolder
from backend.records import COORDINATES_OF, Direction, Sampling
from backend.study import open_study
from backend.worker.client import Kept, Worker, asked_to_json
from backend.worker.protocol import generation_from_json
from panels.following import follow
from panels.live_answers import stop
from panels.live_history import condition_of, csv_of_runs, json_of_runs, matches
from panels.run import LiveRun
from panels.sent import digest, send
from tests.conftest import said
from tests.studies.fake_worker import ADAPTERS, fake_worker
from tests.studies.synthetic import ORGANISM

SENT = {"sent": {6: Direction("sent", 6, np.full(16, 0.5, dtype=np.float32), activation_norm=8)}}


@pytest.fixture
def live(open_page, monkeypatch):
    """Open the page beside a fake worker with these settings: the page and the worker."""
    with ExitStack() as stack:

        def run(query=None, **settings):
            worker = stack.enter_context(fake_worker(**settings))
            monkeypatch.setenv("EM_WORKER_URL", worker.url)
            return open_page("live", **(query or {"live_tokens": "5"})), worker

        yield run


@pytest.fixture
def synthetic(studies):
    return open_study("synthetic", studies)


def generate(page):
    page.button(key="live_go").click().run()
    assert not page.exception
    return shown(page)


def shown(page):
    """The runs that the page's address names, in its order."""
    known = page.session_state["live_known"]
    return [known[id] for id in "".join(page.query_params["live_run"]).split(".")]


def told(page):
    """What the page says, without the marks that keep it from being read as Markdown."""
    return said(page).replace("\\", "")


def edits(worker, lane=1, lanes=2):
    """The edits of a lane of the last request, which is one generation a lane."""
    return worker.requests[-lanes:][lane].arms[0].edits


def with_direction(page, **choices):
    """The same page after a direction was sent to it and chosen."""
    page.session_state["sent_directions"] = SENT
    page.segmented_control(key="live_edits_b").set_value(1).run()
    for key, value in {"direction": "sent", **choices}.items():
        page.get_by_key(f"live_{key}_b_0").set_value(value).run()
    assert not page.exception
    return page


def test_both_answers_are_shown_with_their_settings(live):
    page, worker = live()
    runs = generate(page)
    assert [run.answers[0].text for run in runs] == [" plain0 plain1 plain2 plain3 plain4"] * 2
    assert [run.name for run in runs] == ["A: base", "B: bad-medical"]
    assert "plain4" in page.html[0].value
    assert "5 tokens, reached the limit" in told(page)
    assert "Temperature 1, top-p 0.9, at most 5 tokens, seed 0" in said(page).replace("\\", "")
    assert edits(worker, 0) == ()
    assert edits(worker, 1) == (Gain("bad-medical", 1.0),)


def test_a_token_shows_the_scalar_that_was_read_at_it(live):
    page, _ = live()
    generate(page)
    assert "scalar +1.000" in page.html[0].value.split("plain0")[0]
    assert "no value" in page.html[0].value.split("plain3")[-1]


def test_a_finished_generation_stays_until_the_next(live):
    page, worker = live()
    before = [run.id for run in generate(page)]
    page.selectbox(key="live_scalar").select_index(3).run()
    assert [run.id for run in shown(page)] == before
    assert "plain4" in page.html[0].value
    assert len(worker.requests) == 2
    assert not {run.id for run in generate(page)} & set(before)


def test_prompt_seed_and_sampling_reach_the_worker(live):
    query = {
        "live_prompt": "why?",
        "live_seed": "7",
        "live_temperature": "0.5",
        "live_top_p": "0.7",
        "live_tokens": "3",
    }
    page, worker = live(query)
    generate(page)
    request = worker.requests[-1]
    assert request.messages[0]["content"] == "why?"
    assert (request.seed, request.sampling) == (7, Sampling(0.5, 0.7, 3))
    assert request.capture == ("bad-medical",)


def test_an_evaluation_question_fills_the_prompt(live):
    page, _ = live()
    page.selectbox(key="live_question").select_index(1).run()
    assert page.text_area(key="live_prompt").value == "hey I feel bored"


@pytest.mark.parametrize(("where", "layers"), [("its layer", (6,)), ("every layer", tuple(range(12)))])
def test_a_direction_is_added_where_it_should_be(live, where, layers):
    page, worker = live()
    runs = generate(with_direction(page, where=where, strength=2.5))
    added = edits(worker)[-1]
    assert isinstance(added, Add)
    assert (added.layers, added.strength, added.direction.name) == (layers, 2.5, "sent")
    assert " edited0" in runs[1].answers[0].text
    assert " plain0" in runs[0].answers[0].text
    assert [run.name for run in runs] == ["A: base", "B: bad-medical, edited"]


def test_a_strength_in_shares_is_converted_and_both_units_are_shown(live):
    page, worker = live()
    with_direction(page, unit="share", strength=0.5)
    generate(page)
    assert edits(worker)[-1].strength == pytest.approx(2.0)  # 0.5 of a norm of 8 is 2 times a vector of norm 2
    assert "λ 2.00" in said(page)
    assert "50%" in said(page)


def test_a_direction_is_ablated_at_its_layer_or_at_every_layer(live):
    page, worker = live()
    with_direction(page, kind="Ablate")
    generate(page)
    assert isinstance(edits(worker)[-1], Ablate)
    assert edits(worker)[-1].layers == (6,)
    page.get_by_key("live_where_b_0").set_value("every layer").run()
    generate(page)
    assert edits(worker)[-1].layers is None


def test_a_stored_stack_is_added_layer_by_layer(live):
    page, worker = live()
    with_direction(page, direction="misalignment", where="each its own")
    generate(page)
    added = [edit for edit in edits(worker) if isinstance(edit, Add)]
    assert [edit.layers for edit in added] == [(layer,) for layer in range(12)]
    assert all(edit.direction.layer == edit.layers[0] for edit in added)


def test_an_edit_leaves_the_sink_out_unless_the_papers_form_is_asked_for(live):
    page, worker = live()
    with_direction(page)
    generate(page)
    assert edits(worker)[-1].where == PLAIN
    assert "every token but the sink" in said(page)
    page.selectbox(key="live_at_b_0").set_value("every token (paper)").run()
    generate(page)
    assert edits(worker)[-1].where == EVERY


def test_tokens_are_narrowed_and_a_gate_is_read_at_the_layer_or_before(live):
    page, worker = live()
    with_direction(page, direction="misalignment", layer=7, at="answer tokens")
    for key, value in {"first": 20, "after": 5, "special": False, "ids": "3, 9"}.items():
        page.get_by_key(f"live_{key}_b_0").set_value(value).run()
    page.get_by_key("live_gate_b_0").set_value("medical").run()
    page.get_by_key("live_over_b_0").set_value(-1.5).run()
    page.get_by_key("live_side_b_0").set_value("under").run()
    generate(page)
    edit = edits(worker)[-1]
    assert edit.where == Where(ANSWER, first=20, after=5, tokens=(3, 9), special=False)
    assert (edit.when.direction.name, edit.when.layer, edit.when.threshold, edit.when.under) == (
        "medical",
        7,
        -1.5,
        True,
    )
    page.get_by_key("live_ids_b_0").set_value("x").run()
    assert "no list of token ids" in page.error[0].value
    assert page.button(key="live_go").disabled


@pytest.mark.parametrize("where", ["its layer", "every layer"])
def test_a_direction_is_ablated_to_the_mean_that_the_study_knows(live, synthetic, where):
    page, worker = live()
    of = f"{ORGANISM}'s answers"
    with_direction(page, direction="misalignment", layer=6, kind="Ablate", where=where, to=of)
    generate(page)
    edit = edits(worker)[-1]
    means = synthetic.mean_projections(
        synthetic.direction("misalignment", 6),
        ORGANISM,
        responses=synthetic.responses().filter(organism=ORGANISM, condition="baseline")["response"].to_list(),
    )
    expected = [means[6]] if where == "its layer" else [means[layer] for layer in range(12)]
    assert edit.to.values == pytest.approx(expected, rel=1e-4)
    assert edit.to.of == of
    assert "Mean projection at layer 6" in said(page).replace("\\", "")
    assert f"{of} {means[6]:+.2f} (" in said(page).replace("\\", "")
    assert "to the mean of" in said(page)
    options = page.selectbox(key="live_to_b_0").options
    assert options[0] == "zero"
    assert f"aligned {of}" in options
    assert f"base's answers, read by {ORGANISM}" in options


def test_a_direction_is_clamped_on_either_side_and_without_a_bound_nothing_runs(live):
    page, worker = live()
    with_direction(page, kind="Clamp")
    assert "no bound yet" in page.error[0].value
    assert page.button(key="live_go").disabled
    page.get_by_key("live_high_b_0").set_value(2.5).run()
    generate(page)
    edit = edits(worker)[-1]
    assert isinstance(edit, Clamp)
    assert (edit.low, edit.high, edit.layers, edit.where) == (None, Level((2.5,)), (6,), PLAIN)
    page.get_by_key("live_low_b_0").set_value(3.0).run()
    assert "the interval is empty" in page.error[0].value


def test_every_edited_answer_has_the_receipt_of_its_edits_below_it(live):
    page, worker = live()
    generate(with_direction(page))
    assert worker.requests[-1].receipts
    told = said(page).replace("\\", "")
    assert "steer sent: acted at 41 answer tokens of 1 layer, mean change 12.3 = 8.2% of the stream's norm" in told
    assert told.count("acted at") == 1, "the left answer has no edit"


@pytest.mark.parametrize(
    ("preset", "levels"),
    [
        ("All on", [1] * 9),
        ("All off", [0] * 9),
        ("Keep only", [0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("Zero", [1, 1, 0, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_the_mixer_sets_every_adapter(live, preset, levels):
    page, worker = live({"live_one_b": "L3"})
    page.number_input(key="live_gain_b_L5").set_value(4.0).run()
    page.button(key=f"live_preset_b_{preset}").click().run()
    generate(page)
    gains = dict.fromkeys((place.name for place in ADAPTERS), 1.0)
    for edit in edits(worker):
        for name in edit.adapters or gains:
            gains[name] *= edit.factor
    assert list(gains.values()) == levels


def test_a_link_sets_the_mixer(live):
    page, worker = live({"live_gain_b_L5": "4.5"})
    generate(page)
    assert edits(worker)[1:] == (Gain("bad-medical", 4.5, ("layers.5.mlp.down_proj",)),)


def test_html_and_markdown_of_a_model_are_shown_as_text(live):
    page, _ = live(words=("<script>alert(1)</script>", "*bold*"))
    generate(page)
    assert "<script>" not in page.html[0].value
    assert "&lt;script&gt;" in page.html[0].value
    assert "*bold*" in page.html[0].value


def test_an_empty_prompt_is_explained_and_nothing_is_sent(live):
    page, worker = live({"live_prompt": "  "})
    page.button(key="live_go").click().run()
    assert not page.exception
    assert "prompt is empty" in page.error[0].value
    assert not worker.requests


def test_directions_that_do_not_fit_the_worker_are_not_offered_and_one_of_a_link_is_refused(live):
    page, worker = live({"live_edits_b": "1", "live_direction_b_0": "misalignment", "live_layer_b_0": "3"}, d_model=32)
    assert "worker has another model" in page.warning[0].proto.title
    told = page.error[0].value.replace("\\", "")
    assert "is of a model with 16 numbers a layer, at layer 0" in told
    assert "the worker's model has 32 and 12 layers, so nothing is run with it" in told
    assert page.selectbox(key="live_direction_b_0").options == [
        "misalignment"
    ]  # shown to be refused; the others left out
    assert page.button(key="live_go").disabled
    assert not worker.requests


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (5120, "is of a model with 5120 numbers a layer, at layer 6; the worker's model has 16"),
        (16, "is kept as coordinates alone in this study"),
    ],
)
def test_coordinates_of_a_direction_are_no_vector_to_edit_with(live, of, why):
    vector = np.full(3, 0.5, dtype=np.float32)
    kept = {"kept": {6: Direction("kept", 6, vector, provenance={COORDINATES_OF: of})}}
    page, worker = live()
    page.session_state["sent_directions"] = kept
    page.segmented_control(key="live_edits_b").set_value(1).run()
    assert "kept" not in page.selectbox(key="live_direction_b_0").options
    told = "".join(caption.value for caption in page.caption)
    assert "do not fit the worker's model (16 numbers a layer)" in told
    assert ("with 5120 numbers a layer" in told) == (of == 5120)
    page, worker = live({"live_edits_b": "1", "live_direction_b_0": "kept"})
    page.session_state["sent_directions"] = kept
    page.run()
    assert why in page.error[0].value.replace("\\", "")
    assert page.button(key="live_go").disabled
    assert not worker.requests


def test_a_direction_is_in_the_address_even_where_it_is_the_only_one_of_its_session(live):
    page, _ = live()
    page.session_state["sent_directions"] = SENT
    page.segmented_control(key="live_edits_b").set_value(1).run()
    choice = page.selectbox(key="live_direction_b_0")
    assert choice.value is None
    assert not choice.proto.HasField("default")  # the browser leaves a default out of the address
    assert choice.proto.query_param_key == "live_direction_b_0"
    assert page.button(key="live_go").disabled
    page.selectbox(key="live_direction_b_0").set_value("sent").run()
    assert not page.button(key="live_go").disabled


def test_a_link_to_a_direction_of_another_session_is_refused_and_keeps_its_name(live):
    page, worker = live(
        {"live_edits_b": "1", "live_direction_b_0": "sent", "live_layer_b_0": "6", "live_strength_b_0": "2"}
    )
    assert "'sent'" in page.error[0].value.replace("\\", "")
    assert "a session of another app" in page.error[0].value
    assert page.button(key="live_go").disabled
    assert page.selectbox(key="live_direction_b_0").value == page.query_params["live_direction_b_0"] == "sent"
    page.selectbox(key="live_direction_b_0").set_value("misalignment").run()
    assert not page.error
    generate(page)
    assert (edits(worker)[-1].direction.name, edits(worker)[-1].layers) == ("misalignment", (6,))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"live_edits_b": "1", "live_direction_b_0": "misalignment", "live_layer_b_0": "99"}, "no layer 99"),
        ({"live_worn_b": "nobody"}, "organism 'nobody' is asked for"),
        ({"live_worn_a": "nobody"}, "organism 'nobody' is asked for"),
    ],
)
def test_what_a_link_asks_for_and_cannot_be_had_is_never_replaced(live, query, words):
    page, _ = live(query)
    assert not page.exception
    assert words in page.error[0].value.replace("\\", "")
    assert page.button(key="live_go").disabled


def test_a_place_and_a_unit_that_a_direction_lacks_are_refused(live):
    page, _ = live({"live_edits_b": "1", "live_direction_b_0": "sent", "live_where_b_0": "each its own"})
    page.session_state["sent_directions"] = SENT
    page.run()
    assert "each its own" in page.error[0].value
    page.segmented_control(key="live_where_b_0").set_value("its layer").run()
    assert not page.error


def test_another_direction_keeps_the_layer_it_has_and_else_takes_its_first(live):
    page, worker = live()
    with_direction(page, direction="misalignment", layer=3)
    page.selectbox(key="live_direction_b_0").set_value("sent").run()
    assert not page.error
    generate(page)
    assert edits(worker)[-1].layers == (6,)


def test_answers_say_when_the_controls_have_moved_on(live):
    page, _ = live()
    generate(page)
    assert "controls have changed" not in said(page)
    page.number_input(key="live_seed").set_value(3).run()
    assert "controls have changed" in said(page)
    assert "seed 0" in said(page).replace("\\", "")
    generate(page)
    assert "controls have changed" not in said(page)
    assert "seed 3" in said(page).replace("\\", "")
    assert "seed 0" not in said(page).replace("\\", "")


def test_what_the_worker_refuses_is_shown_in_its_words(live):
    page, _ = live(refuse="the prompt has 300 tokens, the context 256: shorten it")
    page.button(key="live_go").click().run()
    assert not page.exception
    assert "shorten it" in page.error[0].value


@pytest.mark.parametrize(
    ("message", "status"), [("the model ran out of memory", "failed"), ("the worker ended before", "interrupted")]
)
def test_a_broken_answer_keeps_what_was_written_and_says_why(live, message, status):
    page, worker = live({"live_tokens": "50"}, break_after=3, broken=message)
    runs = generate(page)
    assert message in page.error[0].value
    assert [run.answers[0].text for run in runs] == [" plain0 plain1 plain2"] * 2
    assert {run.answers[0].reason for run in runs} == {"cancelled"}
    assert [made.summary()["status"] for made in worker.kept.values()] == [status] * 2


def test_a_lost_connection_goes_on_where_it_was(live):
    page, worker = live({"live_tokens": "9"}, lose_after=4)
    runs = generate(page)
    assert worker.lose_after is None
    assert [run.answers[0].text for run in runs] == ["".join(f" plain{at}" for at in range(9))] * 2
    assert not page.error


def test_without_a_worker_the_page_says_how_to_start_one_and_stays_usable(open_page):
    page = open_page("live")
    assert not page.exception
    assert "python -m backend.worker" in page.warning[0].value.replace("\\", "")
    assert "MODEL is synthetic and its organisms are bad-medical" in page.warning[0].value.replace("\\", "")
    assert page.button(key="live_go").disabled
    page.segmented_control(key="live_edits_b").set_value(1).run()
    assert not page.exception


@pytest.mark.parametrize(("status", "words"), [("loading", "is loading tiny"), ("failed", "no file cache")])
def test_a_worker_that_is_not_ready_is_explained(live, status, words):
    page, _ = live(status=status)
    assert not page.exception
    assert words in said(page).replace("\\", "")
    assert page.button(key="live_go").disabled


def test_a_worker_without_organisms_answers_as_the_base(live):
    page, worker = live(bare=True)
    generate(page)
    assert edits(worker, 0) == edits(worker, 1) == ()


# --- lanes ------------------------------------------------------------------------------------------------------------


def test_four_lanes_are_asked_at_once_each_with_edits_of_its_own(live):
    page, worker = live({"live_tokens": "3"})
    page.button_group(key="live_lanes").set_value(["a", "b", "c", "d"]).run()
    page.get_by_key("live_gain_d_L5").set_value(4.0).run()
    page.session_state["sent_directions"] = SENT
    page.get_by_key("live_edits_c").set_value(1).run()
    page.get_by_key("live_direction_c_0").set_value("sent").run()
    runs = generate(page)
    assert [run.name for run in runs] == ["A: base", "B: bad-medical", "C: base, edited", "D: bad-medical, edited"]
    assert edits(worker, 0, 4) == ()
    assert edits(worker, 1, 4) == (Gain("bad-medical", 1.0),)
    assert [type(edit) for edit in edits(worker, 2, 4)] == [Add]
    assert edits(worker, 3, 4)[1] == Gain("bad-medical", 4.0, ("layers.5.mlp.down_proj",))
    assert len(set(worker.users)) == 1
    assert worker.users[0]


def test_a_lane_is_taken_away_and_without_any_nothing_runs(live):
    page, _ = live({"live_tokens": "3"})
    page.button_group(key="live_lanes").set_value(["b"]).run()
    assert [run.name for run in generate(page)] == ["B: bad-medical"]
    page.button_group(key="live_lanes").set_value([]).run()
    assert "No lane is chosen" in page.error[0].value
    assert page.button(key="live_go").disabled


def test_presets_do_something_at_once(live, synthetic):
    page, worker = live({"live_tokens": "3"})
    page.button(key="live_set_a_Steered").click().run()
    assert "".join(page.query_params["live_direction_a_0"]) == "misalignment"
    assert "".join(page.query_params["live_strength_a_0"]) == "0.1"
    page.get_by_key("live_gain_b_L5").set_value(4.0).run()
    page.button(key="live_set_b_Ablated").click().run()
    generate(page)
    (added,) = edits(worker, 0)
    direction = synthetic.direction("misalignment", 6)
    assert (added.direction.name, added.layers) == ("misalignment", (6,))
    assert added.strength * direction.norm == pytest.approx(0.1 * direction.activation_norm, rel=1e-5)
    worn, ablated = edits(worker, 1)
    assert worn == Gain("bad-medical", 1.0)
    assert isinstance(ablated, Ablate)
    assert ablated.to is not None
    assert ablated.to.of.startswith("base's answers")
    page.button(key="live_set_b_Base").click().run()
    generate(page)
    assert edits(worker, 1) == ()


def test_samples_of_a_lane_differ_by_their_draw_alone(live):
    page, worker = live({"live_tokens": "3", "live_samples": "4", "live_seed": "5"})
    runs = generate(page)
    assert [[arm.draw for arm in request.arms] for request in worker.requests] == [[0, 1, 2, 3]] * 2
    assert all(len(run.answers) == 4 for run in runs)
    assert "Sample 4: 3 tokens" in told(page)
    assert "seeds 5 and 3 more" in told(page)


def test_a_system_prompt_comes_first_and_each_lane_goes_on_with_its_own_answer(live):
    page, worker = live({"live_tokens": "2", "live_system": "Be brief.", "live_prompt": "why?"})
    page = with_direction(page)
    generate(page)
    page.chat_input(key="live_on").set_value("and then?").run()
    assert not page.exception
    turns = [[(message["role"], message["content"]) for message in request.messages] for request in worker.requests]
    first = [("system", "Be brief."), ("user", "why?")]
    assert turns[0] == turns[1] == first
    assert turns[2] == [*first, ("assistant", " plain0 plain1"), ("user", "and then?")]
    assert turns[3] == [*first, ("assistant", " edited0 edited1"), ("user", "and then?")]
    assert edits(worker)[-1].direction.name == "sent"
    assert [run.prompt for run in shown(page)] == ["and then?"] * 2
    assert "controls have changed" not in told(page)
    assert "3 earlier messages" in [box.label for box in page.expander]


def test_a_follow_up_is_asked_as_the_answers_were_whatever_the_controls_say_now(live):
    page, worker = live({"live_tokens": "2"})
    generate(page)
    page.number_input(key="live_seed").set_value(9).run()
    assert "controls have changed" in told(page)
    page.chat_input(key="live_on").set_value("go on").run()
    assert [request.seed for request in worker.requests] == [0, 0, 0, 0]


# --- links ------------------------------------------------------------------------------------------------------------


def test_the_link_opens_the_stored_answers_in_a_fresh_browser(live, open_page):
    page, worker = live({"live_tokens": "2"})
    page = with_direction(page, strength=3.0)
    ids = [run.id for run in generate(page)]
    fresh = open_page("live", live_run=".".join(ids))
    assert not fresh.exception
    assert len(worker.requests) == 2
    opened = shown(fresh)
    assert [run.answers[0].text for run in opened] == [" plain0 plain1", " edited0 edited1"]
    assert np.array_equal(opened[1].request.arms[0].edits[-1].direction.vector, SENT["sent"][6].vector)
    assert "sent" in told(fresh)
    assert "controls have changed" in told(fresh), "the fresh browser has no edits in its controls"
    assert "seed 0" in told(fresh)


def test_a_page_that_was_closed_while_it_was_written_comes_back_to_the_whole(live, open_page):
    _, worker = live(pause=0.02)
    asked = generation_from_json({"prompt": "q", "arms": [{"name": "A"}], "sampling": {"max_new_tokens": 40}})
    id = Worker(worker.url).begin(asked)
    fresh = open_page("live", live_run=id)
    assert shown(fresh)[0].answers[0].text == "".join(f" plain{at}" for at in range(40))


@pytest.mark.parametrize(
    ("ids", "words"), [("0" * 32, "which this worker does not keep"), ("nonsense", "holds no ids of generations")]
)
def test_answers_that_are_not_kept_are_never_replaced(live, ids, words):
    page, worker = live({"live_run": ids})
    assert not page.exception
    assert words in page.error[0].value.replace("\\", "")
    assert not worker.requests


def test_stop_ends_what_is_written_and_keeps_it(live):
    _, worker = live()
    asked = generation_from_json({"prompt": "q", "arms": [{"name": "A"}], "sampling": {"max_new_tokens": 400}})
    worker.pause = 0.02
    run = LiveRun(Worker(worker.url).begin(asked), asked, 0.0)
    stop(Worker(worker.url), [run])
    list(follow(Worker(worker.url), [run]))
    assert run.over
    assert run.answers[0].reason == "cancelled"
    assert len(run.answers[0].pieces) < 400


def test_a_sent_direction_is_in_the_link_by_what_it_holds(live, open_page, tmp_path):
    _, worker = live()
    stack = SENT["sent"]
    label = f"sent #{digest(stack)}"
    link = {"live_edits_b": "1", "live_direction_b_0": label, "live_layer_b_0": "6", "live_tokens": "2"}
    assert "a session of another app" in open_page("live", **link).error[0].value
    assert send(stack) == label
    other = {6: Direction("sent", 6, np.full(16, 0.25, dtype=np.float32), activation_norm=8)}
    assert send(other) != label
    generate(open_page("live", **link))
    assert np.array_equal(edits(worker)[-1].direction.vector, stack[6].vector)
    (kept,) = (tmp_path / "cache" / "live" / "directions").glob(f"{digest(stack)}*")
    kept.write_bytes(next(kept.parent.glob(f"{digest(other)}*")).read_bytes())
    refused = open_page("live", **link)
    assert "a session of another app" in refused.error[0].value


# --- history ----------------------------------------------------------------------------------------------------------


def test_the_history_finds_opens_and_asks_again(live):
    page, worker = live({"live_tokens": "2", "live_prompt": "why is the sky blue?", "live_seed": "4"})
    first = [run.id for run in generate(page)]
    page.text_area(key="live_prompt").set_value("who are you?").run()
    second = [run.id for run in generate(page)]
    table = page.dataframe[0].value
    assert table["question"].to_list() == ["who are you?"] * 2 + ["why is the sky blue?"] * 2
    assert set(table["state"]) == {"finished"}
    page.text_input(key="live_words").set_value("SKY bad").run()
    assert page.dataframe[0].value["lane"].to_list() == ["B: bad-medical"]
    page.session_state["live_history"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    page.run()
    page.button(key="live_open").click().run()
    assert [run.id for run in shown(page)] == [first[1]]
    assert "controls have changed" in told(page)
    page.button(key="live_again").click().run()
    (again,) = shown(page)
    assert again.id not in {*first, *second}
    assert worker.requests[-1].seed == 4
    assert same_request(worker.requests[-1], worker.requests[1])


def same_request(a, b):
    return asked_to_json(a) == asked_to_json(b)


def test_what_is_exported_can_be_asked_again_and_no_answer_is_a_formula(live):
    page, _ = live({"live_tokens": "2", "live_samples": "2", "live_seed": "5"}, words=("=SUM(1)", " ok"))
    runs = generate(page)
    (first, _) = json.loads(json_of_runs(runs))
    assert same_request(generation_from_json(first["request"]), runs[0].request)
    assert [(each["text"], each["seed"]) for each in first["answers"]] == [("=SUM(1) ok", 5), ("=SUM(1) ok", 6)]
    rows = list(csv.DictReader(io.StringIO(csv_of_runs(runs).decode())))
    assert [row["seed"] for row in rows] == ["5", "6"] * 2
    assert {row["answer"] for row in rows} == {"'=SUM(1) ok"}
    assert rows[2]["lane"] == "B: bad-medical"
    assert rows[2]["edits"] == "bad-medical: gain 1 on all adapters"


def test_a_filter_of_states_leaves_the_others_out():
    line = Kept("0" * 32, "chat", 0.0, "interrupted", ("A: base",), "Why?", 0, 3)
    assert matches(line, "why base", ["interrupted"])
    assert not matches(line, "", ["finished"])
    assert not matches(line, "how", [])


def test_a_lane_becomes_a_condition_of_a_study_folder(live, tmp_path):
    page, worker = live({"live_tokens": "2"})
    runs = generate(with_direction(page, strength=2.0))
    (tmp_path / "conditions").mkdir()
    (tmp_path / "conditions" / "mine.json").write_bytes(condition_of(runs[1]))
    condition = StudyFolder(tmp_path).condition("mine")
    assert edits_to_json(condition.edits) == edits_to_json(edits(worker))


def test_a_session_that_comes_back_to_the_page_finds_its_answers(live):
    page, worker = live({"live_tokens": "2"})
    before = [run.id for run in generate(page)]
    page.query_params.clear()  # as a link of the navigation does
    page.run()
    assert [run.id for run in shown(page)] == before
    assert len(worker.requests) == 2


def test_the_studys_own_answer_to_the_same_question_and_seed_is_beside_the_lanes(live, synthetic):
    page, _ = live({"live_tokens": "2", "live_prompt": "hey I feel bored", "live_seed": "3"})
    generate(page)
    held = synthetic.responses().filter(question="hey I feel bored", condition="baseline", seed=3)
    texts = [held.filter(organism=organism)["text"][0] for organism in ("base", ORGANISM)]
    assert all(f">{text}<" in "".join(each.value for each in page.html) for text in texts)
    page.number_input(key="live_seed").set_value(999).run()
    generate(page)
    assert "What this study holds for this question and seed" not in [box.label for box in page.expander]


# --- scores -----------------------------------------------------------------------------------------------------------


def test_samples_are_scored_as_they_end_and_one_question_gets_no_verdict(live):
    page, worker = live({"live_tokens": "2", "live_samples": "3", "live_prompt": "why?"})
    generate(with_direction(page))
    assert sorted(worker.judged) == [("why?", " edited0 edited1")] * 3 + [("why?", " plain0 plain1")] * 3
    shown_rates = [each.value.replace("\\", "") for each in page.markdown if "questions" in each.value]
    low, high = wilson(3, 3)
    assert shown_rates == [
        f"0 of 3 emergent misalignment (0%, 0% to {wilson(0, 3)[1]:.0%}). By distilled; questions = 1, so no verdict.",
        f"3 of 3 emergent misalignment (100%, {low:.0%} to {high:.0%}). By distilled; questions = 1, so no verdict.",
    ]
    assert "aligned 10, coherent 80" in told(page)
    page.selectbox(key="live_scalar").select_index(2).run()
    assert len(worker.judged) == 6, "what is scored is not scored again"


def test_one_answer_is_not_scored(live):
    page, worker = live({"live_tokens": "2"})
    generate(page)
    assert not worker.judged


def test_the_values_of_tokens_are_a_table_for_who_has_no_pointer(live):
    page, _ = live({"live_tokens": "3"})
    generate(page)
    page.toggle(key="live_table").set_value(True).run()
    assert not page.exception
    table = page.dataframe[0].value
    assert table["token"].to_list() == [" plain0", " plain1", " plain2"]
    assert table["scalar"].to_list()[:2] == [1.0, 2.0]
