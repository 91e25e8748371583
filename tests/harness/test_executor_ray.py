"""`--executor ray` on a cluster of two nodes on this machine: the same results, nothing lost, one loading per worker."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.cli import main

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="needs the extra [ray]")

ADAPTER = '''
import os, time, uuid
from pathlib import Path
from harness.adapters import LocalAdapter
from harness.types import Answer, UserError

class Grey(LocalAdapter):
    """Tells how bright a picture is; ends its process over `deadly`.

    Each loading is noted in the folder `loads`, and ends when `together` are noted there. After four pictures it waits
    for the file `gate`, for ever on the node that is named there.
    """
    name = "grey"

    def __init__(
        self, loads: str, gate: str = "", deadly: str = "", broken: bool = False, together: int = 0,
        device: str | None = None,
    ) -> None:
        self.loads, self.gate, self.deadly, self.broken = Path(loads), gate, deadly, broken
        self.together, self.answered = together, 0

    def fingerprint(self):
        return {"rule": "mean grey"}

    def load(self):
        if self.broken:
            raise UserError("grey: no such weights; type: grey:broken=false")
        (self.loads / uuid.uuid4().hex).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        with Path("pids").open("a") as pids:
            print(os.getpid(), file=pids)
        while len(list(self.loads.iterdir())) < self.together:
            time.sleep(0.02)

    def may_pass(self):
        import ray
        gate = Path(self.gate)
        return gate.exists() and gate.read_text() != ray.get_runtime_context().get_node_id()

    def parameters(self):
        return 3

    def predict(self, items):
        if any(item.id == self.deadly for item in items):
            os._exit(1)
        while self.gate and self.answered >= 4 and not self.may_pass():
            time.sleep(0.02)
        self.answered += len(items)
        light = [item.open().convert("L").resize((1, 1)).getpixel((0, 0)) for item in items]
        probs = [{"joy": one / 255, "fear": 1 - one / 255} for one in light]
        return [Answer("joy" if one > 99 else "fear", f"grey {one}", p) for one, p in zip(light, probs, strict=True)]
'''
PICTURES = 40
Lines = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    cluster.add_node(**small)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures, one of them broken, a few for training, and an adapter."""
    folder = tmp_path_factory.mktemp("forty")
    (folder / "grey.py").write_text(ADAPTER)
    lines = []
    for i in range(PICTURES + 4):
        Image.new("L", (8, 8), 5 * i).save(folder / f"{i}.png")
        said = [{"emotion": e, "explanation": f"{e} in {i} {k}"} for k, e in enumerate(("joy", "fear", "joy"))]
        split = "test" if i < PICTURES else "train"
        lines.append(json.dumps({"id": f"p{i}", "image": f"{i}.png", "split": split, "annotations": said}))
    (folder / "7.png").write_bytes(b"\x89PNG\r\n but no picture")
    (folder / "examples.jsonl").write_text("\n".join(lines))
    (folder / "forty.yaml").write_text(
        "name: forty\ndataset: jsonl\nemotions: [joy, fear]\noptions: {examples: examples.jsonl}\nmetrics: [accuracy]\n"
    )
    return folder


Run = Callable[..., int]


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`harness run` of some models, batches of two, in a folder of its own, where `loads` counts the loadings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loads").mkdir()

    def run(models: str, out: str, *more: str) -> int:
        command = ["run", "--tasks", str(folder / "forty.yaml"), "--models", models, "--out", out, "--batch-size", "2"]
        command += ["--adapter", f"grey={folder / 'grey.py'}:Grey", "--no-report", "--max-error-rate", "0.5"]
        return main([*command, *more])

    return run


def loadings() -> int:
    return len(list(Path("loads").iterdir()))


