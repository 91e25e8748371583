"""What one update of the published recipe costs, and what it costs here: the same losses from cached features.

    python benchmarks/sevlm_train_cost.py [--pairs 32] [--rounds 3]

Full size with random weights: CLIP ViT-B/16 (frozen), distilgpt2 with cross-attention, real captions of the
development data (`HARNESS_DEV_DATA`), 30 tokens. The released recipe sends both copies of each picture through the
encoder in every epoch, projects them once per caption and scores the vocabulary at every position; ours reads fp32
features that were encoded once, projects them once per picture and scores the vocabulary where a label is. Both take
turns on the same batch with dropout off, so that losses must be equal. One update is measured and an epoch extrapolated
(updates per epoch times the median). Writes results/sevlm_train_cost.json.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import random
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine, median_ratio, take_turns, write_result
from sevlm_decode import DATA, gpt2_tokenizer
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMConfig
from sevlm.images import CLIPEncoder, Preprocessing, open_image
from sevlm.model import Negatives, SEVLMOutput, count_labels
from sevlm.tokenization import IGNORE_INDEX, config_for_tokenizer, encode_caption
from sevlm.train import build_optimizer

PICTURES = 2284
EPOCHS = 35


def draw_pairs(count: int) -> list[tuple[Path, list[tuple[str, str]]]]:
    """Pictures with two captions of different emotions each."""
    folder = DATA / "artemis"
    said: dict[Path, list[tuple[str, str]]] = defaultdict(list)
    with (folder / "artemis_dataset_release_v0.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            picture = folder / "images" / row["art_style"] / f"{row['painting']}.jpg"
            said[picture].append((row["emotion"], row["utterance"].lower()))
    pairs = []
    for picture in random.Random(0).sample(sorted(said), len(said)):
        first = said[picture][-1]
        second = next((caption for caption in said[picture] if caption[0] != first[0]), None)
        if second is not None and picture.exists():
            pairs.append((picture, [first, second]))
    return pairs[:count]


class Update:
    """One batch, and the two ways to make an update of it."""

    def __init__(self, count: int) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        torch.manual_seed(0)
        tokenizer = gpt2_tokenizer()
        config = config_for_tokenizer(SEVLMConfig.official(dropout=0.0), tokenizer)
        self.model = SEVLM(config, tokenizer).train()
        tower = CLIPVisionModel(CLIPVisionConfig(hidden_size=768, intermediate_size=3072, patch_size=16))
        self.encoder = CLIPEncoder(tower, Preprocessing.from_config(config)).eval().requires_grad_(False)
        self.optimizer = build_optimizer(self.model, 2e-5, 4e-5)
        pairs = draw_pairs(count)
        self.pixels = torch.stack([self.encoder.preprocess(open_image(picture)) for picture, _ in pairs])
        encoded = [encode_caption(tokenizer, config, *caption) for _, captions in pairs for caption in captions]
        rows = torch.arange(2 * count)
        self.inputs: dict[str, Any] = {
            "input_ids": torch.tensor([one.input_ids for one in encoded]),
            "segment_ids": torch.tensor([one.segment_ids for one in encoded]),
            "labels": torch.tensor([one.labels for one in encoded]),
            "vad": torch.rand(2 * count, config.max_length, 3) * 2 - 1,
            "negatives": Negatives(rows ^ 1, (rows + 2) % len(rows)),
        }
        self.cached = self.encoder(self.pixels)  # (N, 196, 768) fp32

    def released(self) -> SEVLMOutput:
        """Both copies of each picture through the encoder, keys and values per caption, logits of every position."""
        return self._update(self.released_forward())

    def ours(self) -> SEVLMOutput:
        """Cached features, keys and values per picture, logits where there is a label."""
        return self._update(self.forward(self.cached))

    def _update(self, output: SEVLMOutput) -> SEVLMOutput:
        assert output.loss is not None
        output.loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return output

    def released_forward(self) -> SEVLMOutput:
        """The losses as the released code computes them."""
        grid, unlabelled = self.encoder(self.pixels.repeat_interleave(2, dim=0)), IGNORE_INDEX
        given = self.inputs | {"labels": torch.full_like(self.inputs["labels"], unlabelled)}
        output: SEVLMOutput = self.model(grid, **given)
        assert output.loss is not None
        logits, targets = output.logits[:, :-1].flatten(0, 1), self.inputs["labels"][:, 1:].flatten()
        lm = self.model.config.lm_loss_weight * F.cross_entropy(logits, targets, ignore_index=unlabelled)
        return dataclasses.replace(output, loss=output.loss + lm, lm_loss=lm)

    def forward(self, grid: Tensor) -> SEVLMOutput:
        output: SEVLMOutput = self.model(grid, **self.inputs)
        return output


def losses_differ_by(update: Update) -> float:
    """Largest difference of the four losses between the two ways."""
    with torch.no_grad():
        outputs = [update.released_forward(), update.forward(update.cached)]
    names = ("loss", "lm_loss", "contrastive_loss", "vad_loss")
    return max(abs(float(getattr(outputs[0], name) - getattr(outputs[1], name))) for name in names)


def flops(run: Callable[[], object]) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def accounted_memory(update: Update, encode: Callable[[], Tensor] | None = None) -> dict[str, float]:
    """Gigabytes of one fp32 update: tensors that must live at once, without what an allocator wastes.

    Args:
        encode: gives the features, with gradients for an encoder that learns, too; None: those that are cached.
    """
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = [*update.model.parameters(), *update.encoder.parameters()]
    own = {parameter.untyped_storage().data_ptr() for parameter in weights}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        update.forward(update.cached if encode is None else encode())
    activations = sum(size for pointer, size in saved.items() if pointer not in own)
    trained = 4 * sum(parameter.numel() for parameter in weights if parameter.requires_grad)
    logits = 4 * int(count_labels(update.inputs["labels"])) * update.model.config.vocab_size
    parts = {
        "weights": trained,
        "gradients": trained,
        "adam_moments": 2 * trained,
        "saved_for_backward": activations,
        "gradient_of_logits": 2 * logits,  # of the loss, and of its log-softmax
        "frozen_image_encoder": 4 * sum(parameter.numel() for parameter in weights if not parameter.requires_grad),
    }
    return {name: round(size / 1e9, 3) for name, size in (parts | {"total": sum(parts.values())}).items()}


def measure(pairs: int, rounds: int) -> dict[str, Any]:
    update = Update(pairs)
    difference = losses_differ_by(update)
    memory = accounted_memory(update)
    counts = {"released": flops(update.released), "ours": flops(update.ours)}
    seconds = take_turns({"released": update.released, "ours": update.ours}, rounds)
    encode = take_turns({"encode": lambda: update.encoder(update.pixels)}, 1)["encode"][0]
    median = {name: statistics.median(times) for name, times in seconds.items()}
    updates = PICTURES / pairs
    all_ours = updates * (EPOCHS * median["ours"] + encode)
    return {
        "setting": f"{pairs} pairs, ViT-B/16, distilgpt2 size, 30 tokens, fp32, random weights, dropout off",
        "machine": machine(),
        "rounds": rounds,
        "seconds_per_update": {name: round(value, 2) for name, value in median.items()},
        "speed_up_of_an_epoch": round(median_ratio(seconds["released"], seconds["ours"]), 2),
        f"speed_up_over_{EPOCHS}_epochs_with_encoding": round(EPOCHS * updates * median["released"] / all_ours, 2),
        "extrapolated_minutes_per_epoch": {name: round(updates * t / 60, 1) for name, t in median.items()},
        "epoch_is": f"{PICTURES} pictures, one pair each; extrapolated from one update",
        "tflops_per_update": {name: round(value / 1e12, 2) for name, value in counts.items()},
        "flops_ratio": round(counts["released"] / counts["ours"], 2),
        "largest_difference_of_losses": difference,
        "accounted_memory_gb": memory,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    write_result("sevlm_train_cost", measure(options.pairs, options.rounds))
