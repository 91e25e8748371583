"""The tables of docs/results-at-hand.md, from the official files to the numbers.

    python benchmarks/results_at_hand.py --work FOLDER [--findingemo annotations_single.ann]

Prepares, trains, runs and scores with the `harness` command alone what the development data (`HARNESS_DEV_DATA`) hold,
prints one Markdown table per task and writes the same numbers to results/results_at_hand.json. What FOLDER already
holds is not made again, so an interrupted call goes on; about half an hour on two CPU cores, most of it SEVLM on
ArtEmis. FindingEmo's file comes from `pip download findingemo-light`; without it that table is left out. FOLDER holds
texts of the data and must lie outside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from machine import machine, write_result

from harness.tasks.loading import builtin_cards

DATA = Path(os.environ.get("HARNESS_DEV_DATA", Path(__file__).parents[2] / "shared" / "data")).resolve()
ANNOTATIONS = {
    "artemis": "artemis/artemis_dataset_release_v0.csv",
    "dvisa": "dvisa/D-ViSA.csv",
    "oasis": "oasis/OASIS.csv",
}
IMAGES = {"artemis": "artemis/images", "dvisa": "artemis/images", "oasis": "oasis/images"}
LEXICONS = {
    "artemis": "glasgow_norms/13428_2018_1099_MOESM2_ESM.csv",
    "dvisa": "warriner2013/Ratings_Warriner_et_al.csv",
    "oasis": "warriner2013/Ratings_Warriner_et_al.csv",
}
TRAININGS = {
    "artemis": ("epochs=12",),
    "dvisa": ("epochs=40", "warmup_steps=20", "patience=40"),
    "oasis": ("epochs=60", "warmup_steps=20", "patience=60"),
}
TRANSFER = "nearest:trained_on=artemis,overlap=allow,sevlm:trained_on=artemis,overlap=allow"
LABELS, TEXTS = ("accuracy", "macro_f1", "annotator_mass"), ("bleu_4", "meteor", "rouge_l", "cider_d")
AFFECT = ("emotional_alignment", "consistency")
PLAIN = ("cider_d", "ccc_", "pearson_", "rmse_")
"""Metrics that are not fractions, by the beginning of their names."""


@dataclass(frozen=True)
class Table:
    """One table: a task of a run, its rows and columns."""

    name: str
    run: str
    task: str
    metrics: Sequence[str]


def agreement(*dimensions: str) -> tuple[str, ...]:
    """Metrics of ratings."""
    return tuple(f"{kind}_{one}" for kind in ("ccc", "pearson", "rmse") for one in dimensions)


TABLES = (
    Table("ArtEmis v1 subset", "artemis", "artemis", LABELS + TEXTS + AFFECT),
    Table("D-ViSA", "labels", "dvisa", LABELS[:2] + agreement("valence", "arousal", "dominance")),
    Table("OASIS", "labels", "oasis", LABELS[:2] + agreement("valence", "arousal")),
    Table("FindingEmo", "findingemo", "findingemo", LABELS[:2] + agreement("valence", "arousal")),
    Table("Transfer to D-ViSA", "transfer", "dvisa", LABELS[:2] + agreement("valence")),
    Table("Transfer to OASIS", "transfer", "oasis", LABELS[:2] + agreement("valence")),
)


class Maker:
    """Runs `harness` commands in one work folder.

    Args:
        work: where everything is kept.
        findingemo: FindingEmo's annotations, or None.
    """

    def __init__(self, work: Path, findingemo: Path | None) -> None:
        self.work, self.findingemo = work, findingemo

    def make(self) -> None:
        """Whatever is not there yet."""
        for task in ANNOTATIONS:
            self.prepare(task, DATA / ANNOTATIONS[task], DATA / IMAGES[task])
            if not (self.root / task / "checkpoints" / "sevlm" / "model.safetensors").exists():
                chosen = ("--config", "small", "--lexicon", str(DATA / LEXICONS[task]))
                self.harness("train", "sevlm", *TRAININGS[task], "--task", task, *chosen)
        lexicon = ("--lexicon", str(DATA / LEXICONS["artemis"]))
        self.run("artemis", "artemis", "majority,nearest,human,sevlm", *lexicon)
        self.run("labels", "dvisa,oasis", "majority,nearest,sevlm")
        self.run("transfer", "dvisa,oasis", TRANSFER, *lexicon)
        if self.findingemo is not None:
            card = self.card_without_pictures()
            self.prepare("findingemo", self.findingemo, self.work, str(card))
            self.run("findingemo", str(card), "majority")

    @property
    def root(self) -> Path:
        """The data root."""
        return self.work / "data"

    def prepare(self, name: str, annotations: Path, images: Path, task: str | None = None) -> None:
        """Prepare a task under the data root."""
        if not (self.root / name / "prepared.json").exists():
            self.harness("data", "prepare", task or name, "--annotations", str(annotations), "--images", str(images))

    def run(self, name: str, tasks: str, models: str, *more: str) -> None:
        """Run and score; a finished run is scored again, so that the numbers are this version's."""
        out = self.work / "runs" / name
        self.harness("run", "--tasks", tasks, "--models", models, "--out", str(out), *more)
        self.harness("score", str(out))

    def harness(self, *words: str) -> None:
        """One command, one thread per process as in the document."""
        environment = os.environ | {"HARNESS_DATA": str(self.root), "OMP_NUM_THREADS": "1"}
        print("$ harness", *words, file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "harness", *words], env=environment, check=True, stdout=sys.stderr)

    def card_without_pictures(self) -> Path:
        """FindingEmo's own card, for labels alone: its pictures are links and not at hand."""
        content = yaml.safe_load(builtin_cards()["findingemo"].read_text("utf-8"))
        content["options"] = content.get("options", {}) | {"without_pictures": True}
        path = self.work / "findingemo.yaml"
        path.write_text(yaml.safe_dump(content), "utf-8")
        return path


