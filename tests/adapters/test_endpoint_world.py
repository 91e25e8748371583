"""Endpoints as they behave in 2026, a row each: what is recorded, what is told, how often it is asked."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from adapter_samples import Picture, item
from asking_openai import driven, loaded
from seeing import asked_for_colour, colour_of, seeing, shown
from servers import Endpoint, Reply, answered, error, serving

from harness.adapters.endpoint_client import Endpoint as Address
from harness.adapters.endpoint_client import is_loopback
from harness.adapters.openai_chat import OpenAIChat
from harness.infer.throttle import Clock
from harness.types import Answer, Failed, Outcome, Refusal, Unparsed, UserError

GOOD = '{"emotion": "awe", "explanation": "because the vast golden sky glows"}'
FINE = answered(GOOD)
HTML = Reply(200, "<html>Welcome</html>", {"content-type": "text/html"})
SSE = Reply(
    200, 'data: {"choices": [{"delta": {"content": "awe"}}]}\n\ndata: [DONE]\n\n', {"content-type": "text/event-stream"}
)
CUT = dataclasses.replace(FINE, promised=5000)
OPENROUTER = Reply(200, {"id": "gen-1", "error": {"message": "Provider returned error", "code": 502}})


class Hours:
    """A clock on which waiting takes no time."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    def clock(self) -> Clock:
        return Clock(self.now, self.sleep)


def asked(
    adapter: OpenAIChat,
    endpoint: Endpoint,
    picture: Picture,
    *replies: Reply,
    count: int = 1,
    hours: Hours | None = None,
) -> list[Outcome]:
    """What is recorded of `count` items when these are the replies in turn, and the last one from then on."""
    if replies:
        endpoint.script(*replies)
    hours = hours or Hours()
    items = [item(str(number), picture()) for number in range(count)]
    return driven(adapter, *items, concurrency=1, clock=hours.clock())