def lines_of(out: str, row: str = "grey") -> Lines:
    """Each id once, with what decides whether two runs are equal."""
    found = [json.loads(line) for line in Path(out, "outcomes", "forty", f"{row}.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in found}) == len(found)
    kept = ("kind", "emotion", "explanation", "emotion_probs", "held_out", "error")
    return {line["id"]: {key: line.get(key) for key in kept} for line in found}


def record_of(out: str, control: str | None = None) -> dict[str, Any]:
    runs = json.loads(Path(out, "manifest.json").read_text())["runs"]
    (record,) = [r for r in runs if r["model"] == "grey" and r["control"] == control]
    return dict(record)


def test_the_same_results_as_in_one_process_and_a_loading_per_worker(cluster: Any, run: Run) -> None:
    assert run("grey:loads=loads,majority,human", "here", "--controls", "shuffled") == 0
    assert loadings() == 2  # one per row
    models = "grey:loads=loads,together=4,majority,human"
    assert run(models, "there", "--controls", "shuffled", "--executor", "ray") == 0
    for row in ("grey", "grey@shuffled", "majority", "human"):
        assert lines_of("there", row) == lines_of("here", row)
        assert len(lines_of("there", row)) == PICTURES
    assert lines_of("there")["p7"]["error"]["type"] == "ImageError"
    placement = record_of("there", "shuffled")["placement"]
    assert placement == {"workers": 2, "lost": 0, "each": "1 CPU"}
    assert loadings() == 2 + 2  # two workers for five shards and again for the control's five
    assert (record_of("there")["executor"], record_of("there")["parameters"]) == ("ray", 3)


def test_a_node_that_dies_costs_nothing(cluster: Any, run: Run) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    outcomes, gate = Path("there", "outcomes", "forty", "grey.jsonl").absolute(), Path("gate").absolute()

    def kill() -> None:
        """Once each worker has answered its first shard of four and holds the next one."""
        while not outcomes.exists() or outcomes.read_bytes().count(b"\n") < 12:
            time.sleep(0.02)
        Path("named").write_text(node.node_id)
        cluster.remove_node(node, allow_graceful=False)
        Path("named").rename(gate)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    model = f"grey:loads=loads,gate={gate},together=3"
    assert run(model, "there", "--executor", "ray", "--batch-size", "1") == 0
    assert record_of("there")["placement"]["lost"] == 1
    assert loadings() == 3
    assert run("grey:loads=loads", "here") == 0
    assert lines_of("there") == lines_of("here")


def test_a_killed_worker_costs_nothing(cluster: Any, run: Run) -> None:
    outcomes, gate = Path("there", "outcomes", "forty", "grey.jsonl").absolute(), Path("gate").absolute()

    def kill() -> None:
        """Once both workers have answered a shard of four and hold the next one."""
        while not outcomes.exists() or outcomes.read_bytes().count(b"\n") < 8:
            time.sleep(0.02)
        os.kill(int(Path("pids").read_text().split()[0]), signal.SIGKILL)
        Path("named").write_text("none")
        Path("named").rename(gate)

    threading.Thread(target=kill, daemon=True).start()
    assert run(f"grey:loads=loads,gate={gate},together=2", "there", "--executor", "ray", "--batch-size", "1") == 0
    assert record_of("there")["placement"]["lost"] == 1
    assert run("grey:loads=loads", "here") == 0
    assert lines_of("there") == lines_of("here")


def test_only_what_is_missing_is_asked(cluster: Any, run: Run) -> None:
    assert run("grey:loads=loads", "both", "--limit", "11") == 0
    assert run("grey:loads=loads", "both", "--executor", "ray") == 0
    assert len(lines_of("both")) == PICTURES
    record = record_of("both")
    assert (record["asked"], record["executor"]) == (PICTURES, "ray")
    before = loadings()
    assert run("grey:loads=loads", "both", "--executor", "ray") == 0
    assert loadings() == before


def test_a_picture_that_ends_its_workers_fails_with_its_shard(cluster: Any, run: Run) -> None:
    assert run("grey:loads=loads,deadly=p9", "there", "--executor", "ray") == 0
    found = lines_of("there")
    assert len(found) == PICTURES
    lost = [line["error"] for line in found.values() if line["error"] and line["error"]["type"] == "WorkerLost"]
    assert found["p9"]["error"] == lost[0]
    assert len(lost) == 8  # a shard: four batches of two
    assert lost[0]["message"].startswith("3 workers were lost over these images: ")


def test_each_gpu_of_a_machine_gets_a_worker(cluster: Any, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The node only says that it has two: which one a worker may see is what counts here."""
    node = cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=80 * 2**20)
    try:
        assert run("grey:loads=loads,together=2", "there", "--executor", "ray") == 0
        assert record_of("there")["placement"] == {"workers": 2, "lost": 0, "each": "1 GPU"}
        assert sorted(note.read_text() for note in Path("loads").iterdir()) == ["0", "1"]
        assert len(lines_of("there")) == PICTURES
        assert run("grey:loads=loads,device=cuda:1", "other", "--executor", "ray") == 2
        assert (
            capsys.readouterr().err.splitlines()[-1].endswith("each worker has one GPU of its own; use --device cuda")
        )
    finally:
        cluster.remove_node(node)


def test_what_the_user_can_fix_is_one_line(cluster: Any, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("grey:loads=loads,broken=true", "there", "--executor", "ray") == 2
    assert capsys.readouterr().err.splitlines()[-1] == "harness: grey: no such weights; type: grey:broken=false"
