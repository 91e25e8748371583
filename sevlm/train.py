"""Train a SEVLM on pictures with captions: one device or several, exactly resumable.

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

from sevlm.collate import Batch, Collator
from sevlm.errors import SEVLMError
from sevlm.evaluation import Evaluator, Scores
from sevlm.examples import TrainingExample
from sevlm.losses import LossCounts
from sevlm.model import SEVLMOutput
from sevlm.optimization import SCHEDULES, build_optimizer
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
    had never stopped (on the same machine and number of threads). One that has ended is left as it is.

    Args:
        recipe: model and hyper-parameters.
        train_examples: pictures with captions; unreadable pictures are left out and listed in the summary.
        validation_examples: for choosing the weights to keep and for stopping early; without any, the last are kept.
        out: folder for the checkpoint, `training.json` (the summary) and `training_log.jsonl`.
        device: `cpu`, `cuda`, `cuda:1`; None takes what accelerate finds, one device per process.
        progress: show progress bars.

    Returns:
        The summary, as written.

    Raises:
        SEVLMError: anything the caller can mend: a missing lexicon, weights that cannot be had, a cache too small, a
            folder with another training, a loss that is no longer finite.
    """
    setup = prepare(recipe, train_examples, validation_examples, out, device, progress)
    ended = Checkpointer(out, setup.identity()).finished()
    if ended is None:
        return Trainer(setup, out, progress).run()
    if progress and setup.processes.first:
        print(f"this training has ended before; to train anew, remove {out} or choose another folder")
    return ended