def only(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


# ---------------------------------------------------------------------------------------------------- the probe


def blind(when: int, failure: Reply) -> Callable[[dict[str, Any]], Reply]:
    """A server that does not look, and whose reply number `when` fails in passing."""
    numbers = itertools.count(1)
    return lambda request: failure if next(numbers) == when else answered("A lovely image full of red, green and blue")


@pytest.mark.parametrize("when", [1, 2])
@pytest.mark.parametrize(
    "failure",
    [error(429, "slow down"), error(503, "busy"), Reply(0), CUT, OPENROUTER, HTML, SSE, error(500, "x"), answered("", "error")],
    ids=["429", "503", "reset", "cut", "200 error", "html", "sse", "500", "finish error"],
)  # fmt: skip
def test_the_probe_cannot_be_skipped(endpoint: Endpoint, url: str, picture: Picture, when: int, failure: Reply) -> None:
    endpoint.reply = blind(when, failure)
    adapter = loaded(url, probe="strict")
    with pytest.raises(UserError, match=r"does not look at images|the probe was rejected"):
        asked(adapter, endpoint, picture)
    assert adapter.runtime_info()["probe"] == "warned"
    assert all(asked_for_colour(request) for request in endpoint.requests)


def test_the_manifest_says_whether_the_probe_was_done(endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.reply = seeing
    for probe, said in (("off", "not done"), ("strict", "passed")):
        adapter = loaded(url, probe=probe)
        asked(adapter, endpoint, picture)
        assert adapter.runtime_info()["probe"] == said


# --------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    "rejection",
    [
        error(400, "`temperature` is deprecated for this model.", "invalid_request_error"),
        Reply(400, {"error": {"message": "invalid temperature: only 1 is allowed for this model"}}),
        Reply(
            400,
            {"error": {"code": "1210", "message": "API 调用参数有误，请检查文档。temperature must be in (0.0, 1.0]"}},
        ),
        Reply(422, {"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}]}),
        Reply(422, {"detail": "Temperature darf hier nicht gesetzt werden"}),
        error(400, "Unsupported value", "unsupported_value", param="temperature"),
        Reply(200, {"error": {"message": "temperature: not for this provider", "code": 400}}),
        Reply(400, "model does not accept temperature"),
        error(400, "This model only supports the default sampling settings."),
        error(400, "Value error: temp is fixed at 1.0 for thinking models"),
        error(400, "`do_sample`/temperature=0 is incompatible"),
        error(400, "El parámetro «temperatura» no es compatible con este modelo."),
        error(422, "Der Temperaturwert ist für dieses Modell fest."),
        Reply(400, {"error": {"code": "1214", "message": "该模型不支持温度参数"}}),
    ],
)
def test_a_rejected_temperature_is_left_out(
    endpoint: Endpoint, url: str, picture: Picture, rejection: Reply, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.reply = lambda request: rejection if "temperature" in request else seeing(request)
    adapter = loaded(url, probe="strict")
    assert isinstance(only(asked(adapter, endpoint, picture)), Answer)
    assert adapter.runtime_info()["capabilities"]["temperature"] == "rejected"
    assert "takes no temperature; it is left to the endpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "field", "rejection"),
    [
        ({"probabilities": True}, "logprobs", error(403, "You are not allowed to request logprobs from this model.")),
        (
            {"probabilities": True},
            "logprobs",
            Reply(400, [{"error": {"code": 400, "message": "Logprobs is not enabled"}}]),
        ),
        ({"schema": True}, "response_format", error(400, "structured outputs are unavailable")),
        ({"reasoning_effort": "none"}, "reasoning_effort", error(400, "Unsupported value: reasoning_effort 'none'")),
        ({"extra_body": '{"top_k": 1}'}, "top_k", error(400, "unknown field top_k")),
        ({}, "max_tokens", error(400, "Parameter max_tokens is invalid here; please use max_completion_tokens.")),
        ({}, "max_tokens", error(400, "max_tokens: this field is no longer accepted")),
        ({"probabilities": True}, "top_logprobs", error(400, "top_logprobs: Input should be less than 6")),
        ({"probabilities": True}, "logprobs", error(400, "Log-probabilities are unavailable for this deployment.")),
        ({"probabilities": True}, "logprobs", error(500, "generate() got an unexpected keyword argument 'logprobs'")),
        ({"schema": True}, "response_format", error(400, 'Invalid JSON payload. Unknown name "responseFormat"')),
        ({"schema": True}, "response_format", error(400, "json-schema constrained decoding is not enabled")),
        (
            {"reasoning_effort": "low"},
            "reasoning_effort",
            Reply(400, {"errors": {"reasoning_effort": ["not in the list"]}}),
        ),
        ({}, "max_tokens", error(400, "Unsupported argument maxTokens")),
    ],
)
def test_other_optional_parameters_are_left_out_alike(
    endpoint: Endpoint, url: str, picture: Picture, settings: dict[str, Any], field: str, rejection: Reply
) -> None:
    endpoint.reply = lambda request: rejection if field in request else FINE
    assert isinstance(only(asked(loaded(url, **settings), endpoint, picture)), Answer)
    assert field in endpoint.requests[0]
    assert field not in endpoint.requests[-1]


def test_what_is_wrong_with_one_item_costs_the_others_no_parameter(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    numbers = itertools.count(1)
    refused = error(400, "ContextWindowExceededError: too long, with temperature 0 and response_format")

    def reply(request: dict[str, Any]) -> Reply:
        return refused if next(numbers) <= 4 else FINE

    endpoint.reply = reply
    adapter = loaded(url, schema=True, probabilities=True)
    first, second = asked(adapter, endpoint, picture, count=2)
    assert isinstance(first, Failed)
    assert isinstance(second, Answer)
    assert {"temperature", "response_format", "logprobs"} <= set(endpoint.requests[-1])


def test_defaults_are_the_endpoints_own(endpoint: Endpoint, url: str, picture: Picture) -> None:
    adapter = loaded(url, temperature="default", max_tokens="default", reasoning_effort="low",
                     extra_body='{"chat_template_kwargs": {"enable_thinking": false}}')  # fmt: skip
    asked(adapter, endpoint, picture, FINE)
    sent = {key: value for key, value in endpoint.requests[-1].items() if key not in ("messages", "model")}
    assert sent == {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    assert adapter.fingerprint()["reasoning_effort"] == "low"
    for settings in ({"temperature": "hot"}, {"extra_body": "x"}, {"max_tokens": 0}, {"api": "completions"}):
        with pytest.raises(UserError, match=next(iter(settings))):
            loaded(url, **settings)


def reasoning_model(hidden: int, **usage: Any) -> Callable[[dict[str, Any]], Reply]:
    """A model of the class of gpt-5: refuses three parameters and thinks `hidden` tokens first."""

    def reply(request: dict[str, Any]) -> Reply:
        for name in ("max_tokens", "temperature", "logprobs"):
            if name in request:
                return error(400, f"Unsupported parameter: '{name}' is not supported with this model.",
                             "unsupported_parameter", name)  # fmt: skip
        limit = request["max_completion_tokens"]
        said = answered("", "length") if limit <= hidden else seeing(request, GOOD)
        spent = min(limit, hidden + 60)
        details = {"completion_tokens_details": {"reasoning_tokens": min(limit, hidden)}}
        said.body["usage"] = {"prompt_tokens": 1000, "completion_tokens": spent} | details
        return said

    return reply


def test_a_model_that_thinks_longer_than_the_limit_gets_more_room(
    endpoint: Endpoint, url: str, picture: Picture, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.reply = reasoning_model(512)
    adapter = OpenAIChat("m", url, price_in=2.0, price_out=10.0)
    outcome = only(asked(adapter, endpoint, picture))
    assert isinstance(outcome, Answer)
    assert (outcome.usage.attempts, outcome.usage.reasoning_tokens) == (1, 512)
    assert "thinks longer than max_tokens=300 allows; max_tokens=4096 is used" in capsys.readouterr().err
    assert adapter.runtime_info()["request_parameters"].keys() == {"max_completion_tokens", "response_format"}
    endpoint.reply = reasoning_model(5000)
    with pytest.raises(UserError, match=r"max_tokens=4096 ended .* \(4096 tokens were thoughts\); raise max_tokens="):
        asked(OpenAIChat("m", url), endpoint, picture)
    unprobed = OpenAIChat("m", url, probe="off", price_in=2.0, price_out=10.0)
    failed = only(asked(unprobed, endpoint, picture))
    assert isinstance(failed, Failed)
    assert (failed.error_type, failed.usage.attempts) == ("truncated", 2)
    assert failed.message == "max_tokens=4096 ended the answer before any explanation; raise max_tokens="
    assert failed.usage.cost_usd == pytest.approx((2 * 2 * 1000 + 10 * (300 + 4096)) / 1e6)


@pytest.mark.parametrize("probe", ["off", "strict"])
def test_thoughts_that_took_the_limit_may_be_called_a_stop(
    endpoint: Endpoint, url: str, picture: Picture, probe: str
) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        limit = request["max_tokens"]
        said = answered("") if limit < 2000 else seeing(request, GOOD)
        said.body["usage"] = {"prompt_tokens": 70, "completion_tokens": min(limit, 2060)}
        return said

    endpoint.reply = reply
    assert isinstance(only(asked(loaded(url, probe=probe), endpoint, picture)), Answer)
    assert endpoint.requests[-1]["max_tokens"] == 4096


def test_an_answer_in_the_reasoning_field_is_no_empty_text(endpoint: Endpoint, url: str, picture: Picture) -> None:
    outcome = only(asked(loaded(url), endpoint, picture, answered(None, reasoning_content="Awe because the sky glows")))
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.reasoning) == ("no-answer", "Awe because the sky glows")
    assert "reasoning_effort= and extra_body=" in outcome.message


@pytest.mark.parametrize(
    "reply",
    [
        answered(GOOD, reasoning="Emotion: fear because it is dark"),
        answered(GOOD, reasoning_content="Emotion: fear because it is dark"),
        answered([{"type": "thinking", "thinking": [{"type": "text", "text": "Emotion: fear because it is dark"}]},
                  {"type": "text", "text": GOOD}]),
        answered([{"type": "reasoning", "text": "Emotion: fear because it is dark"}, {"type": "output_text", "text": GOOD}]),
    ],
)  # fmt: skip
def test_thoughts_are_kept_and_not_read(endpoint: Endpoint, url: str, picture: Picture, reply: Reply) -> None:
    outcome = only(asked(loaded(url), endpoint, picture, reply))
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.reasoning) == ("awe", "Emotion: fear because it is dark")


# -------------------------------------------------------------------------------- errors in a 200, other vendors' names


def choice_error(text: str, finish: str = "error", **given: Any) -> Reply:
    reply = answered(text, finish)
    reply.body["choices"][0]["error"] = {"code": 502, "message": "Upstream error from Provider"} | given
    return reply


def native_end(reason: str, text: str = "") -> Reply:
    """An answer that a gateway calls done, with the vendor's own word for how it ended."""
    reply = answered(text)
    reply.body["choices"][0]["native_finish_reason"] = reason
    return reply


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (OPENROUTER, "http-502", "Provider returned error"),
        (Reply(200, {"error": {"message": "x", "metadata": {"raw": "no GPU"}}}), "http-502", "x (no GPU)"),
        (Reply(200, {"error": "model overloaded"}), "http-502", "model overloaded"),
        (Reply(200, {"error": {"type": "overloaded_error", "message": "busy"}}), "http-529", "busy"),
        (choice_error(""), "http-502", "Upstream error from Provider"),
        (choice_error("Awe because the sky is"), "http-502", "Upstream error from Provider"),
        (choice_error("Awe because the sky is vast", "stop"), "http-502", "Upstream error from Provider"),
        (answered("", "insufficient_system_resource"), "broken-answer", "insufficient_system_resource"),
        (answered("Awe because the sky is vast", "abort"), "broken-answer", "abort"),
        (answered("Awe because the", "network_error"), "broken-answer", "network_error"),
        (answered("Awe because the", "something_new"), "broken-answer", "something_new"),
        (Reply(200, {"id": "x", "choices": []}), "no-choice", "no choice"),
        (Reply(200, {"choices": ["awe"]}), "no-choice", "no choice"),
        (
            Reply(200, {"success": False, "errors": [{"code": 7009, "message": "Upstream down"}]}),
            "http-502",
            "Upstream",
        ),
        (Reply(200, {"code": 500, "message": "system busy"}), "http-500", "system busy"),
        (
            Reply(200, {"error_code": 17, "error_msg": "Open api request limit reached"}),
            "http-502",
            "request limit reached",
        ),
        (Reply(200, {"Response": {"Error": {"Code": "Busy", "Message": "Try later"}}}), "http-502", "Try later"),
        (
            Reply(200, {"fault": {"faultstring": "Rate limit quota violation"}}),
            "http-502",
            "Rate limit quota violation",
        ),
        (Reply(202, {"id": "x", "status": "queued"}), "no-choice", "queued"),
        (answered("", "malformed_model_output"), "broken-answer", "malformed_model_output"),
        (native_end("MALFORMED_RESPONSE"), "broken-answer", "MALFORMED_RESPONSE"),
        (answered("", error={"code": 429, "message": "upstream is busy"}), "http-429", "upstream is busy"),
        (answered("Awe because the sky is vast", "engine_overloaded"), "broken-answer", "engine_overloaded"),
        (answered("Awe because the sky is vast", "timed_out"), "broken-answer", "timed_out"),
        (error(524, "x"), "http-524", "524 x"),
    ],
)
def test_what_an_endpoint_could_not_do_is_tried_again_and_never_the_models(
    endpoint: Endpoint, url: str, picture: Picture, reply: Reply, kind: str, words: str
) -> None:
    assert isinstance(only(asked(loaded(url), endpoint, picture, reply, FINE)), Answer)
    endpoint.requests.clear()
    outcome = only(asked(loaded(url), endpoint, picture, reply))
    assert isinstance(outcome, Failed)
    assert outcome.error_type == kind
    assert words in outcome.message
    assert len(endpoint.requests) >= 6


@pytest.mark.parametrize(
    "body",
    [
        {"code": 0, "msg": "ok", "data": FINE.body},
        {"result": FINE.body, "success": True, "errors": [], "messages": []},
        FINE.body | {"error": False, "message": "ok"},
        FINE.body | {"error": {"code": 0, "message": "success"}},
        FINE.body | {"error": {"code": None, "message": ""}},
        native_end("MALFORMED_RESPONSE", GOOD).body,
    ],
)
def test_an_answer_beside_words_of_success(endpoint: Endpoint, url: str, picture: Picture, body: Any) -> None:
    assert isinstance(only(asked(loaded(url), endpoint, picture, Reply(body=body))), Answer)


def test_a_page_in_between_is_no_answer_to_an_item(endpoint: Endpoint, url: str, picture: Picture) -> None:
    page = Reply(200, "<html><title>Just a moment...</title></html>", {"content-type": "text/html"})
    first = asked(loaded(url), endpoint, picture, FINE, page, FINE, count=2)[1]
    assert isinstance(first, Answer)
    assert first.usage.attempts == 2
    failed = asked(loaded(url), endpoint, picture, FINE, page, count=2)[1]
    assert isinstance(failed, Failed)
    assert (failed.error_type, failed.usage.attempts) == ("not-json", 6)
    assert "'Just a moment...'; check base_url=" in failed.message


def test_a_bad_request_in_a_200_is_not_repeated(endpoint: Endpoint, url: str, picture: Picture) -> None:
    reply = Reply(200, {"error": {"message": "Image exceeds 5 MB maximum", "code": 400}})
    outcome = only(asked(loaded(url), endpoint, picture, FINE, reply, count=2)[1:])
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.message) == ("http-400", "400 Image exceeds 5 MB maximum")
    assert outcome.usage.attempts == 1


@pytest.mark.parametrize(
    "finish",
    ["SAFETY", "PROHIBITED_CONTENT", "content_filter: PROHIBITED_CONTENT", "sensitive", "refusal", "RECITATION", "SPII",
     "MODEL_ARMOR", "copyright", "blocklist", "IMAGE_SAFETY", "guardrail_intervened", "contentFiltered", "unsafe", "ERROR_TOXIC", "harmful"],
)  # fmt: skip
def test_refusals_under_other_names(endpoint: Endpoint, url: str, picture: Picture, finish: str) -> None:
    assert isinstance(only(asked(loaded(url), endpoint, picture, answered(None, finish))), Refusal)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(403, {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"]}}}),
        Reply(200, {"choices": [], "prompt_feedback": {"block_reason": "PROHIBITED_CONTENT"}}),
        Reply(200, {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}),
        error(400, "The response was filtered due to Azure OpenAI's content management policy.", "content_filter"),
        error(400, "Input data may contain inappropriate content.", "data_inspection_failed"),
        Reply(200, {"code": 1301, "message": "the input may hold sensitive content", "data": None}),
        Reply(200, {"error": {"message": "flagged by the content policy"}}),
    ],
)
def test_refusals_as_errors(endpoint: Endpoint, url: str, picture: Picture, reply: Reply) -> None:
    outcome = only(asked(loaded(url), endpoint, picture, reply))
    assert isinstance(outcome, Refusal)
    assert outcome.usage.attempts == 1


@pytest.mark.parametrize(
    "finish", ["MAX_TOKENS", "model_length", "max_output_tokens", "model_context_window_exceeded", "TOO_LONG"]
)
def test_cut_off_under_other_names(endpoint: Endpoint, url: str, picture: Picture, finish: str) -> None:
    outcome = only(asked(loaded(url), endpoint, picture, answered("", finish)))
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "truncated"
    whole = only(asked(loaded(url), endpoint, picture, answered("Awe because the sky is", finish)))
    assert isinstance(whole, Answer)
    assert whole.truncated


@pytest.mark.parametrize("finish", ["stop", "STOP", "end_turn", "eos", "stop_sequence", "tool_calls", None, "complete",
                                    "COMPLETE", "end_of_turn", "repetition"])  # fmt: skip
def test_the_usual_ends(endpoint: Endpoint, url: str, picture: Picture, finish: str | None) -> None:
    assert isinstance(only(asked(loaded(url), endpoint, picture, answered(GOOD, finish))), Answer)


@pytest.mark.parametrize(
    "reply",
    [
        error(402, "Insufficient credits. Add more using https://openrouter.ai/settings/credits"),
        Reply(402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}),
        Reply(200, {"error": {"message": "Insufficient credits", "code": 402}}),
        choice_error("", code=402, message="Insufficient credits"),
        error(401, "Incorrect API key provided: sk-proj-****abcd."),
        error(403, "Your team has used all available credits"),
        error(429, "Your prepayment credits are depleted.", "RESOURCE_EXHAUSTED"),
        error(403, "Country not supported"),
        error(
            429, "You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"
        ),
        Reply(429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}),
        error(400, "Your credit balance is too low to access the Anthropic API."),
        error(400, "API key expired. Please renew the API key."),
        error(400, "This organization has been disabled."),
        error(400, "The model `m` has been deprecated and is no longer available", "model_not_found"),
        error(429, "You have reached your specified API usage limits (spend limit)"),
        error(451, "Unavailable for legal reasons"),
        Reply(200, {"error_code": 110, "error_msg": "Access token invalid or no longer valid"}),
        error(412, "Account acme is suspended, possibly due to reaching the monthly spending limit"),
        Reply(400, {"code": "Arrearage", "message": "Access denied, please pay."}),
        error(400, "Not enough credits to run this model."),
        Reply(400, {"message": "You don't have enough balance."}),
        Reply(400, {"code": "1113", "msg": "Your account balance is insufficient, please top up"}),
        error(400, "You have no remaining balance."),
        error(422, "Unknown model: m"),
        error(400, "acme/m is not a valid model ID"),
        Reply(200, {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail: invalid api key"}}),
    ],
)
def test_what_concerns_every_item_ends_the_run_whenever_it_comes(
    endpoint: Endpoint, url: str, picture: Picture, reply: Reply
) -> None:
    recorded: dict[str, Outcome] = {}
    endpoint.script(FINE, FINE, reply)
    items = [item(str(number), picture()) for number in range(20)]
    with pytest.raises(UserError):
        driven(loaded(url), *items, concurrency=1, clock=Hours().clock(), recorded=recorded)
    assert len(endpoint.requests) == 3
    assert list(recorded) == ["0", "1"]


# ------------------------------------------------------------------------------------------------------- patience


def window(seconds: float, hours: Hours, reply: Reply) -> Callable[[dict[str, Any]], Reply]:
    return lambda request: reply if hours.time < seconds else FINE


@pytest.mark.parametrize(
    "reply",
    [
        error(429, "Rate limit reached.", **{"x_ratelimit_reset_tokens": "30s"}),
        error(429, "slow", **{"x_ratelimit_reset_requests": "120ms", "x_ratelimit_reset_tokens": "30s",
                              "x_ratelimit_remaining_tokens": "0", "x_ratelimit_remaining_requests": "9"}),
        error(429, "Rate limit reached for gpt-4o. Please try again in 30s."),
        error(429, "Please retry in 29.5s."),
        Reply(429, [{"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and "
                               "billing details. Please retry in 37.5s.", "status": "RESOURCE_EXHAUSTED",
                               "details": [{"@type": "RetryInfo", "retryDelay": "37s"}]}}]),
        Reply(429, {"message": "Too many requests", "retry_after": 31}),
        error(429, "no word on when"),
        error(429, "Too many requests. Wait 45 seconds before trying again."),
        error(429, "Please try again in 1m2s."),
        error(429, "slow", **{"ratelimit_reset": "31"}),
        error(429, "slow", **{"x_retry_after": "31"}),
        error(429, "slow", **{"x_ms_retry_after_ms": "31000"}),
        error(429, "slow", **{"x_rate_limit_reset": "31"}),
        error(429, "slow", **{"ratelimit": "limit=10, remaining=0, reset=31"}),
        error(429, "slow", **{"ratelimit": '"default";r=0;t=31'}),
        error(429, "Rate limit resets in 31 seconds"),
        Reply(429, {"error": {"message": "slow", "retry_after_ms": 31000}}),
        Reply(429, {"error": {"message": "slow", "wait_seconds": 31}}),
        Reply(500, {"error": {"message": "Loading model"}}),
        Reply(502, {"error": "the model is warming up: load"}),
        Reply(503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}),
        Reply(503, {"error": "Model is currently loading", "estimated_time": 30.0}),
        Reply(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ],
)  # fmt: skip
def test_a_window_of_half_a_minute_is_waited_out(endpoint: Endpoint, url: str, picture: Picture, reply: Reply) -> None:
    hours = Hours()
    endpoint.reply = window(30.0, hours, reply)
    assert isinstance(only(asked(loaded(url), endpoint, picture, hours=hours)), Answer)
    assert 30.0 <= hours.time <= 110.0
    told = not any(word in json.dumps(reply.body) for word in ("no word", "oad"))
    assert len(endpoint.requests) <= (3 if told else 14)


