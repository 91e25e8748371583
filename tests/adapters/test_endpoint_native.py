"""Claude and Gemini through their vendors' packages, against imitations built from the documented formats."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from adapter_samples import Picture, item
from asking_openai import driven
from PIL import Image
from seeing import colour_of
from servers import Endpoint, Reply

from harness.adapters.claude import Claude
from harness.adapters.endpoint_vision import VisionEndpoint
from harness.adapters.gemini import Gemini
from harness.types import Answer, Failed, Refusal, UserError

pytest.importorskip("anthropic")
pytest.importorskip("google.genai")

pytestmark = pytest.mark.slow

KEY = "made-up-key-0123456789"
SAID = "awe because the sky is vast"


def claude_says(text: str, stop: str = "end_turn", **more: Any) -> Reply:
    content = [{"type": "thinking", "thinking": "Fear?", "signature": "x"}, {"type": "text", "text": text}]
    usage = {"input_tokens": 70, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 0, "output_tokens": 9}
    body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1", "stop_reason": stop}
    return Reply(body=body | {"content": content if text else [], "usage": usage} | more)


def gemini_says(text: str, stop: str = "STOP", **more: Any) -> Reply:
    parts = [{"text": "Fear?", "thought": True}, {"text": text}]
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 9, "thoughtsTokenCount": 40, "totalTokenCount": 149}
    candidate = {"content": {"role": "model", "parts": parts if text else []}, "finishReason": stop, "index": 0}
    body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-x-1"}
    return Reply(body=body | more)


def shown_to_claude(request: dict[str, Any]) -> Image.Image:
    source = request["messages"][-1]["content"][0]["source"]
    assert source["type"] == "base64"
    assert source["media_type"] in ("image/png", "image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(source["data"]))).convert("RGB")


def shown_to_gemini(request: dict[str, Any]) -> Image.Image:
    parts = request["contents"][-1]["parts"]
    data = next(found for part in parts if (found := part.get("inlineData", part.get("inline_data"))))
    assert data.get("mimeType", data.get("mime_type")) in ("image/png", "image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(data["data"].replace("-", "+").replace("_", "/")))).convert("RGB")


VENDORS: dict[str, tuple[type[VisionEndpoint], Callable[..., Reply], Callable[[dict[str, Any]], Image.Image]]] = {
    "claude": (Claude, claude_says, shown_to_claude),
    "gemini": (Gemini, gemini_says, shown_to_gemini),
}


def claude_error(status: int, kind: str, message: str) -> Reply:
    return Reply(status, {"type": "error", "error": {"type": kind, "message": message}})


def gemini_error(status: int, kind: str, message: str, *details: Any) -> Reply:
    return Reply(status, {"error": {"code": status, "message": message, "status": kind, "details": list(details)}})


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)


@pytest.fixture(params=list(VENDORS))
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def built(vendor: str, url: str, **settings: Any) -> VisionEndpoint:
    cls = VENDORS[vendor][0]
    plain: dict[str, Any] = {"price_in": 1.0, "price_out": 10.0, "retry_wait_s": 0.01}
    return cls("m", base_url=url.removesuffix("/v1"), **plain | settings)  # type: ignore[call-arg]


def answering(vendor: str, reply: Callable[[], Reply]) -> Callable[[dict[str, Any]], Reply]:
    """Name the colour of the probe's image, else reply as told."""
    _, says, shown = VENDORS[vendor]

    def answer(request: dict[str, Any]) -> Reply:
        if "Which colour" in json.dumps(request):
            return says(f"It is {colour_of(shown(request))}.")
        return reply()

    return answer


