"""The Batch API against an imitation on loopback: killed at each stage and resumed, nothing is lost or paid twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from seeing import seeing
from servers import BatchEndpoint, answered, batch_server

from harness.adapters.openai_batch import OpenAIBatches

COUNT = 9
Command = Callable[..., tuple[int, str]]
KILLED = 9


@pytest.fixture
def server() -> Iterator[tuple[BatchEndpoint, str]]:
    with batch_server(seeing) as running:
        yield running


@pytest.fixture
def card(tmp_path: Path) -> Path:
    lines = []
    for number in range(COUNT):
        Image.new("RGB", (16, 12), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
        said = [{"emotion": "awe", "explanation": f"the room {number} is vast and red"}]
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "annotations": said}))
    (tmp_path / "4.png").write_bytes(b"no picture")
    (tmp_path / "examples.jsonl").write_text("\n".join(lines))
    card = tmp_path / "tiny.yaml"
    card.write_text(
        "name: tiny\ndataset: jsonl\nemotions: [awe, fear]\noptions: {examples: examples.jsonl}\nmetrics: [accuracy]\n"
    )
    return card


def words(card: Path, url: str, *more: str) -> list[str]:
    model = f"gpt4v:model=m,base_url={url},mode=batch,poll_s=0.02,retry_wait_s=0.01,price_in=100,price_out=1000,max_tokens=10"
    return [
        "run",
        "--tasks",
        str(card),
        "--models",
        model,
        "--out",
        "run",
        "--no-report",
        "--max-error-rate",
        "1",
        *more,
    ]


@pytest.fixture
def run(
    card: Path, server: tuple[BatchEndpoint, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(card.parent)
    monkeypatch.setenv("HARNESS_DATA", str(card.parent / "data"))
    from harness.cli import main

    def command(*more: str) -> tuple[int, str]:
        code = main(words(card, server[1], *more))
        return code, capsys.readouterr().err

    return command


def recorded(card: Path) -> dict[str, dict[str, Any]]:
    """Outcome lines by id; each id once."""
    lines = [json.loads(x) for x in (card.parent / "run/outcomes/tiny/gpt4v.jsonl").read_text().split("\n") if x]
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["id"]: line for line in lines}


def check_all(card: Path, endpoint: BatchEndpoint) -> None:
    found = recorded(card)
    assert sorted(found) == [str(number) for number in range(COUNT)]
    for identifier, line in found.items():
        if identifier == "4":
            assert line["error"]["type"] == "ImageError"
        else:
            assert (line["kind"], line["explanation"]) == ("answer", f"it is painting {identifier}")
            assert line["usage"]["cost_usd"] == pytest.approx(0.016)
            assert endpoint.worked[identifier] == 1
    assert "4" not in endpoint.worked


def test_one_batch_answers_every_painting(server: tuple[BatchEndpoint, str], run: Command, card: Path) -> None:
    endpoint, _ = server
    assert run()[0] == 0
    check_all(card, endpoint)
    assert endpoint.calls["POST /v1/batches"] == 1
    assert list((card.parent / "run" / "batches").rglob("*.jsonl")) == []  # input files hold every picture: not kept


STAGES = {
    "after the job was noted": "Jobs.add = after(Jobs.add)",
    "in the middle of the input file": "O.line = nth(O.line, 4)",
    "after the upload": "O.upload = after_async(O.upload)",
    "after the file was noted": "D._found_or_created = before_async(D._found_or_created)",
    "after the batch was started": "O.create = after_async(O.create)",
    "while it waits": "O.state = after_async(O.state)",
    "after the download": "O.results = after_async(O.results)",
    "in the middle of recording": "D.record = nth(D.record, 4)",
    "after recording": "D._finish = after_async(D._finish)",
}
KILLER = """
import os, sys
from harness.adapters.openai_batch import OpenAIBatches as O
from harness.infer.batch import Jobs, _BatchDrive as D
from harness.cli import main
def after(f):
    def g(*a, **k):
        f(*a, **k); os._exit(9)
    return g
def nth(f, n, seen=[]):
    def g(*a, **k):
        seen.append(1)
        if len(seen) > n: os._exit(9)
        return f(*a, **k)
    return g
def after_async(f):
    async def g(*a, **k):
        await f(*a, **k); os._exit(9)
    return g
def before_async(f):
    async def g(*a, **k):
        os._exit(9)
    return g
