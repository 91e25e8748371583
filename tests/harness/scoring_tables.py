"""Small tables to score, and the way to find a cell in what comes back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.score.results import TaskScores, score_task
from harness.store.run_folder import RowKey
from harness.types import Annotation, Answer, Example, Outcome, Refusal, Task, Usage, histogram

TASK = Task(
    "t",
    "jsonl",
    ("joy", "calm", "fear"),
    protocol="artemis-plain",
    polarity={"joy": "positive", "calm": "positive", "fear": "negative"},
    metrics=("accuracy", "annotator_mass", "macro_f1", "bleu_1", "rouge_l", "cider_d", "unique", "brier", "tokens"),
    slices=("style",),
)


def painting(id_: str, *notes: tuple[str, str], style: str = "cubism") -> Example:
    annotations = tuple(Annotation(emotion, text) for emotion, text in notes)
    return Example(id_, Path(f"{id_}.jpg"), annotations, histogram(annotations), meta={"style": style})


EXAMPLES = [
    painting("a", ("joy", "a bright day"), ("joy", "the sun is out"), ("calm", "still water")),
    painting("b", ("fear", "a dark wood"), ("fear", "wolves near")),
    painting("c", ("calm", "still water"), ("fear", "deep water"), style="realism"),
    painting("d", ("calm", "soft light"), ("calm", "soft grass"), style="realism"),
]
GOOD = {
    "a": Answer("joy", "a bright day", {"joy": 0.8, "calm": 0.2}, usage=Usage(1.0, 10, 2)),
    "b": Answer("calm", "a dark wood", {"joy": 0.1, "calm": 0.6, "fear": 0.3}),
    "c": Answer("fear", "deep water", {"fear": 0.9, "calm": 0.1}),
    "d": Refusal("no"),
}


def score(
    rows: dict[str, dict[str, Outcome]] | dict[RowKey, dict[str, Outcome]],
    examples: Sequence[Example] = EXAMPLES,
    task: Task = TASK,
    **more: Any,
) -> TaskScores:
    keyed = {key if isinstance(key, RowKey) else RowKey(key, None): found for key, found in rows.items()}
    return score_task(task, examples, more.pop("train", None), keyed, split="test", **more)


def cell(scores: TaskScores, metric: str, model: str = "m", references: str = "all", **where: Any) -> dict[str, Any]:
    wanted = {
        "metric": metric, "model": model, "control": None, "references": references, "emotion": None,
        "conditioned_on": None, "slice": None,
    } | where  # fmt: skip
    (found,) = [c for c in scores.cells if all(c[key] == value for key, value in wanted.items())]
    return found


def random_table(models: int, paintings: int, seed: int = 0) -> tuple[list[Example], dict[str, dict[str, Outcome]]]:
    chance = random.Random(seed)
    words = ["a", "still", "dark", "sea", "under", "the", "bright", "old", "sun"]

    def note() -> tuple[str, str]:
        return chance.choice(TASK.emotions), " ".join(chance.choices(words, k=5))

    examples = [
        painting(f"p{i}", *(note() for _ in range(chance.randint(2, 5))), style=chance.choice(["x", "y"]))
        for i in range(paintings)
    ]
    rows: dict[str, dict[str, Outcome]] = {}
    for m in range(models):
        rows[f"m{m}"] = {e.id: Answer(*note()) if chance.random() < 0.9 else Refusal() for e in examples}
    return examples, rows
