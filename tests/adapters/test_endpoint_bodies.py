"""Bodies of responses: too large, packed, streamed, nested without end, and answers in unusual places."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from typing import Any

import pytest
from adapter_samples import Picture, item
from asking_openai import driven, loaded
from servers import Endpoint, Reply, answered

from harness.infer.throttle import Clock
from harness.types import Answer, Failed, Outcome, Refusal, Unparsed, UserError

GOOD = '{"emotion": "awe", "explanation": "because the vast golden sky glows"}'
pytestmark = pytest.mark.slow
WHOLE = json.dumps(answered(GOOD).body).encode()
PADDED = WHOLE + b" " * (40 * 2**20)
SSE = {"content-type": "text/event-stream"}


async def at_once(seconds: float) -> None:
    """A wait that takes no time."""


def only(endpoint: Endpoint, url: str, picture: Picture, reply: Reply, **settings: Any) -> Outcome:
    endpoint.script(reply)
    (outcome,) = driven(loaded(url, **settings), item("0", picture()), clock=Clock(sleep=at_once))
    return outcome


# -------------------------------------------------------------------------------------------------- sizes and packing


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(PADDED, 1), "gzip", 200),
        (zlib.compress(PADDED, 1), "deflate", 200),
        (gzip.compress(gzip.compress(PADDED, 1), 1), "gzip, gzip", 200),
        (PADDED, "", 200),
        (b"x" * len(PADDED), "", 400),
        (gzip.compress(PADDED, 1), "gzip", 503),
    ],
    ids=["gzip", "deflate", "twice", "plain", "error", "busy"],
)
def test_a_response_that_would_fill_the_memory_is_given_up(
    endpoint: Endpoint, url: str, picture: Picture, body: bytes, encoding: str, status: int
) -> None:
    outcome = only(endpoint, url, picture, Reply(status, body, {"content-encoding": encoding} if encoding else {}))
    assert isinstance(outcome, Failed)
    assert outcome.message == "the response is larger than 32 MiB"
    assert len(endpoint.requests) == 1


def raw_deflate(data: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(data) + packing.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(WHOLE), "gzip"),
        (gzip.compress(WHOLE), "x-gzip"),
        (zlib.compress(WHOLE), "deflate"),
        (raw_deflate(WHOLE), "deflate"),
        (zlib.compress(gzip.compress(WHOLE)), "gzip, deflate"),
        (WHOLE, "identity"),
    ],
    ids=["gzip", "x-gzip", "zlib", "deflate", "twice", "plain"],
)
def test_packed_answers_are_read(endpoint: Endpoint, url: str, picture: Picture, body: bytes, encoding: str) -> None:
    assert isinstance(only(endpoint, url, picture, Reply(200, body, {"content-encoding": encoding})), Answer)


@pytest.mark.parametrize(
    ("body", "encoding", "kind", "requests"),
    [
        (b"not packed at all", "gzip", "connection", 6),
        (gzip.compress(WHOLE)[:-20], "gzip", "connection", 6),
        (WHOLE, "br", "not-json", 1),
    ],
    ids=["no gzip", "cut gzip", "unknown"],
)
def test_what_cannot_be_unpacked(
    endpoint: Endpoint, url: str, picture: Picture, body: bytes, encoding: str, kind: str, requests: int
) -> None:
    outcome = only(endpoint, url, picture, Reply(200, body, {"content-encoding": encoding}))
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, len(endpoint.requests)) == (kind, requests)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_json_nested_without_end(endpoint: Endpoint, url: str, picture: Picture, status: int, kind: str) -> None:
    reply = Reply(status, b"[" * 200_000, {"content-type": kind})
    outcome = only(endpoint, url, picture, reply)
    assert isinstance(outcome, Failed)
    assert outcome.error_type in ("bad-response", "not-json", "http-400")
    with pytest.raises(UserError, match=r"does not answer|the probe was rejected"):
        only(endpoint, url, picture, reply, probe="strict")


def test_a_list_of_models_that_is_too_large_is_none(endpoint: Endpoint, url: str, picture: Picture) -> None:
    endpoint.models = Reply(200, PADDED)
    assert isinstance(only(endpoint, url, picture, answered(GOOD)), Answer)


# ------------------------------------------------------------------------------------------------------------ streams


def events(*bodies: Any) -> Reply:
    lines = [f"data: {json.dumps(body)}\n\n" for body in bodies]
    return Reply(200, ": ping\n\n" + "".join(lines) + "data: [DONE]\n\n", SSE)


def delta(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": 0, "delta": {"content": text, **more}, "finish_reason": finish}]}


def test_a_stream_that_nobody_asked_for_is_put_together(endpoint: Endpoint, url: str, picture: Picture) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 50}}
    streamed = events(delta(reasoning_content="Fear?"), delta(GOOD[:20]), delta(GOOD[20:]), delta(finish="stop"), usage)
    outcome = only(endpoint, url, picture, streamed, price_in=2.0, price_out=10.0)
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.raw, outcome.reasoning) == ("awe", GOOD, "Fear?")
    assert outcome.usage.cost_usd == pytest.approx(0.0025)
    assert isinstance(only(endpoint, url, picture, events(answered(GOOD).body)), Answer)


def pieces(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Events of a stream, one choice each, the last of which says that the answer is done."""
    done = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    counted = {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 50}}
    return [*({"choices": [{"index": 0, "finish_reason": None} | part]} for part in parts), done, counted]


