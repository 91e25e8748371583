"""Every hostile file ends in one line and exit code 2: no crash, no hang, no file written outside, no gigabytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hostile_files import corpus, prepare
from peak_memory import GIGABYTE_KIB, PEAK_KIB

pytestmark = pytest.mark.slow

SECONDS = 60.0
READ_ALL = f"""
import contextlib, io, json, os, resource, signal, sys, time
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from harness.cli import main
for line in sys.stdin:
    folder, command = json.loads(line)
    os.chdir(folder)
    said, started = io.StringIO(), time.monotonic()
    signal.alarm(120)  # ends this process if a case hangs
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(command)
    print(json.dumps([code, said.getvalue(), time.monotonic() - started]), flush=True)
print({PEAK_KIB})
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """Case -> (exit code, what was said, seconds, files written), and the memory, KiB, that all of them took in one process."""
    cases = corpus()
    assert len({case.name for case in cases}) == len(cases) >= 40
    root = tmp_path_factory.mktemp("hostile")
    folders = {case.name: root / str(number) for number, case in enumerate(cases)}
    for case in cases:
        prepare(case, folders[case.name])
    before = set(root.rglob("*"))
    asked = "".join(json.dumps([str(folders[case.name]), case.command]) + "\n" for case in cases)
    (root / "asked").write_text(asked)
    with (root / "asked").open() as stdin, (root / "told").open("wb") as stdout, (root / "err").open("wb") as stderr:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "BROWSER": "false"}
        subprocess.run([sys.executable, "-c", READ_ALL], stdin=stdin, stdout=stdout, stderr=stderr, env=environment)
    *told, peak_kib = [json.loads(line) for line in (root / "told").read_text().splitlines()]
    assert len(told) == len(cases), (cases[len(told)].name, (root / "err").read_text()[-2000:])
    written = set(root.rglob("*")) - before - {root / name for name in ("asked", "told", "err")}
    where = {case.name: [str(p) for p in written if p.is_relative_to(folders[case.name])] for case in cases}
    assert sum(map(len, where.values())) == len(written), "something was written outside"
    return {case.name: [*answer, where[case.name]] for case, answer in zip(cases, told, strict=True)}, peak_kib


def test_each_ends_in_one_line(ended: tuple[dict[str, Any], int]) -> None:
    wrong = {}
    for name, (code, said, seconds, _) in ended[0].items():
        lines = said.strip().splitlines()
        fails = name.startswith("doctor: ") and code == 1  # findings, on stdout
        if not fails and (code != 2 or not lines or "Traceback" in said or not lines[-1].startswith("harness: ")):
            wrong[name] = (code, said[-600:])
        elif len(lines[-1:]) and len(lines[-1]) > 1500:
            wrong[name] = ("long", len(lines[-1]))
        elif seconds > SECONDS:
            wrong[name] = ("slow", seconds)
    assert not wrong, json.dumps(wrong, indent=1)


def test_nothing_runs_and_little_is_written(ended: tuple[dict[str, Any], int]) -> None:
    for name, (_, _, _, written) in ended[0].items():
        assert not any(path.endswith("/written") for path in written), name


def test_memory(ended: tuple[dict[str, Any], int]) -> None:
    assert ended[1] < GIGABYTE_KIB
