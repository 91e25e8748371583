"""The published recipe fits into the 11 GB of the card that its authors used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark_script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("sevlm_train_gpu")


def test_the_full_size_model_has_the_published_number_of_parameters(benchmark_script: ModuleType) -> None:
    model = benchmark_script.full_size_model("official")
    assert model.parameter_counts()["total"] == 100_254_911  # counted from the released code


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_fits_into_eleven_gigabytes(precision: str, benchmark_script: ModuleType) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    measured = benchmark_script.measure_training("official", precision, "cuda", repeats=3)
    assert measured["trained_parameters"] > 100_000_000
    assert measured["peak_memory_gb"] < 11
