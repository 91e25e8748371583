"""Greedy decoding at distilgpt2 size: the released loop's work, ours in the faithful mode, ours in the causal mode.

    python benchmarks/sevlm_decode.py [--rounds 3] [--trained CHECKPOINT]

Random weights, 196 patches of 768 features, 25 steps without early stop, all threads that the machine has. The three
take turns, so ratios hold on a busy machine too. With a trained checkpoint, its captions of the demo's pictures are
timed with and without stopping when every row has ended. Writes results/sevlm_decode.json.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine, median_ratio, take_turns, write_result
from official_loop import plain_greedy
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMConfig
from sevlm.decoding import CaptionDecoder, greedy_tokens
from sevlm.tokenization import Tokenizer, add_special_tokens, config_for_tokenizer
from sevlm.vad import VADLookup, load_lemmatizer, load_lexicon

PATCHES, WIDTH = 196, 768
RELEASED_SECONDS_PER_IMAGE = 1.2  # measured with the released code on two cores of this kind
DATA = Path(os.environ.get("HARNESS_DEV_DATA", Path(__file__).parents[2] / "shared" / "data"))


def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's own tokenizer, with SEVLM's four tokens."""
    import json

    from transformers import GPT2Tokenizer

    folder = DATA / "tokenizers" / "gpt2"
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:]
    merges: list[Any] = [tuple(line.split()) for line in lines if line.strip()]  # declared as list[str], read as pairs
    tokenizer = GPT2Tokenizer(vocab=vocabulary, merges=merges)
    add_special_tokens(tokenizer)
    return tokenizer


def random_model(config: SEVLMConfig, tokenizer: Tokenizer) -> SEVLM:
    """A model whose logits differ enough for the choice of tokens not to hang on rounding."""
    torch.manual_seed(0)
    model = SEVLM(config_for_tokenizer(config, tokenizer), tokenizer)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def decoding(model: SEVLM, grid: torch.Tensor) -> Callable[[], torch.Tensor]:
    """One call decodes the batch to the last step."""
    lookup = VADLookup(load_lexicon("vader"), load_lemmatizer("identity"), model.config.vad_lookup)
    return lambda: greedy_tokens(CaptionDecoder(model, grid, lookup), stop_when_ended=False)


def flops(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products; attention is counted unfused."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def measure(batch: int, rounds: int) -> dict[str, Any]:
    tokenizer = gpt2_tokenizer()
    faithful = random_model(SEVLMConfig.official(lemmatizer="identity"), tokenizer)
    causal = random_model(dataclasses.replace(SEVLMConfig(), max_new_tokens=25), tokenizer)
    grid = torch.randn(batch, PATCHES, WIDTH)
    lookup = VADLookup(load_lexicon("vader"), load_lemmatizer("identity"), "piece")
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_greedy(faithful, grid, lookup),
        "faithful": decoding(faithful, grid),
        "causal": decoding(causal, grid),
    }
    identical = torch.equal(plain_greedy(faithful, grid, lookup), decoding(faithful, grid)())
    # In fp64: the counter does not know oneDNN's products.
    doubled = {"faithful": copy.deepcopy(faithful).double(), "causal": copy.deepcopy(causal).double()}
    counts = {name: flops(decoding(doubled[name], grid) if name in doubled else run) for name, run in runs.items()}
    seconds = take_turns(runs, rounds)
    per_image = {name: statistics.median(times) / batch for name, times in seconds.items()}
    return {
        "setting": f"6 layers, {WIDTH} wide, 12 heads, vocabulary {len(tokenizer)}, {PATCHES} patches, batch {batch}, "
        "25 steps, no early stop, fp32, random weights",
        "machine": machine(),
        "rounds": rounds,
        "seconds_per_image": {name: round(value, 4) for name, value in per_image.items()},
        "plain_over_released_code": round(per_image["plain"] / RELEASED_SECONDS_PER_IMAGE, 3),
        "speed_up": {name: round(median_ratio(seconds["plain"], seconds[name]), 2) for name in ("faithful", "causal")},
        "gflops_per_image": {name: round(value / batch / 1e9, 2) for name, value in counts.items()},
        "flops_ratio": {name: round(counts["plain"] / counts[name], 2) for name in ("faithful", "causal")},
        "identical_tokens_plain_and_faithful": identical,
    }


def early_stop(checkpoint: Path, count: int, rounds: int) -> dict[str, Any]:
    """Decoding of pictures, one by one, by a trained model: to the last step and to the caption's end."""
    from sevlm.images import load_image_encoder, open_image

    model = SEVLM.from_pretrained(checkpoint)
    pictures = sorted((Path(__file__).parents[1] / "tasks" / "demo_data").rglob("*.jpg"))[:count]
    grids = load_image_encoder(model.config).encode([open_image(path) for path in pictures]).split(1)
    lookup = VADLookup.from_config(model.config, load_lexicon("vader"))

    def decode_all(stop: bool) -> int:
        return sum(greedy_tokens(CaptionDecoder(model, grid, lookup), stop).shape[1] for grid in grids)

    steps = {"all_steps": decode_all(False), "stopped": decode_all(True)}
    seconds = take_turns({"all_steps": lambda: decode_all(False), "stopped": lambda: decode_all(True)}, rounds)
    return {
        "model": f"{model.parameter_counts()['total']:,} parameters, trained on the demo's paintings; batch 1",
        "steps_per_image": {name: count / len(grids) for name, count in steps.items()},
        "seconds_per_image": {name: round(statistics.median(t) / len(grids), 4) for name, t in seconds.items()},
        "speed_up": round(median_ratio(seconds["all_steps"], seconds["stopped"]), 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trained", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(options.batch, options.rounds)
    if options.trained is not None:
        result["early_stop"] = early_stop(options.trained, options.batch, 5)
    write_result("sevlm_decode", result)
