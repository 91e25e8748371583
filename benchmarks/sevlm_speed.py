"""How fast SEVLM answers beside what the machine could do: images/s, shares of its arithmetic and of its memory rate.

    python benchmarks/sevlm_speed.py [--batch 16 64] [--small] [--rounds 3]

Random weights at distilgpt2 size with a ViT-B/16 (`--small`: 6 layers, 48 wide, 16 patches, the host's share), 25
tokens, no early stop, both modes; and from JPEG files to answers, as `harness run` asks. Model FLOP utilisation is what
torch counts for one image, times images per second, over the rate of a large matrix product measured here; bandwidth
utilisation is the weights and caches that all steps read, per second, over the rate of a large copy. On a GPU, for
which it is meant, fp32 and bf16. The last line is one JSON object; a run also writes it to results/sevlm_speed.json
(`--small`: results/sevlm_speed_small.json), of which the repository keeps none.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine, write_result
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMConfig
from sevlm.decoding import CaptionDecoder, greedy_tokens
from sevlm.images import CLIPEncoder, Preprocessing
from sevlm.tokenization import config_for_tokenizer, encode_prompt, train_bpe
from sevlm.vad import VADLookup, load_lexicon

STEPS = 25
WORDS = ("the", "sea", "is", "dark", "and", "calm", "while", "people", "walk", "along", "quiet", "roads", "at", "night")


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median wall time of a call."""
    cuda, taken = torch.cuda.is_available(), []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])  # the first is warm-up


def limits(device: str, dtype: torch.dtype, rounds: int) -> tuple[float, float]:
    """FLOP/s of a matrix product and bytes/s of a copy (read and written), both large."""
    side = 8192 if device == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    large = torch.empty(2**28 if device == "cuda" else 2**24, device=device, dtype=dtype)
    copied = 2 * large.numel() * large.element_size()
    return 2 * side**3 / seconds(lambda: one @ other, rounds), copied / seconds(large.clone, rounds)


def flops(model: SEVLM, patches: int, lookup: VADLookup) -> int:
    """Floating-point operations of matrix products to decode one image, as torch counts them.

    In fp64 and without fused attention: the counter does not know oneDNN's products.
    """
    counted = copy.deepcopy(model).double()
    grid = torch.randn(1, patches, model.config.encoder_dim)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        greedy_tokens(CaptionDecoder(counted, grid, lookup), stop_when_ended=False)
    return int(counter.get_total_flops())


def model_of(mode: str, small: bool, **more: Any) -> SEVLM:
    """Random weights, with a tokenizer of some hundred pieces of its own."""
    draw = random.Random(0)
    tokenizer = train_bpe([" because ".join(draw.choices(WORDS, k=2)) for _ in range(500)], 500)
    sizes: dict[str, Any] = {"n_layer": 6, "n_embd": 48, "n_head": 4, "encoder_dim": 48} if small else {}
    sizes |= more
    if mode == "faithful":
        config = SEVLMConfig.official(lemmatizer="simplemma", **sizes)
    else:
        config = SEVLMConfig.from_dict({"max_new_tokens": STEPS, **sizes})
    torch.manual_seed(0)
    return SEVLM(config_for_tokenizer(config, tokenizer), tokenizer).eval()


