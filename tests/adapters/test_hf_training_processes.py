"""Fine-tuning in two processes on this machine: the weights of one process with twice the batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
from safetensors.torch import load_file
from sixteen import EVERY_LAYER, write_card
from torch.testing import assert_close

pytestmark = pytest.mark.slow

pytest.importorskip("peft", reason="needs the extra [lora]")
pytest.importorskip("accelerate", reason="needs the extra [lora]")

RECIPE = ["gradient_accumulation=1", "rank=8", "alpha=16", "dropout=0.0", "learning_rate=0.005", "max_steps=4"]


def started(out: Path, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "harness", "train", "llava", "--device", "cpu", "--out", str(out), *command]
    return subprocess.Popen(words, env=os.environ | environment, stderr=subprocess.DEVNULL)


def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    """Answers differ in length, so that a mean over each process's tokens would be another loss."""
    card, checkpoint = write_card(tmp_path), tiny_models.build("llava-taught", tmp_path / "llava")
    command = ["--task", str(card), f"checkpoint={checkpoint}", f"target_modules={EVERY_LAYER}", *RECIPE]
    with socket.socket() as ports:
        ports.bind(("127.0.0.1", 0))
        port = str(ports.getsockname()[1])
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    together |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    trainings = [
        started(tmp_path / "two", [*command, "batch_size=2"], together | {"RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(2)
    ]
    trainings.append(started(tmp_path / "one", [*command, "batch_size=4"], {"CUDA_VISIBLE_DEVICES": ""}))
    assert [training.wait(timeout=200) for training in trainings] == [0, 0, 0]
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name) > 1e-3  # it has learned
    for name, value in one.items():
        assert_close(two[name], value, atol=1e-5, rtol=0)
