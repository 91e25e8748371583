"""llama.cpp's server with real text-only weights: it says so with a 500, and that is believed at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from adapter_samples import Picture, item
from llama_server import llama_server
from tqdm import tqdm

from harness.adapters.openai_chat import OpenAIChat
from harness.infer.endpoint import drive
from harness.types import Failed, Outcome, UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with llama_server() as address:
        yield address


def test_a_text_only_model_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"the probe was rejected.*image input is not supported"):
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
