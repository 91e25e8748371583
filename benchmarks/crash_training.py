"""What `crash.py` interrupts: training a SEVLM and LoRA weights, both tiny."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from crash_cases import Case, Found, dataset

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "sevlm")]


class TrainSEVLM(Case):
    """`harness train sevlm` with a random CLIP tower of a few thousand weights."""

    name, share, changes, longest_wait_s, watched = "train sevlm", 5 / 60, 40, 0.1, Path("sevlm")

    def prepare(self, folder: Path) -> None:
        """64 pictures, of which 16 are learned from, a tower and a lexicon."""
        from tiny_training import LEXICON, save_tower

        dataset(folder, 64)
        save_tower(folder / "tower")
        (folder / "lexicon.txt").write_text(LEXICON, encoding="utf-8")

    def command(self, folder: Path) -> list[str]:
        """Eighty updates, saved every four."""
        sizes = "image_size=32 encoder_dim=16 n_embd=16 n_layer=1 n_head=2 max_length=24 max_new_tokens=6"
        words = "epochs=20 batch_pictures=4 log_every=1 tokenizer=train:300 image_encoder=clip:tower dropout=0.1"
        where = "--task card.yaml --out sevlm --config small --lexicon lexicon.txt --device cpu --data-root data"
        return ["train", "sevlm", *where.split(), *sizes.split(), *words.split()]

    def ended(self, folder: Path) -> bool:
        """The summary is written last."""
        return (folder / "sevlm" / "training.json").exists()

    def checks(self, folder: Path) -> list[list[str]]:
        """The folder is no run."""
        return []

    def found(self, folder: Path) -> Found:
        """Tensors of the weights, the log of every update, and the record of pictures."""
        return weights(folder / "sevlm", "model.safetensors", "training_log.jsonl", "trained_on.json", "config.json")


class TrainLoRA(Case):
    """`harness train llava` on a LLaVA of random weights."""

    name, share, changes, longest_wait_s, watched = "train lora", 5 / 60, 30, 0.2, Path("lora")

    def prepare(self, folder: Path) -> None:
        """The same pictures and a tiny checkpoint."""
        import tiny_models

        dataset(folder, 64)
        if not (folder.parent / "llava").exists():
            tiny_models.build("llava", folder.parent / "llava")
        shutil.copytree(folder.parent / "llava", folder / "llava")

    def command(self, folder: Path) -> list[str]:
        """Forty updates, saved every third."""
        words = "checkpoint=./llava batch_size=4 gradient_accumulation=1 max_steps=40 save_every=3 dropout=0.1 rank=4"
        where = "--task card.yaml --out lora --device cpu --data-root data"
        return ["train", "llava", *where.split(), *words.split()]

    def ended(self, folder: Path) -> bool:
        """The configuration is written after the weights."""
        return (folder / "lora" / "adapter_config.json").exists()

    def checks(self, folder: Path) -> list[list[str]]:
        """The folder is no run."""
        return []

    def found(self, folder: Path) -> Found:
        """Tensors of the weights and the record of pictures."""
        return weights(folder / "lora", "adapter_model.safetensors", "trained_on.json", "recipe.json")


def weights(folder: Path, tensors: str, *files: str) -> Found:
    """Tensors of a file by name, and other files as they are."""
    from safetensors.torch import load_file

    content: dict[str, Any] = {name: (folder / name).read_bytes() for name in files}
    for name, tensor in load_file(folder / tensors).items():
        content[name] = (str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes())
    return Found([], content)
