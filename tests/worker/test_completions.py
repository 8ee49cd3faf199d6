"""The OpenAI-compatible endpoint, asked by the `openai` package over a socket."""

import json
import math

import numpy as np
import openai
import pytest
import torch

from backend.edits import Ablate, Gain, edits_to_json
from backend.records import Sampling
from backend.subject.chat import prompt_ids
from backend.subject.decode import Request, sample
from backend.worker.completions import APPLIED
from tests.studies import tiny
from tests.worker.conftest import direction, endless, serving, wait

HELLO = [{"role": "user", "content": "hello"}]
FEW = {"model": "tiny", "messages": HELLO, "max_tokens": 8, "seed": 3}


@pytest.fixture(scope="module")
def worn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worn")
    organisms = {"o": tiny.adapter(folder / "o"), "p": tiny.adapter(folder / "p", layers=(2, 3), seed=7)}
    return tiny.subject(organisms=organisms, max_position_embeddings=512)


@pytest.fixture(scope="module")
def url(worn):
    from backend.worker.engine import Engine

    engine = Engine(worn)
    with serving(lambda: engine) as worker:
        wait(lambda: worker.health().status == "ready")
        yield worker.url
    engine.close(timeout=5)


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20) as made:
        yield made


def text(subject, edits=(), seed=3, messages=HELLO, tokens=8, **sampling):
    """What `sample` writes for the same request."""
    how = Sampling(max_new_tokens=tokens, **sampling)
    [one] = sample(subject, [Request(0, prompt_ids(subject.tokenizer, messages), tuple(edits), how, seed)])
    return one.text


def ask(client, **changes):
    return client.chat.completions.create(**{**FEW, **changes})


def applied(choice):
    return choice.model_extra[APPLIED]


# --- answers ---


def test_an_answer_is_what_the_model_samples(client, worn):
    reply = ask(client)
    [choice] = reply.choices
    assert choice.message.content == text(worn)
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "length"
    assert reply.model == "tiny"
    prompt = len(prompt_ids(worn.tokenizer, HELLO))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (prompt, 8)
    assert reply.usage.total_tokens == prompt + 8
    assert applied(choice) == {"seed": 3, "edits": [], "receipts": []}


def test_turns_system_prompts_and_parts_are_read_in_their_order(client, worn):
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
    ]
    plain = [*turns[:3], {"role": "user", "content": "c\nd"}]
    assert ask(client, messages=turns).choices[0].message.content == text(worn, messages=plain)
    turns[0] = {"role": "developer", "content": "be brief"}
    assert ask(client, messages=turns).choices[0].message.content == text(worn, messages=plain)


def test_n_choices_differ_by_their_seeds_and_nothing_else(client, worn):
    reply = ask(client, n=3, temperature=0.8, top_p=0.9)
    said = [choice.message.content for choice in reply.choices]
    assert said == [text(worn, seed=3 + i, temperature=0.8, top_p=0.9) for i in range(3)]
    assert [applied(choice)["seed"] for choice in reply.choices] == [3, 4, 5]
    assert reply.usage.completion_tokens == 24


def test_a_seed_is_told_where_none_was_given(client, worn):
    choice = ask(client, seed=openai.omit).choices[0]
    assert choice.message.content == text(worn, seed=applied(choice)["seed"])


