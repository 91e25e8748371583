"""A compiled training: compiled once, with the losses and the checkpoint of one that is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import LEXICON, make_examples, save_tower, tiny_recipes
from torch._dynamo.utils import counters

from sevlm import SEVLM
from sevlm.train import train

HEADERS = Path(sysconfig.get_paths()["include"]) / "Python.h"
pytestmark = pytest.mark.slow
SETTINGS = {"dropout": 0.0, "max_grad_norm": 1.0, "n_layer": 1}  # without chance, which is drawn in another order
COMPILING = """
import sys
from pathlib import Path
from tiny_training import make_examples, tiny_recipes
from sevlm.config import SEVLMError
from sevlm.train import train
folder = Path(sys.argv[1])
try:
    train(tiny_recipes(folder)(compile=True, n_layer=1), make_examples(folder), [], folder / "out", "cpu", progress=False)
except SEVLMError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    save_tower(folder / "tower")
    (folder / "lexicon.txt").write_text(LEXICON, encoding="utf-8")
    return folder


def test_losses_and_weights_are_those_of_a_plain_training_that_is_traced_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is traced is not translated to C++, which takes a minute; on a GPU it is, see test_train_gpu.py."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    examples, compiled = make_examples(folder), tiny_recipes(folder)(compile=True, **SETTINGS)
    train(tiny_recipes(folder)(**SETTINGS), examples[2:], examples[:2], folder / "plain", "cpu", progress=False)
    before = counters["stats"]["unique_graphs"]
    train(compiled, examples[2:], examples[:2], folder / "compiled", "cpu", progress=False)
    # the trial, and the losses: whatever the lengths, and after evaluations
    assert counters["stats"]["unique_graphs"] == before + 2
    plain, found = (load_file(folder / name / "model.safetensors") for name in ("plain", "compiled"))
    assert plain.keys() == found.keys()
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=0)
    logs = [(folder / name / "training_log.jsonl").read_text(encoding="utf-8") for name in ("plain", "compiled")]
    lines, others = ([json.loads(line) for line in log.splitlines()] for log in logs)
    for line, other in zip(lines, others, strict=True):
        assert other.get("loss") == pytest.approx(line.get("loss"), abs=1e-4)
    SEVLM.from_pretrained(folder / "compiled")


@pytest.mark.skipif(shutil.which("g++") is None or not HEADERS.exists(), reason="no g++ with Python's headers")
def test_a_missing_compiler_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    environment = os.environ | {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    environment |= {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", COMPILING, str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (told,) = [line for line in ended.stdout.splitlines() if line.startswith("compile: ")]
    assert "C++ compiler" in told
    assert told.endswith("compile=false")
