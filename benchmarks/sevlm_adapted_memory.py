"""What memory an update takes if the image encoder learns: full size, 32 pairs, fp32.

    python benchmarks/sevlm_adapted_memory.py [--pairs 32] [--ranks 8,64]

The sizes of `sevlm_train_cost.py`: CLIP ViT-B/16, distilgpt2 with cross-attention, random weights. Accounted is what
must live at once: weights, gradients, AdamW's moments and what the backward pass needs; with a GPU its peak is measured
beside it. Writes results/sevlm_adapted_memory.json.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from machine import machine, write_result
from sevlm_train_cost import Update, accounted_memory
from torch import Tensor

from sevlm.train import build_optimizer

LIMIT_GB = 11.0
"""Of the smallest GPU that training is meant for."""


def measure(pairs: int, rank: int) -> dict[str, Any]:
    """Gigabytes with low-rank updates of this rank in the encoder; rank 0: frozen, with cached features."""
    update = Update(pairs)
    encode: Callable[[], Tensor] | None = None
    if rank:
        update.encoder.adapt(rank, 0)
        encode = partial(update.encoder.top, update.pixels)
    learned = sum(weight.numel() for weight in update.encoder.parameters() if weight.requires_grad)
    found: dict[str, Any] = {"encoder_values_learned": learned, "accounted_gb": accounted_memory(update, encode)}
    if torch.cuda.is_available():
        found["peak_gb_on_gpu"] = peak_gb(update, bool(rank))
    return found


def peak_gb(update: Update, adapted: bool) -> float:
    """Gigabytes allocated at most by three updates on a GPU."""
    model, encoder, moved = update.model.cuda(), update.encoder.cuda(), {}
    for name, value in update.inputs.items():
        moved[name] = value.cuda() if isinstance(value, Tensor) else type(value)(*(part.cuda() for part in value))
    pixels, cached = update.pixels.cuda(), update.cached.cuda()
    optimizer = build_optimizer(model, 2e-5, 4e-5)
    optimizer.add_param_group({"params": [weight for weight in encoder.parameters() if weight.requires_grad]})
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        loss = model(encoder.top(pixels) if adapted else cached, **moved).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return round(torch.cuda.max_memory_allocated() / 1e9, 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--ranks", default="8,64")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    ranks = [0, *(int(rank) for rank in options.ranks.split(","))]
    rows = {f"rank {rank}" if rank else "frozen": measure(options.pairs, rank) for rank in ranks}
    setting = f"{options.pairs} pairs, ViT-B/16, distilgpt2 size, 30 tokens, fp32, random weights"
    values = {"setting": setting, "machine": machine(), "limit_gb": LIMIT_GB, "memory": rows}
    write_result("sevlm_adapted_memory", values)
