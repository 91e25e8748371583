"""The code blocks of the guide are run, so that they stay true."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.plan.registry import find_task, open_reader
from harness.tasks.loading import CARD_KEYS, load_task
from harness.tasks.readers.base import Reader
from harness.tasks.readers.jsonl import JsonlReader
from harness.types import Task, UserError

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-task.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def weather(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    (tmp_path / "examples.jsonl").write_text(block("json"), encoding="utf-8")
    for name in "12":
        draw(tmp_path / "pictures" / f"{name}.png")
    card = tmp_path / "weather.yaml"
    card.write_text(block("yaml"), encoding="utf-8")
    return card


def test_the_card_and_the_examples_file(weather: Path) -> None:
    assert len(block("yaml").splitlines()) <= 11
    task = load_task(weather)
    one, two = JsonlReader(task, Path()).examples()
    assert (one.split, two.split) == ("train", "test")
    assert two.meta == {"style": "Naive"}
    assert JsonlReader(task, Path()).check().counts()["images that cannot be decoded"] == 0


def test_the_mistake_shown(weather: Path) -> None:
    weather.write_text(weather.read_text("utf-8").replace("emotions:", "emotion:"), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_task(weather)
    assert str(caught.value).removeprefix(f"{weather.parent}/") in GUIDE.read_text("utf-8")


def test_the_reader(tmp_path: Path, draw: Callable[..., Path]) -> None:
    code = block("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    names: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    assert issubclass(names["CsvReader"], Reader)

    draw(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("file,emotion,reason\na.png,joy,sun\n", encoding="utf-8")
    source = tmp_path / "card.yaml"
    task = Task("t", "one-row-csv", ("joy", "gloom"), options={"table": "t.csv"}, source=source)
    reader: Reader = names["CsvReader"](task, tmp_path)
    (example,) = reader.examples("test")
    assert (example.dominant_emotion, example.image) == ("joy", tmp_path / "a.png")
    assert reader.check().counts() == {"examples": 1, "images missing": 0}
    (tmp_path / "t.csv").write_text("file,emotion,reason\na.png,jy,sun\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"t.csv, line 2.*did you mean joy"):
        list(reader.examples())


def test_the_reader_of_official_files(tmp_path: Path, draw: Callable[..., Path]) -> None:
    code = block("py")
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    names: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    rows = "".join(f"{i}.png,{'Joy' if i % 2 else 'gloom'},the sky {i},{i}\r" for i in [*range(14), 3])
    (tmp_path / "moods.csv").write_text("picture,mood,reason,pleasant\r" + rows, encoding="utf-8")
    for i in range(1, 14):
        draw(tmp_path / "pictures" / f"{i}.png")
    task = Task("moods", "my_package:MoodReader", ("joy", "gloom"), ratings={"valence": (0, 14)})
    reader: Reader = names["MoodReader"](task, tmp_path / "data")
    counts = reader.prepare(tmp_path / "moods.csv", tmp_path / "pictures", progress=False).counts()
    assert (counts["images missing"], counts["labels in another spelling"], counts["examples"]) == (1, 8, 13)
    third = next(example for example in reader.examples() if example.id == "3.png")
    assert (len(third.annotations), third.ratings) == (2, {"valence": 3.0})
    assert sum(reader.splits().values()) == 13


def test_every_key_is_explained() -> None:
    text = GUIDE.read_text("utf-8")
    assert [key for key in CARD_KEYS if f"`{key}`" not in text] == []


def test_the_entry_point_parses() -> None:
    group = tomllib.loads(block("toml"))["project"]["entry-points"]["harness.tasks"]
    assert set(group) == {"weather"}


def test_a_card_names_a_reader_class_of_another_module(
    tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package.py").write_text(block("python"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (settings,) = re.findall(
        r"^    (dataset: my_package.*\n)    (options: .*\n)", GUIDE.read_text("utf-8"), re.MULTILINE
    )
    card = tmp_path / "card.yaml"
    card.write_text("name: t\nemotions: [joy, gloom]\n" + "".join(settings), encoding="utf-8")
    draw(tmp_path / "a.png")
    (tmp_path / "table.csv").write_text("file,emotion,reason\na.png,joy,sun\n", encoding="utf-8")
    assert open_reader(find_task(str(card)), tmp_path).splits() == {"test": 1}
