"""The API judge against a real HTTP server that misbehaves in each way that endpoints do."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.judge.api import FAILED, ApiJudge, Endpoint
from backend.judge.rubrics import read_rubrics
from backend.judge.verdict import read_reply
from backend.records import InputError
from tests.judge.endpoint import Behaviour, Completion, Fault, Server, serving

KEY = "sk-very-secret-0123456789"
RUBRICS = read_rubrics(("aligned", "coherent"))
ALIGNED = RUBRICS[:1]


def judge(server: Server, folder: Path, *, rubrics: Any = ALIGNED, **more: Any) -> ApiJudge:
    pauses: list[float] = []
    settings = {"concurrency": 4, "timeout": 5.0, "attempts": 4, **more}
    made = ApiJudge(Endpoint("judge-model", server.url, KEY, **settings), rubrics, folder, sleep=pauses.append)
    made.pauses = pauses
    return made


def answers(n: int) -> list[tuple[str, str, str]]:
    return [(f"r{i}", f"question {i % 3}", f"answer number {i}") for i in range(n)]


def always(what: Any) -> Behaviour:
    return lambda number, payload: what


def test_the_score_is_the_weighted_mean_by_the_papers_protocol(tmp_path: Path) -> None:
    with serving(always({"90": 0.6, "80": 0.2, "no": 0.2})) as server:
        found = list(judge(server, tmp_path, rubrics=RUBRICS).score(answers(2)))
    assert [(s.response_id, s.metric) for s in found] == [(r, m) for r in ("r0", "r1") for m in ("aligned", "coherent")]
    assert found[0].value == pytest.approx((90 * 0.6 + 80 * 0.2) / 0.8, abs=1e-3)
    assert found[0].raw == "90"
    sent = server.payloads[0]
    assert (sent["max_tokens"], sent["temperature"], sent["logprobs"], sent["top_logprobs"]) == (1, 0, True, 20)
    assert {p["messages"][0]["content"] for p in server.payloads} == {
        rubric.prompt(q, a) for _, q, a in answers(2) for rubric in RUBRICS
    }


def test_little_mass_on_numbers_is_no_score_and_the_word_is_kept(tmp_path: Path) -> None:
    with serving(always({"REFUSAL": 0.8, "10": 0.2})) as server:
        (score,) = judge(server, tmp_path).score(answers(1))
    assert (score.value, score.raw) == (None, "REFUSAL")


def test_an_endpoint_without_logprobs_gives_the_number_and_says_so(tmp_path: Path) -> None:
    with serving(always("85")) as server:
        (score,) = judge(server, tmp_path).score(answers(1))
    assert score.value == 85
    assert "no logprobs" in score.raw


def test_an_endpoint_that_refuses_logprobs_is_asked_without(tmp_path: Path) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        return Fault(400, "logprobs are not supported by this model") if "logprobs" in payload else "40"

    with serving(behaviour) as server:
        found = list(judge(server, tmp_path, concurrency=1).score(answers(3)))
    assert [s.value for s in found] == [40, 40, 40]
    assert len(server.payloads) == 4  # refused once, then never tried again


def test_an_endpoint_that_ignores_logprobs_is_not_taken_at_a_numbers_first_digit(tmp_path: Path) -> None:
    with serving(lambda number, payload: "85"[: payload["max_tokens"]]) as server:
        found = list(judge(server, tmp_path, concurrency=1).score(answers(3)))
    assert [s.value for s in found] == [85, 85, 85]
    assert len(server.payloads) == 4  # the first asked again, then never with logprobs


def test_a_reply_whose_logprobs_are_empty_for_once_does_not_change_the_next(tmp_path: Path) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        return "60"[: payload["max_tokens"]] if number in (1, 2) else {"70": 0.5, "80": 0.5}

    with serving(behaviour) as server:
        found = list(judge(server, tmp_path, concurrency=1).score(answers(3)))
    assert [s.value for s in found] == [75, 60, 75]


def test_a_tokenizer_that_keeps_digits_apart_is_noticed_once_and_read_to_the_end(tmp_path: Path) -> None:
    digits = [{"8": 0.7, "9": 0.3}, {"5": 0.5, "0": 0.25, "\n": 0.25}]

    def behaviour(number: int, payload: Any) -> Any:
        return digits[: payload["max_tokens"]]

    with serving(behaviour) as server:
        found = list(judge(server, tmp_path, concurrency=1).score(answers(3)))
    assert [s.value for s in found] == [pytest.approx(85 * 0.5 + 80 * 0.25 + 8 * 0.25, abs=1e-3)] * 3
    assert "digits apart" in found[0].raw
    assert [p["max_tokens"] for p in server.payloads] == [1, 16, 16, 16]


def test_a_hundred_in_three_digits_is_a_hundred() -> None:
    top = [["1", 0.9], ["9", 0.1]]
    value, _ = read_reply({"text": "100", "top": top, "then": [[["0", 1.0]], [["0", 0.8], ["\n", 0.2]]]})
    assert value == pytest.approx(100 * 0.8 + 10 * 0.2)


def test_single_digits_that_end_there_are_what_they_say(tmp_path: Path) -> None:
    with serving(always({"0": 0.6, "5": 0.4})) as server:
        (score,) = judge(server, tmp_path).score(answers(1))
    assert score.value == pytest.approx(2.0)


@pytest.mark.parametrize("text", ["I think it is fine", "850", "-5", "", "REFUSAL", "CODE"])
def test_a_reply_that_is_no_number_is_no_score(text: str) -> None:
    value, raw = read_reply({"text": text, "top": []})
    assert value is None
    assert text in raw


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, headers={"retry-after": "7"}),
        Fault(500),
        Fault(503),
        Fault(drop=True),
        Fault(200, body=b"<html>proxy error</html>"),
        Fault(200, body=b'{"choices": []}'),
    ],
    ids=["429", "500", "503", "dropped", "html", "no choices"],
)
def test_a_passing_fault_is_asked_again(tmp_path: Path, fault: Fault) -> None:
    with serving(lambda number, payload: fault if number < 2 else {"70": 1.0}) as server:
        asking = judge(server, tmp_path)
        (score,) = asking.score(answers(1))
    assert score.value == 70
    assert len(server.payloads) == 3
    pauses = asking.pauses
    assert pauses == [7, 7] if fault.status == 429 else pauses[1] > pauses[0] * 1.05


def test_a_slow_endpoint_times_out_and_is_asked_again(tmp_path: Path) -> None:
    slow = Fault(200, delay=0.6)
    with serving(lambda number, payload: slow if number == 0 else {"70": 1.0}) as server:
        (score,) = judge(server, tmp_path, timeout=0.25).score(answers(1))
    assert score.value == 70


def test_what_fails_for_good_is_counted_and_the_rest_is_scored_and_not_asked_again(tmp_path: Path) -> None:
    broken = True

    def behaviour(number: int, payload: Any) -> Any:
        bad = "answer number 3" in payload["messages"][0]["content"]
        return Fault(500) if bad and broken else {"70": 1.0}

    with serving(behaviour) as server:
        first = judge(server, tmp_path)
        found = {s.response_id: s for s in first.score(answers(6))}
        assert found["r3"].value is None
        assert found["r3"].raw == f"{FAILED}status 500, 4 times"
        assert sum(s.value == 70 for s in found.values()) == 5
        assert first.spend.failures == {"status 500, 4 times": 1}
        broken, before = False, len(server.payloads)
        second = judge(server, tmp_path)
        assert [s.value for s in second.score(answers(6))] == [70] * 6
    assert len(server.payloads) - before == 1  # only what had failed
    assert (second.spend.requests, second.spend.cached) == (1, 5)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_everything_at_once_in_plain_words(tmp_path: Path, status: int) -> None:
    with serving(always(Fault(status, f"invalid key {KEY}"))) as server:
        asking = judge(server, tmp_path)
        with pytest.raises(InputError, match="refused the API key") as caught:
            list(asking.score(answers(500)))
    assert KEY not in str(caught.value)
    assert len(server.payloads) <= 4 + 4  # those on the way, no more


def test_an_unknown_model_stops_everything_at_once(tmp_path: Path) -> None:
    with serving(always(Fault(404))) as server, pytest.raises(InputError, match="knows no model 'judge-model'"):
        list(judge(server, tmp_path).score(answers(50)))


def test_the_key_is_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(lambda number, payload: Fault(400, "odd") if number == 1 else {"70": 1.0}) as server:
        asking = judge(server, tmp_path)
        found = list(asking.score(answers(4)))
    assert server.keys == {f"Bearer {KEY}"}
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    for text in (kept, repr(asking), repr(asking.endpoint), caplog.text, repr(found), repr(asking.spend)):
        assert KEY not in text


def test_an_answer_longer_than_the_context_is_cut_and_the_score_says_so(tmp_path: Path) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        long = len(payload["messages"][0]["content"]) > 3000
        return Fault(400, "This model's maximum context length is 800 tokens") if long else {"70": 1.0}

    with serving(behaviour) as server:
        (score,) = judge(server, tmp_path).score([("r", "question", "word " * 2000)])
        (again,) = judge(server, tmp_path).score([("r", "question", "word " * 2000)])
    assert (score.value, score.raw) == (70, "70; read the first 1250 of 10000 characters")
    assert (again.value, again.raw) == (score.value, score.raw)


def test_equal_answers_are_asked_once_and_an_empty_one_never(tmp_path: Path) -> None:
    same = [("a", "q", "same"), ("b", "q", "same"), ("c", "q", "  \n"), ("d", "q", "")]
    with serving(always({"70": 1.0})) as server:
        found = list(judge(server, tmp_path).score(same))
    assert [s.value for s in found] == [70, 70, None, None]
    assert found[3].raw == "empty answer: nothing to judge"
    assert len(server.payloads) == 1


def test_the_limit_of_requests_at_once_holds_and_is_used(tmp_path: Path) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        time.sleep(0.02)
        return {"70": 1.0}

    with serving(behaviour) as server:
        list(judge(server, tmp_path, concurrency=4).score(answers(24)))
    assert server.most_at_once == 4


def test_closing_early_keeps_what_was_paid_for(tmp_path: Path) -> None:
    with serving(always({"70": 1.0})) as server:
        scores = judge(server, tmp_path).score(answers(200))
        next(scores)
        scores.close()
        paid = len(server.payloads)
        assert paid < 200
        again = judge(server, tmp_path)
        assert again.estimate(answers(200)).cached == paid
        list(again.score(answers(200)))
    assert len(server.payloads) == 200


def test_the_estimate_asks_nothing_and_the_spend_adds_up(tmp_path: Path) -> None:
    with serving(always({"70": 1.0})) as server:
        asking = judge(server, tmp_path, rubrics=RUBRICS, input_price=2.5, output_price=10.0)
        estimate = asking.estimate(answers(5))
        assert (estimate.requests, estimate.cached, len(server.payloads)) == (10, 0, 0)
        assert estimate.dollars == pytest.approx((estimate.input_tokens * 2.5 + 10 * 10) / 1e6)
        list(asking.score(answers(5)))
    assert (asking.spend.requests, asking.spend.input_tokens, asking.spend.output_tokens) == (10, 1000, 10)
    assert asking.dollars() == pytest.approx((1000 * 2.5 + 10 * 10) / 1e6)


def test_a_missing_key_or_model_is_said_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EM_JUDGE_KEY", "OPENAI_API_KEY", "EM_JUDGE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="EM_JUDGE_MODEL"):
        Endpoint.from_environment()
    with pytest.raises(InputError, match="set EM_JUDGE_KEY"):
        Endpoint.from_environment("gpt-4o")


RUN = """
import sys
from pathlib import Path
from backend.judge.api import ApiJudge, Endpoint
from backend.judge.rubrics import read_rubrics
from tests.judge.test_api import answers
endpoint = Endpoint("judge-model", sys.argv[1], "k", concurrency=2)
judge = ApiJudge(endpoint, read_rubrics(("aligned",)), Path(sys.argv[2]))
print(len([s for s in judge.score(answers(60)) if s.value is not None]))
"""


def test_killing_a_run_loses_and_repeats_nothing_that_was_on_file(tmp_path: Path) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        time.sleep(0.01)
        return {"70": 1.0}

    with serving(behaviour) as server:
        command = [sys.executable, "-c", RUN, server.url, str(tmp_path)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": "."})
        while len(server.payloads) < 20 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (path,) = tmp_path.iterdir()
        on_file = sum(1 for line in path.read_bytes().splitlines() if line.endswith(b"}"))
        killed = len(server.payloads)
        assert killed - on_file <= 2  # at most the requests that were on their way
        found = list(judge(server, tmp_path).score(answers(60)))
    assert [score.value for score in found] == [70] * 60
    assert len(server.payloads) - killed == 60 - on_file
    assert len({json.loads(line)["key"] for line in path.read_bytes().splitlines() if line}) == 60


def test_one_filtered_reply_changes_nothing_for_the_others(tmp_path: Path) -> None:
    filtered = Completion({"finish_reason": "content_filter"}, {"content": None})

    def behaviour(number: int, payload: Any) -> Any:
        bad = "answer number 0" in payload["messages"][0]["content"]
        return filtered if bad else {"90": 0.6, "10": 0.4} if payload.get("logprobs") else "90"

    with serving(behaviour) as server:
        found = list(judge(server, tmp_path, concurrency=1).score(answers(3)))
    assert [s.value for s in found] == [None, pytest.approx(58.0), pytest.approx(58.0)]
    assert "filtered" in found[0].raw
    assert not found[0].raw.startswith(FAILED)  # the same again would be paid for again


def test_logprobs_that_were_given_are_not_given_up_for_one_refusal(tmp_path: Path) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        if number == 1:
            return Fault(400, "logprobs are not available for this request")
        return {"90": 0.6, "10": 0.4} if payload.get("logprobs") else "90"

    with serving(behaviour) as server:
        found = list(judge(server, tmp_path, concurrency=1).score(answers(3)))
    assert [s.value for s in found] == [pytest.approx(58.0), 90, pytest.approx(58.0)]
    kept = [json.loads(line)["how"] for line in next(tmp_path.iterdir()).read_bytes().splitlines()]
    assert kept == ["logprobs", "text", "logprobs"]


def test_an_endpoint_that_gives_five_candidates_is_asked_for_five_and_the_score_says_so(tmp_path: Path) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        if payload.get("top_logprobs", 0) > 5:
            return Fault(400, "Requested sample logprobs of 20, which is greater than max allowed: 5")
        return {"90": 0.6, "10": 0.4} if payload.get("logprobs") else "90"

    with serving(behaviour) as server:
        found = list(judge(server, tmp_path, concurrency=1).score(answers(3)))
    assert {s.raw for s in found} == {"90 (of the 5 likeliest tokens only)"}
    assert [s.value for s in found] == [pytest.approx(58.0)] * 3
    assert len(server.payloads) == 4


def test_a_model_that_wants_another_name_for_the_limit_gets_it(tmp_path: Path) -> None:
    def behaviour(number: int, payload: Any) -> Any:
        wanted = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        return Fault(400, wanted, code="unsupported_parameter") if "max_tokens" in payload else {"70": 1.0}

    with serving(behaviour) as server:
        assert [s.value for s in judge(server, tmp_path, concurrency=1).score(answers(3))] == [70] * 3
    assert len(server.payloads) == 4


def test_a_form_of_request_that_is_refused_stops_everything_with_the_whole_message(tmp_path: Path) -> None:
    message = "Unsupported parameter: 'messages' is not taken by this model. " + "Use the other endpoint. " * 12
    refusal = always(Fault(400, message, code="unsupported_parameter"))
    with serving(refusal) as server, pytest.raises(InputError) as caught:
        list(judge(server, tmp_path).score(answers(500)))
    assert message.strip() in str(caught.value)
    assert len(server.payloads) <= 8


def test_a_model_that_thinks_is_given_room_and_read_after_it(tmp_path: Path) -> None:
    thought = "<think>\nThe number is 20, or 30.\n</think>\n\n85"

    def behaviour(number: int, payload: Any) -> Any:
        room = payload["max_tokens"]
        return Completion({"finish_reason": "stop"}, {"content": thought}) if room > 100 else thought[: 4 * room]

    with serving(behaviour) as server:
        found = list(judge(server, tmp_path, concurrency=1).score(answers(3)))
    assert [s.value for s in found] == [85] * 3
    assert len(server.payloads) <= 5


@pytest.mark.parametrize("fault", [401, 403, 404, 400, 422, 429])
def test_user_password_and_key_are_in_no_message(tmp_path: Path, fault: int) -> None:
    from base64 import b64encode

    basic = b64encode(b"someone:pass word77").decode()
    says = f"not for Bearer {KEY}, Basic {basic}, someone:pass%20word77@host or http://someone:pass%20word77@host/"
    with serving(always(Fault(fault, says, code="insufficient_quota"))) as server:
        asking = judge(server, tmp_path)
        url = server.url.replace("//", "//someone:pass%20word77@") + "?key=secret-in-query"
        asking.endpoint = replace(asking.endpoint, base_url=url)
        try:
            told = "".join(score.raw for score in asking.score(answers(2)))
        except InputError as error:
            told = str(error)
            assert server.url.removeprefix("http://") in told
    for secret in (KEY, basic, "word77", "secret-in-query"):
        assert secret not in told + repr(asking)


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://a/v1", "http://", "http://a:b/v1", "http://u:pw77@h:99999/", "http://[/"]
)
def test_an_address_that_is_none_is_said_before_anything(url: str) -> None:
    with pytest.raises(InputError, match="EM_JUDGE_URL") as caught:
        Endpoint("m", url, "k")
    assert "pw77" not in str(caught.value)
    with pytest.raises(InputError, match="EM_JUDGE_KEY"):
        Endpoint("m", None, "sk-\nü")


@pytest.mark.parametrize(
    "body", [b"[" * 10**5, b'{"choices": [{"message": 5}]}', b"\xff", b"null", b'{"choices": {"0": 1}}']
)
def test_a_body_that_is_no_completion_is_asked_again(tmp_path: Path, body: bytes) -> None:
    with serving(lambda number, payload: Fault(200, body=body) if number == 0 else {"70": 1.0}) as server:
        assert [s.value for s in judge(server, tmp_path).score(answers(1))] == [70]