def test_an_answer_with_thoughts_usage_and_price(vendor: str, endpoint: Endpoint, url: str, picture: Picture) -> None:
    _, says, shown = VENDORS[vendor]
    endpoint.reply = answering(vendor, lambda: says(SAID))
    adapter = built(vendor, url)
    (outcome,) = driven(adapter, item("a", picture("red")))
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.explanation, outcome.reasoning) == ("awe", "the sky is vast", "Fear?")
    completion, cached, thoughts = {"claude": (9, 30, None), "gemini": (49, None, 40)}[vendor]
    usage = outcome.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (100, completion)
    assert (usage.cached_tokens, usage.reasoning_tokens) == (cached, thoughts)
    assert usage.cost_usd == pytest.approx((100 + 10 * completion) / 1e6)
    assert adapter.spent_usd == pytest.approx(2 * (100 + 10 * completion) / 1e6)
    assert colour_of(shown(endpoint.requests[-1])) == "red"
    info = adapter.runtime_info()
    assert (info["probe"], info["models_returned"]) == ("passed", {f"{vendor}-x-1": 1})
    assert KEY not in json.dumps([adapter.fingerprint(), info])


def claude_streams(*texts: str, stop: str | None = "end_turn") -> str:
    """The events of the Messages API."""
    start = {"type": "message_start", "message": claude_says("", usage={"input_tokens": 100, "output_tokens": 1}).body}
    deltas = [
        {"type": "thinking_delta", "thinking": "Fear?"},
        *({"type": "text_delta", "text": text} for text in texts),
    ]
    events = [start, {"type": "ping"}, *({"type": "content_block_delta", "delta": delta} for delta in deltas)]
    if stop is not None:
        events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 9}})
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def gemini_streams(*texts: str, stop: str | None = "STOP") -> str:
    """The events of streamGenerateContent."""
    events = []
    for number, text in enumerate(texts, 1):
        event = gemini_says(text, stop if number == len(texts) else None).body  # type: ignore[arg-type]
        event["candidates"][0]["content"]["parts"] = event["candidates"][0]["content"]["parts"][number > 1 :]
        events.append(event)
    return "".join(f"data: {json.dumps(event)}\r\n\r\n" for event in events)


CALLED = {"emotion": "awe", "explanation": "the sky is vast"}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("claude", {"content": SAID, "stop_reason": "end_turn"}),
        ("claude", {"content": [{"type": "tool_use", "name": "answer", "input": CALLED}], "stop_reason": "tool_use"}),
        ("gemini", {"candidates": [{"content": {"parts": [{"functionCall": {"name": "answer", "args": CALLED}}]}, "finishReason": "STOP"}]}),
        (
            "gemini",
            [
                {"candidates": [{"content": {"parts": [{"text": SAID[:9]}]}}]},
                {"candidates": [{"content": {"parts": [{"text": SAID[9:]}]}, "finishReason": "STOP"}]},
            ],
        ),
    ],
    ids=["a text", "a tool", "a function", "a list of events"],
)  # fmt: skip
def test_an_answer_is_read_wherever_it_stands(
    name: str, body: Any, endpoint: Endpoint, url: str, picture: Picture
) -> None:
    endpoint.reply = answering(name, lambda: Reply(body=body))
    (outcome,) = driven(built(name, url), item("a", picture()))
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.explanation) == ("awe", "the sky is vast")


STREAMS: dict[str, Callable[..., str]] = {"claude": claude_streams, "gemini": gemini_streams}


