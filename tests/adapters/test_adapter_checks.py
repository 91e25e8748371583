"""`harness check-adapter`: what keeps the contract passes, and each way to break it is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny_models
from seeing import seeing
from servers import chat_server

from harness.cli import main

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "adapter_made_up.py"

SOUND = '''
from harness.adapters import LocalAdapter
from harness.types import Answer


class Model(LocalAdapter):
    """Names the label by the picture's width."""

    name = "model"

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset

    def fingerprint(self):
        return {"offset": self.offset}

    def predict(self, items):
        return [self.one(item) for item in items]

    def one(self, item):
        width, height = item.open().size
        return Answer(item.labels[(width + height + self.offset) % len(item.labels)], f"{width} by {height}")
'''

BREAKS = {
    "not plain JSON": ('{"offset": self.offset}', '{"offset": object()}', "plain JSON"),
    "an address": ('{"offset": self.offset}', '{"offset": id(self)}', "same fingerprint"),
    "a secret": ('{"offset": self.offset}', '{"api_key": "sk-0123456789abcdef"}', "secret"),
    "answers anyway": ("width, height = item.open().size", "width, height = len(item.id), 3", "corrupt image"),
    "its own label": ("item.labels[(", "('joyful', 'glad')[0 * (", "labels are the task's"),
    "wrong order": ("for item in items]", "for item in sorted(items, key=lambda i: i.id)]", "order"),
    "loads into the name": (
        "        return [self",
        "        self.offset += 1000\n        return [self",
        "after loading and answering",
    ),
    "always fails": ("width, height = item.open().size", "width, height = item.open().length", "not failures"),
}


def check(target: object, *settings: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(["check-adapter", str(target), *settings])
    return code, capsys.readouterr().out.splitlines()


def test_the_example_and_a_sound_model_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sound_model.py"
    path.write_text(SOUND)
    for target, settings in ((f"{EXAMPLE}:Warmth", ()), (f"{path}:Model", ("offset=2",))):
        code, lines = check(target, *settings, capsys=capsys)
        assert code == 0, lines
        assert len(lines) >= 10
        assert all(line.startswith("ok") for line in lines)


@pytest.mark.parametrize("broken", BREAKS)
def test_each_broken_rule_is_found(broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after, rule = BREAKS[broken]
    assert before in SOUND
    path = tmp_path / "broken_model.py"
    path.write_text(SOUND.replace(before, after))
    code, lines = check(f"{path}:Model", capsys=capsys)
    assert code == 1
    assert any(re.search(f"^FAIL.*{rule}", line) for line in lines), lines


def test_a_setting_outside_the_fingerprint_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noted_model.py"
    path.write_text(SOUND.replace('{"offset": self.offset}', '{"kind": "width"}'))
    code, lines = check(f"{path}:Model", capsys=capsys)
    assert code == 0
    assert any("note: not in the fingerprint: offset" in line for line in lines)


@pytest.mark.parametrize("name", ["majority", "nearest", "linear", "human"])
def test_built_in_baselines(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = check(name, capsys=capsys)
    looks_at_nothing = {"majority", "human"}
    failing = [line for line in lines if line.startswith("FAIL")]
    assert all("corrupt image" in line for line in failing), lines
    assert code == (1 if failing else 0)
    assert bool(failing) is (name in looks_at_nothing)


def test_llava_and_an_endpoint_keep_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tiny_models.build("llava-taught", tmp_path / "llava")
    code, lines = check("llava", f"checkpoint={checkpoint}", "device=cpu", capsys=capsys)
    assert code == 0, lines
    with chat_server() as (server, url):
        server.reply = seeing
        code, lines = check("gpt4v", "model=m", f"base_url={url}", capsys=capsys)
    assert code == 0, lines


def test_settings_must_be_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-adapter", "majority", "fast"]) == 2
    assert "expected key=value" in capsys.readouterr().err
