"""A tiny dataset with pictures, a task card over it, and a made-up model: enough to run everything for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

LABELS = ["joy", "calm", "fear"]

ADAPTER = '''
from harness.adapters import LocalAdapter
from harness.types import Answer


class Brightness(LocalAdapter):
    """Calls bright pictures joy and dark ones fear."""

    name = "brightness"

    def __init__(self, threshold: int = 100, seed: int = 0) -> None:
        self.threshold = threshold

    def fingerprint(self):
        return {"threshold": self.threshold}

    def predict(self, items):
        outcomes = []
        for item in items:
            light = item.open().convert("L").resize((1, 1)).getpixel((0, 0))
            emotion = "joy" if light > self.threshold else "fear"
            outcomes.append(Answer(emotion, f"the light is {light}"))
        return outcomes
'''


@pytest.fixture
def adapter_file(tmp_path: Path) -> Path:
    path = tmp_path / "brightness.py"
    path.write_text(ADAPTER)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Twelve pictures from dark to bright, three annotations each, and `tiny.yaml` over them."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    lines = []
    for i in range(12):
        Image.new("RGB", (32, 24), (20 * i, 20 * i, 20 * i)).save(folder / f"p{i}.png")
        main, other = ("joy", "calm") if i >= 6 else ("fear", "calm")
        annotations = [
            {"emotion": main, "explanation": f"it is {'bright' if i >= 6 else 'dark'} as room {i}"},
            {"emotion": main, "explanation": f"the grey of it makes me think of stone {i}"},
            {"emotion": other, "explanation": f"nothing happens in picture {i}"},
        ]
        split = "train" if i % 3 == 0 else "test"
        lines.append(json.dumps({"id": f"p{i}", "image": f"p{i}.png", "split": split, "annotations": annotations}))
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")
    # Metrics that start Java are left to the tests that need them.
    metrics = "[accuracy, annotator_mass, macro_f1, cross_entropy, unique, mean_length, latency_p50_s]"
    (folder / "tiny.yaml").write_text(
        f"name: tiny\ndataset: jsonl\nemotions: [{', '.join(LABELS)}]\noptions:\n  examples: examples.jsonl\n"
        f"metrics: {metrics}\n"
    )
    return folder


@pytest.fixture
def harness(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process, in a folder of its own: (exit code, stdout, stderr)."""
    from harness.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
