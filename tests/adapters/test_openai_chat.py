"""One request to an endpoint: what is sent, what becomes of each reply, and which parameters are settled."""

from __future__ import annotations

import dataclasses
from email.utils import formatdate
from time import time
from typing import Any

import pytest
from adapter_samples import PROMPT, Picture, item
from asking_openai import ask, loaded
from servers import Endpoint, Reply, answered, error
from tqdm import tqdm

from harness.infer.endpoint import drive
from harness.types import Answer, Failed, Outcome, Refusal, RetryableError, Unparsed, UserError


def test_an_answer_with_its_usage_and_what_the_endpoint_said_about_itself(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    adapter = loaded(url, max_tokens=77, detail="low")
    (outcome,) = ask(adapter, item("a", picture()))
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.explanation) == ("awe", "the sky is vast")
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (70, 9)
    assert outcome.usage.latency_s is not None
    assert 0 < outcome.usage.latency_s < 10
    (request,) = endpoint.requests
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("vision-1", 77, 0.0)
    image, text = request["messages"][0]["content"]
    assert text == {"type": "text", "text": PROMPT}
    assert image["image_url"]["detail"] == "low"
    observed = adapter.runtime_info()
    assert observed["models_returned"] == {"vision-1-2026-01-01": 1}
    assert observed["system_fingerprints"] == {"fp_1": 1}
    assert observed["request_parameters"] == {"max_tokens": 77, "temperature": 0.0}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answered("Fear because the sea is black"), Answer),
        (answered("I cannot help with that."), Refusal),
        (answered(None, refusal="I will not describe people."), Refusal),
        (answered("", "content_filter"), Refusal),
        (error(400, "The response was filtered", code="content_filter"), Refusal),
        (error(400, "Your request was rejected by our safety system.", code="content_policy_violation"), Refusal),
        (answered("A man stands on a hill."), Unparsed),
        (answered(""), Unparsed),
        (answered(None), Unparsed),
        (answered("awe because the sky is", "length"), Answer),
        (error(400, "image too small"), Failed),
        (error(403, "flagged by the moderation"), Refusal),
        (error(422, "cannot be processed"), Failed),
    ],
)
def test_what_each_reply_becomes(endpoint: Endpoint, url: str, picture: Picture, reply: Reply, kind: type) -> None:
    adapter = loaded(url)
    ask(adapter, item("first", picture()))
    endpoint.requests.clear()
    endpoint.script(reply)
    (outcome,) = ask(adapter, item("a", picture()))
    assert type(outcome) is kind
    assert len(endpoint.requests) == 1  # nothing of this is sent again
    if isinstance(outcome, Failed) and reply.status != 200:
        assert outcome.error_type == f"http-{reply.status}"


