"""Train a SEVLM on pictures with captions: one device, exactly resumable.

from sevlm.train import train
from sevlm.training_config import load_recipe

recipe = load_recipe("official").updated({"lexicon": "NRC-VAD-Lexicon.txt"})
summary = train(recipe, train_examples, validation_examples, Path("checkpoints/sevlm"))
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from sevlm.collate import Collator
from sevlm.errors import SEVLMError
from sevlm.evaluation import Evaluator, Scores
from sevlm.examples import TrainingExample
from sevlm.model import SEVLMOutput
from sevlm.optimization import build_optimizer, linear_schedule
from sevlm.pairs import PairSampler, Row
from sevlm.training_config import Recipe
from sevlm.training_setup import Setup, prepare
from sevlm.training_state import LOG_FILE, Checkpointer, Progress, TrainingLog
from sevlm.training_summary import summarise, write_card


def train(
    recipe: Recipe,
    train_examples: Sequence[TrainingExample],
    validation_examples: Sequence[TrainingExample],
    out: Path,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model and write its checkpoint.

    An interrupted training in `out` goes on where its last evaluation or epoch ended, with the same result as if it
    had never stopped (on the same machine and number of threads).

    Args:
        recipe: model and hyper-parameters.
        train_examples: pictures with captions; unreadable pictures are left out and listed in the summary.
        validation_examples: for choosing the weights to keep and for stopping early; without any, the last are kept.
        out: folder for the checkpoint, `training.json` (the summary) and `training_log.jsonl`.
        device: `cpu`, `cuda`, `cuda:1`; None takes CUDA where there is one.
        progress: show progress bars.

    Returns:
        The summary, as written.

    Raises:
        SEVLMError: anything the caller can mend: a missing lexicon, weights that cannot be had, a cache too small, a
            folder with another training, a loss that is no longer finite.
    """
    setup = prepare(recipe, train_examples, validation_examples, out, device, progress)
    return Trainer(setup, out, progress).run()


