"""What an interrupted training needs to go on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from sevlm.errors import SEVLMError
from sevlm.model import SEVLM
from sevlm.optimization import AdamW

STATE_FILE = "training_state.pt"
LOG_FILE = "training_log.jsonl"
SUMMARY_FILE = "training.json"


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch, batch: the next batch to train on.
        update: optimiser updates so far.
        best: best value so far of each score.
        best_update: update whose weights are kept; the folder `best-<update>` holds them.
        stale: evaluations since the last gain.
        seconds: wall time so far, over all sittings.
        evaluations: all evaluations so far.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_update: int | None = None
    stale: int = 0
    seconds: float = 0.0
    evaluations: list[dict[str, float]] = field(default_factory=list)


class Checkpointer:
    """Writes and reads the state of one training in its output folder.

    Everything is written aside and renamed. Weights of a better evaluation go to a folder of their own first; the state
    that names it comes next; older folders go last. So each moment leaves one consistent pair on disk.

    Args:
        out: the output folder.
        identity: what the training computes (recipe, data, lexicon); a state of another identity is refused.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.out = out
        self.identity = json.loads(json.dumps(identity))
        out.mkdir(parents=True, exist_ok=True)

    def save_best(self, model: SEVLM, update: int) -> None:
        """Write the model's folder `best-<update>`."""
        aside, folder = self.out / f"best-{update}.part", self.best_folder(update)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(aside)
        os.replace(aside, folder)

    def best_folder(self, update: int) -> Path:
        """Where the weights of an update are kept."""
        return self.out / f"best-{update}"

    def save(self, progress: Progress, model: SEVLM, optimizer: AdamW, schedule: LRScheduler) -> None:
        """Write the state, then drop the weights that it no longer names."""
        state = {
            "identity": self.identity,
            "progress": asdict(progress),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        aside = self.out / f"{STATE_FILE}.part"
        torch.save(state, aside)
        os.replace(aside, self.out / STATE_FILE)
        for folder in self.out.glob("best-*"):
            if progress.best_update is None or folder != self.best_folder(progress.best_update):
                shutil.rmtree(folder, ignore_errors=True)

    def load(self, model: SEVLM, optimizer: AdamW, schedule: LRScheduler) -> Progress | None:
        """Restore an interrupted training, or None where there is none.

        Raises:
            SEVLMError: the folder holds a finished training, or another one's state.
        """
        if (self.out / SUMMARY_FILE).exists():
            raise SEVLMError(f"{self.out} holds a finished training; choose another folder or delete it")
        path = self.out / STATE_FILE
        if not path.exists():
            return None
        device = next(model.parameters()).device
        state = torch.load(path, map_location=device, weights_only=True)
        self._check_identity(state["identity"])
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["rng"].cpu())
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([value.cpu() for value in state["cuda_rng"]])
        return Progress(**state["progress"])

    def _check_identity(self, found: Mapping[str, Any]) -> None:
        different = sorted(key for key in {*found, *self.identity} if found.get(key) != self.identity.get(key))
        if different:
            raise SEVLMError(
                f"{self.out} holds an interrupted training with other {', '.join(different)}; "
                "repeat the same command to resume it, or choose another folder"
            )

    def finish(self, best_update: int, summary: Mapping[str, Any]) -> None:
        """Move the kept weights to the output folder, write the summary, drop the state."""
        for path in sorted(self.best_folder(best_update).iterdir()):
            target = self.out / path.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(path, target)
        aside = self.out / f"{SUMMARY_FILE}.part"
        aside.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(aside, self.out / SUMMARY_FILE)
        shutil.rmtree(self.best_folder(best_update))
        (self.out / STATE_FILE).unlink()


class TrainingLog:
    """One JSON object per line, each with the update it belongs to."""

    def __init__(self, path: Path, resumed_at: int) -> None:
        """Keep the lines up to the update that the training resumes at."""
        kept = []
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _update(line) <= resumed_at]
        aside = path.with_name(f"{path.name}.part")
        aside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        os.replace(aside, path)
        self._path = path

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def _update(line: str) -> float:
    try:
        return float(json.loads(line)["update"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line that was cut off belongs to no saved state
