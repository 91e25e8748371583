"""The vision-language adapter on a real GPU: its default precision, and memory that really runs out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
import torch
from adapter_samples import Picture, item

from harness.adapters.hf import HFVisionLanguage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llava-taught", tmp_path_factory.mktemp("taught") / "llava")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """64 MB beyond what is in use."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 64 * 2**20) / whole)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_bf16_on_cuda_by_default(checkpoint: Path, picture: Picture) -> None:
    adapter = HFVisionLanguage(checkpoint=str(checkpoint))
    adapter.load()
    assert (adapter.runtime_info()["device"], adapter.runtime_info()["dtype"]) == ("cuda:0", "bfloat16")
    outcomes = adapter.predict([item("a", picture("black", "a.png")), item("b", picture("white", "b.png"))])
    assert [outcome.raw for outcome in outcomes] == [tiny_models.DARK, tiny_models.BRIGHT]


def test_memory_that_really_runs_out(checkpoint: Path, picture: Picture, little_memory: None) -> None:
    adapter = HFVisionLanguage(checkpoint=str(checkpoint))
    adapter.load()
    paths = [picture("black", "a.png"), picture("white", "b.png")]
    outcomes = adapter.predict([item(str(number), paths[number % 2]) for number in range(1024)])
    limited = adapter.runtime_info()["batch_limited_to"]
    assert limited is not None
    assert 1 <= limited <= 512
    assert [outcome.raw for outcome in outcomes] == [tiny_models.DARK, tiny_models.BRIGHT] * 512
