"""`python -m sevlm.parity FIXTURE_DIR [--json]`: exit code 0 if nothing fails, 1 if something does, 2 if no fixture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
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
    nltk = _load_nltk(report)
    _compare_files(fixture, report, nltk)
    computed: dict[str, Tensor] = {}
    for name, compute in _parts(fixture, report, nltk).items():
        with report.part(name):
            computed |= compute()
    with report.part("recorded look-ups"):
        checks_text.compare_recorded_lookups(fixture, report)
    with report.part("outputs.safetensors"):
        _compare_outputs(fixture, report, computed)
    with report.part("inputs.safetensors"):
        _compare_inputs(fixture, report, computed)
    with report.part("files"):
        _compare_coverage(fixture, report)
    return report


def _load_nltk(report: Report) -> NLTKLemmatizer | None:
    try:
        return NLTKLemmatizer()
    except SEVLMError as error:
        report.skip("look-ups by NLTK", f"recorded values are used instead: {error}")
        return None


def _compare_files(fixture: Fixture, report: Report, nltk: NLTKLemmatizer | None) -> None:
    parts: dict[str, Callable[[], None]] = {
        "README.md": lambda: checks_text.compare_readme(fixture, report),
        "configuration": lambda: checks_text.compare_configuration(fixture, report),
        "generate.json": lambda: checks_text.compare_settings(fixture, report),
        "checkpoint": lambda: checks_text.compare_statistics(fixture, report),
        "tokenizer": lambda: checks_text.compare_tokenizer_files(fixture, report),
        "tokenization.json": lambda: checks_text.compare_tokenization(fixture, report),
        "lemmas.json": lambda: checks_text.compare_lookups(fixture, report, nltk),
        "optimizer_groups.json": lambda: checks_model.compare_groups(fixture, report),
        "scripted_decode.json": lambda: checks_model.compare_scripted(fixture, report),
        "file_names.json": lambda: checks_model.compare_file_names(fixture, report),
        "data": lambda: checks_text.compare_data(fixture, report),
    }
    for name, compare in parts.items():
        with report.part(name):
            compare()


def _parts(
    fixture: Fixture, report: Report, nltk: NLTKLemmatizer | None
) -> dict[str, Callable[[], Mapping[str, Tensor]]]:
    return {
        "batch and prompts": lambda: checks_text.batch_tensors(fixture, nltk),
        "forward pass": lambda: checks_model.model_tensors(fixture),
        "gradients": lambda: checks_model.gradients(fixture),
        "optimiser steps": lambda: checks_model.optimizer_steps(fixture),
        "decoding (identity)": lambda: checks_model.decode_tensors(fixture, report, "identity", recorded=False),
        "decoding (nltk)": lambda: checks_model.decode_tensors(fixture, report, "nltk", recorded=nltk is None),
        "filter": lambda: checks_model.filter_tensors(fixture),
        "clip": lambda: checks_model.clip_tensors(fixture),
        "preprocess": lambda: checks_model.preprocess_tensors(fixture),
    }


def _tolerance(name: str) -> tuple[float, float]:
    if name.endswith(EXACT):
        return 0.0, 0.0
    return next(((a, r) for start, a, r in TOLERANCES if name.startswith(start)), DEFAULT)


def _compare_outputs(fixture: Fixture, report: Report, computed: Mapping[str, Tensor]) -> None:
    for name, expected in fixture.outputs.items():
        if name in computed:
            report.tensor(name, computed[name], expected, *_tolerance(name))
        elif name != "clip/pixels":  # what the tower is given; its outputs are compared
            report.fail(name, "nothing recomputes this tensor")


def _compare_inputs(fixture: Fixture, report: Report, computed: Mapping[str, Tensor]) -> None:
    for name, given in fixture.inputs.peek().items():
        if name in computed:
            report.tensor(name, computed[name], given, *_tolerance(name))
        elif name.endswith("/image_prefix") and fixture.config.prefix_length == 0:
            report.skip(name, "no output depends on it: the model has no prefix")
        elif name not in fixture.inputs.used:
            report.fail(name, "no comparison uses this tensor")
        if name.startswith("batch/image_"):
            report.tensor(f"{name} (rows of a pair)", given[0::2], given[1::2], 0.0)


def _compare_coverage(fixture: Fixture, report: Report) -> None:
    """Every file of the folder took part."""
    present = {str(p.relative_to(fixture.folder)) for p in fixture.folder.rglob("*") if p.is_file()}
    for name in sorted(present - fixture.read_files):
        report.fail(name, "no comparison reads this file")


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
