"""QLoRA by the shipped recipe `7b_24gb`, and answers from 4-bit weights, with LLaVA-1.5-7B's shapes on one GPU.

    python benchmarks/qlora_gpu.py [--out benchmarks/results/qlora_gpu.json]

The weights are random (see `llava_gpu.py`), written to a folder of 14 GB and loaded from there as a user's would be.
Seconds per update are the difference between a long training and a short one, so that loading does not count. The
memory that PyTorch holds for all of it must fit a card of 24 GB. `--tiny --device cpu` tries the program out.
Needs what `llava_gpu.py` needs, and peft, accelerate and bitsandbytes.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llava_gpu
import torch
from machine import write_values

from harness.adapters.base import TrainRequest
from harness.adapters.hf import HFVisionLanguage
from harness.types import Annotation, Example, Item, Task

SAID = "the light that falls on the quiet water makes me feel that everything will be well in the end"
PICTURES = 16


def checkpoint(folder: Path, device: str, *, tiny: bool) -> Path:
    """A folder with a processor and random weights."""
    if tiny:
        return llava_gpu.tiny("llava-wide-taught", folder)
    model = llava_gpu.model_7b(device)
    llava_gpu.processor_7b(folder)
    model.save_pretrained(folder)
    return folder


def trained(source: Path, out: Path, items: Sequence[Item], steps: int, device: str) -> float:
    """Wall seconds of `harness train llava --config 7b_24gb` for so many updates of 16 pairs, loading included."""
    label = llava_gpu.LABELS[0]
    said = (Annotation(label, SAID),)
    examples = [Example(item.id, item.image, said, {label: 1}, "train") for item in items]
    task = Task("speed", "jsonl", llava_gpu.LABELS, prompts={"default": llava_gpu.PROMPT})
    settings = {"config": "7b_24gb", "checkpoint": str(source), "max_steps": steps, "save_every": 10_000}
    began = time.perf_counter()
    HFVisionLanguage.train(TrainRequest(task, examples, (), out, settings=settings, device=device))
    return time.perf_counter() - began


def memory(device: str) -> dict[str, float] | None:
    """Largest memory since the last call in 10^9 bytes; what was kept is freed."""
    if not device.startswith("cuda"):
        return None
    found = {
        "allocated_gb": torch.cuda.max_memory_allocated() / 1e9,
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9,
    }
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return found


def measure(source: Path, scratch: Path, items: Sequence[Item], steps: Sequence[int], device: str) -> dict[str, Any]:
    """Training, then answers of the trained model from 4-bit weights."""
    memory(device)
    few, many = steps
    short = trained(source, scratch / "short", items, few, device)
    long = trained(source, scratch / "long", items, many, device)
    training = {"updates": many, "seconds_per_update": (long - short) / (many - few), "memory": memory(device)}
    adapter = HFVisionLanguage(lora=str(scratch / "long"), quantization="4bit", device=device, max_new_tokens=40)
    adapter.load()
    answers = llava_gpu.measured(adapter.predict, items, 8)
    return {"training": training, "answers_of_4_bit_weights_with_lora": {**answers, "memory": memory(device)}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=llava_gpu.REPOSITORY / "benchmarks" / "results" / "qlora_gpu.json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, nargs=2, default=[2, 12], metavar=("FEW", "MANY"))
    parser.add_argument("--tiny", action="store_true", help="a model of 244,160 weights, to try the program out")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --tiny tries the program out", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "pictures").mkdir()
        source = checkpoint(Path(scratch) / "llava", options.device, tiny=options.tiny)
        items = llava_gpu.paintings(Path(scratch) / "pictures", PICTURES)
        found = measure(source, Path(scratch), items, options.steps, options.device)
    result = {"environment": llava_gpu.environment(options.device), "recipe": "7b_24gb", **found}
    write_values(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
