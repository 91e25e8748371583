"""Time and memory of training and decoding the full-size SEVLM on one GPU, with random weights and no download.

    python benchmarks/sevlm_train_gpu.py [--out benchmarks/results/sevlm_train_gpu.json]

Sizes are the published ones: CLIP ViT-B/16 (frozen), a distilgpt2-size decoder with cross-attention, vocabulary 50,261,
32 pairs (64 captions) of 30 tokens per update. Encoder time is measured apart: training reads cached features.
Needs torch, transformers, safetensors, pillow, tqdm, pyyaml and numpy only.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from machine import write_values
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from sevlm.checkpoint import SEVLM  # noqa: E402
from sevlm.config import IMAGENET_MEAN, IMAGENET_STD, SEVLMConfig  # noqa: E402
from sevlm.images import CLIPEncoder, Preprocessing  # noqa: E402
from sevlm.model import Negatives  # noqa: E402
from sevlm.tokenization import special_ids, train_bpe  # noqa: E402
from sevlm.train import build_optimizer, linear_schedule  # noqa: E402

VOCABULARY = 50_261
PAIRS, TOKENS, PATCHES = 32, 30, 196


def full_size_model(mode: str) -> SEVLM:
    """The published sizes with random weights; a small tokenizer names the first ids, the embedding is full."""
    tokenizer = train_bpe([f" the emotion is awe because the sea number {i}" for i in range(200)], 400)
    end, pad, prefix, emotion, explanation = special_ids(tokenizer)
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "bos_token_id": end,
        "pad_token_id": pad,
        "prefix_token_id": prefix,
        "emotion_token_id": emotion,
        "explanation_token_id": explanation,
    }
    config = SEVLMConfig.official(**values) if mode == "official" else SEVLMConfig.from_dict(values)
    return SEVLM(config, tokenizer)


def batch(model: SEVLM, device: str) -> dict[str, Any]:
    """A random batch of 2 * PAIRS captions in which every position carries a loss."""
    config, rows = model.config, 2 * PAIRS
    ids = torch.randint(5, 300, (rows, TOKENS), device=device)
    segments = torch.full_like(ids, config.explanation_token_id)
    segments[:, :5] = config.emotion_token_id
    grid = torch.randn(PAIRS, PATCHES, config.encoder_dim, device=device).repeat_interleave(2, dim=0)
    order = torch.arange(rows, device=device)
    return {
        "image_grid": grid,
        "input_ids": ids,
        "segment_ids": segments,
        "vad": torch.rand(rows, TOKENS, 3, device=device) * 2 - 1,
        "labels": ids,
        "negatives": Negatives(order ^ 1, (order + 2) % rows),
    }


def measured(action: Callable[[], object], repeats: int, device: str) -> dict[str, float]:
    """Median and spread of the seconds per call, after three calls that warm up."""
    cuda = torch.device(device).type == "cuda"
    seconds = []
    for index in range(repeats + 3):
        if cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        action()
        if cuda:
            torch.cuda.synchronize()
        if index >= 3:
            seconds.append(time.perf_counter() - started)
    ordered = sorted(seconds)
    return {"median_s": statistics.median(ordered), "min_s": ordered[0], "max_s": ordered[-1], "calls": len(ordered)}


def measure_training(mode: str, precision: str, device: str, repeats: int) -> dict[str, Any]:
    """Seconds per update and peak memory: forward, backward, AdamW (the recipe clips nothing)."""
    gc.collect()  # the last measurement's optimiser and schedule refer to each other
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(0)
    model = full_size_model(mode).to(device).train()
    optimizer = build_optimizer(model, 2e-5, 4e-5)
    schedule = linear_schedule(optimizer, 10_000)
    inputs = batch(model, device)

    def update() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            loss: Tensor | None = model(**inputs).loss
        assert loss is not None
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)

    timing = measured(update, repeats, device)
    return {
        "mode": mode,
        "precision": precision,
        **timing,
        "captions_per_s": 2 * PAIRS / timing["median_s"],
        "peak_memory_gb": peak_memory_gb(device),
        "trained_parameters": model.parameter_counts()["total"],
    }


def measure_decoding(mode: str, dtype: torch.dtype, device: str, images: int, repeats: int) -> dict[str, Any]:
    """Pictures per second from cached features: all steps of greedy decoding, no row ends early on random weights."""
    torch.manual_seed(0)
    model = full_size_model(mode).to(device, dtype).eval()
    grid = torch.randn(images, PATCHES, model.config.encoder_dim, device=device, dtype=dtype)

    def unknown(words: Sequence[str]) -> Tensor:
        return torch.zeros(len(words), 3)

    timing = measured(lambda: model.generate(grid, lookup=unknown), repeats, device)
    return {"mode": mode, "dtype": str(dtype), "batch": images, **timing, "images_per_s": images / timing["median_s"]}


def measure_encoder(dtype: torch.dtype, device: str, images: int, repeats: int) -> dict[str, Any]:
    """Pictures per second of the frozen CLIP ViT-B/16."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes: dict[str, Any] = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    tower = CLIPVisionModel(CLIPVisionConfig(image_size=224, patch_size=16, **sizes))
    encoder = CLIPEncoder(tower, Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, "squash")).to(device, dtype).eval()
    pixels = torch.randn(images, 3, 224, 224, device=device, dtype=dtype)
    timing = measured(lambda: encoder(pixels), repeats, device)
    return {"dtype": str(dtype), "batch": images, **timing, "images_per_s": images / timing["median_s"]}


def peak_memory_gb(device: str) -> float | None:
    """Largest allocation so far in 10^9 bytes; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.device(device).type == "cuda" else None


def environment(device: str) -> dict[str, Any]:
    """Where the numbers come from."""
    cuda = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": version("transformers"),
        "python": sys.version.split()[0],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything and write the JSON file."""
    parser = argparse.ArgumentParser(description="Time and memory of the full-size SEVLM on one GPU.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "sevlm_train_gpu.json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu measures without one", file=sys.stderr)
        return 2
    device, repeats = options.device, options.repeats
    modes, precisions = ("official", "improved"), ("fp32", "bf16")
    result = {
        "environment": environment(device),
        "sizes": {"pairs": PAIRS, "tokens": TOKENS, "patches": PATCHES, "vocabulary": VOCABULARY},
        "training": [measure_training(m, p, device, repeats) for m in modes for p in precisions],
        "decoding": [
            measure_decoding(mode, dtype, device, 64, max(3, repeats // 4))
            for mode in modes
            for dtype in (torch.float32, torch.bfloat16)
        ],
        "encoder": [measure_encoder(dtype, device, 64, repeats) for dtype in (torch.float32, torch.bfloat16)],
    }
    write_values(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
