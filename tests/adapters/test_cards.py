"""Model cards: each can be used as it stands, and a mistake in one is told with its line."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.cards import card_names, card_of, find_card, read_card
from harness.cli import main
from harness.plan.models import parse_models, typed_settings
from harness.plan.registry import adapter_registry, find_task
from harness.types import UserError

GOOD = {"title": "Mine", "adapter": "hf", "checkpoint": "me/mine", "checked": "2026-01-02"}


def written(folder: Path, **keys: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in (GOOD | keys).items() if value is not None))
    return path


@pytest.mark.parametrize("name", card_names())
def test_every_card_is_whole(name: str) -> None:
    card = find_card(name)
    assert card is not None
    assert card.name == name
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
    assert datetime.date(2025, 1, 1) <= card.checked
    assert card.adapter in ("hf", "openai", "claude", "gemini")
    assert all(trap.strip().endswith(".") for trap in card.traps)
    assert card.licence != ""
    if card.checkpoint is not None:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", card.checkpoint)
        assert card_of(card.checkpoint) == card
        assert 0.1 < (card.billions or 1) < 1000


def test_a_card_of_ones_own(tmp_path: Path) -> None:
    card = find_card(str(written(tmp_path, billions=0.5, settings="{dtype: bf16}", traps="[Bites.]")))
    assert card is not None
    assert (card.name, card.parameters, card.download_gb) == ("mine", 500_000_000, 1.0)
    assert card.identity() == {"checkpoint": "me/mine"}
    assert card.settings == {"dtype": "bf16"}
    assert card.record() == {
        "name": "mine", "title": "Mine", "licence": None, "checked": "2026-01-02", "traps": ["Bites."],
        "parameters": 500_000_000,
    }  # fmt: skip
    assert find_card("no-such-model") is None
    assert card_of("me/mine") is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bilions": 3}, r"mine.yaml, line 5, column 1: unknown key 'bilions'; did you mean billions"),
        ({"billions": -1}, "line 5, column 11: billions: expected more than 0"),
        ({"title": None}, "required key 'title' is missing"),
        ({"checked": "soon"}, "line 4, column 10: checked: .*date"),
        ({"checkpoint": None}, "expected either checkpoint .* or model"),
        ({"model": "gpt"}, "expected either checkpoint .* or model"),
        ({"traps": "one"}, "line 5, column 8: traps"),
    ],
)
def test_mistakes_are_told_with_their_line(keys: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_card(written(tmp_path, **keys))
    with pytest.raises(UserError, match="no such file"):
        find_card(str(tmp_path / "absent.yaml"))


def test_the_list_of_models_shows_every_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "models"]) == 0
    shown = capsys.readouterr().out
    for name in card_names():
        card = find_card(name)
        assert card is not None
        line = next(line for line in shown.splitlines() if line.split()[:1] == [name])
        assert (card.checkpoint or card.model or "") in line
        assert (card.licence or "-") in line


def test_size_and_licence_of_the_card_reach_the_results(tmp_path: Path) -> None:
    card = written(tmp_path, adapter="named", checkpoint=None, model="none", billions=0.002, licence="MIT")
    run = tmp_path / "run"
    majority = tmp_path / "m.py"
    majority.write_text(
        "from harness.adapters.majority import Majority\n"
        "class Named(Majority):\n"
        "    name = 'named'\n"
        "    def __init__(self, model: str = ''):\n        super().__init__()\n"
    )
    labels = ", ".join(find_task("demo").emotions)
    (tmp_path / "few.yaml").write_text(f"name: few\ndataset: demo\nemotions: [{labels}]\nmetrics: [accuracy]\n")
    task = ["--tasks", str(tmp_path / "few.yaml"), "--limit", "2"]
    words = ["run", *task, "--models", str(card), "--out", str(run)]
    assert main([*words, "--adapter", f"named={majority}:Named"]) == 0
    (model,) = json.loads((run / "results.json").read_text())["models"]
    assert (model["model"], model["parameters"], model["card"]["licence"]) == ("mine", 2_000_000, "MIT")
    assert "0.002 B weights, MIT" in (run / "report" / "index.html").read_text()


ENDPOINTS = [name for name in card_names() if (card := find_card(name)) is not None and card.checkpoint is None]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoints_card_can_be_asked_and_has_a_price(name: str) -> None:
    (spec,) = parse_models(name)
    cls = adapter_registry([]).load(spec.adapter)
    adapter: Any = cls(**typed_settings(cls, spec, {"seed": 0}))
    assert adapter.model == spec.settings["model"]
    assert adapter.price.prompt
    assert adapter.price.retired is None
