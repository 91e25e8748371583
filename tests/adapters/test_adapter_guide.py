"""The guide's code and the example file, run as they stand."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from adapter_samples import LABELS, PROMPT, Picture, item
from servers import Reply, chat_server
from tqdm import tqdm

from harness.adapters import EndpointAdapter, LocalAdapter
from harness.infer.endpoint import drive
from harness.infer.local import predict
from harness.plan.registry import load_class_from_file
from harness.types import Answer, Failed, Outcome

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
    assert all(len(code.splitlines()) <= 40 for code in BLOCKS.values())
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


@pytest.mark.parametrize(
    ("replies", "attempts"),
    [
        ([Reply(body={"text": "awe because the sky is vast"})], 1),
        ([Reply(503, "busy"), Reply(body={"text": "awe because the sky is vast"})], 2),
        ([Reply(404, "nothing here")], 1),
    ],
)
def test_the_endpoint(replies: list[Reply], attempts: int, picture: Picture, tmp_path: Path) -> None:
    recorded: list[Outcome] = []
    with chat_server() as (server, url), tqdm(disable=True) as progress:
        server.script(*replies)
        adapter = written("Museum", tmp_path)(base_url=url)  # type: ignore[call-arg]
        assert isinstance(adapter, EndpointAdapter)
        drive(adapter, [item("a", picture())], 2, lambda _, outcome: recorded.append(outcome), progress)
        assert server.requests[0]["prompt"] == PROMPT
        assert base64.b64decode(server.requests[0]["image"]) == picture().read_bytes()
    (outcome,) = recorded
    assert outcome.usage.attempts == attempts
    if replies[-1].status == 200:
        assert isinstance(outcome, Answer)
        assert outcome.emotion == "awe"
    else:
        assert isinstance(outcome, Failed)
        assert outcome.error_type == "http-404"


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