"""


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_each_stage_and_resumed(
    stage: str, server: tuple[BatchEndpoint, str], run: Command, card: Path
) -> None:
    endpoint, url = server
    script = f"{KILLER}\n{STAGES[stage]}\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, *words(card, url)]
    killed = subprocess.run(command, cwd=card.parent, env=dict(os.environ), capture_output=True, text=True, timeout=60)
    assert killed.returncode == KILLED, killed.stderr[-1500:]
    assert run()[0] == 0
    check_all(card, endpoint)
    assert endpoint.calls["POST /v1/batches"] == 1


def test_what_a_batch_leaves_over_goes_into_the_next(
    server: tuple[BatchEndpoint, str], run: Command, card: Path
) -> None:
    endpoint, _ = server
    endpoint.fail = {
        "0": [500],
        "1": [429, 429],
        "2": ["batch_expired"],
        "3": [400],
        "5": [404],
        "6": [500, 500, 500, 500],
    }
    endpoint.status = "expired"
    assert run()[0] == 0
    found = recorded(card)
    expected = {"0": ("answer", 2), "1": ("answer", 3), "2": ("answer", 2), "3": ("refusal", 1), "5": ("failed", 1)}
    expected |= {"6": ("failed", 3), "7": ("answer", 1), "8": ("answer", 1)}
    assert {i: (found[i]["kind"], found[i]["usage"]["attempts"]) for i in expected} == expected
    assert found["6"]["error"]["type"] == "http-500"
    assert [len(endpoint.files[b["input_file_id"]].splitlines()) for b in endpoint.batches.values()] == [8, 4, 2]


def test_large_runs_are_cut_into_several_batches(
    server: tuple[BatchEndpoint, str], run: Command, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, _ = server
    monkeypatch.setattr(OpenAIBatches, "most_requests", 4)
    monkeypatch.setattr(OpenAIBatches, "most_bytes", 3000)
    assert run()[0] == 0
    check_all(card, endpoint)
    sizes = [len(endpoint.files[batch["input_file_id"]]) for batch in endpoint.batches.values()]
    assert len(sizes) > 3
    assert max(sizes) <= 3000


def test_the_budget_bounds_what_is_sent(server: tuple[BatchEndpoint, str], run: Command, card: Path) -> None:
    endpoint, _ = server
    code, err = run("--max-cost", "0.40")  # beside the probe, room for one painting
    assert code == 2
    assert "higher --max-cost" in err
    sent = sum(endpoint.worked.values())
    assert 0 < sent < COUNT - 1
    assert sum(line["usage"]["cost_usd"] or 0 for line in recorded(card).values()) <= 0.40
    assert "stopped after $0.0320" in run("--out", "probed", "--no-cache", "--max-cost", "0.04")[1]  # two probes
    assert run("--max-cost", "100")[0] == 0
    check_all(card, endpoint)


def test_what_is_asked_again_was_paid_for(server: tuple[BatchEndpoint, str], run: Command, card: Path) -> None:
    endpoint, _ = server
    whole = endpoint.completion
    cut = answered(None, "length").body
    endpoint.completion = lambda one: cut if endpoint.worked[one] == 1 else whole(one)  # type: ignore[method-assign]
    assert run()[0] == 0
    assert all(line["usage"]["cost_usd"] == pytest.approx(0.016) for line in recorded(card).values() if line["raw"])
    (record,) = json.loads((card.parent / "run/manifest.json").read_text())["runs"]
    assert record["opening_usd"] == pytest.approx(0.016 * (2 + COUNT - 1))  # the probe, and each first answer


def test_a_busy_endpoint_is_asked_again_and_a_refused_batch_is_not(
    server: tuple[BatchEndpoint, str], run: Command, card: Path
) -> None:
    endpoint, _ = server
    endpoint.busy = [503, 429, 500]
    assert run()[0] == 0
    check_all(card, endpoint)
    endpoint.status = "failed"
    code, err = run("--out", "other", "--no-cache")
    assert code == 2
    assert "the file is not valid" in err


def test_a_refused_batch_is_sent_anew_when_the_command_is_repeated(
    server: tuple[BatchEndpoint, str], run: Command, card: Path
) -> None:
    endpoint, _ = server
    endpoint.status, endpoint.refuses = "failed", True
    assert run()[0] == 2
    assert set(recorded(card)) == {"4"}
    endpoint.status, endpoint.refuses = "completed", False  # the queue has room again, say
    assert run()[0] == 0
    check_all(card, endpoint)
    assert {line["usage"]["attempts"] for line in recorded(card).values() if line["id"] != "4"} == {1}


def test_separators_inside_an_answer_and_a_download_cut_off(
    server: tuple[BatchEndpoint, str], run: Command, card: Path
) -> None:
    endpoint, _ = server
    endpoint.said, endpoint.cut = "awe because it is\u2028painting\x85 {}", 1
    assert run()[0] == 0
    answers = [line for line in recorded(card).values() if line["kind"] == "answer"]
    assert len(answers) == COUNT - 1
    assert all("painting" in line["explanation"] for line in answers)
    assert set(endpoint.worked.values()) == {1}


def test_batches_of_the_responses_api(
    server: tuple[BatchEndpoint, str], run: Command, card: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli import main

    endpoint, url = server

    def body(identifier: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": f"awe because it is painting {identifier}"}
        usage = {"input_tokens": 70, "output_tokens": 9, "total_tokens": 79}
        said = {"type": "message", "role": "assistant", "content": [part]}
        return {"object": "response", "status": "completed", "model": "m", "output": [said], "usage": usage}

    endpoint.completion = body  # type: ignore[method-assign, assignment]
    asked = [word.replace("mode=batch", "mode=batch,api=responses,probe=off") for word in words(card, url)]
    assert main(asked) == 0, capsys.readouterr().err
    check_all(card, endpoint)
    (batch,) = endpoint.batches.values()
    lines = [json.loads(line) for line in endpoint.files[batch["input_file_id"]].splitlines()]
    assert batch["endpoint"] == "/v1/responses"
    assert {line["url"] for line in lines} == {"/v1/responses"}
    assert all("input" in line["body"] for line in lines)
