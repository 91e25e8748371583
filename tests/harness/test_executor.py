"""Choosing where local models compute, and what `harness run` keeps of its examples."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store.outcomes import Recorded
from harness.types import Answer, Failed, Outcome

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


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


COUNTING = """
import gc
from pathlib import Path
from harness.api import prepare
from harness.infer.run import run_inference
from harness.types import Annotation, Example, Item
from scale import Cheap, make_dataset

class Counting(Cheap):
    def predict(self, items):
        kinds = [type(one) for one in gc.get_objects()]
        print(*(kinds.count(kind) for kind in (Example, Item, Annotation)))
        return super().predict(items)

if __name__ == "__main__":
    card = make_dataset(Path("data"), 1_500)
    own = {"adapters": [f"counting={__file__}:Counting"], "batch_size": 50}
    run_inference(*prepare(str(card), "counting", out=Path("run"), data_root=Path("root"), **own))
"""


@pytest.mark.slow
def test_asking_holds_no_example(tmp_path):
    """The objects are counted, not the memory of the process: an allocator keeps pages as it likes."""
    (tmp_path / "counting.py").write_text(COUNTING)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *sys.path])}
    command = [sys.executable, "counting.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    held = [[int(count) for count in line.split()] for line in done.stdout.splitlines()]
    assert len(held) == 1_500 / 50
    most_examples, most_items, most_annotations = (max(counts) for counts in zip(*held, strict=True))
    assert max(most_examples, most_items) <= 300
    assert most_annotations <= 300 * 5


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
