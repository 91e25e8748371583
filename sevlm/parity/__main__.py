"""`python -m sevlm.parity FIXTURE_DIR [--json]`: exit code 0 if nothing fails, 1 if something does, 2 if no fixture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from sevlm.config import SEVLMError
from sevlm.parity import checks_model, checks_text
from sevlm.parity.fixture import Fixture, Report
from sevlm.vad import NLTKLemmatizer

EXIT_FAILED, EXIT_USER_ERROR = 1, 2
TOLERANCES: tuple[tuple[str, float, float], ...] = (
    ("loss", 5e-6, 0.0),
    ("grad/", 1e-5, 1e-3),
    ("steps/losses", 2e-5, 0.0),
    ("steps/lr", 1e-12, 0.0),
    ("steps/param/", 5e-5, 0.0),
    ("preprocess/", 1e-5, 0.0),
    ("filter/", 0.0, 0.0),
    ("batch/", 0.0, 0.0),
    ("decode/", 0.0, 0.0),
)
"""(start of the name, absolute, relative) as the fixture's README states them; else `DEFAULT`."""
DEFAULT = (5e-5, 0.0)
EXACT = ("generated_ids", "segment_ids_last_call", "vad_per_step")


def compare_fixture(folder: Path) -> Report:
    """Compares everything that a fixture holds.

    Raises:
        SEVLMError: the folder does not exist.
    """
    if not folder.is_dir():
        raise SEVLMError(f"no fixture folder {folder}")
    fixture, report = Fixture(folder), Report()
    nltk = None
    try:
        nltk = NLTKLemmatizer()
    except SEVLMError as error:
        report.skip("look-ups by NLTK", f"recorded values are used instead: {error}")
    comparisons: dict[str, Callable[[Fixture, Report], None]] = {
        "README.md": checks_text.compare_readme,
        "configuration": checks_text.compare_configuration,
        "generate.json": checks_text.compare_settings,
        "checkpoint": checks_text.compare_statistics,
        "tokenizer": checks_text.compare_tokenizer_files,
        "tokenization.json": checks_text.compare_tokenization,
        "lemmas.json": partial(checks_text.compare_lookups, nltk=nltk),
        "optimizer_groups.json": checks_model.compare_groups,
        "scripted_decode.json": checks_model.compare_scripted,
        "file_names.json": checks_model.compare_file_names,
        "data": checks_text.compare_data,
    }
    for name, compare in comparisons.items():
        with report.part(name):
            compare(fixture, report)
    decode = partial(checks_model.decode_tensors, report=report)
    parts: dict[str, Callable[[Fixture], Mapping[str, Tensor]]] = {
        "batch and prompts": partial(checks_text.batch_tensors, nltk=nltk),
        "forward pass": checks_model.model_tensors,
        "gradients": checks_model.gradients,
        "optimiser steps": checks_model.optimizer_steps,
        "decoding (identity)": partial(decode, lemmatizer="identity", recorded=False),
        "decoding (nltk)": partial(decode, lemmatizer="nltk", recorded=nltk is None),
        "filter": checks_model.filter_tensors,
        "clip": checks_model.clip_tensors,
        "preprocess": checks_model.preprocess_tensors,
    }
    computed: dict[str, Tensor] = {}
    for name, compute in parts.items():
        with report.part(name):
            computed |= compute(fixture)
    with report.part("recorded look-ups"):
        checks_text.compare_recorded_lookups(fixture, report)
    _compare_computed(fixture, report, computed)
    return report


def _compare_computed(fixture: Fixture, report: Report, computed: Mapping[str, Tensor]) -> None:
    """Every recorded tensor is computed again or used, and every file of the folder takes part."""
    with report.part("outputs.safetensors"):
        for name, expected in fixture.outputs.items():
            if name in computed:
                report.tensor(name, computed[name], expected, *_tolerance(name))
            elif name != "clip/pixels":  # what the tower is given; its outputs are compared
                report.fail(name, "nothing recomputes this tensor")
    with report.part("inputs.safetensors"):
        for name, given in fixture.inputs.peek().items():
            if name in computed:
                report.tensor(name, computed[name], given, *_tolerance(name))
            elif name.endswith("/image_prefix") and fixture.config.prefix_length == 0:
                report.skip(name, "no output depends on it: the model has no prefix")
            elif name not in fixture.inputs.used:
                report.fail(name, "no comparison uses this tensor")
            if name.startswith("batch/image_"):
                report.tensor(f"{name} (rows of a pair)", given[0::2], given[1::2], 0.0)
    with report.part("files"):
        present = {str(p.relative_to(fixture.folder)) for p in fixture.folder.rglob("*") if p.is_file()}
        for name in sorted(present - fixture.read_files):
            report.fail(name, "no comparison reads this file")


def _tolerance(name: str) -> tuple[float, float]:
    if name.endswith(EXACT):
        return 0.0, 0.0
    return next(((a, r) for start, a, r in TOLERANCES if name.startswith(start)), DEFAULT)


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
