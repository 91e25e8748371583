"""LLaVA-1.5-7B's shapes on a real GPU: batches must be worth having, and QLoRA must fit a card of 24 GB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]


NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def run(program: str, *arguments: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)


@pytest.mark.gpu
@NEEDS_GPU
def test_batches_of_eight_are_several_times_as_fast_as_one_by_one(tmp_path: Path) -> None:
    done = run("llava_gpu.py", "--pictures", "16", "--batches", "1", "8", "--out", str(tmp_path / "speed.json"))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["model"]["dtype"] == "torch.bfloat16"
    assert 7.0e9 < found["model"]["parameters"] < 7.2e9
    one, eight = found["adapter"]
    assert one["times_the_plain_loop"] > 0.8
    assert eight["times_the_plain_loop"] > 3
    assert found["new_tokens"] == 40


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.timeout(500)
def test_the_recipe_for_24_gb_keeps_to_them(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra [quantization]")
    done = run("qlora_gpu.py", "--steps", "1", "4", "--out", str(tmp_path / "qlora.json"), timeout_s=480)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "qlora.json").read_text())
    assert found["training"]["memory"]["reserved_gb"] < 24
    assert found["answers_of_4_bit_weights_with_lora"]["memory"]["reserved_gb"] < 24


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
@pytest.mark.parametrize("program", ["llava_gpu.py", "qlora_gpu.py"])
def test_without_a_gpu_the_benchmarks_say_so(program: str, tmp_path: Path) -> None:
    done = run(program, "--out", str(tmp_path / "speed.json"))
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert not (tmp_path / "speed.json").exists()
