"""The cards as one page of documentation: `python scripts/card_pages.py > docs/tasks.md`.

A test compares the page with what this module renders, so that it never lags behind the cards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.tasks.loading import builtin_cards, load_task
from harness.tasks.readers.emotion_words import WORDS_OF_LABEL
from harness.types import Task

COUNTED = Path(__file__).parents[1] / "benchmarks" / "results" / "task_facts.json"
"""What `benchmarks/task_facts.py` counted in the official files at hand."""

INTRODUCTION = """\
# Tasks

<!-- Written by `python scripts/card_pages.py`; edit the cards in tasks/cards instead. -->

Every task that the harness knows, from its card. No dataset comes with this package except `demo`: each card says whom
to ask and under which terms. What a card calls NOT FOUND is unknown to us and never filled in.

Reliability of published numbers: **P** primary (the authors' own code or notebooks), **R** reported by another group,
**W** a web page. They are what others report on their own test sets; a cell of this harness is comparable only
if protocol, split and preprocessing are the same.

**Counted** is what the official file holds, read by this harness without its images. `harness data prepare` counts your
copy, missing images included; run folders keep those counts and reports show them under "About this task".
"""

WORDS = """\
# Emotion words

<!-- Written by `python scripts/card_pages.py words`; edit tasks/readers/emotion_words.py instead. -->

In `socratis` people used words of their own. This table, which is the project's own, says which word counts as which
label of ArtEmis. A word stands in it only where it is an inflection or a plain synonym of one label. Words for joy,
love, hope, surprise, curiosity and the like have no such label among the nine: their annotations are left out and
counted by `harness data prepare`, never called `something else`.

| label | words |
|---|---|
"""


def task_page() -> str:
    """All cards, with a table of contents."""
    tasks = [load_task(path) for path in builtin_cards().values()]
    facts = json.loads(COUNTED.read_text(encoding="utf-8"))
    cards = ("\n".join(_card(task, facts.get(task.name))) for task in tasks)
    return "\n".join([INTRODUCTION, *_contents(tasks), "", *cards])


def word_page() -> str:
    """The table of emotion words."""
    return WORDS + "".join(f"| {label} | {', '.join(words)} |\n" for label, words in WORDS_OF_LABEL.items())


def _contents(tasks: list[Task]) -> Iterator[str]:
    yield "| task | what | year | annotated by | terms | labels | explanations | ratings |"
    yield "|---|---|---|---|---|---|---|---|"
    for task in tasks:
        explained = "yes" if task.explanations else "no"
        ratings = ", ".join(task.ratings) or "–"
        facts = " | ".join((str(task.year or "–"), task.annotated_by or "–", task.terms or "–"))
        labels = len(task.emotions)
        yield f"| [{task.name}](#{task.name}) | {task.title} | {facts} | {labels} | {explained} | {ratings} |"


def _card(task: Task, facts: Mapping[str, Any] | None) -> Iterator[str]:
    yield f"\n## {task.name}\n"
    yield f"**{task.title}**, version {task.version}.{f' Paper: <{task.paper}>.' if task.paper else ''}\n"
    yield f"{task.description}\n"
    if task.illustrative:
        yield "*Illustrative: never report a number measured on it.*\n"
    for title, text in (("Licence and terms", task.licence), ("How to get it", task.access), ("Splits", task.splits)):
        yield f"- **{title}.** {text}"
    yield f"- **Labels.** {_labels(task)}"
    for dimension, (low, high) in task.ratings.items():
        yield f"- **{dimension.capitalize()}** from {low:g} to {high:g}, mean over people."
    metrics = ", ".join(task.metrics) if task.metrics else "all that apply"
    yield f"- **Protocol.** `{task.protocol}`; metrics: {metrics}."
    if facts:
        shown = (f"{what} {count:,}{f' ({note})' if note else ''}" for what, count, note in facts["facts"])
        yield f"- **Counted** on {facts['counted']}: {'; '.join(shown)}."
    if task.slices:
        yield f"- **Broken down by** {', '.join(task.slices)}."
    for source, table in task.label_maps.items():
        yield f"- **Labels of {source}** are read as: {', '.join(f'{a} → {b}' for a, b in table.items())}."
    yield "\nKnown traps:\n"
    yield from (f"- {trap}" for trap in task.traps)
    if task.published:
        yield from _published(task.published)
    yield ""


def _labels(task: Task) -> str:
    groups = {
        kind: [e for e in task.emotions if task.polarity.get(e) == kind] for kind in ("positive", "negative", "other")
    }
    return "; ".join(f"{kind}: {', '.join(labels)}" for kind, labels in groups.items() if labels) + "."


def _published(rows: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    yield "\n| reported for | on | numbers | source | reliability | note |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        numbers = ", ".join(f"{name} {value:g}" for name, value in row["metrics"].items())
        size = f" (n = {row['n']:,})" if "n" in row else ""
        where = f"{row.get('test_set', 'not stated')}{size}"
        cells = (row["model"], where, numbers, row["source"], row["reliability"], row.get("note", ""))
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    import sys

    print(word_page() if sys.argv[1:] == ["words"] else task_page(), end="")