@pytest.mark.parametrize(
    "reply",
    [
        error(429, "Requests per day (RPD): Limit 200, Used 200. Please try again in 7h12m0s."),
        error(429, "daily limit", **{"retry_after": "86400"}),
        error(503, "maintenance", **{"retry_after": "3600"}),
    ],
)
def test_a_day_is_not_waited_for_item_by_item(endpoint: Endpoint, url: str, picture: Picture, reply: Reply) -> None:
    hours, recorded = Hours(), dict[str, Outcome]()
    endpoint.script(FINE, reply)
    items = [item(str(number), picture()) for number in range(20)]
    with pytest.raises(UserError, match=r"asks to wait for \d{4,5} s: .*repeat the command"):
        driven(loaded(url), *items, concurrency=1, clock=hours.clock(), recorded=recorded)
    assert list(recorded) == ["0"]
    assert 600 <= hours.time <= 700


# ----------------------------------------------------------------------------------------------------- bodies, messages


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "Server is pinned to 'a'; requested 'b'."}, "Server is pinned to 'a'; requested 'b'."),
        ({"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]}, "body.top_k: Extra inputs"),
        ({"error": "invalid image data"}, "invalid image data"),
        ([{"error": {"message": "Unable to process input image"}}], "Unable to process input image"),
        ("plain words", "plain words"),
        ({"message": "flat words"}, "flat words"),
        ({"Message": "AWS's words"}, "AWS's words"),
        ({"error": {"error": {"message": "nested twice"}}}, "nested twice"),
        ({"statusCode": 422, "reason": "another key"}, "another key"),
        ({"error": {"message": ["a", "b"]}}, '["a", "b"]'),
        ({"error": None}, '{"error": null}'),
        ({"errors": [{"x": 1}]}, '[{"x": 1}]'),
        ({"success": False, "errors": [{"code": 5006, "message": "oneOf not met"}], "result": {}}, "oneOf not met"),
        (
            "<html><head><title>Request too large</title></head></html>",
            "an HTML page instead of JSON, 'Request too large'",
        ),
        ({"title": "Validation failed", "detail": "- input.image: no URI", "status": 422}, "- input.image: no URI"),
        (["x"], '["x"]'),
        ({"error": {"message": "m", "code": {"a": 1}}}, "m"),
        ("<html><body>Not here</body></html>", "an HTML page instead of JSON"),
        ("", "HTTP 422 without a word"),
        ({"error": {"message": "w" * 5000}}, "w" * 400 + "…"),
    ],
)
def test_the_endpoints_own_words_reach_the_user(
    endpoint: Endpoint, url: str, picture: Picture, body: Any, words: str
) -> None:
    outcome = asked(loaded(url), endpoint, picture, FINE, Reply(422, body), count=2)[1]
    assert isinstance(outcome, Failed)
    assert outcome.message.startswith(f"422 {words}")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            error(404, "This model is only supported in v1/responses and not in v1/chat/completions."),
            "add api=responses",
        ),
        (error(400, 'model "gpt-5.4" is not accessible via the /chat/completions endpoint'), "add api=responses"),
        (error(404, 'model "m" not found, try pulling it first'), 'model "m" not found.*check model='),
        (error(400, "the image is too small"), "the probe was rejected: 400 the image is too small"),
        (error(400, "Requests are blocked", "content_filter"), "the probe was rejected: Requests are blocked"),
        (error(401, "no such key"), r"no such key; check the key in \$OPENAI_API_KEY"),
    ],
)
def test_a_rejected_probe_says_why(endpoint: Endpoint, url: str, picture: Picture, reply: Reply, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        asked(loaded(url, probe="strict"), endpoint, picture, reply)
    assert "does not look" not in str(raised.value)


# ------------------------------------------------------------------------------------------------------------- others


@pytest.mark.parametrize("seconds", [0.06, 0.2])
def test_the_time_out_is_for_the_whole_answer(endpoint: Endpoint, url: str, picture: Picture, seconds: float) -> None:
    slow = dataclasses.replace(FINE, drip_s=seconds)  # ten pieces, each in time for a limit per piece
    outcome = asked(loaded(url, timeout_s=0.4, patience_s=0.0), endpoint, picture, FINE, slow, FINE, count=2)[1]
    assert isinstance(outcome, Answer)
    assert outcome.usage.attempts == 2


def test_a_host_that_swallows_connections_is_not_slow_but_absent(
    monkeypatch: pytest.MonkeyPatch, picture: Picture, endpoint: Endpoint
) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)
            one.connect_ex(address)  # the queue is full from now on
        try:
            with pytest.raises(UserError, match=r"nobody answers at http://127.0.0.1.*no connection"):
                asked(loaded(f"http://127.0.0.1:{address[1]}/v1", timeout_s=0.3), endpoint, picture)
        finally:
            for one in held:
                one.close()


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/json; charset=utf-8", "x/y"])
def test_json_by_any_other_content_type(endpoint: Endpoint, url: str, picture: Picture, kind: str) -> None:
    reply = dataclasses.replace(FINE, headers={"content-type": kind})
    assert isinstance(only(asked(loaded(url), endpoint, picture, reply)), Answer)


