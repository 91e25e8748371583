"""The published recipe fits into the 11 GB of the card that its authors used."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sevlm_train_gpu.py"


@pytest.fixture(scope="module")
def benchmark_script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("sevlm_train_gpu", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["sevlm_train_gpu"] = module
    specification.loader.exec_module(module)
    return module


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
