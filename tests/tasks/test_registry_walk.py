"""Every built-in task, from hand-made official files to a report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from layout_files import Layout
from layouts import LAYOUTS

from harness.cli import main
from harness.plan.registry import open_reader
from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.metrics import java
from harness.tasks.prompts import CONTEXT_MARK, render
from harness.types import Task, UserError

TASKS = sorted(builtin_cards())
STATEMENTS = [name for name in TASKS if load_task(builtin_cards()[name]).dataset == "statements"]
"""Tasks made of another task's data; tests/tasks/test_statements.py makes some."""
WITH_FILES = [name for name in TASKS if name not in ("demo", *STATEMENTS)]


@pytest.fixture(scope="session")
def layout_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Layout]:
    built: dict[str, Layout] = {}

    def build(name: str) -> Layout:
        if name not in built:
            built[name] = LAYOUTS[name](tmp_path_factory.mktemp(name))
        return built[name]

    return build


def task_for(name: str, layout: Layout) -> Task:
    task = load_task(builtin_cards()[name])
    return dataclasses.replace(task, options={**task.options, **layout.options})


@pytest.mark.parametrize("name", TASKS)
def test_card(name: str) -> None:
    task = load_task(builtin_cards()[name])
    assert name in LAYOUTS or name not in WITH_FILES, (
        f"no hand-made files for {name!r}: add a layout to {Path(__file__).parent}"
    )
    for field in ("title", "description", "licence", "access", "splits", "traps"):
        assert getattr(task, field), f"the card of {name} says nothing about: {field}"
    assert task.terms, f"the card of {name} has no terms"
    assert set(task.polarity) == set(task.emotions)
    assert name not in WITH_FILES or f"harness data prepare {name} " in task.access or "CARD.yaml" in task.access
    for prompt in task.prompts.values():
        text = render(prompt, task.emotions, task.ratings)
        assert all(label in text for label in task.emotions)
        assert all(dimension in text for dimension in task.ratings)
        assert name in STATEMENTS or "<emotion> because <explanation>" in text or "<word> because <explanation>" in text
    for row in task.published:
        assert row["reliability"] in ("P", "R", "W")


@pytest.mark.parametrize("name", WITH_FILES)
def test_from_official_files_to_examples(name: str, layout_of: Callable[[str], Layout], tmp_path: Path) -> None:
    layout = layout_of(name)
    reader = open_reader(task_for(name, layout), tmp_path)
    with pytest.raises(UserError, match=r"nothing prepared in .* type: harness data prepare"):
        list(reader.examples())
    table = reader.prepare(layout.annotations, layout.images, progress=False)
    examples = list(reader.examples())
    assert len(examples) == layout.examples, str(table)
    assert len({example.id for example in examples}) == len(examples)
    assert set(reader.splits()) <= {"train", "val", "test", "rest"}
    assert reader.splits()["test"] > 0
    for example in examples:
        assert example.image.is_file() or name == "emer"
        assert sum(example.emotion_histogram.values()) >= len(example.annotations) > 0
        assert set(example.ratings) == set(reader.task.ratings)
        for dimension, (low, high) in reader.task.ratings.items():
            assert low <= example.ratings[dimension] <= high
        explained = any(annotation.explanation for annotation in example.annotations)
        assert explained == reader.task.explanations
        assert bool(example.context) == any(CONTEXT_MARK in p for p in rendered(reader.task)) or name == "emer"
    assert sum(1 for split in reader.splits() for _ in reader.examples(split)) == len(examples)
    assert reader.check().counts()["images gone since"] == 0
    again = open_reader(task_for(name, layout), tmp_path)
    assert again.fingerprint() == reader.fingerprint()
    assert json.dumps(again.fingerprint())


def rendered(task: Task) -> Iterator[str]:
    return (render(prompt, task.emotions, task.ratings) for prompt in task.prompts.values())


@pytest.mark.slow
def test_all_tasks_in_one_run_and_one_report(
    layout_of: Callable[[str], Layout],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`majority` answers every task that has a training split. Java is left out to save time."""
    monkeypatch.setattr(java, "find_java", lambda: None)
    cards: list[str] = []
    for name in (n for n in WITH_FILES if n != "emer"):
        layout = layout_of(name)
        card = tmp_path / f"{name}.yaml"
        content: dict[str, Any] = yaml.safe_load(builtin_cards()[name].read_text("utf-8"))
        card.write_text(
            yaml.safe_dump(content | {"options": {**content.get("options", {}), **layout.options}}), "utf-8"
        )
        reader = open_reader(load_task(card), tmp_path / "data")
        reader.prepare(layout.annotations, layout.images, progress=False)
        if "train" in reader.splits():
            cards.append(str(card))
    run = tmp_path / "run"
    arguments = ["run", "--tasks", ",".join(cards), "--models", "majority", "--data-root", str(tmp_path / "data")]
    assert main([*arguments, "--out", str(run)]) == 0
    results = json.loads((run / "results.json").read_text("utf-8"))
    cells = {(c["task"], c["metric"]): c for c in results["cells"] if c["emotion"] is None and c["slice"] is None}
    for card in map(Path, cards):
        task = load_task(card)
        assert cells[task.name, "accuracy"]["model"] == "majority"
        assert ((task.name, "cider_d") in cells) == task.explanations
        assert ((task.name, "ccc_valence") in cells) == ("valence" in task.ratings)
    page = (run / "report" / "index.html").read_text("utf-8")
    assert all(load_task(Path(card)).title.split(":")[0] in page for card in cards)
    assert "oasis" in capsys.readouterr().out