@pytest.mark.parametrize(
    "content",
    [
        [{"token": "awe", "top_logprobs": [{"token": "awe", "logprob": 1e9}]}],
        [{"token": "awe", "top_logprobs": [None, {"token": None, "logprob": None}, {"logprob": -1}]}],
        [{"token": "awe", "top_logprobs": "xx"}],
        [{"token": "awe", "top_logprobs": [{"logprob": -0.1}]}],
        [{"top_logprobs": []}],
        [None, "awe", 5],
        "xx",
        {"awe": 1},
        [{"token": "awe", "top_logprobs": [{"token": "awe", "logprob": "high"}]}],
    ],
)
def test_broken_probabilities_leave_the_answer(endpoint: Endpoint, url: str, picture: Picture, content: Any) -> None:
    reply = answered("awe because the sky glows")
    reply.body["choices"][0]["logprobs"] = {"content": content}
    outcome = only(asked(loaded(url, probabilities=True), endpoint, picture, reply))
    assert isinstance(outcome, Answer)
    assert outcome.emotion_probs is None


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:99999/v1", "http://127.0.0.1:abc/v1", "http://[::1/v1", "x", "ftp://a"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UserError, match="base_url"):
        OpenAIChat("m", base_url=address)


@pytest.mark.parametrize(
    "change",
    [
        {"choices": "awe"},
        {"choices": {"0": 1}},
        {"choices": [{"message": "Awe because the sky glows", "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": {"type": "text", "text": GOOD}}, "finish_reason": None}]},
        {"model": 5, "usage": "many", "system_fingerprint": ["x"]},
        {"choices": [{"index": 0}]},
    ],
)
def test_odd_forms_are_never_a_crash(endpoint: Endpoint, url: str, picture: Picture, change: dict[str, Any]) -> None:
    outcome = only(asked(loaded(url), endpoint, picture, Reply(body=FINE.body | change)))
    assert isinstance(outcome, Answer | Failed | Unparsed)
    assert not isinstance(outcome, Failed) or outcome.error_type == "no-choice"


