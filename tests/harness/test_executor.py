"""Choosing where local models compute, and what `harness run` holds in memory."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from harness.store.outcomes import Recorded
from harness.types import Answer, Failed, Outcome


def test_without_the_package_ray_is_refused_in_one_line(harness, dataset, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = harness(
        "run", "--tasks", dataset / "tiny.yaml", "--models", "majority", "--executor", "ray", "--out", "out"
    )
    expected = "harness: --executor ray needs the package ray; type: pip install 'sevlm-harness[ray]'\n"
    assert (code, err) == (2, expected)
    assert not (tmp_path / "out").exists()


def test_an_unknown_executor_is_refused(harness, dataset, tmp_path):
    code, _, err = harness("run", "--tasks", dataset / "tiny.yaml", "--models", "majority", "--executor", "slurm")
    assert (code, err) == (2, "harness: --executor slurm: expected one of local, ray\n")


def test_an_address_without_a_cluster_is_refused(harness, dataset, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra [ray]")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        code, _, err = harness("run", "--tasks", dataset / "tiny.yaml", "--models", "majority", "--executor", "ray")
    assert code == 2
    assert err.splitlines()[-1].startswith(f"harness: --executor ray: nothing answers at RAY_ADDRESS={address}")


@pytest.mark.slow
def test_asking_holds_no_example(tmp_path, monkeypatch):
    """Holding them took 7 kB each: 17 MB for the larger run."""
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(benchmarks)
    peaks = []
    for examples in (100, 2_500):
        folder = tmp_path / str(examples)
        import_module("scale").make_dataset(folder / "data", examples)
        command = [sys.executable, benchmarks / "scale.py", "--part", "run", "--folder", folder]
        done = subprocess.run(command, capture_output=True, check=True)
        peaks.append(json.loads(done.stdout.splitlines()[-1])["peak_mb"])
        assert (folder / "run/outcomes/scale/cheap.jsonl").read_bytes().count(b"\n") == examples
    assert peaks[1] - peaks[0] < 6


def test_the_last_outcome_of_an_example_counts():
    draw = random.Random(4)
    kinds: list[Outcome] = [Answer("joy", "x"), Failed("Error", "y")]
    lines = [(f"p{draw.randrange(40)}", draw.choice(kinds)) for _ in range(150)]
    last = dict(lines)
    recorded, selected = Recorded(iter(lines)), {f"p{i}" for i in range(60)}
    failed = {i for i, outcome in last.items() if isinstance(outcome, Failed)}
    assert (len(recorded), len(recorded.failed)) == (len(last), len(failed))
    for retry, expected in ((False, set()), (True, failed)):
        assert recorded.to_ask(selected, retry_failed=retry) == selected - last.keys() | expected
