"""Memory and time of asking, scoring and reporting as a run grows.

    python benchmarks/scale.py [--sizes 1000,10000,100000] [--all-metrics 100000] [--out benchmarks/results/scale.json]

Made-up examples with five annotations each over twenty small pictures, a training split of 1,000, and one model that
opens every picture and answers with a sentence and probabilities. Each step is a process of its own, whose peak memory
is its own: `run` asks about everything, `again` is the same command when everything is answered, `score` computes nine
cheap metrics with intervals, `report` builds the page; `all metrics` is `score` with every offline metric. On a busy
machine processor seconds (of Python alone) compare better than those of the clock. `scale_plot.py` draws the result.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import RESULTS, machine
from scoring import EMOTIONS, sentences

from harness.adapters import LocalAdapter
from harness.types import Answer, Item, Outcome

ANNOTATIONS, PICTURES, TRAINING = 5, 20, 1_000
METRICS = ("accuracy", "annotator_mass", "macro_f1", "polarity_accuracy", "cross_entropy", "brier", "ece", "unique",
           "mean_length")  # fmt: skip
STEPS = ("run", "again", "score", "report")


class Cheap(LocalAdapter):
    """Opens the picture; label, probabilities and sentence are drawn by the id."""

    name = "cheap"

    def __init__(self) -> None:
        self._say = sentences(3)

    def fingerprint(self) -> dict[str, Any]:
        return {"rule": "drawn by the id"}

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        return [self._answer(item) for item in items]

    def _answer(self, item: Item) -> Answer:
        item.open()
        weights = [random.Random(f"{item.id} {label}").random() ** 2 for label in item.labels]
        probs = {label: w / sum(weights) for label, w in zip(item.labels, weights, strict=True)}
        emotion, text = max(probs, key=lambda label: probs[label]), self._say()
        return Answer(emotion, text, probs, raw=f"{emotion} because {text}")


def make_dataset(folder: Path, n: int) -> Path:
    """An examples file with its pictures and card; the card's path."""
    from PIL import Image

    folder.mkdir(parents=True)
    for i in range(PICTURES):
        Image.new("RGB", (32, 24), (12 * i, 90, 160)).save(folder / f"{i}.jpg")
    say, chance = sentences(1), random.Random(2)
    with (folder / "examples.jsonl").open("w", encoding="utf-8") as file:
        for i in range(n + TRAINING):
            likely = chance.choice(EMOTIONS)
            votes = [likely if chance.random() < 0.55 else chance.choice(EMOTIONS) for _ in range(ANNOTATIONS)]
            said = [{"emotion": vote, "explanation": say()} for vote in votes]
            meta = {"style": f"style {i % 27}", "artist": f"artist {i % 750}"}
            example = {"id": f"style_{i % 27}/painting-{i}", "image": f"{i % PICTURES}.jpg", "meta": meta}
            labelled = {"split": "test" if i < n else "train", "annotations": said}
            file.write(json.dumps(example | labelled) + "\n")
    polarity = ", ".join(f"{e}: {'positive' if i < 4 else 'negative'}" for i, e in enumerate(EMOTIONS))
    (folder / "scale.yaml").write_text(
        f"name: scale\ndataset: jsonl\nemotions: [{', '.join(EMOTIONS)}]\npolarity: {{{polarity}}}\n"
        f"options: {{examples: examples.jsonl}}\nmetrics: [{', '.join(METRICS)}]\n"
    )
    return folder / "scale.yaml"


def ask(folder: Path) -> None:
    """What `harness run` does before it scores."""
    from harness.api import prepare
    from harness.infer.run import run_inference

    card, model = str(folder / "data" / "scale.yaml"), [f"cheap={__file__}:Cheap"]
    out, root = folder / "run", folder / "root"
    run_inference(*prepare(card, "cheap", adapters=model, batch_size=32, out=out, data_root=root))


def score(folder: Path) -> None:
    """What `harness score` does."""
    from harness.score.results import score_run
    from harness.store.run_folder import RunFolder

    run = RunFolder.open(folder / "run")
    run.save_results(score_run(run, root=folder / "root"))


def score_everything(folder: Path) -> None:
    """The same with every metric that applies and can be had offline."""
    from harness.score.results import score_run
    from harness.store.run_folder import RunFolder

    run = RunFolder.open(folder / "run")
    manifest = run.manifest()
    run.save_manifest({**manifest, "tasks": [{**task, "metrics": None} for task in manifest["tasks"]]})
    score_run(run, root=folder / "root")
    run.save_manifest(manifest)


def report(folder: Path) -> None:
    """What `harness report` does."""
    from harness.reports.build import build_report
    from harness.store.run_folder import RunFolder

    build_report([RunFolder.open(folder / "run")], folder / "report")


PARTS: Mapping[str, Callable[[Path], None]] = {
    "run": ask,
    "again": ask,
    "score": score,
    "report": report,
    "all metrics": score_everything,
}


def used(part: str, folder: Path) -> dict[str, float]:
    """Seconds by the clock and of the processors, and peak resident memory (10^6 bytes) of a step, in this process."""
    started = time.perf_counter()
    PARTS[part](folder)
    seconds = time.perf_counter() - started
    # getrusage would count what the process had before it became this program, a copy of the one that started it
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"s": round(seconds, 2), "cpu_s": round(time.process_time(), 2), "peak_mb": round(peak_kib * 1024 / 1e6, 1)}


def apart(part: str, folder: Path) -> dict[str, float]:
    """A step in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: dict[str, float] = json.loads(done.stdout.decode().splitlines()[-1])
    print(part, found, flush=True)
    return found


def measured(n: int, *, all_metrics: bool) -> dict[str, Any]:
    """Every step over n examples, and the bytes that they leave per example."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_dataset(folder / "data", n)
        found: dict[str, Any] = {step: apart(step, folder) for step in STEPS}
        if all_metrics:
            found["all metrics"] = apart("all metrics", folder)
        files = {
            "snapshot": folder / "run" / "examples",
            "outcomes": folder / "run" / "outcomes",
            "report": folder / "report",
        }
        sizes = {name: sum(p.stat().st_size for p in at.rglob("*") if p.is_file()) for name, at in files.items()}
        return found | {"bytes_per_example": {name: round(size / n, 1) for name, size in sizes.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of examples")
    parser.add_argument("--all-metrics", type=int, default=100_000, help="the size that is also scored by all metrics")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.json")
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(used(given.part, given.folder)))
        return
    sizes = [int(size) for size in given.sizes.split(",")]
    values: dict[str, Any] = {"machine": machine(), "annotations": ANNOTATIONS, "models": 1, "metrics": METRICS}
    values["examples"] = {str(n): measured(n, all_metrics=n == given.all_metrics) for n in sizes}
    given.out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
