from __future__ import annotations

import runpy
from pathlib import Path

from harness.tasks.loading import builtin_cards

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = runpy.run_path(str(ROOT / "scripts" / "card_pages.py"))
task_page, word_page = PAGES["task_page"], PAGES["word_page"]


def test_the_pages_are_those_of_the_cards() -> None:
    again = "write it again: python scripts/card_pages.py"
    assert (DOCS / "tasks.md").read_text("utf-8") == task_page(), f"{again} > docs/tasks.md"
    assert (DOCS / "emotion-words.md").read_text("utf-8") == word_page(), f"{again} words > docs/emotion-words.md"


def test_every_task_has_its_section() -> None:
    text = task_page()
    assert all(f"\n## {name}\n" in text and f"](#{name})" in text for name in builtin_cards())