def test_a_stream_says_the_same_piece_by_piece(client):
    whole = ask(client, n=2)
    said, ends, usage = ["", ""], {}, None
    for chunk in ask(client, n=2, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ends[choice.index] = (choice.finish_reason, applied(choice))
    assert said == [choice.message.content for choice in whole.choices]
    assert ends == {i: (choice.finish_reason, applied(choice)) for i, choice in enumerate(whole.choices)}
    assert usage == whole.usage


def test_without_a_length_an_answer_takes_what_the_context_leaves(subject, engines):
    subject.model.config.max_position_embeddings = 64
    with serving(lambda: engines(endless(subject, seconds=0))) as worker:
        wait(lambda: worker.health().status == "ready")
        client = openai.OpenAI(base_url=f"{worker.url}/v1", api_key="none", max_retries=0)
        usage = ask(client, max_tokens=openai.omit).usage
        assert usage.total_tokens == 64
        with pytest.raises(openai.BadRequestError, match="reads 64 at the most"):
            ask(client, max_tokens=63)
        client.close()


def test_an_answer_ends_before_a_stop_text(client, worn):
    whole = text(worn, tokens=40)
    cut = whole[5:8]
    assert whole.index(cut) == 5
    choice = ask(client, max_tokens=40, stop=["never said", cut]).choices[0]
    assert (choice.message.content, choice.finish_reason) == (whole[:5], "stop")
    assert ask(client, max_tokens=40, stop=whole[0]).choices[0].message.content == ""
    streamed = "".join(c.choices[0].delta.content or "" for c in ask(client, max_tokens=40, stop=cut, stream=True))
    assert streamed == whole[:5]
    assert ask(client, stop="never said").choices[0].message.content == text(worn)


def test_logprobs_are_those_of_the_models_own_distribution(client, worn):
    choice = ask(client, temperature=0.5, top_p=0.5, logprobs=True, top_logprobs=3).choices[0]
    ids = list(prompt_ids(worn.tokenizer, HELLO))
    assert len(choice.logprobs.content) == 8
    for said in choice.logprobs.content:
        with torch.inference_mode():
            logs = torch.log_softmax(worn.model(torch.tensor([ids])).logits[0, -1].double(), -1)
        best = logs.topk(3)
        assert [one.token for one in said.top_logprobs] == [worn.tokenizer.decode([i]) for i in best.indices]
        np.testing.assert_allclose([one.logprob for one in said.top_logprobs], best.values, atol=1e-4)
        [drawn] = [i for i in best.indices.tolist() if worn.tokenizer.decode([i]) == said.token][:1] or [None]
        if drawn is None:
            return  # outside the three: the rest of the text cannot be followed by its tokens' texts
        assert said.logprob == pytest.approx(float(logs[drawn]), abs=1e-4)
        assert said.bytes in (None, list(said.token.encode()))
        ids.append(drawn)
    assert all(math.isfinite(one.logprob) for one in choice.logprobs.content)
    chunks = ask(client, temperature=0.5, top_p=0.5, logprobs=True, top_logprobs=3, stream=True)
    streamed = [one for chunk in chunks for c in chunk.choices if c.logprobs for one in c.logprobs.content]
    assert streamed == choice.logprobs.content
    assert ask(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_a_stream_that_is_closed_frees_its_rows(subject, engines):
    with serving(lambda: engines(endless(subject))) as worker:
        wait(lambda: worker.health().status == "ready")
        with openai.OpenAI(base_url=f"{worker.url}/v1", api_key="none", max_retries=0) as client:
            stream = ask(client, n=2, max_tokens=2000, stream=True)
            next(chunk for chunk in stream if chunk.choices[0].delta.content)
            assert worker.health().active == 2
            stream.close()
            assert wait(lambda: worker.health().active == 0) < 0.5
            with pytest.raises(openai.APITimeoutError):
                ask(client, max_tokens=2000, timeout=0.3)
            assert wait(lambda: worker.health().active == 0) < 0.5


# --- models and steering ---


def test_the_base_and_each_organism_is_a_model(client, worn):
    assert [model.id for model in client.models.list()] == ["tiny", "o", "p"]
    assert client.models.retrieve("p").model_extra["parent"] == "tiny"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("q/r")
    assert caught.value.code == "model_not_found"
    choice = ask(client, model="o").choices[0]
    assert choice.message.content == text(worn, [Gain("o", 1.0)])
    assert applied(choice)["edits"] == ["o: gain 1 on all adapters"]
    assert ask(client, model="base").choices[0].message.content == text(worn)


def test_lora_scales_are_of_each_row_in_llama_cpps_form(client, url, worn):
    for lora in (
        [{"id": 0, "scale": 40.0}, {"name": "p", "scale": -30}],
        [{"id": 1, "scale": -30}, {"id": 0, "scale": 40}],
    ):
        choice = ask(client, extra_body={"lora": lora}).choices[0]
        assert choice.message.content == text(worn, [Gain("o", 40.0), Gain("p", -30.0)])
        [first, *_] = applied(choice)["receipts"]
        assert first["kind"] == "scale"
        assert first["prompt"] == len(prompt_ids(worn.tokenizer, HELLO))
    halved = ask(client, model="o", extra_body={"lora": [{"name": "o", "scale": 40.0}]}).choices[0]
    assert halved.message.content == text(worn, [Gain("o", 40.0)])
    import urllib.request

    with urllib.request.urlopen(f"{url}/lora-adapters") as reply:
        assert [(one["id"], one["path"]) for one in json.load(reply)] == [(0, "o"), (1, "p")]


def test_edits_of_the_workbench_are_taken_as_they_are(client, worn):
    edits = [Gain("o", 1.0), Ablate(direction())]
    choice = ask(client, extra_body={"edits": edits_to_json(edits)}).choices[0]
    assert choice.message.content == text(worn, edits)
    assert applied(choice)["receipts"][0]["kind"] == "ablate"


REFUSED = {
    "unknown field": ({"extra_body": {"steeering": {}}}, 400, "steeering", "no such field"),
    "unknown model": ({"model": "gpt-4o"}, 404, "model", "GET /v1/models"),
    "no messages": ({"messages": []}, 400, "messages", "at least 1 item"),
    "role": ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role", "'system'"),
    "picture": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0.content", ""),
    "empty": ({"messages": [{"role": "user", "content": " "}]}, 400, None, "the prompt is empty"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools", "no such field"),
    "too many": ({"n": 17}, 400, "n", "less than or equal to 16"),
    "hot": ({"temperature": 11}, 400, "temperature", "less than or equal to 10"),
    "text for a number": ({"temperature": "1"}, 400, "temperature", "valid number"),
    "penalty": ({"frequency_penalty": 0.5}, 400, "frequency_penalty", "less than or equal to 0"),
    "two lengths": ({"max_completion_tokens": 9}, 400, "max_tokens", "says something else"),
    "long": ({"max_tokens": 2001}, 400, "max_tokens", "2000"),
    "longer than the context": ({"max_tokens": 512}, 400, None, "reads 512 at the most"),
    "top without logprobs": ({"top_logprobs": 2}, 400, "top_logprobs", "set that to true"),
    "five stops": ({"stop": list("abcde")}, 400, "stop", "at most 4"),
    "lora of nobody": ({"extra_body": {"lora": [{"id": 2, "scale": 1}]}}, 400, "lora.0.id", "2 organisms"),
    "lora twice": (
        {"extra_body": {"lora": [{"id": 0, "scale": 1}, {"name": "o", "scale": 1}]}},
        400,
        "lora.1",
        "twice",
    ),
    "unknown lora": ({"extra_body": {"lora": [{"name": "q", "scale": 1}]}}, 400, None, "q"),
    "malformed edit": ({"extra_body": {"edits": [{"kind": "explode"}]}}, 400, "edits", "unknown kind 'explode'"),
}


@pytest.mark.parametrize(("changes", "status", "field", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_refused_in_openais_envelope(client, changes, status, field, message):
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, **changes)
    error = caught.value
    assert error.status_code == status, error
    assert error.type == "invalid_request_error"
    if field is None:
        assert error.param is None
    else:
        assert error.param.startswith(field)
    assert message in str(error)
    assert len(str(error)) < 2200


def test_nan_and_infinity_are_refused(client):
    for number in ("NaN", "Infinity", "1e999"):
        body = json.dumps({**FEW, "temperature": 7}).replace("7", number).encode()
        with pytest.raises(openai.BadRequestError):
            client.post(
                "/chat/completions",
                cast_to=object,
                content=body,
                options={"headers": {"Content-Type": "application/json"}},
            )


def test_an_error_in_the_engine_is_a_server_error_of_both_forms(subject, engines):
    def hook(module, inputs):
        raise RuntimeError("out of memory")

    with serving(lambda: engines(subject)) as worker:
        wait(lambda: worker.health().status == "ready")
        subject.blocks[2].register_forward_pre_hook(hook)
        with openai.OpenAI(base_url=f"{worker.url}/v1", api_key="none", max_retries=0) as client:
            with pytest.raises(openai.InternalServerError, match="out of memory") as caught:
                ask(client)
            assert caught.value.code == "generation_failed"
            with pytest.raises(openai.APIError, match="out of memory"):
                list(ask(client, stream=True))
