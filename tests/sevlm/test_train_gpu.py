"""Training on a GPU: in the 11 GB of the card that the authors used, with a CPU's losses, without waiting."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny_training import LEXICON, make_examples, save_tower, tiny_recipes
from tqdm import tqdm

from sevlm.recipe import prepare
from sevlm.train import Trainer, train

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark_script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("sevlm_train_gpu")


@pytest.mark.slow
def test_the_full_size_model_has_the_published_number_of_parameters(benchmark_script: ModuleType) -> None:
    model = benchmark_script.full_size_model("official")
    assert model.parameter_counts()["total"] == 100_254_911  # counted from the released code


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_fits_into_eleven_gigabytes(precision: str, benchmark_script: ModuleType) -> None:
    measured = benchmark_script.measure_training("official", precision, "cuda", repeats=3)
    assert measured["trained_parameters"] > 100_000_000
    assert measured["peak_memory_gb"] < 11


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tower(tmp_path / "tower")
    (tmp_path / "lexicon.txt").write_text(LEXICON, encoding="utf-8")
    return tmp_path


@pytest.mark.gpu
@pytest.mark.slow
@on_a_gpu
@pytest.mark.parametrize("compile_", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.05), ("fp16", 0.05)])
def test_losses_are_those_of_a_cpu(precision: str, tolerance: float, compile_: bool, folder: Path) -> None:
    examples = make_examples(folder)

    def losses(device: str, **settings: Any) -> list[float]:
        out = folder / device
        recipe = tiny_recipes(folder)(dropout=0.0, image_dropout=0.0, **settings)
        train(recipe, examples[2:], examples[:2], out, device, progress=False)
        lines = [json.loads(line) for line in (out / "training_log.jsonl").read_text(encoding="utf-8").splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    on_gpu = losses("cuda", precision=precision, compile=compile_)
    assert on_gpu == pytest.approx(losses("cpu", precision="fp32"), rel=tolerance)


class Hurried(Trainer):
    """Raises where an update waits for the GPU; the first sends some things once."""

    def _update(self, bar: tqdm[Any]) -> None:
        torch.cuda.set_sync_debug_mode("error" if self.progress.update else "default")
        try:
            super()._update(bar)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.slow
@on_a_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_update_that_is_not_logged_waits_for_nothing(precision: str, folder: Path) -> None:
    recipe = tiny_recipes(folder)(log_every=100, max_grad_norm=1.0, precision=precision)
    Hurried(prepare(recipe, make_examples(folder), [], folder / "out", "cuda", False), folder / "out", False).run()
