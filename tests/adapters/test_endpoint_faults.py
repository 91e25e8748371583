"""A thousand paintings and an endpoint that fails in every way: each ends with the one right outcome."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from seeing import asked_for_colour, seeing, shown
from servers import Reply, answered, chat_server, error

from harness.cli import main
from harness.infer.endpoint import Patience

pytestmark = pytest.mark.slow

COUNT = 1000
KEY = "sk-secret-0123456789abcdefghijkl"
FINE = answered("awe because the sky is vast")
ALWAYS = Patience().attempts

FAULTS: dict[str, tuple[list[Reply], str, int]] = {
    # name: (replies before it goes well, what the outcome must be, how often it is sent)
    "429": ([error(429, f"slow down, {KEY}")], "answer", 2),
    "429 with Retry-After": ([error(429, "slow down", retry_after_ms="30")] * 2, "answer", 3),
    "burst of 500": ([error(500, f"broken {KEY}")] * 3, "answer", 4),
    "500 for ever": ([error(500, f"Bearer {KEY} was fine, we are not")] * 99, "failed http-500", ALWAYS),
    "slow drip": ([Reply(body=FINE.body, drip_s=0.02)], "answer", 1),
    "truncated JSON": ([Reply(200, '{"id": "chatcmpl-1", "choi')], "answer", 2),
    "truncated body": ([Reply(200, '{"id": "chatcmpl-1", "choi', promised=100)], "answer", 2),
    "connection reset": ([Reply(0)], "answer", 2),
    "400 on the request": ([error(400, f"the picture is too small for {KEY}")], "failed http-400", 1),
    "422 on the request": ([error(422, f"cannot be processed with {KEY}")], "failed http-422", 1),
    "error in a 200": ([Reply(200, {"error": {"message": f"upstream of {KEY} broke", "code": 502}})], "answer", 2),
    "error in a choice": ([Reply(200, answered("sadness because the", "error").body)], "answer", 2),
    "overloaded": ([error(529, "Overloaded")], "answer", 2),
    "HTML error page": ([Reply(502, "<html>Bad gateway</html>", {"content-type": "text/html"})], "answer", 2),
    "HTML in between": ([Reply(200, "<html>Hi</html>", {"content-type": "text/html"})], "answer", 2),
    "HTML for ever": ([Reply(200, "<html>Hi</html>", {"content-type": "text/html"})] * 99, "failed not-json", ALWAYS),
    "content filter": ([error(400, "filtered", code="content_filter")], "refusal", 1),
    "filtered answer": ([answered("", "content_filter")], "refusal", 1),
    "refusal in words": ([answered("I cannot help with that.")], "refusal", 1),
    "no choice": ([Reply(200, {"id": "x", "object": "chat.completion", "choices": []})], "answer", 2),
    "empty text": ([answered("")], "unparsed", 1),
    "other words": ([answered("A man stands on a hill.")], "unparsed", 1),
    "wrong label case": ([answered("AWE, because the sky is vast")], "answer", 1),
    "cut off once": ([answered(None, "length")], "answer", 2),
    "cut off": ([answered(None, "length")] * 2, "failed truncated", 2),
}
STALL = "stall of 30 s"


class Unreliable:
    """Knows each painting by its colour and fails it as its number says, every second painting in some way."""

    def __init__(self) -> None:
        self.sent: Counter[int] = Counter()
        self.lock = threading.Lock()

    def kind(self, number: int) -> str | None:
        if number in (7, 107, 207, 307):  # early, so that the others are asked meanwhile
            return STALL
        names = list(FAULTS)
        return names[number // 2 % len(names)] if number % 2 else None

    def __call__(self, request: dict[str, Any]) -> Reply:
        if asked_for_colour(request):
            return seeing(request)
        red, green, _ = shown(request).getpixel((0, 0))  # type: ignore[misc]
        number = red + 256 * green
        with self.lock:
            turn = self.sent[number]
            self.sent[number] += 1
        kind = self.kind(number)
        if kind == STALL and turn == 0:
            return Reply(body=FINE.body, delay_s=30.0)
        replies = FAULTS[kind][0] if kind in FAULTS else []
        return replies[turn] if turn < len(replies) else FINE

    def expected(self, number: int) -> tuple[str, int]:
        kind = self.kind(number)
        if kind == STALL:
            return "answer", 2
        return FAULTS[kind][1:] if kind in FAULTS else ("answer", 1)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    lines = []
    for number in range(COUNT):
        Image.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(pictures / f"{number}.png")
        said = [{"emotion": "awe", "explanation": "the sky is vast"}]
        lines.append(json.dumps({"id": str(number), "image": f"pictures/{number}.png", "annotations": said}))
    (tmp_path / "examples.jsonl").write_text("\n".join(lines))
    card = tmp_path / "faults.yaml"
    card.write_text(
        "name: faults\ndataset: jsonl\nemotions: [awe, fear]\noptions: {examples: examples.jsonl}\nmetrics: [accuracy]\n"
    )
    return card


def test_every_painting_ends_with_the_one_right_outcome(
    card: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HARNESS_DATA", str(card.parent / "data"))
    monkeypatch.chdir(card.parent)
    unreliable = Unreliable()
    with chat_server() as (server, url):
        server.reply = unreliable
        model = f"gpt4v:model=m,base_url={url},timeout_s=12,retry_wait_s=0.005"
        words = ["run", "--tasks", str(card), "--models", model, "--out", "run", "--no-report", "--concurrency", "64"]
        code = main([*words, "--max-error-rate", "0.5"])
    told = capfd.readouterr()
    assert code == 0, told.err[-2000:]
    lines = [json.loads(line) for line in (card.parent / "run/outcomes/faults/gpt4v.jsonl").read_text().splitlines()]
    assert sorted(int(line["id"]) for line in lines) == list(range(COUNT))
    for line in lines:
        number = int(line["id"])
        kind, sends = unreliable.expected(number)
        assert named(line) == kind, (unreliable.kind(number), line)
        # A reused connection that a fault has closed is noticed only when a request is lost on it unseen.
        attempts = line["usage"]["attempts"]
        assert unreliable.sent[number] <= attempts <= unreliable.sent[number] + 2, unreliable.kind(number)
        assert unreliable.sent[number] == sends or attempts == ALWAYS, unreliable.kind(number)
        assert sends <= attempts <= ALWAYS, unreliable.kind(number)
        if kind == "answer":
            assert (line["emotion"], line["explanation"]) == ("awe", "the sky is vast")
    assert_nowhere(KEY, card.parent, told.out + told.err)


def named(line: dict[str, Any]) -> str:
    return f"failed {line['error']['type']}" if line["kind"] == "failed" else str(line["kind"])


def assert_nowhere(secret: str, folder: Path, printed: str) -> None:
    assert secret not in printed
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert any(path.suffix == ".sqlite" for path in files)
    holders: list[Path] = [path for path in files if secret.encode() in path.read_bytes()]
    assert holders == []
