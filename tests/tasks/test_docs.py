"""The code blocks of the guide are run, so that they stay true."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.plan.registry import find_task, open_reader
from harness.store.outcomes import outcome_to_json
from harness.store.prediction_files import FORMATS
from harness.tasks.loading import CARD_KEYS, load_task
from harness.tasks.readers.base import Reader
from harness.tasks.readers.jsonl import JsonlReader
from harness.types import Answer, Task, Unparsed, UserError

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-task.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def weather(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    (tmp_path / "examples.jsonl").write_text(block("json"), encoding="utf-8")
    for name in "12":
        draw(tmp_path / "images" / f"{name}.png")
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
    (tmp_path / "moods.csv").write_text("image,mood,reason,pleasant\r" + rows, encoding="utf-8")
    for i in range(1, 14):
        draw(tmp_path / "images" / f"{i}.png")
    task = Task("moods", "my_package:MoodReader", ("joy", "gloom"), ratings={"valence": (0, 14)})
    reader: Reader = names["MoodReader"](task, tmp_path / "data")
    counts = reader.prepare(tmp_path / "moods.csv", tmp_path / "images", progress=False).counts()
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


FILES = Path(__file__).parents[2] / "docs" / "files.md"


def test_the_card_and_the_commands_for_somebodys_csv_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five lines of YAML, two commands, no Python: two models' csv files become two rows."""
    text = FILES.read_text("utf-8")
    (card,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(card.splitlines()) == 5
    (tmp_path / "theirs.yaml").write_text(card, encoding="utf-8")
    labels = ["joy", "joy", "gloom", "gloom"]
    (tmp_path / "labels.csv").write_text("painting,emotion\n" + "".join(f"p{i},{e}\n" for i, e in enumerate(labels)))
    said = ["This artwork conveys a feeling of joy.", "Gloom", "gloom", "some other feeling"]
    for name, answers in (("clip", said), ("vlm", [*said[:3], "Gloom."])):
        content = "painting,answer\n" + "".join(f"p{number},{answer}\n" for number, answer in enumerate(answers))
        (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for command in re.findall(r"^    harness (.*theirs.yaml.*)$", text, re.MULTILINE):
        assert main([*command.split(), "--data-root", "data", *(["--no-report"] if "score" in command else [])]) == 0
    cells = json.loads((tmp_path / "RUN" / "results.json").read_text("utf-8"))["cells"]
    found = {c["model"]: c["value"] for c in cells if c["metric"] == "accuracy" and c["emotion"] is None}
    assert found == {"clip": 0.5, "vlm": 0.75}
    assert "clip: 1 unparsed" in capsys.readouterr().err


def test_every_key_of_an_outcome_and_every_format_is_described() -> None:
    text = FILES.read_text("utf-8")
    lines = [outcome_to_json("x", o) for o in (Answer("joy", "x", truncated=True, reasoning="y"), Unparsed(reason="z"))]
    keys = {key for line in lines for key in line} | set(lines[0]["usage"])
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []
    columns = {c for name in ("sevlm", "artemis-speaker") for c in re.findall(r"\w+", FORMATS[name].id)}
    assert [column for column in columns if column not in text] == []
