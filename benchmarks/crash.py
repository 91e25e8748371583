"""Sixty kills at random moments of real work, each followed by the same command again: what is lost or doubled.

    python benchmarks/crash.py [--kills 60] [--seed 0] [--only 'run local,score']

A kill is a SIGKILL to a running `harness` process once it has changed the files that it works on a random number of
times (or, where it computes for long without writing, after a random time), so always in the middle of its work. After
the kills of one folder the command runs to its end, and what is in the folder is compared with that of a run that was
never disturbed: outcomes by id, kind, emotion, explanation and probabilities, results.json without its times, weights
by their tensors, reports byte for byte. The endpoint counts the requests that it got twice, which were under way at a
kill; the run's own count stands beside it (a request that was begun and never arrived is in that one only).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from crash_cases import Case, Found, Report, RunEndpoint, RunLocal, Score, differences
from crash_training import TrainLoRA, TrainSEVLM
from machine import machine, write_result

CASES = (RunLocal, RunEndpoint, TrainSEVLM, TrainLoRA, Score, Report)
POLL_S = 0.002
LONGEST_S = 120.0


def listing(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of all files below a folder: it changes whenever one of them does."""
    found = []
    for place, _, names in os.walk(folder):  # passes over folders that vanish meanwhile
        for path in (Path(place) / name for name in names):
            with contextlib.suppress(FileNotFoundError):  # renamed since it was listed
                stat = path.stat()
                found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """A `harness` process in a session of its own."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    environment["OPENAI_API_KEY"] = f"sk-of-folder-{folder.name}"  # by which the endpoint tells folders apart
    with (folder / "log.txt").open("ab") as log:
        whole = [sys.executable, "-m", "harness", *command]
        return subprocess.Popen(whole, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def killed(command: list[str], folder: Path, watched: Path, changes: int, wait_s: float) -> bool:
    """Start, kill after so many changes of the watched folder and a little more; False if it ended by itself first."""
    process = start(command, folder)
    seen, before = 0, listing(watched)
    deadline = time.monotonic() + LONGEST_S
    while seen < changes and process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError(f"no progress in {watched} for {LONGEST_S:g} s")
        now = listing(watched)
        seen, before = seen + (now != before), now
        time.sleep(POLL_S)
    time.sleep(wait_s)
    if process.poll() is None:
        process.kill()
    return process.wait() == -9


def complete(commands: list[list[str]], folder: Path) -> float:
    """Run to the end; seconds."""
    started = time.monotonic()
    for command in commands:
        if code := start(command, folder).wait():
            raise RuntimeError(f"{command}: exit code {code}\n{(folder / 'log.txt').read_text()[-3000:]}")
    return time.monotonic() - started


def tried(case: Case, kills: int, draw: random.Random, folder: Path) -> dict[str, Any]:
    """Kill a case so often, several times per folder, and compare each folder with the undisturbed one."""
    whole = folder / "whole"
    case.prepare(whole)
    seconds = complete([case.command(whole)], whole)
    expected = case.found(whole)
    report: dict[str, Any] = {"case": case.name, "kills": 0, "folders": 0, "lost": 0, "duplicated": 0}
    report |= {"files_or_values_that_differ": 0, "requests_sent_twice": 0}
    report |= {"requests_sent_twice_by_the_runs_own_count": 0, "undisturbed_s": round(seconds, 1)}
    while report["kills"] < kills:
        own = folder / str(report["folders"])
        case.prepare(own)
        for _ in range(min(case.kills_per_folder, kills - report["kills"])):
            changes, wait = draw.randint(1, case.changes), draw.uniform(0.0, case.longest_wait_s)
            if not case.ended(own):
                report["kills"] += killed(case.command(own), own, own / case.watched, changes, wait)
        complete([*([] if case.ended(own) else [case.command(own)]), *case.checks(own)], own)
        _add(report, case.found(own), expected)
        report["requests_sent_twice_by_the_runs_own_count"] += case.requests_counted(own)
        report["folders"] += 1
    report["requests_sent_twice"] = case.requests_sent_twice()
    return report


def _add(report: dict[str, Any], found: Found, expected: Found) -> None:
    report["lost"] += len(set(expected.ids) - set(found.ids))
    report["duplicated"] += len(found.ids) - len(set(found.ids))
    different = differences(found.content, expected.content)
    report["files_or_values_that_differ"] += len(different)
    for name in different[:5]:
        print(f"  differs: {name}", file=sys.stderr)


def main() -> None:
    """Run the cases, print the table, and write `results/crash.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [make.name for make in CASES]
    started, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="crash-") as place:
        for make in CASES:
            if make.name in wanted:
                with make() as case:
                    draw = random.Random(f"{options.seed} {case.name}")
                    rows.append(tried(case, round(case.share * options.kills), draw, Path(place) / case.name))
                print(rows[-1], file=sys.stderr, flush=True)
    totals = ["kills", "lost", "duplicated", "files_or_values_that_differ", "requests_sent_twice"]
    totals.append("requests_sent_twice_by_the_runs_own_count")
    total = {name: sum(row[name] for row in rows) for name in totals}
    result = {"cases": rows, "total": total, "wall_s": round(time.monotonic() - started), "machine": machine()}
    if options.only:
        print(json.dumps(result, indent=2))
    else:
        write_result("crash", result)


if __name__ == "__main__":
    main()
