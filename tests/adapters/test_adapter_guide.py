"""The guide's code and the example file, run as they stand."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_samples import LABELS, PROMPT, Picture, item
from PIL import Image
from seeing import colour_of
from servers import Reply, chat_server
from tqdm import tqdm

from harness.adapters import EndpointAdapter, LocalAdapter
from harness.cli import main
from harness.infer.endpoint import drive
from harness.infer.local import predict
from harness.plan.registry import load_class_from_file
from harness.types import Answer, Failed, Outcome

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "docs" / "adding-an-adapter.md").read_text("utf-8")
EXAMPLE = REPOSITORY / "examples" / "adapter_made_up.py"
BLOCKS = {match[2]: match[1] for match in re.finditer(r"```python\n(.*?class (\w+)\(.*?)```", GUIDE, re.DOTALL)}


def written(name: str, folder: Path) -> type[LocalAdapter] | type[EndpointAdapter]:
    path = folder / f"guide_{name.lower()}.py"
    path.write_text(BLOCKS[name])
    return load_class_from_file(f"{path}:{name}")


def test_every_code_block_is_run_below_and_short() -> None:
    assert set(BLOCKS) == {"Brightness", "Parrot", "Museum"}
    assert GUIDE.count("```python") == len(BLOCKS)
    assert all(len(code.splitlines()) <= 50 for code in BLOCKS.values())
    assert len(EXAMPLE.read_text().splitlines()) <= 30


def test_the_local_model(picture: Picture, corrupt: Path, tmp_path: Path) -> None:
    adapter = written("Brightness", tmp_path)(threshold=100)  # type: ignore[call-arg]
    assert isinstance(adapter, LocalAdapter)
    paths = [picture("white", "white.png"), picture("black", "black.png"), corrupt]
    white, black, broken = predict(adapter, [item(path.name, path) for path in paths])
    assert isinstance(white, Answer)
    assert isinstance(black, Answer)
    assert (white.emotion, white.explanation) == (LABELS[0], "the picture is 100% bright")
    assert (black.emotion, black.explanation) == (LABELS[-1], "the picture is 0% bright")
    assert isinstance(broken, Failed)
    assert adapter.fingerprint()["threshold"] == 100


def test_the_model_that_speaks_text(picture: Picture, tmp_path: Path) -> None:
    adapter = written("Parrot", tmp_path)()
    assert isinstance(adapter, LocalAdapter)
    (outcome,) = predict(adapter, [item("a", picture())])
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.explanation) == (LABELS[-1], "the colours remind me of it.")


def museum_says(text: str) -> Reply:
    return Reply(body={"text": text, "tokens": [1000, 20]})


def museum(*replies: Reply) -> Callable[[dict[str, Any]], Reply]:
    """Names the colour of the probe's image, then replies in turn."""
    remaining = list(replies)

    def answer(request: dict[str, Any]) -> Reply:
        image = Image.open(io.BytesIO(base64.b64decode(request["image"].partition(",")[2])))
        if "Which colour" in request["prompt"]:
            return museum_says(colour_of(image.convert("RGB")))
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    return answer


@pytest.mark.parametrize(
    ("replies", "attempts"),
    [
        ([museum_says("awe because the sky is vast")], 1),
        ([Reply(503, "busy"), museum_says("awe because the sky is vast")], 2),
        ([Reply(529, {"error": "overloaded"}), Reply(0), museum_says("awe because the sky is vast")], 3),
        ([Reply(429, "slow", {"Retry-After": "0"}), museum_says("awe because the sky is vast")], 2),
        ([Reply(422, {"detail": "the image is too small"})], 1),
    ],
)
def test_the_endpoint(replies: list[Reply], attempts: int, picture: Picture, tmp_path: Path) -> None:
    recorded: list[Outcome] = []
    with chat_server() as (server, url), tqdm(disable=True) as progress:
        server.reply = museum(*replies)
        adapter = written("Museum", tmp_path)(base_url=url)  # type: ignore[call-arg]
        assert isinstance(adapter, EndpointAdapter)
        adapter.retry_wait_s = 0.01
        drive(adapter, [item("a", picture())], 2, lambda _, outcome: recorded.append(outcome), progress)
        assert server.requests[-1]["prompt"] == PROMPT
        assert base64.b64decode(server.requests[-1]["image"].partition(",")[2]) == picture().read_bytes()
    (outcome,) = recorded
    assert outcome.usage.attempts == attempts
    if replies[-1].status == 200:
        assert isinstance(outcome, Answer)
        assert (outcome.emotion, outcome.usage.cost_usd) == ("awe", pytest.approx(0.0022))
    else:
        assert isinstance(outcome, Failed)
        assert (outcome.error_type, outcome.message) == ("http-422", "422 the image is too small")
    assert adapter.max_usage(item("a", picture())).cost_usd == pytest.approx((2 * 3144 + 10 * 300) / 1e6, rel=0.01)


def test_the_endpoint_keeps_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "museum.py"
    path.write_text(BLOCKS["Museum"])
    with chat_server() as (server, url):
        server.reply = museum(museum_says("awe because the sky is vast"))
        code = main(["check-adapter", f"{path}:Museum", f"base_url={url}"])
        told = capsys.readouterr().out
        assert (code, "FAIL" in told) == (0, False), told
        server.reply = lambda request: museum_says("a lovely red, green and blue picture")
        assert main(["check-adapter", f"{path}:Museum", f"base_url={url}"]) == 2
        assert "museum does not look at images" in capsys.readouterr().err
        server.reply = lambda request: Reply(401, {"error": {"message": "no such key"}})
        assert main(["check-adapter", f"{path}:Museum", f"base_url={url}"]) == 2
        assert "401 no such key; check the key in $MUSEUM_KEY" in capsys.readouterr().err


def test_the_example_file(picture: Picture, corrupt: Path) -> None:
    adapter = load_class_from_file(f"{EXAMPLE}:Warmth")()
    assert isinstance(adapter, LocalAdapter)
    paths = [picture("orange", "warm.png"), picture("navy", "cold.png"), corrupt]
    warm, cold, broken = predict(adapter, [item(path.name, path) for path in paths])
    assert isinstance(warm, Answer)
    assert isinstance(cold, Answer)
    assert (warm.emotion, cold.emotion) == (LABELS[0], LABELS[-1])
    assert (warm.explanation, cold.explanation) == ("the picture is warm in colour", "the picture is cold in colour")
    assert isinstance(broken, Failed)
