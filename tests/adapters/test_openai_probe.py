"""What is found out about an endpoint before the first painting: does it see, and which parameters does it take."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_samples import LABELS, Picture, example, item
from seeing import asked_for_colour, colour_of, seeing, shown
from servers import Endpoint, Reply, answered, chat_server, error
from tqdm import tqdm

from harness.adapters.endpoint_images import SHOWN, Verdict
from harness.adapters.openai_chat import OpenAIChat
from harness.infer import endpoint as driver
from harness.types import Answer, Failed, Outcome, UserError

Behaviour = Callable[[dict[str, Any]], Reply]


@pytest.fixture
def server() -> Iterator[tuple[Endpoint, str]]:
    with chat_server() as running:
        running[0].reply = seeing
        yield running


def asked(adapter: OpenAIChat, *pictures: Path) -> list[Outcome]:
    """Drive the adapter as a run does."""
    adapter.load()
    adapter.retry_wait_s = 0.01
    recorded: dict[str, Outcome] = {}
    items = [item(str(number), path) for number, path in enumerate(pictures)]
    with tqdm(disable=True) as progress:
        driver.drive(adapter, items, 4, lambda one, outcome: recorded.update({one.id: outcome}), progress)
    return [recorded[one.id] for one in items]


def test_an_endpoint_that_sees_is_asked_twice_about_colours_and_then_about_paintings(
    server: tuple[Endpoint, str], picture: Picture
) -> None:
    endpoint, url = server
    adapter = OpenAIChat("m", url)
    (outcome,) = asked(adapter, picture())
    assert isinstance(outcome, Answer)
    probes = [r for r in endpoint.requests if asked_for_colour(r)]
    assert [colour_of(shown(request)) for request in probes] == list(SHOWN)
    assert len(endpoint.requests) == 3
    assert adapter.runtime_info()["probe"] == "passed"


@pytest.mark.parametrize("before", ["", "The image shows the words that I was sent with: "])
def test_an_answer_that_repeats_the_key_is_told_without_it(
    server: tuple[Endpoint, str],
    picture: Picture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    before: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "made-up-0123456789abcdef")
    endpoint, url = server
    endpoint.reply = always(f"{before}made-up-0123456789abcdef")
    asked(OpenAIChat("m", url, probe="warn", schema=False, probabilities=False), picture())
    told = capsys.readouterr().err
    assert "it does not look at images" in told
    assert "made-up" not in told


def always(text: str) -> Behaviour:
    return lambda request: answered(text)


def confused(request: dict[str, Any]) -> Reply:
    return answered({"blue": "yellow", "yellow": "blue"}[colour_of(shown(request))])


def hedging(request: dict[str, Any]) -> Reply:
    return answered("It may be red, green, blue or yellow.")


NO_PICTURES = error(
    500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
)


BLIND = r"does not look at images: shown a blue and a yellow image"


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        (always("blue"), BLIND),
        (always("I cannot help with that."), BLIND),
        (confused, BLIND),
        (hedging, BLIND),
        (always(""), BLIND),
        (lambda request: NO_PICTURES, "the probe was rejected: 500 image input is not supported"),
        (lambda request: error(400, "this model takes text only"), "the probe was rejected: 400 this model takes text"),
        (lambda request: answered("", "content_filter"), "the probe was refused: content_filter"),
        (lambda request: answered("", "length"), r"max_tokens=4096 ended its answer before the first word; raise max_t"),
        (lambda request: answered("<think>blue? yellow?", "length"), "max_tokens=4096 ended its answer"),
        (lambda request: answered(None, reasoning="It is blue."), r"text is in the reasoning field; see reasoning_eff"),
        (lambda request: Reply(body="<html>Hi</html>", headers={"content-type": "text/html"}), "expected JSON, got"),
    ],
    ids=["same", "refusal", "swapped", "hedging", "empty", "llama.cpp", "rejected", "filtered", "cut", "thinking",
         "reasoning field", "html"],
)  # fmt: skip
def test_an_endpoint_that_does_not_answer_the_probe_is_refused_and_told_why(
    server: tuple[Endpoint, str],
    picture: Picture,
    behaviour: Behaviour,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    endpoint, url = server
    endpoint.reply = behaviour
    with pytest.raises(UserError, match=rf"{problem}.*probe=warn"):
        asked(OpenAIChat("m", url), picture())
    assert not any(not asked_for_colour(request) for request in endpoint.requests)
    adapter = OpenAIChat("m", url, probe="warn")
    (outcome,) = asked(adapter, picture())
    assert re.search(problem, capsys.readouterr().err)
    assert re.search(problem, adapter.runtime_info()["probe_problem"])
    assert adapter.runtime_info()["probe"] == "warned"
    assert outcome is not None


def test_a_probe_that_was_answered_is_paid_for_even_if_the_next_is_rejected(
    server: tuple[Endpoint, str], picture: Picture
) -> None:
    endpoint, url = server
    endpoint.reply = lambda request: seeing(request) if len(endpoint.requests) < 2 else error(422, "no more")
    adapter = OpenAIChat("m", url, price_in=100.0, price_out=1000.0)
    with pytest.raises(UserError, match="the probe was rejected"):
        asked(adapter, picture())
    assert adapter.spent_usd > 0


def test_a_server_without_pictures_is_not_asked_again(server: tuple[Endpoint, str], picture: Picture) -> None:
    endpoint, url = server
    endpoint.reply = lambda request: NO_PICTURES
    (outcome,) = asked(OpenAIChat("m", url, probe="off"), picture())
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.usage.attempts, len(endpoint.requests)) == ("no-images", 1, 1)


def test_the_probe_is_as_patient_as_a_request(server: tuple[Endpoint, str], picture: Picture) -> None:
    endpoint, url = server
    broken = [error(429, "slow down"), Reply(0), error(503, "loading")]
    endpoint.reply = lambda request: broken.pop() if broken else seeing(request)
    (outcome,) = asked(OpenAIChat("m", url), picture())
    assert isinstance(outcome, Answer)


def test_a_verdict_needs_both_colours_and_no_other() -> None:
    assert Verdict(("Blue.", '{"colour": "yellow"}')).sees
    assert not Verdict(("blue", "blue")).sees
    assert not Verdict(("bluebell", "yellow")).sees
    assert "'blue' and 'red'" in Verdict(("blue", "red")).problem()


@pytest.mark.parametrize(
    ("accepts", "found"),
    [
        ({"response_format", "logprobs"}, {"schema": "accepted", "logprobs": "accepted"}),
        ({"response_format"}, {"schema": "accepted", "logprobs": "rejected"}),
        ({"logprobs"}, {"schema": "rejected", "logprobs": "accepted"}),
        (set(), {"schema": "rejected", "logprobs": "rejected"}),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_schema_and_logprobs_are_settled_by_the_probe(
    server: tuple[Endpoint, str], picture: Picture, accepts: set[str], found: dict[str, str], named: bool
) -> None:
    endpoint, url = server

    def reply(request: dict[str, Any]) -> Reply:
        for name in ("response_format", "logprobs"):
            if name in request and name not in accepts:
                return error(400, f"unknown field {name}" if named else "Bad request")
        sent = seeing(request, json.dumps({"emotion": "fear", "explanation": "the sea is black"}))
        if "logprobs" in request:
            sent.body["choices"][0]["logprobs"] = {"content": [listed('{"emotion": "'), listed("fear", fear=0.9)]}
        return sent

    endpoint.reply = reply
    adapter = OpenAIChat("m", url)
    (outcome,) = asked(adapter, picture())
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.explanation) == ("fear", "the sea is black")
    if named or len(accepts) != 1:
        assert adapter.runtime_info()["capabilities"] == found
    else:  # a server that does not say what it minds loses both
        assert set(adapter.runtime_info()["capabilities"].values()) == {"rejected"}
    final = endpoint.requests[-1]
    capable = {name for name, state in adapter.runtime_info()["capabilities"].items() if state == "accepted"}
    assert ("response_format" in final) is ("schema" in capable)
    assert ("logprobs" in final) is ("logprobs" in capable)
    assert (outcome.emotion_probs is not None) is ("logprobs" in capable)
    if "schema" in capable:
        schema = final["response_format"]["json_schema"]["schema"]
        assert schema["properties"]["emotion"]["enum"] == list(LABELS)


def listed(token: str, **probabilities: float) -> dict[str, Any]:
    import math

    tops = [{"token": name, "logprob": math.log(p), "bytes": None} for name, p in probabilities.items()]
    return {"token": token, "logprob": -0.1, "bytes": None, "top_logprobs": tops}


def test_a_schema_that_is_ignored_is_not_sent_again(server: tuple[Endpoint, str], picture: Picture) -> None:
    endpoint, url = server
    endpoint.reply = lambda request: seeing({k: v for k, v in request.items() if k != "response_format"})
    adapter = OpenAIChat("m", url)
    asked(adapter, picture())
    assert adapter.runtime_info()["capabilities"] == {"schema": "ignored", "logprobs": "ignored"}
    assert not {"response_format", "logprobs"} & set(endpoint.requests[-1])


def test_worked_examples_come_before_the_question(server: tuple[Endpoint, str], picture: Picture) -> None:
    endpoint, url = server
    training = [
        example("t1", picture("white", "t1.png"), ("awe", "it is vast"), ("awe", "it is bright")),
        example("t2", picture("black", "t2.png"), ("fear", "it is dark")),
        example("t3", picture("grey", "t3.png"), ("fear", "no one agrees"), ("awe", "with the other")),
    ]
    adapter = OpenAIChat("m", url, shots=2)
    assert adapter.needs == {"train"}
    adapter.fit(training)
    (outcome,) = asked(adapter, picture())
    assert isinstance(outcome, Answer)
    messages = endpoint.requests[-1]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert {messages[1]["content"], messages[3]["content"]} == {"awe because it is vast", "fear because it is dark"}
    assert "response_format" not in endpoint.requests[-1]
    asked_otherwise = adapter.turns(dataclasses.replace(item("b", picture()), prompt="And this one?"))
    texts = [turn.text for turn in asked_otherwise[::2]]
    assert texts == ["And this one?"] * 3
    fewer = OpenAIChat("m", url, shots=1)
    fewer.fit(training)
    assert fewer.cache_key() != adapter.cache_key()
    with pytest.raises(UserError, match="shots=4: only 2 training images"):
        OpenAIChat("m", url, shots=4).fit(training)


def test_connections_are_closed_with_the_loop(server: tuple[Endpoint, str]) -> None:
    adapter = OpenAIChat("m", server[1])

    async def twice() -> bool:
        await adapter.open()
        client = adapter.client
        await adapter.aclose()
        return client.is_closed()

    assert asyncio.run(twice())
    with pytest.raises(UserError, match="expected one of strict, warn, off"):
        OpenAIChat("m", server[1], probe="maybe")