class Trainer:
    """The loop over updates, with evaluation, checkpoints and early stopping."""

    def __init__(self, setup: Setup, out: Path, progress: bool = True) -> None:
        self.setup, self.settings, self.model = setup, setup.recipe.training, setup.model
        self.show_bar = progress
        self.sampler = PairSampler(setup.train.examples, self.settings.sampling, self.settings.seed)
        if not len(self.sampler):
            raise SEVLMError("sampling 'last-caption' needs pictures with two emotions; use 'every-caption'")
        self._drawn: tuple[int, list[list[tuple[Row, Row]]]] | None = None
        self.collate = Collator(setup.train, setup.store, setup.device)
        self.batches_per_epoch = self.sampler.batch_count(self.settings.batch_pictures)
        self.updates_per_epoch = math.ceil(self.batches_per_epoch / self.settings.accumulate)
        self.total = self.updates_per_epoch * self.settings.epochs
        self.optimizer = build_optimizer(
            self.model,
            self.settings.learning_rate,
            self.settings.vad_learning_rate,
            self.settings.weight_decay,
            self.settings.adam_epsilon,
        )
        self.schedule = linear_schedule(self.optimizer, self.total, self.settings.warmup_steps)
        self.evaluator = None
        if len(setup.validation):
            self.evaluator = Evaluator(setup.validation, setup.store, setup.lookup, self.settings.evaluation_batch)
        self.checkpoints = Checkpointer(out, setup.identity())
        resumed = self.checkpoints.load(self.model, self.optimizer, self.schedule)
        self.progress = resumed or Progress()
        self.log = TrainingLog(out / LOG_FILE, self.progress.update)

    def run(self) -> dict[str, Any]:
        """Train to the end or until nothing improves; write checkpoint and summary."""
        done = self.progress
        started = time.monotonic() - done.seconds
        with tqdm(total=self.total, initial=done.update, unit="update", disable=not self.show_bar) as bar:
            while done.epoch < self.settings.epochs and not self._exhausted():
                self._update(bar)
                if self._evaluation_due():
                    done.seconds = time.monotonic() - started
                    self._evaluate()
                elif done.batch == 0:
                    done.seconds = time.monotonic() - started
                    self._save()
        if done.best_update is None:
            done.best_update = done.update
            self.checkpoints.save_best(self.model, done.update)
        summary = summarise(self.setup, done, self.total, self._exhausted())
        write_card(self.checkpoints.best_folder(done.best_update), summary)
        self.checkpoints.finish(done.best_update, summary)
        return summary

    def _update(self, bar: tqdm[Any]) -> None:
        """One optimiser step over `accumulate` batches."""
        done, settings = self.progress, self.settings
        batches = self._batches(done.epoch)
        group = batches[done.batch : done.batch + settings.accumulate]
        for offset, pairs in enumerate(group):
            output = self._forward(pairs, f"{done.epoch} {done.batch + offset}")
            _loss(output).div(len(group)).backward()  # type: ignore[no-untyped-call]
        if settings.max_grad_norm is not None:
            clip_grad_norm_(self.model.parameters(), settings.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        done.update += 1
        done.batch += len(group)
        if done.batch >= len(batches):
            done.epoch, done.batch = done.epoch + 1, 0
        bar.update()
        if done.update % settings.log_every == 0:
            self._log(output, bar)

    def _batches(self, epoch: int) -> list[list[tuple[Row, Row]]]:
        """The epoch's batches, drawn once per epoch."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self.sampler.batches(epoch, self.settings.batch_pictures)
        return self._drawn[1]

    def _forward(self, pairs: Sequence[tuple[Row, Row]], position: str) -> SEVLMOutput:
        batch = self.collate(pairs, random.Random(f"negatives {self.settings.seed} {position}"))
        kind = torch.device(self.setup.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            output: SEVLMOutput = self.model(
                batch.image_grid, batch.input_ids, batch.segment_ids, batch.vad, batch.labels, batch.negatives
            )
        return output

    def _log(self, output: SEVLMOutput, bar: tqdm[Any]) -> None:
        parts = {name: getattr(output, name) for name in ("loss", "lm_loss", "contrastive_loss", "vad_loss")}
        values = {name: float(part.detach()) for name, part in parts.items() if part is not None}
        if not math.isfinite(values["loss"]):
            raise SEVLMError(f"the loss is {values['loss']} at update {self.progress.update}; lower learning_rate")
        rate = self.schedule.get_last_lr()[-1]
        self.log.write({"update": self.progress.update, "epoch": self.progress.epoch, **values, "learning_rate": rate})
        bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)

    def _evaluation_due(self) -> bool:
        if self.evaluator is None:
            return False
        every = self.settings.evaluate_every or self.updates_per_epoch
        return self.progress.update % every == 0 or self.progress.update == self.total

    def _evaluate(self) -> None:
        assert self.evaluator is not None
        done = self.progress
        scores = self.evaluator.scores(self.model)
        values = dataclasses.asdict(scores)
        self.log.write({"update": done.update, "evaluation": values})
        done.evaluations.append({"update": done.update, **values})
        gained = _improved(scores, done.best)
        done.stale = 0 if gained & {"accuracy", "bleu_4"} else done.stale + 1
        if self.settings.keep_best_by in (*gained, "last"):
            done.best_update = done.update
            self.checkpoints.save_best(self.model, done.update)
        self._save()

    def _save(self) -> None:
        self.checkpoints.save(self.progress, self.model, self.optimizer, self.schedule)

    def _exhausted(self) -> bool:
        return self.progress.stale >= self.settings.patience


def _loss(output: SEVLMOutput) -> Tensor:
    assert output.loss is not None
    return output.loss


def _improved(scores: Scores, best: dict[str, float]) -> set[str]:
    """Names of the scores that are better than ever; `best` is brought up to date. The first always is."""
    gained = set()
    for name, larger in (("accuracy", True), ("bleu_4", True), ("lm_loss", False)):
        value = getattr(scores, name)
        if name not in best or (value > best[name] if larger else value < best[name]):
            best[name] = value
            gained.add(name)
    return gained