def spread(body: dict[str, Any]) -> str:
    """An event whose JSON takes several lines of data."""
    return "".join(f"data: {line}\n" for line in json.dumps(body, indent=1).split("\n")) + "\n"


SEPARATED = "Awe because the sky\u2028glows\u0085"
DIALECTS: dict[str, tuple[Reply | str | bytes, str]] = {
    "a message of null": (events(*pieces({"message": None, "delta": {"content": GOOD}})), GOOD),
    "text as of old": (events(*pieces({"text": GOOD[:9]}, {"text": GOOD[9:]})), GOOD),
    "messages that grow": (events(*pieces({"message": {"content": GOOD[:9]}}, {"message": {"content": GOOD}})), GOOD),
    "arguments of a tool": (
        events(*pieces(*({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}} for part in (GOOD[:9], GOOD[9:])))),
        GOOD,
    ),
    "a second choice": (events(*pieces({"index": 1, "delta": {"content": "Fear because"}}, {"delta": {"content": GOOD}})), GOOD),
    "parts": (events(*pieces({"delta": {"content": [{"type": "thinking", "thinking": "Fear"}, {"type": "text", "text": GOOD}]}})), GOOD),
    "lines within a text": (
        "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in pieces({"delta": {"content": SEPARATED}})),
        SEPARATED,
    ),
    "several lines of data": ("".join(map(spread, pieces({"delta": {"content": GOOD}}))), GOOD),
    "a byte-order mark": (b"\xef\xbb\xbf" + events(*pieces({"delta": {"content": GOOD}})).body.replace(": ping\n\n", "").encode(), GOOD),
    "line ends of two": (events(*pieces({"delta": {"content": GOOD}})).body.replace("\n", "\r\n"), GOOD),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_is_read_in_every_dialect(endpoint: Endpoint, url: str, picture: Picture, name: str) -> None:
    reply, said = DIALECTS[name]
    reply = reply if isinstance(reply, Reply) else Reply(200, reply, SSE)
    outcome = only(endpoint, url, picture, reply, price_in=2.0, price_out=10.0)
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.raw, len(endpoint.requests)) == ("awe", said, 1)
    assert outcome.usage.cost_usd == pytest.approx(0.0025)


def test_a_refusal_in_a_stream(endpoint: Endpoint, url: str, picture: Picture) -> None:
    streamed = events(*pieces({"delta": {"refusal": "I will "}}, {"delta": {"refusal": "not."}}))
    outcome = only(endpoint, url, picture, streamed)
    assert isinstance(outcome, Refusal)
    assert outcome.raw == "I will not."


def test_messages_that_grow_and_break_off_are_no_answer(endpoint: Endpoint, url: str, picture: Picture) -> None:
    growing = [{"choices": [{"message": {"content": text}}]} for text in ("Awe", "Awe because the sky")]
    outcome = only(endpoint, url, picture, events(*growing))
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "broken-answer"