# ---------------------------------------------------------------------------------------------------------------- keys


KEY = "sk-proj-SECRETKEY1234567890abcdefXYZ"


@pytest.fixture
def other() -> Iterator[tuple[list[dict[str, str]], str]]:
    """Another host: the headers that it got, and its address."""
    got: list[dict[str, str]] = []

    def answer(request: Any) -> Reply:
        got.append(request.headers)
        return FINE

    with serving(answer) as address:
        yield got, address


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("scheme", ["same", "localhost", "query"])
def test_no_redirect_takes_the_key_along(
    endpoint: Endpoint, url: str, picture: Picture, other: tuple[list[dict[str, str]], str],
    monkeypatch: pytest.MonkeyPatch, status: int, scheme: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    got, address = other
    there = address.replace("127.0.0.1", "localhost") if scheme == "localhost" else address
    location = f"{there}/v1/chat/completions" + (f"?key={KEY}" if scheme == "query" else "")
    with pytest.raises(UserError, match="redirects to http://") as raised:
        asked(loaded(url), endpoint, picture, Reply(status, "", {"location": location}))
    assert got == []
    assert KEY not in str(raised.value)


def test_this_machine_is_never_reached_through_a_proxy(
    endpoint: Endpoint,
    url: str,
    picture: Picture,
    other: tuple[list[dict[str, str]], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got, address = other
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, address)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert isinstance(only(asked(loaded(url), endpoint, picture, FINE)), Answer)
    assert got == []


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("0.0.0.0", True),
        ("[::]", True),
        ("LocalHost.", True),
        ("llm.localhost", True),
        ("gpu-box", False),
        ("10.0.0.7", False),
        ("localhost.example.com", False),
        ("203.0.113.1", False),
    ],
)
def test_the_names_of_this_machine(host: str, here: bool) -> None:
    assert is_loopback(f"http://{host}:8000/v1") is here
    assert (Address(f"http://{host}:8000/v1", None, 1.0).key_env == "OPENAI_API_KEY") is here