def test_a_stream_that_nobody_asked_for(vendor: str, endpoint: Endpoint, url: str, picture: Picture) -> None:
    sse = {"content-type": "text/event-stream"}
    whole, broken = STREAMS[vendor](SAID[:9], SAID[9:]), STREAMS[vendor](SAID[:20], stop=None)
    endpoint.reply = answering(vendor, lambda: Reply(200, whole, sse))
    (outcome,) = driven(built(vendor, url), item("a", picture()))
    assert isinstance(outcome, Answer)
    assert (outcome.explanation, outcome.raw, outcome.reasoning) == ("the sky is vast", SAID, "Fear?")
    assert (outcome.usage.prompt_tokens, outcome.usage.attempts) == (100, 1)
    assert outcome.usage.completion_tokens == {"claude": 9, "gemini": 49}[vendor]
    endpoint.reply = answering(vendor, lambda: Reply(200, broken, sse))
    (failed,) = driven(built(vendor, url), item("a", picture()))
    assert isinstance(failed, Failed)
    assert failed.error_type == "broken-answer"
    assert (failed.usage.reserve_usd or 0.0) > (0.05 if vendor == "claude" else 0.0)  # what nobody told, at the most


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ({"claude": claude_says("", "refusal"), "gemini": gemini_says("", "SAFETY")}, Refusal),
        ({"claude": claude_says("I cannot help with that."), "gemini": gemini_says("", "PROHIBITED_CONTENT")}, Refusal),
        (
            {
                "claude": claude_says("", "refusal"),
                "gemini": Reply(body={"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
            },
            Refusal,
        ),
        (
            {
                "claude": claude_error(413, "request_too_large", "Request exceeds the maximum size"),
                "gemini": gemini_error(400, "INVALID_ARGUMENT", "Unable to process input image."),
            },
            Failed,
        ),
    ],
)
def test_refusals_and_failures(
    vendor: str, endpoint: Endpoint, url: str, picture: Picture, reply: dict[str, Reply], kind: type
) -> None:
    endpoint.reply = answering(vendor, lambda: reply[vendor])
    (outcome,) = driven(built(vendor, url), item("a", picture()))
    assert type(outcome) is kind
    assert outcome.usage.attempts == 1


@pytest.mark.parametrize(
    "reply",
    [
        {
            "claude": claude_error(529, "overloaded_error", "Overloaded"),
            "gemini": gemini_error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        },
        {
            "claude": Reply(429, claude_error(429, "rate_limit_error", "slow").body, {"retry-after": "0"}),
            "gemini": gemini_error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan "
                                   "and billing details. Please retry in 0.01s.", {"retryDelay": "0.01s"}),
        },
        {"claude": Reply(0), "gemini": Reply(0)},
        {"claude": Reply(500, "<html>"), "gemini": Reply(500, "<html>")},
        {"claude": Reply(200, '{"type": "mess', promised=9), "gemini": Reply(200, '{"candid', promised=9)},
        {"claude": claude_says("Awe", "max_tokens"), "gemini": gemini_says("", "MAX_TOKENS")},
        {"claude": claude_says("", "error"), "gemini": gemini_says("awe because", "MALFORMED_RESPONSE")},
    ],
    ids=["overloaded", "rate", "reset", "html", "cut body", "too little room", "broken"],
)  # fmt: skip
def test_what_may_succeed_is_tried_again(
    vendor: str, endpoint: Endpoint, url: str, picture: Picture, reply: dict[str, Reply]
) -> None:
    _, says, _ = VENDORS[vendor]
    replies = [reply[vendor], says(SAID)]
    endpoint.reply = answering(vendor, lambda: replies.pop(0))
    (outcome,) = driven(built(vendor, url), item("a", picture()))
    assert isinstance(outcome, Answer)
    assert outcome.usage.attempts == 2


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            {
                "claude": claude_error(401, "authentication_error", "invalid x-api-key"),
                "gemini": gemini_error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
            },
            r"check the key in \$(ANTHROPIC|GEMINI)_API_KEY",
        ),
        (
            {
                "claude": claude_error(
                    400, "invalid_request_error", "Your credit balance is too low to access the API"
                ),
                "gemini": gemini_error(402, "FAILED_PRECONDITION", "Billing is not enabled"),
            },
            "no credits left",
        ),
        (
            {
                "claude": claude_error(404, "not_found_error", "model: m"),
                "gemini": gemini_error(404, "NOT_FOUND", "models/m is not found for API version v1beta"),
            },
            "check model=",
        ),
        (
            {
                "claude": Reply(307, "", {"location": "http://127.0.0.1:1/steal"}),
                "gemini": Reply(307, "", {"location": "http://127.0.0.1:1/steal"}),
            },
            "redirects to http://127.0.0.1:1/steal",
        ),
    ],
    ids=["key", "credits", "model", "redirect"],
)
def test_what_concerns_every_item_stops_the_run(
    vendor: str, endpoint: Endpoint, url: str, picture: Picture, reply: dict[str, Reply], message: str
) -> None:
    endpoint.reply = lambda request: reply[vendor]
    with pytest.raises(UserError, match=message):
        driven(built(vendor, url), item("a", picture()))


