"""`harness run` against a loopback endpoint: what it costs, what is told beforehand, what is not asked twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from seeing import asked_for_colour, seeing
from servers import Endpoint, Reply, answered, chat_server, error

from harness.adapters.endpoint_prices import find_price
from harness.types import UserError

Command = Callable[..., tuple[int, str, str]]
PRICES = "price_in=100,price_out=1000"
"""70 prompt and 9 answer tokens then cost 0.016 dollars."""
COST = 0.016


@pytest.fixture
def server() -> Iterator[tuple[Endpoint, str]]:
    with chat_server() as running:
        running[0].reply = seeing
        yield running


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Six pictures and a task card over them."""
    lines = []
    for number in range(6):
        Image.new("RGB", (16, 12), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
        said = [{"emotion": "awe", "explanation": f"the room {number} is vast and red"}]
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "annotations": said}))
    (tmp_path / "examples.jsonl").write_text("\n".join(lines))
    card = tmp_path / "tiny.yaml"
    card.write_text(
        "name: tiny\ndataset: jsonl\nemotions: [awe, fear]\noptions: {examples: examples.jsonl}\n"
        "metrics: [accuracy, cost_usd, tokens]\n"
    )
    return card


@pytest.fixture
def command(task: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(task.parent)
    monkeypatch.setenv("HARNESS_DATA", str(task.parent / "data"))
    from harness.cli import main

    def run(model: str, *more: object) -> tuple[int, str, str]:
        code = main(["run", "--tasks", str(task), "--models", model, "--no-report", *map(str, more)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def lines(folder: Path, model: str = "gpt4v") -> list[dict[str, Any]]:
    path = folder / "outcomes" / "tiny" / f"{model}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def paintings(endpoint: Endpoint) -> int:
    return sum(not asked_for_colour(request) for request in endpoint.requests)


def test_the_second_run_asks_nothing_and_costs_nothing(
    server: tuple[Endpoint, str], command: Command, tmp_path: Path
) -> None:
    endpoint, url = server
    model = f"gpt4v:model=m,base_url={url},{PRICES}"
    assert command(model, "--out", "first")[0] == 0
    assert [line["usage"]["cost_usd"] for line in lines(tmp_path / "first")] == [pytest.approx(COST)] * 6
    asked = paintings(endpoint)
    code, _, err = command(model, "--out", "second")
    assert (code, "6 answers of this model are in the response cache (20" in err) == (0, True)
    assert paintings(endpoint) == asked  # but for the probe: answers are used only if the endpoint still sees
    again = lines(tmp_path / "second")
    assert all(line["usage"]["cached"] and line["usage"]["cost_usd"] == 0 for line in again)
    kept = ("id", "kind", "emotion", "explanation", "emotion_probs")
    assert [{k: line[k] for k in kept} for line in again] == [
        {k: line[k] for k in kept} for line in sorted(lines(tmp_path / "first"), key=lambda line: line["id"])
    ]
    (record,) = json.loads((tmp_path / "second" / "manifest.json").read_text())["runs"]
    assert (record["cached"], record["asked"]) == (6, 0)
    assert command(model.replace("model=m", "model=other"), "--out", "third")[0] == 0
    assert paintings(endpoint) == 12
    assert command(model, "--out", "fourth", "--no-cache")[0] == 0
    assert paintings(endpoint) == 18


def test_the_dry_run_tells_requests_tokens_and_dollars(server: tuple[Endpoint, str], command: Command) -> None:
    endpoint, url = server
    code, out, _ = command(f"gpt4v:model=m,base_url={url},max_tokens=100,{PRICES}", "--dry-run")
    assert code == 0
    assert "6 requests, at most " in out
    assert "600 answer tokens, at most $" in out
    code, out, _ = command(f"gpt4v:model=m,base_url={url}", "--dry-run")
    assert "price unknown" in out
    assert endpoint.requests == []


def test_max_cost_stops_before_it_is_exceeded_and_goes_on_when_raised(
    server: tuple[Endpoint, str], command: Command, tmp_path: Path
) -> None:
    endpoint, url = server
    model = f"gpt4v:model=m,base_url={url},max_tokens=10,probe=off,{PRICES}"
    dry = command(model, "--dry-run")[1]
    ceiling = float(dry.partition("at most $")[2].split()[0]) / 6
    limit = ceiling + 2.5 * COST
    code, _, err = command(model, "--out", "run", "--max-cost", limit, "--concurrency", 2)
    assert code == 2
    assert "--max-cost" in err
    assert "higher --max-cost" in err
    assert len(lines(tmp_path / "run")) == paintings(endpoint) == 3
    assert sum(line["usage"]["cost_usd"] for line in lines(tmp_path / "run")) <= limit
    code, _, _ = command(model, "--out", "run", "--max-cost", 10)
    assert code == 0
    assert sorted(line["id"] for line in lines(tmp_path / "run")) == list("012345")
    assert paintings(endpoint) == 6


def test_an_unknown_price_and_a_budget_exclude_each_other(
    server: tuple[Endpoint, str], command: Command, tmp_path: Path
) -> None:
    endpoint, url = server
    code, _, err = command(f"gpt4v:model=m,base_url={url}", "--out", "run", "--max-cost", 1)
    assert code == 2
    assert "price_in=…,price_out=…" in err
    assert not (tmp_path / "run").exists()
    assert endpoint.requests == []


def test_the_table_knows_models_and_their_dated_snapshots_at_their_own_host_only(tmp_path: Path) -> None:
    host = "https://api.openai.com/v1"
    price = find_price("gpt-4o", host)
    assert price.cost_usd(1_000_000, 100_000) == pytest.approx(2.5 + 1.0)
    assert find_price("gpt-4o-2024-11-20", host) == price
    assert find_price("gpt-4o", host, batch=True).cost_usd(1_000_000, 0) == pytest.approx(1.25)
    assert find_price("gpt-4o", "http://127.0.0.1:1/v1").cost_usd(1, 1) is None
    assert find_price("unheard-of", host).cost_usd(1, 1) is None
    assert find_price("gpt-4o", host, 1.0, 2.0).cost_usd(1_000_000, 1_000_000) == pytest.approx(3.0)
    own = tmp_path / "own.yaml"
    own.write_text("as_of: 2026-11-01\nhosts: [models.example]\nmodels:\n  m: {in: 1, out: 2}\n")
    assert find_price("m", "https://models.example/v1", table=str(own)).cost_usd(0, 500_000) == pytest.approx(1.0)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("hosts: [a]\nmodels:\n  m: {in: -1, out: 2}\n")
    for mistake in ({"table": str(wrong)}, {"price_in": 1.0}, {"price_in": -1.0, "price_out": 0.0}):
        with pytest.raises(UserError, match=r"price|wrong.yaml, line 3.*at least 0"):
            find_price("m", host, **mistake)  # type: ignore[arg-type]


def listing(*models: dict[str, Any]) -> Reply:
    return Reply(body={"object": "list", "data": list(models)})


def test_another_model_behind_the_same_address_is_another_model(
    server: tuple[Endpoint, str], command: Command, tmp_path: Path
) -> None:
    """A server of one model ignores the name that it is asked for; what it lists, or answers as, is what counts."""
    endpoint, url = server
    model = f"gpt4v:model=m,base_url={url}"
    endpoint.models = listing({"id": "a.gguf", "meta": {"n_params": 1}, "created": 1})
    assert command(model, "--out", "first", "--limit", 3)[0] == 0
    endpoint.models = listing({"id": "a.gguf", "meta": {"n_params": 1}, "created": 2})  # asked a second later
    assert command(model, "--out", "second", "--limit", 3)[0] == 0
    assert paintings(endpoint) == 3
    for other in ({"id": "b.gguf"}, {"id": "a.gguf", "meta": {"n_params": 2}}):
        before = paintings(endpoint)
        endpoint.models = listing(other)
        code, _, err = command(model, "--out", "first")
        assert (code, "the endpoint serves another model than when the run was begun" in err) == (2, True), err
        assert command(model, "--out", f"run-{other['id']}", "--limit", 3)[0] == 0
        assert paintings(endpoint) == before + 3


def test_the_query_of_an_address_belongs_to_its_identity(
    server: tuple[Endpoint, str], command: Command, tmp_path: Path
) -> None:
    endpoint, url = server
    assert command(f"gpt4v:model=m,base_url={url}?deployment=one", "--out", "run")[0] == 0
    code, _, err = command(f"gpt4v:model=m,base_url={url}?deployment=two", "--out", "run")
    assert (code, "holds another run" in err or "has changed" in err) == (2, True), err
    assert command(f"gpt4v:model=m,base_url={url}?deployment=two", "--out", "other")[0] == 0
    assert paintings(endpoint) == 12
    code, _, err = command(f"gpt4v:model=m,base_url={url}?deployment=two&sig=made-up-signature", "--out", "third")
    assert (code, paintings(endpoint)) == (0, 12)  # a signature tells no endpoints apart, and stays out of files
    assert "made-up-signature" not in (tmp_path / "third" / "manifest.json").read_text() + err


def test_answers_at_another_temperature_are_others(server: tuple[Endpoint, str], command: Command) -> None:
    endpoint, url = server
    cold = lambda request: error(400, "no temperature") if "temperature" in request else seeing(request)  # noqa: E731
    for reply, out, asked in ((cold, "first", 6), (cold, "again", 6), (seeing, "cold", 12), (seeing, "last", 12)):
        endpoint.reply = reply
        assert command(f"gpt4v:model=m,base_url={url}", "--out", out)[0] == 0
        assert len({str(request) for request in endpoint.requests if not asked_for_colour(request)}) == asked


def test_nothing_is_taken_from_the_cache_for_an_endpoint_that_no_longer_sees(
    server: tuple[Endpoint, str], command: Command
) -> None:
    endpoint, url = server
    assert command(f"gpt4v:model=m,base_url={url}", "--out", "first")[0] == 0
    endpoint.reply = lambda request: answered("It is red, green, blue and yellow.")
    code, _, err = command(f"gpt4v:model=m,base_url={url}", "--out", "second")
    assert (code, "does not look at images" in err, "in the response cache" in err) == (2, True, False)


def test_errors_of_the_endpoint_are_never_kept_and_asked_again_by_retry_failed(
    server: tuple[Endpoint, str], command: Command, tmp_path: Path
) -> None:
    endpoint, url = server
    model = f"gpt4v:model=m,base_url={url},retry_wait_s=0.001,patience_s=0"
    broken = answered("Awe because the sky is", "error")
    broken.body["choices"][0]["error"] = {"code": 502, "message": "Upstream provider overloaded"}
    endpoint.reply = lambda request: seeing(request) if asked_for_colour(request) else broken
    code, _, err = command(model, "--out", "run")
    assert (code, "Upstream provider overloaded" in err) == (1, True)
    assert {line["kind"] for line in lines(tmp_path / "run")} == {"failed"}
    endpoint.reply = seeing
    assert command(model, "--out", "run", "--retry-failed")[0] == 0
    assert {line["kind"] for line in lines(tmp_path / "run")[-6:]} == {"answer"}