def test_a_dead_proxy_is_named(picture: Picture, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        proxy = f"http://user:hunter22@127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(
        UserError, match=r"nobody answers at http://203.0.113.1/v1 through the proxy http://127"
    ) as raised:
        asked(loaded("http://203.0.113.1/v1", api_key_env="none"), endpoint, picture)
    assert "hunter22" not in str(raised.value)


@pytest.mark.parametrize(
    "proxy",
    ["user:hunter22@127.0.0.1:1", "http://user:hun/hunter22@127.0.0.1:1", "http://user:hunter22@127.0.0.1:hunter22",
     "http://user:hunter22@[::1", "socks9://user:hunter22@127.0.0.1:1", "//user:hunter22@127.0.0.1:1", "http://:hunter22@",
     "http:/user:hunter22@127.0.0.1:1"],
)  # fmt: skip
def test_a_proxy_that_is_none_is_told_without_its_password(
    picture: Picture, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(UserError, match="proxy") as raised:
        asked(loaded("http://203.0.113.1/v1", api_key_env="none"), endpoint, picture)
    assert "hunter22" not in str(raised.value)
    assert "hun'" not in str(raised.value)


def test_certificates_that_are_missing_are_named(tmp_path: Path) -> None:
    """In a process of its own: one that has read certificates keeps them."""
    code = (
        "import openai; from harness.adapters.endpoint_client import Endpoint, http_client; "
        "http_client(Endpoint('https://203.0.113.1/v1', 'none', 1.0), openai)"
    )
    environment = os.environ | {"SSL_CERT_FILE": str(tmp_path / "none.pem")}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "UserError: the certificates of $SSL_CERT_FILE or $SSL_CERT_DIR cannot be read" in ran.stderr


@pytest.mark.parametrize("before", [*range(70, 100, 5)])
def test_a_name_is_not_cut_in_the_middle_of_a_key(
    endpoint: Endpoint, url: str, picture: Picture, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    key = "q7Vw2Xc9Lm4Tz8Rb1Nf6Kd3Hs5Jg0Py"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    adapter = loaded(url)
    named = {"model": "m" * before + key, "system_fingerprint": "m" * before + key.encode().hex()}
    asked(adapter, endpoint, picture, Reply(body=FINE.body | named))
    info = adapter.runtime_info()
    names = [*info["models_returned"], *info["system_fingerprints"]]
    assert len(names) == 2
    assert set("".join(names)) == set("m*")


def test_a_message_is_not_looked_at_up_to_the_middle_of_a_key(
    endpoint: Endpoint, url: str, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "q7Vw2Xc9Lm4Tz8Rb1Nf6Kd3Hs5Jg0Py"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    outcome = asked(loaded(url), endpoint, picture, FINE, error(422, "no" + " " * 19_988 + key), count=2)[1]
    assert isinstance(outcome, Failed)
    assert outcome.message == "422 no"


@pytest.mark.parametrize("before", range(350, 420, 10))
def test_a_message_is_not_cut_in_the_middle_of_a_key(
    endpoint: Endpoint, url: str, picture: Picture, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    key = "q7Vw2Xc9Lm4Tz8Rb1Nf6Kd3Hs5Jg0Py"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    for form in (key, quote(key, safe=""), "".join(f"%{ord(c):02x}" for c in key), key.encode().hex()):
        outcome = asked(loaded(url), endpoint, picture, FINE, error(422, "w" * before + f" {form}"), count=2)[1]
        assert isinstance(outcome, Failed)
        assert set(outcome.message) <= set("422 w*…")


def test_a_key_with_a_line_end_is_sent_without_it(
    endpoint: Endpoint, url: str, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for end in ("\r", "\n", "\r\n", " "):
        monkeypatch.setenv("OPENAI_API_KEY", KEY + end)
        asked(loaded(url), endpoint, picture, FINE)
        assert endpoint.headers[-1]["authorization"] == f"Bearer {KEY}"
    for wrong in ("schlüssel-äöü-123456", "sk-with\nline-in-it-12345"):
        monkeypatch.setenv("OPENAI_API_KEY", wrong)
        with pytest.raises(UserError, match=r"\$OPENAI_API_KEY holds characters that are in no key"):
            loaded(url)


@pytest.mark.parametrize(
    ("address", "settings", "variable"),
    [
        ("https://api.openai.com/v1", {}, "OPENAI_API_KEY"),
        ("https://eu.api.openai.com/v1", {}, "OPENAI_API_KEY"),
        ("https://me.openai.azure.com/openai/deployments/d?api-version=1", {}, "OPENAI_API_KEY"),
        ("https://openrouter.ai/api/v1", {}, "OPENROUTER_API_KEY"),
        ("https://api.x.ai/v1", {}, "XAI_API_KEY"),
        ("https://api.anthropic.com/v1", {}, "ANTHROPIC_API_KEY"),
        ("https://openai.com.evil.example/v1", {"api_key_env": "EVIL_KEY"}, "EVIL_KEY"),
        ("https://openrouter.ai/api/v1", {"api_key_env": "OPENAI_API_KEY"}, "OPENAI_API_KEY"),
        ("http://192.168.1.5:8000/v1", {}, ""),
        ("http://gpu-box:8000/v1", {}, ""),
        ("http://127.0.0.1:8000/v1", {}, "OPENAI_API_KEY"),
        ("https://models.example/v1", {"api_key_env": "none"}, ""),
    ],
)
def test_whose_key_goes_where(address: str, settings: dict[str, str], variable: str) -> None:
    assert Address(address, settings.get("api_key_env"), 1.0).key_env == variable


def test_openais_key_goes_to_no_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for address in ("https://models.example/v1", "https://openai.com.evil.example/v1", "https://notopenai.com/v1"):
        with pytest.raises(UserError, match="api_key_env=NAME"):
            OpenAIChat("m", base_url=address).load()


# ------------------------------------------------------------------------------------------------------- Responses API


def response(text: str, status: str = "completed", **more: Any) -> Reply:
    """A response of the Responses API."""
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Fear?"}]}
    message = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "logprobs": []}],
    }
    usage = {"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 600}, "output_tokens": 560,
             "output_tokens_details": {"reasoning_tokens": 512}, "total_tokens": 1560}  # fmt: skip
    body = {"id": "resp_1", "object": "response", "status": status, "model": "gpt-x-1", "error": None, "usage": usage}
    return Reply(body=body | {"output": [thought, message] if text else [thought]} | more)


def seeing_responses(request: dict[str, Any], reply: Reply) -> Reply:
    """The colour of the probe's image, else `reply`."""
    content = request["input"][-1]["content"]
    if "Which colour" not in content[-1]["text"]:
        return reply
    chat = {"messages": [{"content": [{"type": "image_url", "image_url": {"url": content[0]["image_url"]}}]}]}
    colour = colour_of(shown(chat))
    return response(json.dumps({"colour": colour}) if "text" in request else colour)


def test_the_responses_api(endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.reply = lambda request: seeing_responses(request, response(GOOD))
    adapter = OpenAIChat("m", url, api="responses", reasoning_effort="low", detail="high", price_in=2.0, price_out=10.0)
    outcome = only(asked(adapter, endpoint, picture))
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.reasoning) == ("awe", "Fear?")
    usage = outcome.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (
        1000,
        560,
        600,
        512,
    )
    assert usage.cost_usd == pytest.approx((2 * 1000 + 10 * 560) / 1e6)
    sent = endpoint.requests[-1]
    assert endpoint.paths[-1] == "/v1/responses"
    assert sent["input"][0]["content"][0]["detail"] == "high"
    assert sent["reasoning"] == {"effort": "low", "summary": "auto"}
    assert sent["text"]["format"]["schema"]["required"] == ["emotion", "explanation"]
    assert (sent["max_output_tokens"], sent["store"]) == (300, False)
    assert adapter.fingerprint()["api"] == "responses"
    assert adapter.runtime_info()["capabilities"] == {"schema": "accepted", "logprobs": "ignored"}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (response("", "incomplete", incomplete_details={"reason": "max_output_tokens"}), "truncated"),
        (response("", "incomplete", incomplete_details=None), "truncated"),
        (response("", "incomplete", incomplete_details={"reason": "content_filter"}), "refusal"),
        (
            response("", output=[{"type": "message", "content": [{"type": "refusal", "refusal": "I will not."}]}]),
            "refusal",
        ),
        (response("", "failed", error={"code": "server_error", "message": "oops"}), "http-500"),
        (response("", "failed", error={"code": "rate_limit_exceeded", "message": "slow"}), "http-429"),
        (response("", "in_progress"), "broken-answer"),
        (response("", "cancelled"), "broken-answer"),
        (response(""), "no-answer"),
        (Reply(200, {"object": "response"}), "no-choice"),
    ],
)
def test_what_a_response_may_end_with(endpoint: Endpoint, url: str, picture: Picture, reply: Reply, kind: str) -> None:
    outcome = only(asked(loaded(url, api="responses"), endpoint, picture, reply))
    assert ("refusal" if isinstance(outcome, Refusal) else getattr(outcome, "error_type", "")) == kind


