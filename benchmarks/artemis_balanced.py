"""Labels on `artemis-balanced`: people, baselines and SEVLM, where always saying contentment is right on one in eight.

    python benchmarks/artemis_balanced.py prepare --work FOLDER
    python benchmarks/artemis_balanced.py train --work FOLDER --lexicon FILE [--learn balanced] [--modes official]
    python benchmarks/artemis_balanced.py rows --work FOLDER --lexicon FILE [--learn balanced]
    python benchmarks/artemis_balanced.py report --work FOLDER

Models learn from the training split of the pictured ArtEmis paintings of the development data (`HARNESS_DEV_DATA`),
without those that are asked about. With `--learn balanced` it is the other way round: they learn from the balanced
paintings, four fifths for training and one for validation, and are asked about that training split of ArtEmis. `rows`
asks every model of `MODELS`, and SEVLM in the modes that `train` has finished, in runs of their own, and leaves out
what FOLDER holds. FOLDER must lie outside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from artemis_small import SIZES, TRAINED, TRAINING
from machine import machine, write_result

from harness.cli import main as harness
from harness.plan.contamination import image_key
from harness.plan.registry import find_task, open_reader
from harness.tasks.loading import builtin_cards

DATA = Path(os.environ.get("HARNESS_DEV_DATA", Path(__file__).parents[2] / "shared" / "data"))
TASK, SOURCE = "artemis-balanced", "artemis"
MODELS = ("human", "crowd", "majority", "nearest", "linear", "linear:meta=style,as=linear-style")
PEOPLE = ("human", "crowd")
SEED, VALIDATION_SHARE = 1, 0.2
SHOWN = ("accuracy", "macro_f1", "annotator_mass", "cross_entropy", "ece_shares", "polarity_accuracy")


class Way(NamedTuple):
    """What models learn from, and the split of a task that they are asked about; a card in FOLDER ends in .yaml."""

    learned: str
    asked: str
    split: str


WAYS = {
    "artemis": Way("artemis-rest.yaml", TASK, "test"),
    "balanced": Way("balanced-learned.yaml", "artemis-rest.yaml", "train"),
}


def call(*arguments: str) -> None:
    code = harness(arguments)
    if code:
        raise SystemExit(code)


def prepare(work: Path) -> None:
    """Both tasks, and cards of what is learned from: ArtEmis without the balanced paintings, and those."""
    parts = {
        TASK: (DATA / "artemis_dominant" / "test_ArtEmis.json", DATA / "artemis_dominant" / "images"),
        SOURCE: (DATA / "artemis" / "artemis_dataset_release_v0.csv", DATA / "artemis" / "images"),
    }
    for task, (table, images) in parts.items():
        if (work / task).is_dir():
            continue
        call("data", "prepare", task, "--annotations", str(table), "--images", str(images),
             "--data-root", str(work))  # fmt: skip
    asked = {image_key(example) for example in open_reader(find_task(TASK), work).examples("test")}
    reader = open_reader(find_task(SOURCE), work)
    splits = {split: list(reader.examples(split)) for split in ("train", "val", "test")}
    both = [example.id for examples in splits.values() for example in examples if image_key(example) in asked]
    (work / "tested.txt").write_text("".join(f"{name}\n" for name in both), encoding="utf-8")
    card = yaml.safe_load(builtin_cards()[SOURCE].read_text(encoding="utf-8"))
    card |= {"name": "artemis-rest", "options": card["options"] | {"folder": SOURCE, "leave_out": "tested.txt"}}
    (work / "artemis-rest.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    learned_from_balanced(work, *parts[TASK])
    left = len(splits["train"]) - sum(image_key(example) in asked for example in splits["train"])
    counts = {"asked_about": len(asked), "learned_from": left, "taken_out_of_all_splits": len(both)}
    (work / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


def learned_from_balanced(work: Path, table: Path, images: Path) -> None:
    """A card of the balanced paintings that has a training and a validation split, and its data."""
    records, chance = json.loads(table.read_text(encoding="utf-8")), random.Random(SEED)
    for record in records:
        record["split"] = "val" if chance.random() < VALIDATION_SHARE else "train"
    annotations, path = work / "balanced.json", work / WAYS["balanced"].learned
    annotations.write_text(json.dumps(records), encoding="utf-8")
    card = yaml.safe_load(builtin_cards()[TASK].read_text(encoding="utf-8"))
    columns = card["options"]["columns"] | {"split": "split"}
    card |= {"name": path.stem, "options": {"columns": columns, "unfold": card["options"]["unfold"]}}
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    call("data", "prepare", str(path), "--annotations", str(annotations), "--images", str(images),
         "--data-root", str(work))  # fmt: skip


def train(work: Path, lexicon: str, mode: str, learn: str) -> None:
    """SEVLM at the size of `artemis_small`, its settings as that benchmark has them by default."""
    settings = SIZES | TRAINING | TRAINED[mode] | {"feature_cache": str(work / "features"), "keep_best_by": "last"}
    pairs = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    call("train", "sevlm", "--task", str(work / WAYS[learn].learned), "--data-root", str(work), "--config", "small",
         "--lexicon", lexicon, "--out", str(work / "checkpoints" / learn / mode), *pairs)  # fmt: skip


def rows(work: Path, lexicon: str | None, learn: str) -> None:
    way = WAYS[learn]
    asked = str(work / way.asked) if way.asked.endswith(".yaml") else way.asked
    trained = [path.parent for path in sorted((work / "checkpoints" / learn).glob("*/training.json"))]
    for model in [*MODELS, *(f"sevlm:checkpoint={folder},as=sevlm-{folder.name}" for folder in trained)]:
        head, _, rest = model.partition(":")
        source = "" if model in PEOPLE else f"trained_on={work / way.learned}"
        spec = ":".join(filter(None, (head, ",".join(filter(None, (rest, source))))))
        out = work / "runs" / learn / (rest.rpartition("as=")[2] or head)
        given = [] if lexicon is None or head != "sevlm" else ["--lexicon", lexicon]
        call("run", "--tasks", asked, "--split", way.split, "--models", spec, "--data-root", str(work),
             "--out", str(out), "--no-report", "--max-error-rate", "1", *given)  # fmt: skip


def report(work: Path) -> None:
    kept = ("value", "low", "high", "n")
    found: dict[str, Any] = {learn: {} for learn in WAYS}
    for path in sorted((work / "runs").glob("*/*/results.json")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        overall = [c for c in cells if c["emotion"] is None and c["slice"] is None and c["value"] is not None]
        for cell in overall:
            if cell["metric"] in SHOWN and cell["references"] != "same_emotion":
                place = found[path.parts[-3]].setdefault(cell["model"], {}).setdefault(cell["references"], {})
                place[cell["metric"]] = {key: cell[key] for key in kept}
    counts = json.loads((work / "counts.json").read_text(encoding="utf-8"))
    write_result("artemis_balanced", {"machine": machine(), "paintings": counts, "learned_from": found})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "train", "rows", "report"))
    parser.add_argument("--work", type=Path, required=True, help="folder outside the repository")
    parser.add_argument("--lexicon")
    parser.add_argument("--modes", default="official,improved")
    parser.add_argument("--learn", choices=tuple(WAYS), default="artemis")
    given = parser.parse_args(arguments)
    if given.step == "prepare":
        prepare(given.work)
    elif given.step == "train":
        for mode in given.modes.split(","):
            train(given.work, given.lexicon, mode, given.learn)
    elif given.step == "rows":
        rows(given.work, given.lexicon, given.learn)
    else:
        report(given.work)


if __name__ == "__main__":
    main()