def test_a_bare_label_answers_only_where_people_gave_labels_alone(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    adapter = loaded(url)
    explained = item("a", picture())
    ask(adapter, explained)
    for one, kind in ((explained, Unparsed), (dataclasses.replace(explained, explanations=False), Answer)):
        endpoint.script(answered("Awe."))
        (outcome,) = ask(adapter, one)
        assert type(outcome) is kind


@pytest.mark.parametrize(
    ("reply", "kind", "wait"),
    [
        (error(429, "slow down"), "http-429", None),
        (error(429, "slow down", retry_after="7"), "http-429", 7.0),
        (error(429, "slow down", retry_after="7", retry_after_ms="250"), "http-429", 0.25),
        (error(429, "slow down", retry_after="soon"), "http-429", None),
        (error(408, "too slow"), "http-408", None),
        (error(500, "broken"), "http-500", None),
        (error(503, "busy", retry_after="2"), "http-503", 2.0),
        (error(503, "busy", retry_after="nan"), "http-503", None),
        (error(503, "busy", retry_after="soon"), "http-503", None),
        (Reply(502, "<html>Bad gateway</html>", {"content-type": "text/html"}), "http-502", None),
        (Reply(0), "connection", None),
        (Reply(200, '{"id": "chatcmpl-1", "choi'), "bad-response", None),
        (Reply(200, '{"id": "chatcmpl-1", "choi', promised=100), "connection", None),
        (Reply(200, {"id": "x", "object": "chat.completion", "choices": []}), "no-choice", None),
        (Reply(200, {"error": {"message": "upstream is down"}}), "http-502", None),
        (dataclasses.replace(answered(), delay_s=1.0), "timeout", None),
    ],
)
def test_what_may_succeed_later(
    endpoint: Endpoint, url: str, picture: Picture, reply: Reply, kind: str, wait: float | None
) -> None:
    adapter = loaded(url, timeout_s=0.3 if kind == "timeout" else 30.0)
    endpoint.script(reply)
    (raised,) = ask(adapter, item("a", picture()))
    assert isinstance(raised, RetryableError)
    assert raised.kind == kind
    assert raised.retry_after_s == wait
    assert "\n" not in str(raised)
    assert "<html>" not in str(raised)
    assert len(endpoint.requests) == 1  # the client's own retries are off


def test_the_runner_waits_as_told_and_counts_attempts(endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.script(error(429, "slow down", retry_after_ms="20"), Reply(0), error(500, "broken"), answered())
    recorded: dict[str, Outcome] = {}
    with tqdm(disable=True) as progress:
        drive(loaded(url), [item("a", picture())], 4, lambda one, out: recorded.update({one.id: out}), progress)
    assert isinstance(recorded["a"], Answer)
    assert recorded["a"].usage.attempts == 4


def test_retry_after_as_a_date(endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.script(error(429, "slow down", retry_after=formatdate(time() + 30, usegmt=True)))
    (raised,) = ask(loaded(url), item("a", picture()))
    assert isinstance(raised, RetryableError)
    assert raised.retry_after_s == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    "reply",
    [
        error(401, "Incorrect API key"),
        error(404, "The model `vision-1` does not exist", code="model_not_found"),
        error(429, "You exceeded your current quota", code="insufficient_quota"),
        error(402, "Insufficient Balance"),
        error(403, "not for you"),
        error(400, "API key not valid. Please pass a valid API key."),
        error(404, "This model is only supported in v1/responses and not in v1/chat/completions."),
        error(410, "This model has been retired"),
        Reply(200, {"error": {"message": "Insufficient credits. Add more", "code": 402}}),
        Reply(307, "", {"location": "https://elsewhere.example/v1/chat/completions?key=1"}),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_what_concerns_every_item_stops_the_run_at_once(
    endpoint: Endpoint, url: str, picture: Picture, reply: Reply, later: bool
) -> None:
    adapter = loaded(url)
    if later:
        ask(adapter, item("first", picture()))
    endpoint.script(reply)
    (raised,) = ask(adapter, item("a", picture()))
    assert isinstance(raised, UserError)
    assert "\n" not in str(raised)


def strict(endpoint: Endpoint, *rejected: tuple[str, str]) -> None:
    """Reject requests that hold one of the given parameters, with the message beside it."""

    def reply(request: dict[str, Any]) -> Reply:
        for name, message in rejected:
            if name in request:
                return error(400, message, code="unsupported_parameter", param=name)
        return answered()

    endpoint.reply = reply


LIMIT = ("max_tokens", "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.")
TEMPERATURE = ("temperature", "'temperature' does not support 0.0 with this model. Only the default (1) is supported.")


@pytest.mark.parametrize(
    ("rejected", "sent"),
    [
        ([LIMIT], {"max_completion_tokens": 300, "temperature": 0.0}),
        ([TEMPERATURE], {"max_tokens": 300}),
        ([LIMIT, TEMPERATURE], {"max_completion_tokens": 300}),
    ],
)
def test_parameters_are_settled_once_by_the_first_request(
    endpoint: Endpoint, url: str, picture: Picture, rejected: list[tuple[str, str]], sent: dict[str, Any]
) -> None:
    strict(endpoint, *rejected)
    adapter = loaded(url)
    outcomes = ask(adapter, *(item(str(i), picture()) for i in range(6)))
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert len(endpoint.requests) == 6 + len(rejected)
    assert adapter.runtime_info()["request_parameters"] == sent
    assert adapter.fingerprint() == loaded(url).fingerprint()


def test_a_value_that_is_too_large_is_no_reason_to_send_another_parameter(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    endpoint.script(error(400, "max_tokens is too large: 300. This model supports at most 200.", param="max_tokens"))
    (outcome,) = ask(loaded(url), item("a", picture()))
    assert isinstance(outcome, Failed)
    assert "at most 200" in outcome.message
    assert len(endpoint.requests) == 1


def test_requests_run_side_by_side_once_the_first_has_settled(endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.script(dataclasses.replace(answered(), delay_s=0.2))
    ask(loaded(url), *(item(str(i), picture()) for i in range(6)))
    assert endpoint.most_in_flight == 5
