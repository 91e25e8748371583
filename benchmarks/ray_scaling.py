"""How much faster several workers of `--executor ray` are than one, with a model that only waits.

    python benchmarks/ray_scaling.py [--pictures 960] [--seconds 0.05] [--workers 1,2,4]

Each number of workers is a cluster of its own on this machine that claims so many cores; the model sleeps, so that the
machine's real cores do not limit it and what remains is the harness: handing out, recording, starting workers. `wall_s`
is the asking of one row from the first question to the last outcome; `whole_s` adds the loading of the first worker.
Efficiency is the speed per worker against one worker's. `local` is the same without Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from machine import machine, write_result

from harness.adapters import LocalAdapter
from harness.types import Answer, Item, Outcome

BATCH = 8


class Sleeps(LocalAdapter):
    """Waits for each picture."""

    name = "sleeps"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def fingerprint(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        time.sleep(self.seconds * len(items))
        return [Answer("joy", f"{item.id} shines") for item in items]


def make_dataset(folder: Path, pictures: int) -> Path:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(folder / "one.png")
    said = [{"emotion": "joy", "explanation": "it shines"}]
    lines = (json.dumps({"id": f"p{i}", "image": "one.png", "annotations": said}) for i in range(pictures))
    (folder / "examples.jsonl").write_text("\n".join(lines))
    (folder / "waits.yaml").write_text(
        "name: waits\ndataset: jsonl\nemotions: [joy, fear]\noptions: {examples: examples.jsonl}\n"
    )
    return folder / "waits.yaml"


def asked(card: Path, out: Path, seconds: float, executor: Literal["local", "ray"]) -> dict[str, Any]:
    """Ask about everything; what the manifest says of it."""
    from harness.api import prepare
    from harness.infer.run import run_inference

    model = [f"sleeps={__file__}:Sleeps"]
    run = prepare(str(card), f"sleeps:seconds={seconds}", out=out, adapters=model, batch_size=BATCH, executor=executor)
    started = time.perf_counter()
    run_inference(*run)
    whole = time.perf_counter() - started
    (record,) = run.folder.manifest()["runs"]
    return {"wall_s": record["wall_s"], "whole_s": round(whole, 2)} | (record["placement"] or {})


def on_cluster(workers: int, card: Path, out: Path, seconds: float) -> dict[str, Any]:
    import ray

    ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    try:
        return asked(card, out, seconds, "ray")
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=960)
    parser.add_argument("--seconds", type=float, default=0.05, help="per picture")
    parser.add_argument("--workers", default="1,2,4")
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        card = make_dataset(folder, given.pictures)
        found: dict[str, Any] = {"local": asked(card, folder / "local", given.seconds, "local")}
        for count in map(int, given.workers.split(",")):
            found[str(count)] = on_cluster(count, card, folder / f"ray-{count}", given.seconds)
    one = found[given.workers.split(",")[0]]["wall_s"]
    for count in map(int, given.workers.split(",")):
        speed = one / found[str(count)]["wall_s"]
        found[str(count)] |= {"times_one_worker": round(speed, 2), "efficiency": round(speed / count, 3)}
    ideal = given.pictures * given.seconds
    shape = {"pictures": given.pictures, "seconds_per_picture": given.seconds, "batch": BATCH, "ideal_s_alone": ideal}
    write_result("ray_scaling", {"machine": machine(), **shape, "workers": found})


if __name__ == "__main__":
    main()