def test_a_blind_one_is_refused(vendor: str, endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.reply = lambda request: VENDORS[vendor][1]("It is a lovely picture in red and blue.")
    with pytest.raises(UserError, match="does not look at images"):
        driven(built(vendor, url), item("a", picture()))


def test_claude_without_temperature_and_with_thoughts(endpoint: Endpoint, url: str, picture: Picture) -> None:
    def reply(request: dict[str, Any]) -> Reply:
        if "temperature" in request:
            return claude_error(400, "invalid_request_error", "`temperature` is deprecated for this model.")
        return answering("claude", lambda: claude_says(SAID))(request)

    endpoint.reply = reply
    (outcome,) = driven(built("claude", url, temperature=0.0), item("a", picture()))
    assert isinstance(outcome, Answer)
    driven(built("claude", url, thinking=500, extra_body='{"output_config":{"effort":"low"}}'), item("a", picture()))
    sent = endpoint.requests[-1]
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 500}
    assert sent["output_config"] == {"effort": "low"}
    with pytest.raises(UserError, match="less than max_tokens"):
        built("claude", url, thinking=5000)


@pytest.mark.parametrize(
    ("vendor", "settings", "field", "message"),
    [
        ("claude", {"thinking": 500}, "thinking", "thinking.type: 'enabled' is no longer supported; use 'adaptive'"),
        (
            "claude",
            {"extra_body": '{"output_config":{"effort":"low"}}'},
            "output_config",
            "output_config: Extra inputs are not permitted",
        ),
        ("gemini", {}, "temperature", "temperature is not supported by this model; omit it."),
        ("gemini", {"thinking": "0"}, "thinking", "Budget 0 is invalid. This model only works in thinking mode."),
        ("gemini", {"thinking": "low"}, "thinking", "Thinking level is not supported for this model."),
    ],
)
def test_what_a_model_rejects_is_left_out_and_announced(
    vendor: str, settings: dict[str, Any], field: str, message: str,
    endpoint: Endpoint, url: str, picture: Picture, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    says, sound = VENDORS[vendor][1], answering(vendor, lambda: says(SAID))

    def reply(request: dict[str, Any]) -> Reply:
        sent = {**request, **request.get("generationConfig", {})}
        if field in sent or f"{field}Config" in sent:
            return {
                "claude": claude_error(400, "invalid_request_error", message),
                "gemini": gemini_error(400, "INVALID_ARGUMENT", message),
            }[vendor]
        return sound(request)

    endpoint.reply = reply
    adapter = built(vendor, url, **settings)
    (outcome,) = driven(adapter, item("a", picture()))
    assert isinstance(outcome, Answer)
    assert len(endpoint.requests) == 4
    assert adapter.runtime_info()["capabilities"] == {field: "rejected"}
    assert f"m takes no {field}; it is left to the model" in capsys.readouterr().err


def test_a_budget_for_thoughts_of_another_size_is_the_users_to_choose(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    words = "thinking.budget_tokens: Input should be greater than or equal to 1024"
    endpoint.reply = lambda request: claude_error(400, "invalid_request_error", words)
    with pytest.raises(UserError, match="greater than or equal to 1024"):
        driven(built("claude", url, thinking=500), item("a", picture()))
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (
            {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}},
            "http-503",
            "overloaded",
        ),
        ([{"error": {"code": 400, "message": "bad image", "status": "INVALID_ARGUMENT"}}], "http-400", "bad image"),
        ("", "bad-response", "no whole JSON"),
        ({"candidates": []}, "no-choice", "no candidate"),
    ],
)
def test_what_gemini_says_in_a_200(
    endpoint: Endpoint, url: str, picture: Picture, body: Any, kind: str, words: str
) -> None:
    endpoint.reply = answering("gemini", lambda: Reply(200, body))
    (outcome,) = driven(built("gemini", url, patience_s=0.0), item("a", picture()))
    assert isinstance(outcome, Failed)
    assert outcome.error_type == kind
    assert words in outcome.message


