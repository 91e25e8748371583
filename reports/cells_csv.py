"""All cells of all runs as one tidy CSV file, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from harness.reports.script_data import whole_text
from harness.reports.task_view import Run

COLUMNS = (
    "run", "task", "split", "model", "control", "metric", "value", "low", "high", "n", "emotion", "conditioned_on",
    "slice_key", "slice_value", "references", "protocol", "signature", "unavailable",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cells_csv(runs: Sequence[Run]) -> str:
    """CSV text with a heading line; texts that a spreadsheet would run as a formula get a leading apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        for cell in run.results.get("cells", ()):
            cut = cell.get("slice") or {}
            line = {**cell, "run": run.name, "slice_key": cut.get("key"), "slice_value": cut.get("value")}
            writer.writerow([_safe(line.get(name)) for name in COLUMNS])
    return text.getvalue()


def _safe(value: object) -> object:
    if not isinstance(value, str):
        return value
    return f"'{whole_text(value)}" if value.startswith(_FORMULA) else whole_text(value)