@pytest.mark.parametrize(
    ("field", "part", "rejection", "told"),
    [
        (
            "reasoning",
            "summary",
            error(
                400, "Your organization must be verified to generate reasoning summaries.", param="reasoning.summary"
            ),
            "reasoning_summary",
        ),
        ("include", None, error(400, "Unknown parameter: 'include[0]'."), "logprobs"),
        ("store", None, error(400, "Unknown parameter: 'store'.", param="store"), "store"),
        (
            "text",
            None,
            error(400, "'text.format' of type 'json_schema' is not supported", param="text.format"),
            "schema",
        ),
    ],
)
def test_the_responses_api_without_the_one_thing_that_it_rejects(
    endpoint: Endpoint, url: str, picture: Picture, field: str, part: str | None, rejection: Reply, told: str
) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        sent = field in request and (part is None or part in request[field])
        return rejection if sent else seeing_responses(request, response(GOOD))

    endpoint.reply = reply
    adapter = OpenAIChat("m", url, api="responses", reasoning_effort="low")
    assert isinstance(only(asked(adapter, endpoint, picture)), Answer)
    assert adapter.runtime_info()["capabilities"][told] == "rejected"
    assert endpoint.requests[-1]["reasoning"]["effort"] == "low"
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize(
    "body",
    [
        {"output": [], "output_text": GOOD},
        {"output": [{"type": "message", "content": [{"type": "text", "text": GOOD}]}]},
    ],
)
def test_the_text_of_a_response_by_other_names(endpoint: Endpoint, url: str, picture: Picture, body: Any) -> None:
    reply = Reply(body={"object": "response", "status": "completed"} | body)
    assert isinstance(only(asked(loaded(url, api="responses"), endpoint, picture, reply)), Answer)


def test_the_responses_api_without_what_it_rejects(endpoint: Endpoint, url: str, picture: Picture) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        for name, words in (
            ("temperature", "Unsupported parameter: 'temperature'"),
            ("reasoning", "reasoning.summary?"),
        ):
            if name in request:
                return error(400, words, "unsupported_parameter")
        return response(GOOD)

    endpoint.reply = reply
    adapter = loaded(url, api="responses", reasoning_effort="low")
    assert isinstance(only(asked(adapter, endpoint, picture)), Answer)
    assert set(endpoint.requests[-1]) == {"model", "input", "max_output_tokens", "store"}
