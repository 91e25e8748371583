"""`python -m sevlm.parity FIXTURE_DIR [--json]`: exit code 0 if nothing fails, 1 if something does, 2 if no fixture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sevlm.errors import SEVLMError
from sevlm.parity.run import compare_fixture

EXIT_FAILED, EXIT_USER_ERROR = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sevlm.parity", description="Compare with a golden fixture.")
    parser.add_argument("fixture", type=Path, metavar="FIXTURE_DIR", help="folder written by the released code")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    options = parser.parse_args(arguments)
    try:
        report = compare_fixture(options.fixture)
    except SEVLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    summary = report.to_dict()
    if options.json:
        print(json.dumps(summary, indent=1))
    else:
        print("\n".join(map(str, report.lines)))
        print(", ".join(f"{count} {status}" for status, count in summary["counts"].items()))
    return EXIT_FAILED if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
