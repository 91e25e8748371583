"""What an interrupted training needs to go on as if nothing had happened."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
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
        kept: score -> update whose weights are kept for it; the folder `best-<update>` holds them.
        stale: evaluations since the last gain.
        seconds: wall time so far, over all sittings.
        evaluations: all evaluations so far.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    best: dict[str, float] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
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

    def save(
        self,
        progress: Progress,
        model: SEVLM,
        optimizer: AdamW,
        schedule: LRScheduler,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Write the state, then drop the weights that it no longer names.

        Raises:
            OSError: it cannot be written; the state before is untouched.
        """
        state = {
            "identity": self.identity,
            "progress": asdict(progress),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "scaler": scaler.state_dict(),
        }
        aside = self.out / f"{STATE_FILE}.part"
        _save(state, aside)
        os.replace(aside, self.out / STATE_FILE)
        named = {self.best_folder(update) for update in progress.kept.values()}
        for folder in self.out.glob("best-*"):
            if folder not in named:
                shutil.rmtree(folder, ignore_errors=True)

    def load(
        self, model: SEVLM, optimizer: AdamW, schedule: LRScheduler, scaler: torch.amp.GradScaler
    ) -> Progress | None:
        """Restore an interrupted training, or None where there is none.

        Raises:
            SEVLMError: the folder holds another training's state.
        """
        path = self.out / STATE_FILE
        if not path.exists():
            return None
        device = next(model.parameters()).device
        state = torch.load(path, map_location=device, weights_only=True)
        self._check_identity(state["identity"])
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        scaler.load_state_dict(state["scaler"])
        return Progress(**state["progress"])

    def finished(self) -> dict[str, Any] | None:
        """The summary, if this training has ended before.

        Raises:
            SEVLMError: the folder holds another training.
        """
        path = self.out / SUMMARY_FILE
        if not path.exists():
            return None
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "identity" not in summary:
            raise SEVLMError(f"{self.out} holds a finished training of an older version; choose another folder")
        self._check_identity(summary["identity"], "a finished")
        return summary

    def _check_identity(self, found: Mapping[str, Any], which: str = "an interrupted") -> None:
        different = sorted(key for key in {*found, *self.identity} if found.get(key) != self.identity.get(key))
        if different:
            raise SEVLMError(
                f"{self.out} holds {which} training with other {', '.join(different)}; "
                "repeat the same command, or choose another folder"
            )

    def finish(self, kept: Mapping[str, int], chosen: str, write_card: Callable[[Path], None]) -> None:
        """Copy the chosen weights to the output folder, and the best by another score beside them.

        Args:
            kept: score -> update.
            chosen: the score whose weights become the checkpoint.
            write_card: completes the model card in a folder.
        """
        write_card(self.best_folder(kept[chosen]))
        shutil.copytree(self.best_folder(kept[chosen]), self.out, dirs_exist_ok=True)
        for score, update in kept.items():
            if update != kept[chosen]:
                shutil.copytree(self.best_folder(update), self.out / f"best-{score}", dirs_exist_ok=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary, which marks the training as finished, and drop what only an interrupted one needs."""
        aside = self.out / f"{SUMMARY_FILE}.part"
        aside.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(aside, self.out / SUMMARY_FILE)
        for update in summary["kept_updates"].values():
            shutil.rmtree(self.best_folder(update), ignore_errors=True)
        (self.out / STATE_FILE).unlink(missing_ok=True)


def _save(state: Mapping[str, Any], path: Path) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # torch's writer does not say what the system said
        size = path.stat().st_size
        path.unlink()
        raise OSError(errno.EIO, f"writing stopped after {size} bytes (is the disk full?)", str(path)) from error


class TrainingLog:
    """One JSON object per line, each with the update it belongs to; on request TensorBoard's files too.

    Args:
        path: lines up to the update that the training resumes at are kept.
        resumed_at: that update.
        tensorboard: write to the folder `tensorboard` beside `path`.

    Raises:
        SEVLMError: TensorBoard is asked for but not installed.
    """

    def __init__(self, path: Path, resumed_at: int, tensorboard: bool = False) -> None:
        kept = []
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _update(line) <= resumed_at]
        aside = path.with_name(f"{path.name}.part")
        aside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        os.replace(aside, path)
        self._path = path
        self._board = _tensorboard(path.with_name("tensorboard"), resumed_at) if tensorboard else None

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line: `update`, and numbers by name, which may stand in groups."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        if self._board is not None:
            for name, value in _numbers(values):
                self._board.add_scalar(name, value, values["update"])
            self._board.flush()


def _update(line: str) -> float:
    try:
        return float(json.loads(line)["update"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line that was cut off belongs to no saved state


def _tensorboard(folder: Path, resumed_at: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SEVLMError("tensorboard: true needs the package; type: pip install tensorboard") from None
    writer: Any = SummaryWriter(str(folder), purge_step=resumed_at + 1)
    return writer


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{inner}", number) for inner, number in value.items())
        elif name != "update":
            yield name, value
