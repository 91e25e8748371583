"""`harness train sevlm` as a user starts it: killed five times at random moments, interrupted, on a disk that is full."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).resolve().parents[1] / "sevlm"))
from tiny_training import COLOURS, LEXICON, save_tower

LIMITED = (
    "import resource, sys\nlimit = int(sys.argv.pop(1))\nresource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
)
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


def start(folder: Path, out: str, before: str = "", *first: str) -> subprocess.Popen[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    whole = [sys.executable, "-c", before + MAIN, *first, *command(out)]
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
    deadline = time.monotonic() + 120
    while updates(folder, out) < number and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    assert start(folder, "whole").wait(timeout=120) == 0
    return folder / "whole"


def assert_equal(found: Path, whole: Path) -> None:
    tensors, expected = (load_file(path / "model.safetensors") for path in (found, whole))
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    for name in ("training_log.jsonl", "trained_on.json", "config.json"):
        assert (found / name).read_bytes() == (whole / name).read_bytes(), name


def test_five_kills_at_random_moments_change_no_bit(folder: Path, whole: Path) -> None:
    draw, kills, last = random.Random(3), 0, updates(folder, "whole")
    for part in range(1, 6):
        process = start(folder, "cut")
        wait_for_update(process, folder, "cut", max(part * last // 7, updates(folder, "cut") + 1))
        time.sleep(draw.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 5
    assert start(folder, "cut").wait(timeout=120) == 0
    assert_equal(folder / "cut", whole)


def test_an_interrupt_and_a_full_disk_can_be_gone_on_from(folder: Path, whole: Path) -> None:
    process = start(folder, "stopped")
    wait_for_update(process, folder, "stopped", 5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip().splitlines()[-1]) == (
        130,
        "harness: interrupted; repeat the command to resume",
    )
    state = (folder / "stopped" / "training_state.pt").read_bytes()
    full = start(folder, "stopped", LIMITED, str(len(state) // 2))
    _, err = full.communicate(timeout=60)
    assert (full.returncode, "Traceback" in err) == (2, False), err
    assert "what was recorded before is intact" in err.strip().splitlines()[-1]
    assert start(folder, "stopped").wait(timeout=120) == 0
    assert_equal(folder / "stopped", whole)
