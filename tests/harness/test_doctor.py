"""`harness doctor RUN` finds whatever was done to a run folder, and nothing in one that was left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store.run_folder import changes, write_checksums

Damage = Callable[[Path], None]


@pytest.fixture
def run(harness, dataset: Path, adapter_file: Path, tmp_path: Path) -> Path:
    words = ["run", "--tasks", dataset / "tiny.yaml", "--adapter", f"brightness={adapter_file}:Brightness"]
    assert harness(*words, "--models", "brightness,majority", "--out", "out")[0] == 0
    return tmp_path / "out"


def lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrite a file's lines and keep its time, as a bad disk would."""
    before = path.stat()
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def in_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


OUTCOMES = "outcomes/tiny/brightness.jsonl"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "corrupt": (
        lambda run: lines(run / OUTCOMES, lambda all: [*all[:2], '{"id": 7}\n', *all[3:]]),
        "line 3 is corrupt",
    ),
    "torn": (lambda run: lines(run / OUTCOMES, lambda all: [*all, '{"id": "p1", "ki']), "unfinished (16 bytes)"),
    "twice": (lambda run: lines(run / OUTCOMES, lambda all: [*all, all[0]]), 'twice or more ("p1")'),
    "unknown": (lambda run: lines(run / OUTCOMES, lambda all: [*all, all[0].replace("p1", "q")]), '1 unknown ("q")'),
    "changed": (
        lambda run: lines(run / OUTCOMES, lambda all: [all[0].replace("fear", "calm"), *all[1:]]),
        "brightness.jsonl: is not what the last command left",
    ),
    "example": (lambda run: lines(run / "examples/tiny.jsonl", lambda all: all[1:]), "7 examples; the manifest says 8"),
    "gone": (lambda run: (run / "examples/tiny.jsonl").unlink(), "tiny.jsonl is gone"),
    "row": (lambda run: (run / OUTCOMES).unlink(), "tiny/brightness: no outcomes"),
    "scores": (lambda run: in_json(run / "results.json", cells=[]), "results.json: is shorter than it was"),
    "no scores": (lambda run: (run / "results.json").unlink(), "not scored yet; type: harness score"),
    "identity": (lambda run: in_json(run / "manifest.json", identity_of={}), "the identity is not that of"),
    "report": (lambda run: (run / "report/index.html").write_text(""), "report/index.html: is shorter than it was"),
    "checksums": (lambda run: (run / "checksums.json").write_text("[]"), "checksums.json: cannot be read"),
}


def test_an_untouched_run_is_whole(run: Path, harness) -> None:
    code, out, _ = harness("doctor", "out")
    assert (code, "FAIL" in out) == (0, False)
    assert "checksums: every file is as the last command left it" in out
    before = (run / "checksums.json").read_bytes()
    assert harness("score", "out", "--no-report")[0] == 0
    assert harness("report", "out")[0] == harness("doctor", "out")[0] == 0
    assert (run / "checksums.json").read_bytes() == before


def test_each_damage_is_named(run: Path, harness, tmp_path: Path) -> None:
    for name, (damage, says) in DAMAGES.items():
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(run, tmp_path / "copy")
        damage(tmp_path / "copy")
        code, out, err = harness("doctor", "copy")
        assert (code, err) == (1, ""), name
        assert any(line.startswith("FAIL") and says in line for line in out.splitlines()), (name, out)


@pytest.mark.slow
def test_a_folder_that_is_worked_in_is_not_judged(run: Path, harness) -> None:
    hold = "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold, run / ".lock"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        code, out, _ = harness("doctor", "out")
        assert (code, "works in this folder now" in out) == (1, True)
        code, _, err = harness("score", "out")
        assert (code, "another harness process" in err, err.count("\n")) == (2, True, 1)
    finally:
        holder.kill()
        holder.wait()


def test_an_interrupted_run_was_only_continued(run: Path, harness, dataset: Path) -> None:
    """Outcomes that a killed command appended are whole, though it wrote no checksums."""
    whole = (run / OUTCOMES).read_text().splitlines(keepends=True)
    (run / OUTCOMES).write_text("".join(whole[:5]))
    write_checksums(run)
    (run / OUTCOMES).write_text("".join(whole))
    assert list(changes(run)) == []
