from __future__ import annotations

import pytest

from harness.adapters.hf_presets import presets
from harness.adapters.hf_vlm import DEFAULT_CHECKPOINT
from harness.cli import main
from harness.plan.models import parse_models


def test_presets_are_listed_with_size_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "models"]) == 0
    out = capsys.readouterr().out
    for preset in presets():
        line = next(line for line in out.splitlines() if preset.setting in line)
        assert f"{preset.billions:g}" in line
        assert preset.licence in line


def test_each_preset_can_be_typed() -> None:
    assert DEFAULT_CHECKPOINT in [preset.checkpoint for preset in presets()]
    for preset in presets():
        (spec,) = parse_models(preset.setting)
        assert (spec.adapter, dict(spec.settings)) == ("llava", {"checkpoint": preset.checkpoint})
        assert 0.1 < preset.billions < 100