def test_an_error_after_geminis_answer_was_begun_costs_what_it_took(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    error = {"code": 400, "message": "bad image", "status": "INVALID_ARGUMENT"}
    endpoint.reply = answering("gemini", lambda: gemini_says("awe bec", error=error))
    (outcome,) = driven(built("gemini", url, price_in=1.0, price_out=10.0), item("a", picture()))
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "http-400"
    assert outcome.usage.cost_usd == pytest.approx((100 * 1.0 + 49 * 10.0) / 1e6)


def test_geminis_own_counts_go_before_those_of_a_gateway(endpoint: Endpoint, url: str, picture: Picture) -> None:
    gateways = {"prompt_tokens": 3, "completion_tokens": 1}
    endpoint.reply = answering("gemini", lambda: gemini_says(SAID, usage=gateways))
    (outcome,) = driven(built("gemini", url), item("a", picture()))
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (100, 49)


@pytest.mark.parametrize("counted", [{"promptTokenCount": "many"}, {"promptTokenCount": -5}, [], None, {"x": {}}])
def test_odd_counts_of_gemini_leave_the_answer(endpoint: Endpoint, url: str, picture: Picture, counted: Any) -> None:
    endpoint.reply = answering("gemini", lambda: gemini_says(SAID, usageMetadata=counted))
    (outcome,) = driven(built("gemini", url), item("a", picture()))
    assert isinstance(outcome, Answer)
    assert outcome.usage.cost_usd is None


@pytest.mark.parametrize("end", ["", "/", "/v1/", "/v1beta", "/v1beta/", "?tenant=one"])
def test_the_version_in_an_address_is_not_sent_twice(
    vendor: str, endpoint: Endpoint, url: str, picture: Picture, end: str
) -> None:
    if (vendor, end[:7]) == ("claude", "/v1beta"):
        return
    endpoint.reply = answering(vendor, lambda: VENDORS[vendor][1](SAID))
    driven(built(vendor, url.removesuffix("/v1") + end), item("a", picture()))
    path = {"claude": "/v1/messages", "gemini": "/v1(beta)?/models/m:generateContent"}[vendor]
    assert re.fullmatch(path + (r"\?tenant=one" if "?" in end else ""), endpoint.paths[-1])


def test_gemini_is_not_asked_to_continue_behind_the_budgets_back(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    said = gemini_says("awe because the sky", "CONTINUATION")
    said.body["candidates"][0]["continuationToken"] = "more"
    endpoint.reply = lambda request: said
    (outcome,) = driven(built("gemini", url, probe="off"), item("a", picture()))
    assert isinstance(outcome, Answer)
    assert outcome.truncated
    assert len(endpoint.requests) == 1


def test_gemini_is_told_how_much_to_think(endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.reply = answering("gemini", lambda: gemini_says(SAID))
    driven(built("gemini", url, thinking="0"), item("a", picture()))
    assert thinking(endpoint)["thinking_budget"] == 0
    driven(built("gemini", url, thinking="low"), item("a", picture()))
    assert str(thinking(endpoint)["thinking_level"]).lower() == "low"


def thinking(endpoint: Endpoint) -> dict[str, Any]:
    """What was sent about thoughts; the package spells names in either of two ways."""
    sent = endpoint.requests[-1]["generationConfig"]["thinkingConfig"]
    return {re.sub("(?=[A-Z])", "_", key).lower(): value for key, value in sent.items()}


def test_the_key_goes_in_its_header_and_a_missing_one_is_told(
    vendor: str, endpoint: Endpoint, url: str, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.reply = answering(vendor, lambda: VENDORS[vendor][1](SAID))
    driven(built(vendor, url), item("a", picture()))
    assert KEY in [value.removeprefix("Bearer ") for value in endpoint.headers[-1].values()]
    name = {"claude": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}[vendor]
    monkeypatch.delenv(name)
    with pytest.raises(UserError, match=rf"a key is needed in \${name}"):
        VENDORS[vendor][0]("m").load()  # type: ignore[call-arg]