def test_an_error_that_is_an_event_of_its_own(endpoint: Endpoint, url: str, picture: Picture) -> None:
    failure = {"object": "error", "message": "CUDA out of memory", "code": 500}
    outcome = only(endpoint, url, picture, events(delta("Awe because"), failure), price_in=2.0, price_out=10.0)
    assert isinstance(outcome, Failed)
    assert outcome.message == "500 CUDA out of memory"
    assert (outcome.usage.reserve_usd or 0.0) > 0.01


def test_a_message_by_another_api_is_no_error_that_costs_nothing(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    body = {"message": {"role": "assistant", "content": GOOD}, "done": True, "eval_count": 50}
    outcome = only(endpoint, url, picture, Reply(200, body), price_in=2.0, price_out=10.0)
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "no-choice"
    assert (outcome.usage.reserve_usd or 0.0) > 0.01


def test_a_stream_that_broke_off_or_holds_an_error(endpoint: Endpoint, url: str, picture: Picture) -> None:
    broken = only(endpoint, url, picture, events(delta("Awe because the"), delta(" sky")))
    assert isinstance(broken, Failed)
    assert broken.error_type == "broken-answer"
    with pytest.raises(UserError, match="402 Insufficient credits"):
        only(endpoint, url, picture, events({"error": {"message": "Insufficient credits", "code": 402}}))


def test_a_stream_cut_in_the_middle_of_an_event_is_asked_for_again(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    endpoint.script(Reply(200, 'data: {"choices": [{"delta": {"content": "Awe bec', SSE), answered(GOOD))
    (outcome,) = driven(loaded(url), item("0", picture()), clock=Clock(sleep=at_once))
    assert isinstance(outcome, Answer)
    assert outcome.usage.attempts == 2


def test_an_error_in_a_stream_after_words_may_be_billed(endpoint: Endpoint, url: str, picture: Picture) -> None:
    failure = {"error": {"message": "the image is broken", "code": 400}}
    begun = only(endpoint, url, picture, events(delta("Awe because"), failure), price_in=2.0, price_out=10.0)
    assert isinstance(begun, Failed)
    assert (begun.message, begun.usage.cost_usd) == ("400 the image is broken", None)
    at_once_refused = only(endpoint, url, picture, events(failure), price_in=2.0, price_out=10.0)
    assert isinstance(at_once_refused, Failed)
    assert (at_once_refused.message, at_once_refused.usage.cost_usd) == ("400 the image is broken", 0.0)


def test_a_stream_of_the_responses_api(endpoint: Endpoint, url: str, picture: Picture) -> None:
    said = {"type": "message", "content": [{"type": "output_text", "text": GOOD}]}
    done = {"type": "response.completed", "response": {"status": "completed", "output": [said]}}
    streamed = events({"type": "response.output_text.delta", "delta": GOOD[:9]}, done)
    assert isinstance(only(endpoint, url, picture, streamed, api="responses"), Answer)
    begun = {"type": "response.created", "response": {"status": "in_progress", "output": []}}
    failure = {"type": "error", "error": {"code": "invalid_request_error", "message": "the image is broken"}}
    failed = only(endpoint, url, picture, events(begun, failure), api="responses")
    assert isinstance(failed, Failed)
    assert failed.message == "400 the image is broken"


# --------------------------------------------------------------------------------------- answers in unusual places


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": None, "tool_calls": [{"type": "function", "function": {"arguments": GOOD}}]}},
        {"message": {"content": None, "function_call": {"name": "answer", "arguments": GOOD}}},
        {"message": {"content": None, "audio": {"data": "UklG", "transcript": "Awe because the sky glows"}}},
        {"message": {"content": None, "parsed": json.loads(GOOD)}},
        {"message": {"content": json.loads(GOOD)}},
        {"message": {"content": ["Awe because ", "the sky glows"]}},
        {"message": "Awe because the sky glows"},
        {"text": "Awe because the sky glows"},
    ],
)
def test_an_answer_is_read_wherever_it_stands(
    endpoint: Endpoint, url: str, picture: Picture, choice: dict[str, Any]
) -> None:
    reply = answered()
    reply.body["choices"] = [choice | {"finish_reason": "stop"}]
    outcome = only(endpoint, url, picture, reply)
    assert isinstance(outcome, Answer)
    assert outcome.emotion == "awe"


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "tool_calls": [{"function": {"name": "weather", "arguments": '{"city": "Paris"}'}}]},
        {"content": None, "audio": {"data": "UklG"}},
        {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,xx"}}]},
    ],
)
def test_what_is_no_text_is_no_answer(endpoint: Endpoint, url: str, picture: Picture, message: dict[str, Any]) -> None:
    reply = answered()
    reply.body["choices"][0]["message"] = message
    assert isinstance(only(endpoint, url, picture, reply), Unparsed)


