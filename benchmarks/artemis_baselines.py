"""What people and baselines score on the development subset of ArtEmis, and how well texts' emotions can be read there.

    python benchmarks/artemis_baselines.py rows --work FOLDER
    python benchmarks/artemis_baselines.py classifiers --work FOLDER [--encoder PATH|HUB_ID] [--device D]
    python benchmarks/artemis_baselines.py report --work FOLDER

`rows` prepares the subset (`HARNESS_DEV_DATA`) twice: the paintings that have a picture, for all rows, and all
paintings with a grey square in place of each picture, for the rows that look at none. `classifiers` trains the three
strengths on all training utterances (a GPU makes minutes of the last two). `report` writes aggregates to
results/artemis_baselines.json. FOLDER holds texts and must lie outside the repository.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import machine, write_result
from PIL import Image

from harness.cli import main as harness
from harness.plan.registry import find_task
from harness.score.resources import train_text_emotion

DATA = Path(os.environ.get("HARNESS_DEV_DATA", Path(__file__).parents[2] / "shared" / "data")) / "artemis"
TABLE = DATA / "artemis_dataset_release_v0.csv"
PARTS = {"pictured": "human,crowd,majority,nearest", "all": "human,crowd,majority"}
SHOWN = (
    "accuracy", "accuracy_artemis", "annotator_mass", "macro_f1", "polarity_accuracy", "cross_entropy", "bleu_4",
    "meteor", "rouge_l", "cider_d", "emotional_alignment", "consistency", "vad_error_v", "vad_ccc_v", "unique",
)  # fmt: skip
PUBLISHED = "LSTM with GloVe vectors, 338,777 training utterances: 0.6335 (ArtEmis notebooks)"


def grey_pictures(folder: Path) -> Path:
    """A grey square for every painting of the table, named as its picture would be."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        names = {(row["art_style"], row["painting"]) for row in csv.DictReader(file)}
    for style, painting in names:
        path = folder / style / f"{painting}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.new("RGB", (16, 16), "grey").save(path)
    return folder


def call(*arguments: str) -> None:
    code = harness(arguments)
    if code:
        raise SystemExit(code)


def rows(work: Path) -> None:
    for part, models in PARTS.items():
        pictures = DATA / "images" if part == "pictured" else grey_pictures(work / "grey")
        root = str(work / part)
        if not (work / part / "artemis").is_dir():
            call(
                "data",
                "prepare",
                "artemis",
                "--annotations",
                str(TABLE),
                "--images",
                str(pictures),
                "--data-root",
                root,
            )
        out = str(work / f"run-{part}")
        call("run", "--tasks", "artemis", "--models", models, "--data-root", root, "--out", out, "--no-report",
             "--max-error-rate", "1")  # fmt: skip


def classifiers(work: Path, encoder: str | None, device: str | None, epochs: Sequence[int]) -> None:
    kinds: list[dict[str, Any]] = [{"kind": "tfidf"}, {"kind": "lstm", "epochs": epochs[0]}]
    if encoder:
        kinds.append({"kind": "encoder", "encoder": encoder, "epochs": epochs[1]})
    task, found = find_task("artemis"), []
    for settings in kinds:
        out = work / "classifiers" / settings["kind"]
        found.append(train_text_emotion(task, work / "all", out, settings, seed=0, device=device))
        print(settings["kind"], found[-1]["test_accuracy"], flush=True)
        record = [{k: v for k, v in one.items() if k not in ("labels", "version")} for one in found]
        (work / "classifiers.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def table(run: Path) -> list[dict[str, Any]]:
    """Overall cells of every row: on all references, and on what `human` and `crowd` leave."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    kept = ("model", "references", "metric", "value", "low", "high", "n", "signature")
    return [
        {key: cell[key] for key in kept}
        for cell in results["cells"]
        if cell["metric"] in SHOWN and cell["emotion"] is None and cell["slice"] is None and cell["value"] is not None
        and cell["references"] != "same_emotion"
    ]  # fmt: skip


def report(work: Path) -> None:
    values = {
        "machine": machine(),
        "data": "ArtEmis v1 development subset: 5,833 paintings, official split code; 2,284 have a picture",
        "rows": {part: table(work / f"run-{part}") for part in PARTS},
        "classifiers": json.loads((work / "classifiers.json").read_text(encoding="utf-8")),
        "published_classifier": PUBLISHED,
    }
    write_result("artemis_baselines", values)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("rows", "classifiers", "report"))
    parser.add_argument("--work", type=Path, required=True, help="folder outside the repository")
    parser.add_argument("--encoder", help="also fine-tune this encoder")
    parser.add_argument("--device")
    parser.add_argument("--epochs", type=int, nargs=2, default=(50, 3), metavar=("LSTM", "ENCODER"))
    given = parser.parse_args(arguments)
    if given.step == "rows":
        rows(given.work)
    elif given.step == "classifiers":
        classifiers(given.work, given.encoder, given.device, given.epochs)
    else:
        report(given.work)


if __name__ == "__main__":
    main()
