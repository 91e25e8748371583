"""A training that takes a second: coloured squares, a random CLIP tower, a three-dimensional lexicon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from sevlm.data import TrainingExample
from sevlm.recipe import Recipe, load_recipe

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
LEXICON = "red\t0.5\t0.9\t0.4\nblue\t0.3\t-0.6\t0.1\ngreen\t0.6\t-0.2\t0.2\nblack\t-0.5\t0.1\t-0.3\n"


def save_tower(folder: Path, width: int = 16) -> Path:
    """A CLIP visual tower of random weights: 4 patches of `width` features."""
    torch.manual_seed(5)
    sizes = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=16, **sizes)).save_pretrained(folder)
    return folder


def make_examples(folder: Path, count: int = 8) -> list[TrainingExample]:
    """Squares of one colour each, with two or three captions."""
    examples = []
    for index in range(count):
        colour = COLOURS[index % len(COLOURS)]
        path = folder / f"{index}.png"
        if not path.exists():  # several processes make the same examples
            Image.new("RGB", (40 + index, 36), colour).save(path)
        captions = [("awe", f"the {colour} square glows"), ("fear", f"{colour} is all that I see")]
        captions += [("awe", "it is so plain")] * (index % 2)
        examples.append(TrainingExample(str(index), path, tuple(captions)))
    return examples


def tiny_recipe(tower: Path, words: Path, cache: Path, **settings: Any) -> Recipe:
    """The small recipe, made smaller."""
    sizes = {"image_encoder": f"clip:{tower}", "image_size": 32, "encoder_dim": 16, "n_embd": 16, "n_layer": 1}
    sizes |= {"n_head": 2, "max_length": 24, "max_new_tokens": 6, "tokenizer": "train:300", "dropout": 0.1}
    training = {"epochs": 3, "batch_pictures": 3, "log_every": 1, "evaluate_every": None, "lexicon": str(words)}
    return load_recipe("small").updated(sizes | training | {"feature_cache": str(cache)} | settings)


def tiny_recipes(folder: Path, tower: str = "tower", **standing: Any) -> Callable[..., Recipe]:
    """What makes tiny recipes over a folder with a tower and a lexicon; `standing` settings give way to a call's own."""

    def make(**settings: Any) -> Recipe:
        return tiny_recipe(folder / tower, folder / "lexicon.txt", folder / "features", **standing | settings)

    return make


def train_tiny(folder: Path, out: Path, *, contrastive: bool, batch_pictures: int, accumulate: int = 1) -> None:
    """Train without dropout on the examples of a folder; every process of several runs this."""
    from sevlm.train import train

    settings = {"dropout": 0.0, "use_contrastive_head": contrastive, "epochs": 2}
    settings |= {"batch_pictures": batch_pictures, "accumulate": accumulate}
    recipe = tiny_recipes(folder)(**settings)
    train(recipe, make_examples(folder)[2:], [], out, "cpu", progress=False)


if __name__ == "__main__":
    train_tiny(Path(sys.argv[1]), Path(sys.argv[2]), contrastive=sys.argv[3] == "True", batch_pictures=2)
