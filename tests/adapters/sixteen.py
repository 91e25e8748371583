"""Sixteen embedded paintings made small, with a few words each: what a tiny model can learn by heart in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from harness.adapters.hf import HFVisionLanguage
from harness.plan.registry import data_root, find_task, open_reader
from harness.types import Answer, Item

PAINTINGS, WORDS = 16, 6
PROMPT = "Why?"
EVERY_LAYER = r".*(language_model|multi_modal_projector).*(proj|linear_[12])|lm_head"
"""Of random weights even the last layer has to learn; a trained model's need not."""
QUICK = ["batch_size=16", "gradient_accumulation=1", "rank=32", "alpha=64", "dropout=0.0", "learning_rate=0.005"]


def write_card(folder: Path) -> Path:
    """A task over copies of 56 x 56 pixels, the first words of one explanation each."""
    task = find_task("demo")
    lines = []
    for example in list(open_reader(task, data_root()).examples("train"))[:PAINTINGS]:
        with Image.open(example.image) as picture:
            picture.convert("RGB").resize((56, 56)).save(folder / f"{example.id}.png")
        said = example.annotations[0]
        annotation = {"emotion": said.emotion, "explanation": " ".join(said.explanation.split()[:WORDS])}
        line = {"id": example.id, "image": f"{example.id}.png", "split": "train", "annotations": [annotation]}
        lines.append(json.dumps(line))
    (folder / "examples.jsonl").write_text("\n".join(lines))
    card = folder / "sixteen.yaml"
    card.write_text(
        f"name: sixteen\ndataset: jsonl\nemotions: {json.dumps(list(task.emotions))}\n"
        f'options: {{examples: examples.jsonl}}\nprompts: {{default: "{PROMPT}"}}\n'
    )
    return card


def asked(adapter: HFVisionLanguage, card: Path, blank: Path | None = None) -> tuple[list[str], list[str]]:
    """What it says about each painting (or a blank one), and what was said in training."""
    examples = [json.loads(line) for line in (card.parent / "examples.jsonl").read_text().splitlines()]
    labels = find_task(str(card)).emotions
    items = [Item(e["id"], blank or card.parent / e["image"], labels, PROMPT) for e in examples]
    outcomes = adapter.predict(items)
    said = [e["annotations"][0] for e in examples]
    answers = [f"{o.emotion} because {o.explanation}" if isinstance(o, Answer) else o.raw for o in outcomes]
    return answers, [f"{a['emotion']} because {a['explanation']}" for a in said]


def loaded(lora: Path, **settings: Any) -> HFVisionLanguage:
    adapter = HFVisionLanguage(lora=str(lora), **{"device": "cpu", "max_new_tokens": 64} | settings)
    adapter.load()
    return adapter
