"""`--max-cost` against servers that count in every way: what was really billed stays within one request of the limit."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_samples import Picture, item
from asking_openai import driven, loaded
from PIL import Image
from seeing import seeing
from servers import Endpoint, Reply, answered, error

from harness.adapters.openai_chat import OpenAIChat
from harness.infer.endpoint import Budget
from harness.infer.throttle import Clock
from harness.types import Outcome, UserError

IN, OUT = 2.0, 10.0
"""US$ per million tokens."""


async def at_once(seconds: float) -> None:
    """A wait that takes no time."""


def usage(prompt: Any, completion: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion} | more


def with_usage(counted: Any, text: str | None = "awe because the sky is vast", finish: str = "stop") -> Reply:
    reply = answered(text, finish)
    reply.body["usage"] = counted
    return reply


def raw_usage(counted: str) -> Reply:
    body = json.dumps(answered().body | {"usage": "COUNTED"}).replace('"COUNTED"', counted)
    return Reply(200, body)


def billed(prompt: float, completion: float) -> float:
    return (prompt * IN + completion * OUT) / 1e6


CASES: dict[str, tuple[Reply, float, float, bool]] = {
    # name: (reply, what it really costs, limit, whether the sum that is known must be the true one)
    "honest": (with_usage(usage(1000, 50)), billed(1000, 50), 0.2, True),
    "no usage": (with_usage(None), billed(1000, 50), 0.05, False),
    "no JSON": (Reply(200, "data: awe", {"content-type": "text/event-stream"}), billed(1000, 50), 0.05, False),
    "cut off, no usage": (with_usage(None, None, "length"), billed(1000, 300), 0.05, False),
    "cut off, completion not counted": (
        with_usage({"prompt_tokens": 1000, "total_tokens": 1300}, None, "length"),
        billed(1000, 300),
        0.05,
        True,
    ),
    "thoughts beside the completion": (
        with_usage(usage(1000, 50, total_tokens=6050, completion_tokens_details={"reasoning_tokens": 5000})),
        billed(1000, 5050),
        0.2,
        True,
    ),
    "thoughts beside, no total": (
        with_usage(usage(1000, 50, completion_tokens_details={"reasoning_tokens": 5000})),
        billed(1000, 5050),
        0.2,
        True,
    ),
    "negative": (with_usage(usage(-1_000_000, 50)), billed(1000, 50), 0.05, False),
    "negative completion": (with_usage(usage(1000, -50_000)), billed(1000, 50), 0.05, False),
    "nothing for a prompt": (with_usage(usage(0, 50)), billed(1000, 50), 0.05, False),
    "50,000 prompt tokens": (with_usage(usage(50_000, 50)), billed(50_000, 50), 1.0, True),
    "max_tokens ignored": (with_usage(usage(1000, 8000)), billed(1000, 8000), 1.0, True),
    "floats": (with_usage(usage(1000.0, 50.0)), billed(1000, 50), 0.05, True),
    "text": (with_usage(usage("1000", "50")), billed(1000, 50), 0.05, False),
    "NaN": (raw_usage('{"prompt_tokens": NaN, "completion_tokens": Infinity}'), billed(1000, 50), 0.05, False),
    "10^30": (with_usage(usage(10**30, 50)), billed(1000, 50), 0.05, False),
    "10^400": (raw_usage(f'{{"prompt_tokens": 1{"0" * 400}, "completion_tokens": 5}}'), billed(1000, 50), 0.05, False),
    "error after the work": (with_usage(usage(1000, 50), "Awe because", "error"), billed(1000, 50), 0.05, True),
    "true": (with_usage(usage(True, True)), billed(1000, 50), 0.05, False),
    "a list": (with_usage([1000, 50]), billed(1000, 50), 0.05, False),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_billed_stays_within_the_limit(endpoint: Endpoint, url: str, picture: Picture, name: str) -> None:
    reply, price, limit, known = CASES[name]
    lock, count = threading.Lock(), itertools.count(1)
    sent = [0]

    def answer(request: dict[str, Any]) -> Reply:
        with lock:
            sent[0] = next(count)
        return Reply(reply.status, reply.body, reply.headers, delay_s=0.01)

    endpoint.reply = answer
    budget = Budget(limit)
    recorded: dict[str, Outcome] = {}
    path = picture()
    items = [item(str(number), path) for number in range(400)]
    adapter = loaded(url, price_in=IN, price_out=OUT)
    with pytest.raises(UserError, match="--max-cost"):
        driven(adapter, *items, concurrency=64, budget=budget, clock=Clock(sleep=at_once), recorded=recorded)
    assert sent[0] * price <= limit + price
    assert budget.spent_usd <= limit + price
    assert sent[0] > 1
    counted = sum((o.usage.cost_usd or 0) + (o.usage.reserve_usd or 0) for o in recorded.values())
    assert counted <= budget.spent_usd + 1e-9
    if sum(outcome.usage.attempts or 0 for outcome in recorded.values()) == sent[0]:
        assert counted == pytest.approx(budget.spent_usd)  # so that a later command knows it too
    if known and not any(outcome.usage.reserve_usd for outcome in recorded.values()):
        assert counted == pytest.approx(price * sum(outcome.usage.attempts or 0 for outcome in recorded.values()))


def test_errors_cost_nothing(endpoint: Endpoint, url: str, picture: Picture) -> None:
    replies = [
        error(422, "no"),
        Reply(200, {"error": {"message": "no", "code": 400}}),
        error(400, "x", "content_filter"),
    ]
    numbers = itertools.count()
    endpoint.reply = lambda request: replies[next(numbers) % 3]
    budget = Budget(0.0101)
    path = picture()
    outcomes = driven(loaded(url, price_in=IN, price_out=OUT), *(item(str(n), path) for n in range(30)), budget=budget)
    assert len(outcomes) == 30
    assert budget.spent_usd == 0.0


def test_many_requests_go_out_once_the_first_has_shown_its_price(
    endpoint: Endpoint, url: str, picture: Picture
) -> None:
    at_once = []

    def answer(request: dict[str, Any]) -> Reply:
        at_once.append(endpoint.in_flight)
        return Reply(body=with_usage(usage(1000, 50)).body, delay_s=0.05)

    endpoint.reply = answer
    path = picture()
    driven(loaded(url, price_in=IN, price_out=OUT), *(item(str(n), path) for n in range(30)), concurrency=10,
           budget=Budget(1.0))  # fmt: skip
    assert at_once[:2] == [1, 1]  # the second starts when the first is answered
    assert max(at_once) > 4


@pytest.fixture
def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """`harness run` over twenty images in a folder of its own."""
    from harness.cli import main

    lines = []
    for number in range(20):
        Image.new("RGB", (16, 12), (10 * number, 0, 0)).save(tmp_path / f"{number}.png")
        said = [{"emotion": "awe", "explanation": "it is vast"}]
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "annotations": said}))
    (tmp_path / "examples.jsonl").write_text("\n".join(lines))
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\ndataset: jsonl\nemotions: [awe, fear]\noptions: {examples: examples.jsonl}\nmetrics: [accuracy]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))

    def command(url: str, *more: str, settings: str = "") -> tuple[int, str]:
        model = f"gpt4v:model=m,base_url={url},price_in={IN},price_out={OUT},retry_wait_s=0.01{settings}"
        words = ["run", "--tasks", "tiny.yaml", "--models", model, "--out", "run", "--no-report", *more]
        code = main(words)
        return code, capsys.readouterr().err

    return command


def test_later_commands_know_what_nobody_was_told(
    endpoint: Endpoint, url: str, run: Callable[..., tuple[int, str]]
) -> None:
    """The probe, answers without usage, and failures of unknown price: the same command three times costs once."""

    def reply(request: dict[str, Any]) -> Reply:
        found = seeing(request)
        del found.body["usage"]
        return found

    endpoint.reply = reply
    spent = []
    for _ in range(3):
        code, told = run(url, "--max-cost", "0.06", "--no-cache", settings=",schema=false,probabilities=false")
        assert (code, "higher --max-cost" in told) == (2, True)
        spent.append(len(endpoint.requests))
    assert spent[0] > 3
    assert spent[2] - spent[0] <= 4  # the probe of each command: two requests, which later ones count as well
    most = billed(3300, 300)
    assert spent[2] * billed(1000, 50) <= 0.06 + most


BROKEN_BUT_COUNTED = with_usage(usage(1000, 50), "", "error")
BROKEN_BUT_COUNTED.body["choices"][0]["error"] = {"code": 502, "message": "Upstream error"}


@pytest.mark.parametrize(
    ("failure", "least", "most"),
    [
        (Reply(200, answered().body, promised=5000), billed(1000, 300), billed(4000, 300)),
        (Reply(200, {"id": "x", "choices": []}), billed(1000, 300), billed(4000, 300)),
        (BROKEN_BUT_COUNTED, billed(1000, 50), billed(1000, 50)),
        (error(503, "busy"), 0.0, 0.0),
        (Reply(200, {"error": {"message": "upstream is away", "code": 502}}), 0.0, 0.0),
    ],
    ids=["broken off", "no choice", "error after the work", "busy", "error instead"],
)
def test_requests_of_the_probe_are_paid_for_though_they_fail(
    endpoint: Endpoint, url: str, picture: Picture, failure: Reply, least: float, most: float
) -> None:
    numbers = itertools.count(1)
    endpoint.reply = lambda request: failure if next(numbers) <= 3 else seeing(request)
    adapter = loaded(url, price_in=IN, price_out=OUT, probe="strict")
    budget = Budget(1.0)
    driven(adapter, budget=budget, clock=Clock(sleep=at_once))
    answers = 2 * billed(70, 9)
    assert 3 * least - 1e-9 <= adapter.spent_usd - answers <= 3 * most + 1e-9
    assert budget.spent_usd == pytest.approx(adapter.spent_usd)


def test_a_higher_limit_continues(endpoint: Endpoint, url: str, run: Callable[..., tuple[int, str]]) -> None:
    endpoint.reply = seeing
    assert run(url, "--max-cost", "0.012")[0] == 2
    assert run(url, "--max-cost", "5")[0] == 0
    lines = Path("run/outcomes/tiny/gpt4v.jsonl").read_text().splitlines()
    assert sorted(int(json.loads(line)["id"]) for line in lines) == list(range(20))


@pytest.mark.parametrize(
    ("model", "retired"), [("gpt-5.5", None), ("o4-mini", "2026-10-23"), ("gpt-4.1-2025-04-14", None)]
)
def test_todays_models_have_a_price_and_retired_ones_are_told(
    model: str, retired: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = OpenAIChat(model)
    assert (adapter.price.prompt or 0) > 0
    assert adapter.price.retired == retired
    assert ("was retired on" in capsys.readouterr().err) is (retired is not None)
