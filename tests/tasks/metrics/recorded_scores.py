"""Recompute every value of a set of recorded official scores: `python tests/tasks/metrics/recorded_scores.py DIR`.

DIR holds `sentences.json` (candidates, references, emotions, training utterances) and `expected.json` (what the
official code says about them). Prints a line per comparison (name, largest difference, tolerance, `ok` or `FAIL`, or
`SKIP` with its reason) and exits 1 if any fails, 2 if the set cannot be read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from recorded_checks import SECTIONS, Recorded

from harness.tasks.metrics.base import Unavailable
from harness.tasks.metrics.meteor import MeteorProcess


@dataclass(frozen=True)
class Comparison:
    """One recorded value, or list of values, against what the metrics give.

    Attributes:
        name: path of the value in `expected.json`.
        difference: largest absolute difference; infinite where shapes or strings differ.
        tolerance: largest difference that is accepted.
        skipped: why nothing was compared, else None.
    """

    name: str
    difference: float
    tolerance: float
    skipped: str | None = None

    @property
    def is_ok(self) -> bool:
        """Within the tolerance, or skipped."""
        return self.skipped is not None or self.difference <= self.tolerance

    def __str__(self) -> str:
        if self.skipped is not None:
            return f"SKIP {self.name}: {self.skipped}"
        return f"{'ok  ' if self.is_ok else 'FAIL'} {self.name}: {self.difference:.3g} (tolerance {self.tolerance:g})"


def compare_set(
    sentences: Mapping[str, Any], expected: Mapping[str, Any], process: MeteorProcess
) -> Iterator[Comparison]:
    """Every comparison that the set holds; METEOR's are made by `process`."""
    recorded = Recorded(sentences, expected, process)
    for name in expected:
        section = SECTIONS.get(name)
        if section is None:
            yield Comparison(name, 0.0, 0.0, "says how the values were made")
            continue
        try:
            for path, found, wanted, tolerance in section(recorded):
                yield Comparison(f"{name}.{path}", difference(found, wanted), tolerance)
        except Unavailable as reason:
            yield Comparison(name, 0.0, 0.0, str(reason))


def difference(found: Any, wanted: Any) -> float:
    """Largest absolute difference of two nested values of one shape; infinite where anything else differs."""
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping) or found.keys() != wanted.keys():
            return float("inf")
        return max((difference(found[key], wanted[key]) for key in wanted), default=0.0)
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if isinstance(found, str) or len(found) != len(wanted):
            return float("inf")
        return max((difference(f, w) for f, w in zip(found, wanted, strict=True)), default=0.0)
    if isinstance(wanted, str | bool) or wanted is None or isinstance(found, str | bool) or found is None:
        return 0.0 if found == wanted else float("inf")
    return float(np.abs(found - wanted)) if np.isfinite(found) == np.isfinite(wanted) else float("inf")


def main(arguments: Sequence[str]) -> int:
    """The command; its exit code."""
    if len(arguments) != 1:
        print("usage: python tests/tasks/metrics/recorded_scores.py DIR", file=sys.stderr)
        return 2
    folder, failures = Path(arguments[0]), 0
    try:
        sentences, expected = (json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("sentences", "expected"))
    except (OSError, ValueError) as error:
        print(f"golden: {folder}: cannot be read ({type(error).__name__}: {error})", file=sys.stderr)
        return 2
    with MeteorProcess() as process:
        for comparison in compare_set(sentences, expected, process):
            print(comparison, flush=True)
            failures += not comparison.is_ok
    print(f"{failures} failures" if failures else "all values reproduced")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
