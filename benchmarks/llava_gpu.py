"""Pictures per second of LLaVA-1.5-7B on one GPU, by batch size, beside a plain loop over single pictures.

    python benchmarks/llava_gpu.py [--out benchmarks/results/llava_gpu.json]

The weights are random and made on the GPU in bf16; their shapes are the published ones (CLIP ViT-L/14 at 336 px, LLaMA
7B), so the arithmetic is that of the real model and nothing is downloaded. The tokenizer is a small one made on the
spot: the prompt is a little longer in tokens than with LLaVA's own. Both sides decode JPEG files of 1,024 px, use the
same processor and produce 40 tokens per picture. `--tiny --device cpu` tries the program out.
Needs torch, transformers, safetensors, pillow, tqdm, pyyaml and numpy only.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from machine import write_values
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import tiny_models  # noqa: E402

from harness.adapters import hf  # noqa: E402
from harness.adapters.hf import HFVisionLanguage  # noqa: E402
from harness.adapters.hf_model import CheckpointSettings, load_model, load_processor  # noqa: E402
from harness.types import Item, Outcome, UserError  # noqa: E402

NEW_TOKENS = 40
LABELS = (
    "amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else",
)  # fmt: skip
PROMPT = (
    f"Look at this painting. Which one of these emotions does it make you feel most: {', '.join(LABELS)}?\n"
    'Answer in one sentence of the form "<emotion> because <explanation>".'
)
VISION_7B: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
TEXT_7B: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}


def tiny(kind: str, folder: Path) -> Path:
    """A checkpoint with which to try the program out."""
    made: Path = tiny_models.build(kind, folder)
    return made


def processor_7b(out: Path) -> Path:
    """LLaVA-1.5's picture preprocessing (336 px, 576 image tokens) with a small tokenizer."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    side = VISION_7B["image_size"]
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = LlavaProcessor(
        pictures,
        tiny_models.tokenizer(),
        patch_size=VISION_7B["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tiny_models.CHAT,
    )
    processor.save_pretrained(out)
    return out


def model_7b(device: str) -> Any:
    """LLaVA-1.5-7B's shapes with random weights in bf16, made on the device."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    words = tiny_models.tokenizer()
    special = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION_7B),
        text_config=LlamaConfig(**TEXT_7B, **special, pad_token_id=words.pad_token_id),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=576,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return LlavaForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)


def paintings(folder: Path, count: int) -> list[Item]:
    """JPEG files of 1,024 x 768 pixels, no two alike."""
    draw = random.Random(0)
    items = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        small = Image.frombytes("RGB", (32, 24), draw.randbytes(32 * 24 * 3))
        small.resize((1024, 768)).save(path, quality=90)
        items.append(Item(str(number), path, LABELS, PROMPT))
    return items


def plain_loop(model: Any, processor: Any, items: Sequence[Item]) -> list[str]:
    """What a script does with the library alone: one picture at a time."""
    texts = []
    for item in items:
        content = [{"type": "image"}, {"type": "text", "text": item.prompt}]
        messages = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        with Image.open(item.image) as picture:
            inputs = processor(images=picture.convert("RGB"), text=text, return_tensors="pt")
        inputs = inputs.to(model.device, model.dtype)
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        texts.append(processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return texts


def measured(ask: Callable[[Sequence[Item]], Sequence[object]], items: Sequence[Item], batch: int) -> dict[str, Any]:
    """Seconds per picture after one batch that warms up, and the largest memory in 10^9 bytes."""
    cuda = torch.cuda.is_available()
    ask(items[:batch])
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for start in range(0, len(items), batch):
        ask(items[start : start + batch])
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return {
        "batch": batch,
        "pictures": len(items),
        "seconds_per_picture": seconds / len(items),
        "pictures_per_s": len(items) / seconds,
        "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    }


def adapter_on(model: Any, folder: Path, *, probabilities: bool) -> HFVisionLanguage:
    """Our adapter, its checks included, over weights that are already in memory."""
    adapter = HFVisionLanguage(str(folder), max_new_tokens=NEW_TOKENS, probabilities=probabilities)
    with patch.object(hf, "load_model", return_value=model):
        adapter.load()
    return adapter


def tokens_of(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Prompt tokens of a picture and the fewest new tokens of any, to see that no answer ended early."""
    prompts = [outcome.usage.prompt_tokens or 0 for outcome in outcomes]
    return {"prompt_tokens": max(prompts), "new_tokens": min(o.usage.completion_tokens or 0 for o in outcomes)}


def measure(model: Any, folder: Path, items: Sequence[Item], batches: Sequence[int]) -> dict[str, Any]:
    """The plain loop, then the adapter by batch size, then the adapter with label probabilities."""
    processor = load_processor(CheckpointSettings(str(folder)))
    few = items[: max(4, len(items) // 4)]
    loop = measured(lambda some: plain_loop(model, processor, some), few, 1)
    adapter = adapter_on(model, folder, probabilities=False)
    rows = [measured(adapter.predict, few if size == 1 else items, size) for size in batches]
    for row in rows:
        row["times_the_plain_loop"] = row["pictures_per_s"] / loop["pictures_per_s"]
    found = {"plain_loop": loop, "adapter": rows, **tokens_of(adapter.predict(few))}
    try:
        scoring = adapter_on(model, folder, probabilities=True)
        found["adapter_with_label_probabilities"] = measured(scoring.predict, items, batches[-1])
    except UserError as error:  # the check of rounding was made for trained weights
        found["adapter_with_label_probabilities"] = {"unavailable": str(error)}
    return found


def environment(device: str) -> dict[str, Any]:
    """Where the numbers come from."""
    cuda = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": version("transformers"),
        "python": sys.version.split()[0],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything and write the JSON file."""
    parser = argparse.ArgumentParser(description="LLaVA-1.5-7B's shapes on one GPU: pictures per second.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "llava_gpu.json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tiny", action="store_true", help="a model of 83,168 weights, to try the program out")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --tiny tries the program out", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        folder, pictures = Path(scratch) / "llava", Path(scratch) / "pictures"
        pictures.mkdir()
        if options.tiny:
            settings = CheckpointSettings(str(tiny("llava", folder)), device=options.device)
            model = load_model(settings)
        else:
            processor_7b(folder)
            model = model_7b(options.device)
        result = {
            "environment": environment(options.device),
            "model": {"parameters": model.num_parameters(), "dtype": str(model.dtype), "new_tokens_limit": NEW_TOKENS},
            **measure(model, folder, paintings(pictures, options.pictures), options.batches),
        }
    write_values(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
