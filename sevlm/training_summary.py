"""What a training says about itself: `training.json` and a section of the model card."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from sevlm.caption_scores import words
from sevlm.config import SEVLMConfig
from sevlm.training_setup import Setup
from sevlm.training_state import Progress

COVERAGE_SAMPLE = 20_000
"""Captions over which the lexicon's coverage is counted."""

_CARD = """
## Training

| | |
|---|---|
| pictures, captions | {pictures:,}, {captions:,} |
| captions cut at the maximal length | {truncated:.1%} |
| VAD lexicon | {name} ({dimensions}), sha256 `{fingerprint}` |
| running words that the lexicon knows | {coverage:.1%} |
| epochs, updates | {epochs}, {updates} |
| weights kept from update | {kept} |
| device, hours | {device}, {hours:.2f} |
"""
_VALENCE_ONLY = """
**Not the published SEVLM.** Its lexicon (NRC-VAD) measures valence, arousal and dominance; this model was trained with
a lexicon of valence only, and its arousal and dominance inputs are always 0. Do not report its numbers as SEVLM's.
"""


def summarise(setup: Setup, progress: Progress, planned: int, stopped_early: bool) -> dict[str, Any]:
    """The contents of `training.json`."""
    examples, lexicon = setup.train.examples, setup.lookup.lexicon
    captions = (explanation for example in examples for _, explanation in example.captions)
    kept_update = progress.kept[setup.recipe.training.keep_best_by]
    kept = next((e for e in progress.evaluations if e["update"] == kept_update), None)
    return {
        "identity": setup.identity(),
        "recipe": setup.recipe.to_dict(),
        "pictures": len(examples),
        "captions": len(setup.train),
        "validation_pictures": len(setup.validation.examples),
        "unreadable": {str(path): reason for path, reason in setup.store.unreadable.items()},
        "truncated": setup.train.truncated,
        "lexicon": {
            "name": lexicon.name,
            "source": setup.recipe.training.lexicon,
            "fingerprint": lexicon.fingerprint(),
            "dimensions": list(lexicon.dimensions),
            "entries": len(lexicon),
            "coverage": setup.lookup.coverage(map(words, islice(captions, COVERAGE_SAMPLE))),
        },
        "departures_from_published": departures(setup),
        "image_encoder_fingerprint": setup.encoder_fingerprint,
        "parameters": setup.model.parameter_counts(),
        "epochs": progress.epoch,
        "updates": progress.update,
        "planned_updates": planned,
        "stopped_early": stopped_early,
        "kept_update": kept_update,
        "kept_updates": progress.kept,
        "kept_scores": kept,
        "evaluations": progress.evaluations,
        "wall_s": round(progress.seconds, 2),
        "device": _device(setup.processes.device),
        "processes": setup.processes.count,
        "versions": _versions(),
    }


def departures(setup: Setup) -> list[str]:
    """What keeps a model from being the published SEVLM: configuration keys, `lexicon`, `decoder_init`."""
    official, own = SEVLMConfig.official().to_dict(), setup.model.config.to_dict()
    vocabulary = {"vocab_size", *(name for name in own if name.endswith("_token_id"))}
    found = [name for name in own if own[name] != official[name] and name not in vocabulary]
    if not setup.lookup.lexicon.name.startswith("nrc-vad"):
        found.append("lexicon")
    if setup.recipe.training.decoder_init != "distilgpt2" or setup.recipe.training.init_from:
        found.append("decoder_init")
    return found


def write_card(folder: Path, summary: Mapping[str, Any]) -> None:
    """Append the training to the checkpoint's model card."""
    lexicon = summary["lexicon"]
    text = _CARD.format(
        pictures=summary["pictures"],
        captions=summary["captions"],
        truncated=summary["truncated"],
        name=lexicon["name"],
        dimensions=", ".join(lexicon["dimensions"]),
        fingerprint=lexicon["fingerprint"][:16],
        coverage=lexicon["coverage"],
        epochs=summary["epochs"],
        updates=summary["updates"],
        kept=summary["kept_update"],
        device=summary["device"],
        hours=summary["wall_s"] / 3600,
    )
    if lexicon["dimensions"] == ["valence"]:
        text += _VALENCE_ONLY
    card = folder / "README.md"
    written = card.read_text(encoding="utf-8").split("\n## Training\n")[0]  # a resumed finish writes it once
    card.write_text(written + text, encoding="utf-8")


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors", "pillow")}
