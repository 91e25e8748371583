"""Count what the data of tasks hold, for the page of cards (docs/tasks.md).

    python benchmarks/task_facts.py demo CARD.yaml ... --data-root ROOT

Each task must be prepared below ROOT from its whole official file. Images are not counted, so that a copy of a card
with `without_images: true` does. Counts go to results/task_facts.json, beside those of tasks counted before.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path

from harness.plan.registry import find_task, open_reader
from harness.tasks.readers.base import facts_of

RESULTS = Path(__file__).parent / "results" / "task_facts.json"


def main() -> None:
    """Count the tasks that were named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in arguments.tasks:
        reader = open_reader(find_task(name), arguments.data_root)
        rows = [astuple(row) for row in facts_of(reader.examples(), reader.task.emotions)]
        known[reader.task.name] = {"counted": datetime.now(UTC).date().isoformat(), "facts": rows}
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
