import time
from contextlib import ExitStack

import numpy as np
import pytest

from backend.edits import ANSWER, EVERY, PLAIN, Ablate, Add, Clamp, Gain, Level, Where
from backend.records import COORDINATES_OF, Direction, Sampling
from backend.study import open_study
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
    return page.session_state["live_run"]


def edits(worker, arm=1):
    return worker.requests[-1].arms[arm].edits


def with_direction(page, **choices):
    """The same page after a direction was sent to it and chosen."""
    page.session_state["sent_directions"] = SENT
    page.segmented_control(key="live_edits").set_value(1).run()
    for key, value in {"direction": "sent", **choices}.items():
        page.get_by_key(f"live_{key}_0").set_value(value).run()
    assert not page.exception
    return page


def test_both_answers_are_shown_with_their_settings(live):
    page, worker = live()
    run = generate(page)
    assert [answer.text for answer in run.answers] == [" plain0 plain1 plain2 plain3 plain4"] * 2
    assert "plain4" in page.html[0].value
    assert "5 tokens, reached the limit" in said(page)
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
    run = generate(page)
    page.selectbox(key="live_scalar").select_index(3).run()
    assert page.session_state["live_run"] is run
    assert "plain4" in page.html[0].value
    assert len(worker.requests) == 1
    assert generate(page) is not run


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
    run = generate(with_direction(page, where=where, strength=2.5))
    added = edits(worker)[-1]
    assert isinstance(added, Add)
    assert (added.layers, added.strength, added.direction.name) == (layers, 2.5, "sent")
    assert " edited0" in run.answers[1].text
    assert " plain0" in run.answers[0].text


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
    page.get_by_key("live_where_0").set_value("every layer").run()
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
    page.selectbox(key="live_at_0").set_value("every token (paper)").run()
    generate(page)
    assert edits(worker)[-1].where == EVERY


def test_tokens_are_narrowed_and_a_gate_is_read_at_the_layer_or_before(live):
    page, worker = live()
    with_direction(page, direction="misalignment", layer=7, at="answer tokens")
    for key, value in {"first": 20, "after": 5, "special": False, "ids": "3, 9"}.items():
        page.get_by_key(f"live_{key}_0").set_value(value).run()
    page.get_by_key("live_gate_0").set_value("medical").run()
    page.get_by_key("live_over_0").set_value(-1.5).run()
    page.get_by_key("live_side_0").set_value("under").run()
    generate(page)
    edit = edits(worker)[-1]
    assert edit.where == Where(ANSWER, first=20, after=5, tokens=(3, 9), special=False)
    assert (edit.when.direction.name, edit.when.layer, edit.when.threshold, edit.when.under) == (
        "medical",
        7,
        -1.5,
        True,
    )
    page.get_by_key("live_ids_0").set_value("x").run()
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
    options = page.selectbox(key="live_to_0").options
    assert options[0] == "zero"
    assert f"aligned {of}" in options
    assert f"base's answers, read by {ORGANISM}" in options


def test_a_direction_is_clamped_on_either_side_and_without_a_bound_nothing_runs(live):
    page, worker = live()
    with_direction(page, kind="Clamp")
    assert "no bound yet" in page.error[0].value
    assert page.button(key="live_go").disabled
    page.get_by_key("live_high_0").set_value(2.5).run()
    generate(page)
    edit = edits(worker)[-1]
    assert isinstance(edit, Clamp)
    assert (edit.low, edit.high, edit.layers, edit.where) == (None, Level((2.5,)), (6,), PLAIN)
    page.get_by_key("live_low_0").set_value(3.0).run()
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
    page, worker = live({"live_one": "L3"})
    page.number_input(key="live_gain_L5").set_value(4.0).run()
    page.button(key=f"live_preset_{preset}").click().run()
    generate(page)
    gains = dict.fromkeys((place.name for place in ADAPTERS), 1.0)
    for edit in edits(worker):
        for name in edit.adapters or gains:
            gains[name] *= edit.factor
    assert list(gains.values()) == levels


