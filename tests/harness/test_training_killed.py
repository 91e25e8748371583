"""`harness train` as a user starts it: killed five times at random moments, interrupted, on a disk that is full."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).resolve().parents[1] / "sevlm"))
from tiny_training import COLOURS, LEXICON, save_tower

pytestmark = pytest.mark.slow

LIMITED = (
    "import resource, sys\nlimit = int(sys.argv.pop(1))\nresource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
)
KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
log, number, moment = Path(sys.argv.pop(1)), int(sys.argv.pop(1)), float(sys.argv.pop(1))
def kill():
    while not log.exists() or log.read_bytes().count(b'\\n') < number:
        time.sleep(0.001)
    time.sleep(moment)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=kill, daemon=True).start()
"""
"""Ends its own process a moment after a number of lines is in the log: another process might look too late."""
MAIN = "import sys\nfrom harness.cli import main\nsys.exit(main(sys.argv[1:]))\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen squares, their card, a tower and a lexicon."""
    folder = tmp_path_factory.mktemp("killed")
    lines = []
    for number in range(16):
        Image.new("RGB", (40 + number, 36), COLOURS[number % 8]).save(folder / f"{number}.png")
        felt = [("awe", f"the {COLOURS[number % 8]} square glows"), ("fear", f"it is all I see in {number}")]
        said = [{"emotion": emotion, "explanation": text} for emotion, text in felt]
        split = "val" if number < 2 else "train"
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "split": split, "annotations": said}))
    (folder / "examples.jsonl").write_text("\n".join(lines))
    (folder / "card.yaml").write_text(
        "name: squares\ndataset: jsonl\nemotions: [awe, fear]\noptions: {examples: examples.jsonl}\n"
    )
    (folder / "lexicon.txt").write_text(LEXICON, encoding="utf-8")
    save_tower(folder / "tower")
    return folder


def command(out: str) -> list[str]:
    where = (
        f"train sevlm --task card.yaml --out {out} --config small --lexicon lexicon.txt --device cpu --data-root data"
    )
    sizes = "image_encoder=clip:tower image_size=32 encoder_dim=16 n_embd=16 n_layer=1 n_head=2 max_length=24 max_new_tokens=6"
    return [*where.split(), *sizes.split(), *["tokenizer=train:300", "epochs=12", "batch_pictures=4", "log_every=1"]]


def lora_command(out: str) -> list[str]:
    where = f"train llava --task card.yaml --out {out} --device cpu --data-root data"
    words = "checkpoint=./llava batch_size=4 gradient_accumulation=1 max_steps=9 save_every=2 dropout=0.1 rank=4"
    return [*where.split(), *words.split()]


def start(folder: Path, words: list[str], before: str = "", *first: str) -> subprocess.Popen[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    whole = [sys.executable, "-c", before + MAIN, *first, *words]
    return subprocess.Popen(
        whole, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def updates(folder: Path, out: str) -> int:
    """The number of the last update in the log, 0 before the first."""
    try:
        return max(
            (json.loads(line)["update"] for line in (folder / out / "training_log.jsonl").read_text().splitlines()),
            default=0,
        )
    except (FileNotFoundError, ValueError):  # not begun, or a line half written
        return 0


def wait_for_update(process: subprocess.Popen[str], folder: Path, out: str, number: int) -> None:
    wait_for(process, lambda: updates(folder, out) >= number)


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def told(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and last line."""
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    assert start(folder, command("whole")).wait(timeout=120) == 0
    return folder / "whole"


def assert_same_tensors(found: Path, expected: Path) -> None:
    tensors, wanted = load_file(found), load_file(expected)
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


def assert_equal(found: Path, whole: Path) -> None:
    assert_same_tensors(found / "model.safetensors", whole / "model.safetensors")
    for name in ("training_log.jsonl", "trained_on.json", "config.json"):
        assert (found / name).read_bytes() == (whole / name).read_bytes(), name


def test_kills_an_interrupt_and_a_full_disk_change_no_bit(folder: Path, whole: Path) -> None:
    draw, kills, last = random.Random(3), 0, updates(folder, "whole")
    log = folder / "cut/training_log.jsonl"
    for part in range(1, 6):
        number = max(part * last // 8, updates(folder, "cut") + 1)
        process = start(folder, command("cut"), KILLED, str(log), str(number), str(draw.uniform(0, 0.03)))
        kills += process.wait(timeout=120) == -signal.SIGKILL
    assert kills == 5
    process = start(folder, command("cut"))
    wait_for_update(process, folder, "cut", updates(folder, "cut") + 2)
    process.send_signal(signal.SIGINT)
    assert told(process) == (130, "harness: interrupted; rerun the same command to resume")
    state = (folder / "cut" / "training_state.pt").read_bytes()
    code, line = told(start(folder, command("cut"), LIMITED, str(len(state) // 2)))
    assert (code, "what was recorded before is intact" in line) == (2, True), line
    assert start(folder, command("cut")).wait(timeout=120) == 0
    assert_equal(folder / "cut", whole)


def test_training_by_lora_can_be_gone_on_from_too(folder: Path) -> None:
    pytest.importorskip("peft", reason="needs the extra [lora]")
    tiny_models.build("llava", folder / "llava")
    assert start(folder, lora_command("lora-whole")).wait(timeout=120) == 0
    process = start(folder, lora_command("lora"))
    states = folder / "lora" / "state"
    wait_for(process, lambda: any(states.glob("checkpoint-*/trainer_state.json")))
    process.send_signal(signal.SIGINT)
    assert told(process) == (130, "harness: interrupted; rerun the same command to resume")
    largest = max(path.stat().st_size for path in states.rglob("*") if path.is_file())
    code, line = told(start(folder, lora_command("lora"), LIMITED, str(largest // 2)))
    assert code == 2, line
    assert line.startswith("harness: a file could not be written to its end (is the disk full?)")
    assert start(folder, lora_command("lora")).wait(timeout=120) == 0
    assert_same_tensors(*(folder / name / "adapter_model.safetensors" for name in ("lora", "lora-whole")))