def measure(batches: list[int], small: bool, rounds: int) -> dict[str, Any]:
    device, patches = "cuda" if torch.cuda.is_available() else "cpu", 16 if small else 196
    dtypes = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if device == "cuda" else {})
    rows = []
    for precision, dtype in dtypes.items():
        rate, bandwidth = limits(device, dtype, rounds)
        for mode in ("faithful", "causal"):
            model = model_of(mode, small).to(device, dtype)
            config = model.config
            lookup = VADLookup.from_config(config, load_lexicon("vader"))
            prompt = len(encode_prompt(model.tokenizer, config).input_ids)
            cost = flops(model, patches, lookup)
            weights = sum(p.numel() * p.element_size() for p in model.decoder.parameters())
            for batch in batches:
                grid = torch.randn(batch, patches, config.encoder_dim, device=device, dtype=dtype)
                taken = seconds(lambda: greedy_tokens(CaptionDecoder(model, grid, lookup), False), rounds)  # noqa: B023
                keys = batch * config.n_layer * 2 * (patches + prompt + STEPS / 2) * config.n_embd * dtype.itemsize
                rows.append(
                    {
                        "precision": precision,
                        "mode": mode,
                        "batch": batch,
                        "images_per_s": round(batch / taken, 1),
                        "ms_per_step": round(1e3 * taken / STEPS, 2),
                        "gflop_per_image": round(cost / 1e9, 3),
                        "flop_utilisation": round(cost * batch / taken / rate, 4),
                        "bandwidth_utilisation": round(STEPS * (weights + keys) / taken / bandwidth, 4),
                    }
                )
                print(rows[-1])
        if not small:
            rows.append(encoding(device, dtype, precision, batches[0], rate, rounds))
        rows += [from_files(device, precision, batch, small) for batch in batches]
    setting = "6 layers, 48 wide, 16 patches" if small else "distilgpt2 size, 196 patches of 768 features, ViT-B/16"
    return {"setting": f"{setting}, {STEPS} tokens, random weights", "machine": machine(), "rows": rows}


def encoding(device: str, dtype: torch.dtype, precision: str, batch: int, rate: float, rounds: int) -> dict[str, Any]:
    """The image encoder alone: 2 operations per weight and patch, attention left out.

    Args:
        rate: FLOP/s that the machine can do.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    tower = CLIPVisionModel(CLIPVisionConfig(hidden_size=768, intermediate_size=3072, patch_size=16))
    encoder = CLIPEncoder(tower, Preprocessing.from_config(SEVLMConfig())).eval().to(device, dtype)
    pixels = torch.randn(batch, 3, 224, 224, device=device, dtype=dtype)
    taken = seconds(lambda: encoder(pixels), rounds)
    cost = 2 * 197 * sum(p.numel() for p in tower.parameters() if p.ndim == 2)
    row = {"precision": precision, "mode": "image encoder", "batch": batch, "images_per_s": round(batch / taken, 1)}
    row |= {"gflop_per_image": round(cost / 1e9, 1), "flop_utilisation": round(cost * batch / taken / rate, 4)}
    print(row)
    return row


def from_files(device: str, precision: str, batch: int, small: bool) -> dict[str, Any]:
    """JPEG files of 800 x 600 pixels -> answers with label probabilities, read and scaled ahead; one batch warms up."""
    from PIL import Image
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from harness.adapters.sevlm import SEVLMAdapter
    from harness.infer.local import Asked, InProcessModel
    from harness.types import Item

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4} if small else {}
        width = sizes.get("hidden_size", 768)
        tower = CLIPVisionConfig(**({"hidden_size": 768, "intermediate_size": 3072, "patch_size": 16} | sizes))
        CLIPVisionModel(tower).save_pretrained(folder / "tower")
        model = model_of("causal", small, image_encoder=f"clip:{folder / 'tower'}", encoder_dim=width)
        model.save_pretrained(folder / "sevlm")
        asked = []
        for number in range(5 * batch):
            path = folder / f"{number}.jpg"
            Image.effect_noise((800, 600), 40.0).convert("RGB").save(path, quality=90)
            asked.append(Asked(Item(str(number), path, ("awe", "fear", "sadness"), "")))
        adapter = SEVLMAdapter(str(folder / "sevlm"), "vader", device, precision)
        running = InProcessModel(adapter, None)
        list(running.answers(asked[:batch], batch))
        started = time.perf_counter()
        answered = len(list(running.answers(asked[batch:], batch)))
        taken = time.perf_counter() - started
        running.close()
    row = {
        "precision": precision,
        "mode": "from JPEG files",
        "batch": batch,
        "images_per_s": round(answered / taken, 1),
    }
    print(row)
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256, 1024] if torch.cuda.is_available() else [16])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    result = measure(options.batch, options.small, options.rounds)
    write_result("sevlm_speed_small" if options.small else "sevlm_speed", result)
    print(json.dumps(result))