_PARTS = ("loss", "lm_loss", "contrastive_loss", "vad_loss")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """The loop over updates, with evaluation, checkpoints and early stopping.

    Chance is a function of the seed and of what is computed (epoch, batch, update, process), never of what came
    before; so a resumed training needs no state of any random generator.
    """

    def __init__(self, setup: Setup, out: Path, progress: bool = True) -> None:
        self.setup, self.settings, self.model = setup, setup.recipe.training, setup.model
        self.processes = setup.processes
        self.show_bar = progress and self.processes.first
        self.sampler = PairSampler(setup.train.examples, self.settings.sampling, self.settings.seed)
        if not len(self.sampler):
            raise SEVLMError("sampling 'last-caption' needs pictures with two emotions; use 'every-caption'")
        self._drawn: tuple[int, list[list[tuple[Row, Row]]]] | None = None
        self.collate = Collator(setup.train, setup.store, setup.processes.device)
        self.batches_per_update = self.settings.accumulate * self.processes.count
        batches = self.sampler.batch_count(self.settings.batch_pictures)
        self.updates_per_epoch = math.ceil(batches / self.batches_per_update)
        self.total = self.updates_per_epoch * self.settings.epochs
        self.optimizer = build_optimizer(
            self.model,
            self.settings.learning_rate,
            self.settings.vad_learning_rate,
            self.settings.weight_decay,
            self.settings.adam_epsilon,
        )
        self.schedule = SCHEDULES[self.settings.schedule](self.optimizer, self.total, self.settings.warmup_steps)
        self.scaler = torch.amp.GradScaler(self.processes.device.type, enabled=self.settings.precision == "fp16")
        self.evaluator = None
        if len(setup.validation):
            self.evaluator = Evaluator(setup.validation, setup.store, setup.lookup, self.settings.evaluation_batch)
        self.checkpoints = Checkpointer(out, setup.identity())
        resumed = self.checkpoints.load(self.model, self.optimizer, self.schedule, self.scaler)
        self.progress = resumed or Progress()
        self.log = None
        if self.processes.first:
            self.log = TrainingLog(out / LOG_FILE, self.progress.update, self.settings.tensorboard)

    def run(self) -> dict[str, Any]:
        """Train to the end or until nothing improves; write checkpoint and summary."""
        done = self.progress
        started = time.monotonic() - done.seconds
        with tqdm(total=self.total, initial=done.update, unit="update", disable=not self.show_bar) as bar:
            while done.epoch < self.settings.epochs and not self._exhausted():
                self._update(bar)
                done.seconds = time.monotonic() - started
                if self._evaluation_due():
                    self._evaluate()
                elif done.batch == 0:
                    self._save()
        if not done.kept:
            self._keep(self.settings.keep_best_by)
        summary = summarise(self.setup, done, self.total, self._exhausted())
        if self.processes.first:
            self.checkpoints.finish(done.kept, self.settings.keep_best_by, lambda folder: write_card(folder, summary))
            self.checkpoints.write_summary(summary)
        self.processes.wait()
        return summary

    def _update(self, bar: tqdm[Any]) -> None:
        """One optimiser step over `accumulate` batches of every process."""
        done = self.progress
        batches = self._batches(done.epoch)
        group = list(enumerate(batches[done.batch : done.batch + self.batches_per_update], start=done.batch))
        own = [self._collated(pairs, number) for number, pairs in group[self.processes.index :: self.processes.count]]
        counts = self._counts(own)
        _seed_dropout(self.settings.seed, done.update, self.processes.index)
        parts = torch.zeros(len(_PARTS), device=self.processes.device)
        for batch in own:
            output = self._forward(batch, counts)
            self.scaler.scale(_loss(output)).backward()  # type: ignore[no-untyped-call]
            parts += _parts(output)
        self._step()
        done.update += 1
        done.batch += len(group)
        if done.batch >= len(batches):
            done.epoch, done.batch = done.epoch + 1, 0
        bar.update()
        if done.update % self.settings.log_every == 0:
            self._log(self.processes.sum(parts), bar)

    def _step(self) -> None:
        self.processes.sum_gradients(self.model.parameters())
        if self.settings.max_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _batches(self, epoch: int) -> list[list[tuple[Row, Row]]]:
        """The epoch's batches, drawn once per epoch."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self.sampler.batches(epoch, self.settings.batch_pictures)
        return self._drawn[1]

    def _collated(self, pairs: Sequence[tuple[Row, Row]], number: int) -> Batch:
        return self.collate(pairs, random.Random(f"negatives {self.settings.seed} {self.progress.epoch} {number}"))

    def _counts(self, batches: Sequence[Batch]) -> LossCounts:
        """What the losses of the whole update are divided by, over its batches and processes."""
        total = torch.zeros(len(LossCounts._fields), dtype=torch.int64, device=self.processes.device)
        for batch in batches:
            counts = self.model.count_losses(batch.labels, batch.segment_ids, batch.vad, batch.negatives)
            total += torch.stack(counts)
        return LossCounts(*self.processes.sum(total))

    def _forward(self, batch: Batch, counts: LossCounts) -> SEVLMOutput:
        dtype = _DTYPES[self.settings.precision]
        with torch.autocast(self.processes.device.type, dtype, enabled=dtype != torch.float32):
            output: SEVLMOutput = self.model(
                batch.image_grid,
                batch.input_ids,
                batch.segment_ids,
                batch.vad,
                batch.labels,
                batch.negatives,
                soft_labels=batch.soft_labels,
                counts=counts,
            )
        return output

    def _log(self, parts: Tensor, bar: tqdm[Any]) -> None:
        values = {name: value for name, value in zip(_PARTS, parts.tolist(), strict=True) if self._has(name)}
        if not math.isfinite(values["loss"]):
            raise SEVLMError(f"the loss is {values['loss']} at update {self.progress.update}; lower learning_rate")
        rate = self.schedule.get_last_lr()[-1]
        position = {"update": self.progress.update, "epoch": self.progress.epoch}
        if self.log is not None:
            self.log.write({**position, **values, "learning_rate": rate})
        bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)

    def _has(self, part: str) -> bool:
        config = self.model.config
        return {"contrastive_loss": config.use_contrastive_head, "vad_loss": config.use_vad_head}.get(part, True)

    def _evaluation_due(self) -> bool:
        if self.evaluator is None:
            return False
        every = self.settings.evaluate_every or self.updates_per_epoch
        return self.progress.update % every == 0 or self.progress.update == self.total

    def _evaluate(self) -> None:
        assert self.evaluator is not None
        done = self.progress
        found = self.evaluator.scores(self.model) if self.processes.first else None
        scores = self.processes.from_first(found)
        assert scores is not None
        values = dataclasses.asdict(scores)
        if self.log is not None:
            self.log.write({"update": done.update, "evaluation": values})
        done.evaluations.append({"update": done.update, **values})
        gained = _improved(scores, done.best)
        done.stale = 0 if gained & {"accuracy", "bleu_4"} else done.stale + 1
        self._keep(*({"accuracy", "bleu_4", self.settings.keep_best_by} & {*gained, "last"}))
        self._save()

    def _keep(self, *scores: str) -> None:
        """Keep the present weights as the best by these scores."""
        if scores and self.processes.first:
            self.checkpoints.save_best(self.model, self.progress.update)
        self.progress.kept |= dict.fromkeys(scores, self.progress.update)

    def _save(self) -> None:
        if self.processes.first:
            self.checkpoints.save(self.progress, self.model, self.optimizer, self.schedule, self.scaler)

    def _exhausted(self) -> bool:
        return self.progress.stale >= self.settings.patience


def _loss(output: SEVLMOutput) -> Tensor:
    assert output.loss is not None
    return output.loss


def _parts(output: SEVLMOutput) -> Tensor:
    """The loss and its parts, 0 where there is none."""
    zero = _loss(output).new_zeros(())
    values = (getattr(output, name) for name in _PARTS)
    return torch.stack([zero if value is None else value.detach() for value in values])


def _seed_dropout(seed: int, update: int, process: int) -> None:
    torch.manual_seed(random.Random(f"dropout {seed} {update} {process}").getrandbits(63))


def _improved(scores: Scores, best: dict[str, float]) -> set[str]:
    """Names of the scores that are better than ever; `best` is brought up to date. The first always is."""
    gained = set()
    for name, larger in (("accuracy", True), ("bleu_4", True), ("lm_loss", False)):
        value = getattr(scores, name)
        if name not in best or (value > best[name] if larger else value < best[name]):
            best[name] = value
            gained.add(name)
    return gained
