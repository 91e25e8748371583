"""LLaVA-1.5-7B's shapes on a real GPU: batches must be worth having, and nothing may be lost on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "llava_gpu.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_of_eight_are_several_times_as_fast_as_one_by_one(tmp_path: Path) -> None:
    done = run("--pictures", "16", "--batches", "1", "8", "--out", str(tmp_path / "speed.json"))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["model"]["dtype"] == "torch.bfloat16"
    assert 7.0e9 < found["model"]["parameters"] < 7.2e9
    one, eight = found["adapter"]
    assert one["times_the_plain_loop"] > 0.8
    assert eight["times_the_plain_loop"] > 3
    assert found["new_tokens"] == 40


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_gpu_the_benchmark_says_so(tmp_path: Path) -> None:
    done = run("--out", str(tmp_path / "speed.json"))
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert not (tmp_path / "speed.json").exists()