def rows_of(results: dict[str, Any], table: Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model with its cells by metric; a person's are those on the remaining references."""
    found: dict[str, dict[str, Any]] = {}
    for wanted in ("all", "leave_one_out"):
        for cell in results["cells"]:
            is_overall = cell["emotion"] is None and cell["slice"] is None and cell["control"] is None
            if cell["task"] == table.task and cell["references"] == wanted and is_overall:
                found.setdefault(cell["model"], {}).setdefault(cell["metric"], cell)
    yield from found.items()


def shown(metric: str, cell: dict[str, Any] | None) -> str:
    """A value with its interval and n, or a dash."""
    if cell is None or cell["value"] is None:
        return "–"
    scale, decimals = (1, 2 if metric == "cider_d" else 3) if metric.startswith(PLAIN) else (100, 1)
    numbers = [cell[key] for key in ("value", "low", "high")]
    value, *ends = (None if number is None else f"{scale * number:.{decimals}f}" for number in numbers)
    interval = f" [{ends[0]}, {ends[1]}]" if None not in ends else ""
    return f"{value}{interval}, n {cell['n']}"


def main() -> None:
    """Make what is missing, print the tables, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--findingemo", type=Path, help="annotations_single.ann")
    arguments = parser.parse_args()
    maker = Maker(arguments.work.resolve(), arguments.findingemo)
    maker.work.mkdir(parents=True, exist_ok=True)
    maker.make()
    kept: dict[str, Any] = {}
    for table in TABLES:
        path = maker.work / "runs" / table.run / "results.json"
        if not path.exists():
            continue
        print(f"\n## {table.name}\n\n| row | {' | '.join(table.metrics)} |\n|{'---|' * (len(table.metrics) + 1)}")
        for model, cells in rows_of(json.loads(path.read_text("utf-8")), table):
            print(f"| {model} | {' | '.join(shown(metric, cells.get(metric)) for metric in table.metrics)} |")
            kept.setdefault(table.name, {})[model] = {m: shown(m, cells[m]) for m in table.metrics if m in cells}
    write_result("results_at_hand", {"machine": machine(), "tables": kept})


if __name__ == "__main__":
    main()
