"""The endpoint adapter against a real server with a real model: `transformers serve` and the tiny taught LLaVA."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from adapter_samples import Picture, item
from tqdm import tqdm

from harness.adapters.openai_chat import OpenAIChat
from harness.infer.endpoint import drive
from harness.types import Answer, Failed, Outcome, UserError

pytestmark = pytest.mark.slow

PATIENCE_S = 120


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Base URL and checkpoint of a running server."""
    program = str(Path(sys.executable).with_name("transformers"))
    checkpoint = tiny_models.build("llava-taught", tmp_path_factory.mktemp("served") / "llava")
    log = checkpoint.parent / "serve.log"
    command = [program, "serve", str(checkpoint), "--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        try:
            yield f"{address_when_up(server, log)}/v1", checkpoint
        finally:
            server.terminate()
            server.wait(timeout=20)


def address_when_up(server: subprocess.Popen[bytes], log: Path) -> str:
    """What the server says that it listens on: a port chosen beforehand could be taken by somebody else meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.1)
    pytest.fail(f"transformers serve did not come up:\n{log.read_text()[-2000:]}")


def test_a_served_llava_answers_what_it_sees(served: tuple[str, Path], picture: Picture, corrupt: Path) -> None:
    url, checkpoint = served
    adapter = OpenAIChat(str(checkpoint), base_url=url, max_tokens=30, probe="warn")
    adapter.load()
    paths = [picture((20, 20, 20), "dark.png"), picture((220, 220, 220), "bright.jpg"), corrupt]
    items = [item(path.name, path) for path in paths]
    recorded: dict[str, Outcome] = {}
    with tqdm(disable=True) as progress:
        try:
            drive(adapter, items, 3, lambda one, outcome: recorded.update({one.id: outcome}), progress)
        except UserError as error:
            pytest.fail(f"{error}; the server said:\n{(checkpoint.parent / 'serve.log').read_text()[-8000:]}")
    dark, bright, broken = (recorded[one.id] for one in items)
    assert isinstance(dark, Answer)
    assert isinstance(bright, Answer)
    assert isinstance(broken, Failed)
    assert [dark.raw.strip(), bright.raw.strip()] == [tiny_models.DARK, tiny_models.BRIGHT]
    assert [dark.emotion, bright.emotion] == ["fear", "awe"]
    assert dark.usage.prompt_tokens is not None
    assert dark.usage.prompt_tokens > 16  # the picture alone takes 16
    observed = adapter.runtime_info()
    assert sum(observed["models_returned"].values()) == 2
    assert observed["probe_problem"].startswith(
        "it does not look at images: shown a blue and a yellow image"
    )  # it knows light and dark, no colours
    assert observed["capabilities"] == {"schema": "ignored", "logprobs": "ignored"}