def test_a_link_sets_the_mixer(live):
    page, worker = live({"live_gain_L5": "4.5"})
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
    page, worker = live({"live_edits": "1", "live_direction_0": "misalignment", "live_layer_0": "3"}, d_model=32)
    assert "worker has another model" in page.warning[0].proto.title
    told = page.error[0].value.replace("\\", "")
    assert "is of a model with 16 numbers a layer, at layer 0" in told
    assert "the worker's model has 32 and 12 layers, so nothing is run with it" in told
    assert page.selectbox(key="live_direction_0").options == [
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
    page.segmented_control(key="live_edits").set_value(1).run()
    assert "kept" not in page.selectbox(key="live_direction_0").options
    told = "".join(caption.value for caption in page.caption)
    assert "do not fit the worker's model (16 numbers a layer)" in told
    assert ("with 5120 numbers a layer" in told) == (of == 5120)
    page, worker = live({"live_edits": "1", "live_direction_0": "kept"})
    page.session_state["sent_directions"] = kept
    page.run()
    assert why in page.error[0].value.replace("\\", "")
    assert page.button(key="live_go").disabled
    assert not worker.requests


def test_a_direction_is_in_the_address_even_where_it_is_the_only_one_of_its_session(live):
    page, _ = live()
    page.session_state["sent_directions"] = SENT
    page.segmented_control(key="live_edits").set_value(1).run()
    choice = page.selectbox(key="live_direction_0")
    assert choice.value is None
    assert not choice.proto.HasField("default")  # the browser leaves a default out of the address
    assert choice.proto.query_param_key == "live_direction_0"
    assert page.button(key="live_go").disabled
    page.selectbox(key="live_direction_0").set_value("sent").run()
    assert not page.button(key="live_go").disabled


def test_a_link_to_a_direction_of_another_session_is_refused_and_keeps_its_name(live):
    page, worker = live({"live_edits": "1", "live_direction_0": "sent", "live_layer_0": "6", "live_strength_0": "2"})
    assert "'sent'" in page.error[0].value.replace("\\", "")
    assert "made in another session" in page.error[0].value
    assert page.button(key="live_go").disabled
    assert page.selectbox(key="live_direction_0").value == page.query_params["live_direction_0"] == "sent"
    page.selectbox(key="live_direction_0").set_value("misalignment").run()
    assert not page.error
    generate(page)
    assert (edits(worker)[-1].direction.name, edits(worker)[-1].layers) == ("misalignment", (6,))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"live_edits": "1", "live_direction_0": "misalignment", "live_layer_0": "99"}, "no layer 99"),
        ({"live_edited": "nobody"}, "organism 'nobody' is asked for"),
        ({"live_plain": "nobody"}, "organism 'nobody' is asked for"),
    ],
)
def test_what_a_link_asks_for_and_cannot_be_had_is_never_replaced(live, query, words):
    page, _ = live(query)
    assert not page.exception
    assert words in page.error[0].value.replace("\\", "")
    assert page.button(key="live_go").disabled


def test_a_place_and_a_unit_that_a_direction_lacks_are_refused(live):
    page, _ = live({"live_edits": "1", "live_direction_0": "sent", "live_where_0": "each its own"})
    page.session_state["sent_directions"] = SENT
    page.run()
    assert "each its own" in page.error[0].value
    page.segmented_control(key="live_where_0").set_value("its layer").run()
    assert not page.error


def test_another_direction_keeps_the_layer_it_has_and_else_takes_its_first(live):
    page, worker = live()
    with_direction(page, direction="misalignment", layer=3)
    page.selectbox(key="live_direction_0").set_value("sent").run()
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


def test_what_the_worker_refuses_is_shown_in_its_words(live):
    page, _ = live(refuse="the prompt has 300 tokens, the context 256: shorten it")
    generate(page)
    assert "shorten it" in page.error[0].value


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"break_after": 3}, "ran out of memory"), ({"hang_up_after": 6}, "ended in the middle")],
)
def test_a_broken_answer_keeps_what_was_written(live, settings, words):
    page, worker = live({"live_tokens": "50"}, **settings)
    run = generate(page)
    assert words in page.error[0].value
    assert "plain1" in run.answers[0].text
    assert {answer.reason for answer in run.answers} == {"cancelled"}
    end = time.monotonic() + 10  # the worker's thread lets go a moment after its last word arrived
    while worker.active and time.monotonic() < end:
        time.sleep(0.01)
    assert worker.active == 0


def test_without_a_worker_the_page_says_how_to_start_one_and_stays_usable(open_page):
    page = open_page("live")
    assert not page.exception
    assert "python -m backend.worker" in page.warning[0].value.replace("\\", "")
    assert "MODEL is synthetic and its organisms are bad-medical" in page.warning[0].value.replace("\\", "")
    assert page.button(key="live_go").disabled
    page.segmented_control(key="live_edits").set_value(1).run()
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
