"""The vision-language adapter in the hands of a test."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.adapters.hf import HFVisionLanguage
from harness.adapters.hf_model import CheckpointSettings, load_model
from harness.types import Outcome


def loaded(checkpoint: Path, **settings: Any) -> HFVisionLanguage:
    adapter = HFVisionLanguage(checkpoint=str(checkpoint), device="cpu", **settings)
    adapter.load()
    return adapter


def without_latency(outcome: Outcome) -> Outcome:
    return dataclasses.replace(outcome, usage=dataclasses.replace(outcome.usage, latency_s=None))


def turned_into(kind: type, settings: CheckpointSettings) -> Any:
    """The checkpoint's model with the behaviour of a subclass."""
    model = load_model(settings)
    model.__class__ = kind
    return model