def test_a_refusal_among_the_parts(endpoint: Endpoint, url: str, picture: Picture) -> None:
    reply = answered([{"type": "refusal", "refusal": "I will not."}])
    outcome = only(endpoint, url, picture, reply)
    assert isinstance(outcome, Refusal)
    assert outcome.raw == "I will not."


@pytest.mark.parametrize("logprob", [math.nan, -math.inf])
def test_probabilities_of_nothing(endpoint: Endpoint, url: str, picture: Picture, logprob: float) -> None:
    reply = answered("awe because the sky glows")
    tops = [{"token": name, "logprob": logprob} for name in ("awe", "fear")]
    reply.body["choices"][0]["logprobs"] = {"content": [{"token": "awe", "top_logprobs": tops}]}
    outcome = only(endpoint, url, picture, Reply(200, json.dumps(reply.body)), probabilities=True)
    assert isinstance(outcome, Answer)
    assert outcome.emotion_probs is None


@pytest.mark.parametrize("twice", ['"choices": [], "choices"', '"usage": 1, "choices": 2, "choices"'])
def test_keys_that_come_twice(endpoint: Endpoint, url: str, picture: Picture, twice: str) -> None:
    body = WHOLE.decode().replace('"choices"', twice, 1)
    assert isinstance(only(endpoint, url, picture, Reply(200, body)), Answer)


# -------------------------------------------------------------------------------------------------------- what it cost


@pytest.mark.parametrize(
    ("usage", "prompt", "completion"),
    [
        ({"input_tokens": 10, "cache_creation_input_tokens": 900, "cache_read_input_tokens": 90, "output_tokens": 50},
         1000, 50),
        ({"prompt_tokens": 10, "cache_read_input_tokens": 990, "completion_tokens": 50}, 1000, 50),
        ({"prompt_tokens": 1000, "cache_read_input_tokens": 990, "completion_tokens": 50}, 1000, 50),
        ({"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": -5}, 1000, 50),
        ({"total_tokens": 6050}, None, None),
        ({"promptTokens": 1000, "completionTokens": 50}, None, None),
        ({"cost": 0.1}, None, None),
    ],
)  # fmt: skip
def test_tokens_by_other_names(
    endpoint: Endpoint, url: str, picture: Picture, usage: dict[str, Any], prompt: int | None, completion: int | None
) -> None:
    reply = answered(GOOD)
    reply.body["usage"] = usage
    outcome = only(endpoint, url, picture, reply, price_in=2.0, price_out=10.0)
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (prompt, completion)
    assert (outcome.usage.cost_usd is None) == (outcome.usage.reserve_usd is not None) == (prompt is None)


@pytest.mark.parametrize("counted", ["all", "the prompt", "nothing"])
def test_an_error_after_the_work_was_begun_is_paid(
    endpoint: Endpoint, url: str, picture: Picture, counted: str
) -> None:
    reply = answered("Awe because the", "error")
    reply.body["choices"][0]["error"] = {"code": 502, "message": "Upstream error"}
    if counted != "all":
        reply.body["usage"] = {"prompt_tokens": 70} if counted == "the prompt" else None
    outcome = only(endpoint, url, picture, reply, price_in=2.0, price_out=10.0)
    assert isinstance(outcome, Failed)
    assert outcome.usage.attempts == 6
    known, reserve = outcome.usage.cost_usd or 0.0, outcome.usage.reserve_usd or 0.0
    if counted == "all":
        assert known + reserve == pytest.approx(6 * (2 * 70 + 10 * 9) / 1e6)
    else:
        assert reserve > 6 * 10 * 300 / 1e6
