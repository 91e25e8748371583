"""Train a SEVLM on images with captions: one device or several, exactly resumable.

from sevlm import load_recipe, train

recipe = load_recipe("official").updated({"lexicon": "NRC-VAD-Lexicon.txt"})
summary = train(recipe, train_examples, validation_examples, Path("checkpoints/sevlm"))
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils.operations import broadcast_object_list
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from sevlm.checkpoint import LOG_FILE, SEVLM, Checkpointer, Progress, TrainingLog
from sevlm.config import SEVLMError, first_line
from sevlm.data import Batch, CaptionRef, Collator, EncodedCaptions, PairSampler, TrainingExample, ahead, head_meta
from sevlm.generation import Generated, label_opinions, mixed
from sevlm.images import FeatureStore, ImageOpener, open_image
from sevlm.model import ADAPTING, LossCounts, SEVLMOutput, lm_loss
from sevlm.recipe import Recipe, Schedule, Setup, prepare, summarise, write_card
from sevlm.vad import VADLookup, words


def train(
    recipe: Recipe,
    train_examples: Sequence[TrainingExample],
    validation_examples: Sequence[TrainingExample],
    out: Path,
    device: str | None = None,
    progress: bool = True,
    open_image: ImageOpener = open_image,
    teachers: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Train a model and write its checkpoint.

    An interrupted training in `out` resumes where its last evaluation or epoch ended, with the same result as if it
    had never stopped (on the same machine and number of threads). One that has ended is left as it is.

    Args:
        recipe: model and hyper-parameters.
        train_examples: images with captions or lessons; unreadable ones are left out and listed in the summary.
        validation_examples: for choosing the weights to keep and for stopping early; without any, the last are kept.
        out: folder for the checkpoint, `training.json` (the summary) and `training_log.jsonl`.
        device: `cpu`, `cuda`, `cuda:1`; None takes what accelerate finds, one device per process.
        progress: show progress bars.
        open_image: reads an image file; the default trusts the files.
        teachers: name of a lesson's teacher -> what model card and summary note of it (`file`, `sha256`).

    Returns:
        The summary, as written.

    Raises:
        SEVLMError: anything the caller can fix: a missing lexicon, weights that could not be loaded, a cache too small,
            a folder with another training, a loss that is no longer finite.
    """
    setup = prepare(recipe, train_examples, validation_examples, out, device, progress, open_image, teachers)
    ended = Checkpointer(out, setup.identity()).finished()
    if ended is None:
        return Trainer(setup, out, progress).run()
    if progress and setup.accelerator.is_main_process:
        print(f"this training has ended before; to train anew, remove {out} or choose another folder")
    return ended


class Update(NamedTuple):
    """The batches that a process learns from in one update, and epoch and batch that come next."""

    batches: list[Batch]
    then: tuple[int, int]


class Trainer:
    """The loop over updates, with evaluation, checkpoints and early stopping.

    Chance is a function of the seed and of what is computed (epoch, batch, update, process), never of what came
    before; so a resumed training needs no state of any random generator.
    """

    def __init__(self, setup: Setup, out: Path, show_bar: bool = True) -> None:
        self.setup, self.settings, self.model = setup, setup.recipe.training, setup.model
        config = setup.model.config
        heads = {
            "contrastive_loss": config.use_contrastive_head,
            "vad_loss": config.use_vad_head,
            "label_loss": bool(config.labels),
        }
        self.losses = ("loss", "lm_loss", *(name for name, used in heads.items() if used))
        self.accelerator = setup.accelerator
        self.is_first = setup.accelerator.is_main_process  # it evaluates, writes files and reports
        self.show_bar = show_bar and self.is_first
        self.sampler = PairSampler(setup.train.examples, self.settings.sampling, self.settings.seed)
        if not len(self.sampler):
            raise SEVLMError("sampling 'last-caption' needs images with two emotions; use 'every-caption'")
        self.collate = Collator(setup.train, setup.store, setup.device)
        self._compute: Callable[..., tuple[Tensor, Tensor]] = compute
        if self.settings.compile:
            self._compute = compiled(setup.device)
            # Evaluations replace it, and a model whose configuration ceases to be its decoder's is compiled anew.
            self.model.config = dataclasses.replace(config)
        self._coming: Iterator[Update] = iter(())
        self.batches_per_update = self.settings.accumulate * self.accelerator.num_processes
        batches = self.sampler.batch_count(self.settings.batch_pictures)
        self.updates_per_epoch = math.ceil(batches / self.batches_per_update)
        self.total = self.updates_per_epoch * self.settings.epochs
        self.optimizer = build_optimizer(
            self.model,
            self.settings.learning_rate,
            self.settings.vad_learning_rate,
            self.settings.weight_decay,
            self.settings.adam_epsilon,
            (self.settings.label_learning_rate, self.settings.label_weight_decay),
            self.settings.image_learning_rate,
        )
        self.schedule = SCHEDULES[self.settings.schedule](self.optimizer, self.total, self.settings.warmup_steps)
        self.scaler = self.accelerator.scaler or torch.amp.GradScaler(setup.device.type, enabled=False)
        self.evaluator = None
        if len(setup.validation):
            self.evaluator = Evaluator(setup.validation, setup.store, setup.lookup, self.settings.evaluation_batch)
        self.checkpoints = Checkpointer(out, setup.identity())
        resumed = self.checkpoints.load(self.model, self.optimizer, self.schedule, self.scaler)
        self.progress = resumed or Progress()
        self.log = None
        if self.is_first:
            self.log = TrainingLog(out / LOG_FILE, self.progress.update, self.settings.tensorboard)

    def run(self) -> dict[str, Any]:
        """Train to the end or until nothing improves; write checkpoint and summary."""
        done = self.progress
        started = time.monotonic() - done.seconds
        every = self.settings.evaluate_every or self.updates_per_epoch
        updates = self._updates(done.epoch, done.batch)
        bars = tqdm(total=self.total, initial=done.update, unit="update", disable=not self.show_bar)
        with bars as bar, ahead(updates) as self._coming:
            while done.epoch < self.settings.epochs and not self._exhausted():
                self._update(bar)
                done.seconds = time.monotonic() - started
                if self.evaluator is not None and (done.update % every == 0 or done.update == self.total):
                    self._evaluate(self.evaluator)
                elif done.batch == 0:
                    self._save()
        if not done.kept:
            self._keep(self.settings.keep_best_by)
        summary = summarise(self.setup, done, self.total, self._exhausted())
        if self.is_first:
            self.checkpoints.finish(done.kept, self.settings.keep_best_by, lambda folder: write_card(folder, summary))
            self.checkpoints.write_summary(summary)
        self.accelerator.wait_for_everyone()
        return summary

    def _updates(self, first: int, batch: int) -> Iterator[Update]:
        """What is left to learn from, beginning with this batch of the first epoch."""
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        for epoch in range(first, self.settings.epochs):
            batches = self.sampler.batches(epoch, self.settings.batch_pictures)
            while batch < len(batches):
                group = list(enumerate(batches[batch : batch + self.batches_per_update], start=batch))
                own = [
                    self.collate(pairs, random.Random(f"negatives {self.settings.seed} {epoch} {number}"))
                    for number, pairs in group[process::processes]
                ]
                batch += len(group)
                yield Update(own, (epoch, batch) if batch < len(batches) else (epoch + 1, 0))
            batch = 0

    def _update(self, bar: tqdm[Any]) -> None:
        """One optimiser step over `accumulate` batches of every process."""
        done, seed = self.progress, self.settings.seed
        given = next(self._coming)
        own = [batch.to(self.setup.device) for batch in given.batches]
        counted = torch.zeros(len(LossCounts._fields), dtype=torch.int64, device=self.setup.device)
        for batch in own:
            counted += batch.counts
        counts = LossCounts(*self._sum(counted))  # of the whole update, over its batches and processes

        dropout = random.Random(f"dropout {seed} {done.update} {self.accelerator.process_index}")
        torch.manual_seed(dropout.getrandbits(63))
        parts = torch.zeros(len(self.losses), device=self.setup.device)
        for batch in own:
            with self.accelerator.autocast():
                grid = self.model.image_grid(batch.image_grid)
                loss, own_parts = self._compute(self.model, self.losses, grid, batch, counts)
            self.scaler.scale(loss).backward()
            parts += own_parts
        self._step()
        done.update += 1
        done.epoch, done.batch = given.then
        bar.update()
        if done.update % self.settings.log_every == 0:
            values = dict(zip(self.losses, self._sum(parts).tolist(), strict=True))
            if not math.isfinite(values["loss"]):
                raise SEVLMError(f"the loss is {values['loss']} at update {done.update}; lower learning_rate")
            if self.log is not None:
                rate = self.schedule.get_last_lr()[-1]
                self.log.write({"update": done.update, "epoch": done.epoch, **values, "learning_rate": rate})
            bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)

    def _step(self) -> None:
        """Changes the weights by the gradients of all processes."""
        if self.accelerator.num_processes > 1:
            weights = list(self.model.parameters())
            present = self._sum(torch.tensor([float(w.grad is not None) for w in weights], device=self.setup.device))
            for weight, known in zip(weights, present.tolist(), strict=True):
                if known:  # in some process; one without a gradient in every process keeps none
                    weight.grad = self._sum(torch.zeros_like(weight) if weight.grad is None else weight.grad)
        if self.settings.max_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over the processes, the same for all."""
        total: Tensor = self.accelerator.reduce(values, "sum")
        return total

    def _evaluate(self, evaluator: Evaluator) -> None:
        done = self.progress
        found = evaluator.scores(self.model) if self.is_first else None
        (scores,) = broadcast_object_list([found])
        values = dataclasses.asdict(scores)
        if self.log is not None:
            self.log.write({"update": done.update, "evaluation": values})
        done.evaluations.append({"update": done.update, **values})
        self.model.config = dataclasses.replace(  # in the processes that did not evaluate, too
            self.model.config, label_blend=scores.label_blend, label_temperature=scores.label_temperature
        )
        gained: set[str] = set()  # the first is always a gain
        for name, larger in (("accuracy", True), ("bleu_4", True), ("lm_loss", False)):
            value, best = values[name], done.best.get(name)
            if best is None or (value > best if larger else value < best):
                done.best[name] = value
                gained.add(name)
        done.stale = 0 if gained & {"accuracy", "bleu_4"} else done.stale + 1
        self._keep(*({"accuracy", "bleu_4", self.settings.keep_best_by} & {*gained, "last"}))
        self._save()

    def _keep(self, *scores: str) -> None:
        """Keep the present weights as the best by these scores."""
        if scores and self.is_first:
            self.checkpoints.save_best(self.model, self.progress.update)
        self.progress.kept |= dict.fromkeys(scores, self.progress.update)

    def _save(self) -> None:
        if self.is_first:
            self.checkpoints.save(self.progress, self.model, self.optimizer, self.schedule, self.scaler)

    def _exhausted(self) -> bool:
        return self.progress.stale >= self.settings.patience


def compute(
    model: SEVLM, names: Sequence[str], grid: Tensor, batch: Batch, counts: LossCounts
) -> tuple[Tensor, Tensor]:
    """The total of a batch, which has gradients, and the losses of these names, 0 where there is none."""
    output: SEVLMOutput = model(
        grid,
        batch.input_ids,
        batch.segment_ids,
        batch.vad,
        batch.labels,
        batch.negatives,
        soft_labels=batch.soft_labels,
        counts=counts,
        label_targets=batch.label_targets,
        places=batch.places,
    )
    assert output.loss is not None  # there are labels
    losses = [getattr(output, name) for name in names]
    zero = output.loss.new_zeros(())
    return output.loss, torch.stack([zero if loss is None else loss.detach() for loss in losses])


def compiled(device: torch.device) -> Callable[..., tuple[Tensor, Tensor]]:
    """`compute` by torch.compile, once for all sizes of batches, when it is called first.

    Raises:
        SEVLMError: there is no compiler, or none that can; so does the function if the model is beyond it.
    """
    from torch._dynamo.exc import TorchDynamoException

    def reported(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            try:
                return function(*given)
            except TorchDynamoException as error:
                raise SEVLMError(f"compile: {first_line(error)}; without it: compile=false") from error

        return run

    reported(torch.compile(torch.sin))(torch.ones(8, device=device))  # at once, not after a minute of tracing
    return reported(torch.compile(compute, dynamic=True))


# ----------------------------------------------------------------------------------------- optimisation


class AdamW(torch.optim.AdamW):
    """AdamW as transformers 4 had it: epsilon is added to the *uncorrected* second moment's root.

    torch divides that root by sqrt(1 - beta2^t) before it adds epsilon, which makes the first steps of parameters with
    tiny gradients up to 30 times larger. The two agree when torch's epsilon is scaled the same way at each step.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], epsilon: float = 1e-6) -> None:
        super().__init__(groups, lr=0.0, eps=epsilon, weight_decay=0.0, fused=True)  # a pass over memory, not five
        # Given the scale, torch's fused step leaves out infinite gradients by itself, after `step` counted them. Asked
        # not to, GradScaler unscales gradients before and does not call `step`.
        self._step_supports_amp_scaling = False
        self.epsilon = epsilon
        self.steps_taken = 0

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        self.steps_taken += 1
        for group in self.param_groups:
            beta2 = group["betas"][1]
            group["eps"] = self.epsilon / (1 - beta2**self.steps_taken) ** 0.5
        loss: float | None = super().step(closure)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of torch's AdamW with the number of steps taken."""
        return super().state_dict() | {"steps_taken": self.steps_taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state that `state_dict` gave."""
        state = dict(state_dict)
        self.steps_taken = int(state.pop("steps_taken"))
        super().load_state_dict(state)


def build_optimizer(
    model: nn.Module,
    learning_rate: float,
    vad_learning_rate: float,
    weight_decay: float = 0.0,
    epsilon: float = 1e-6,
    label_head: tuple[float, float] = (1e-3, 1.0),
    image_learning_rate: float = 1e-4,
) -> AdamW:
    """Four groups, in the published order: VAD encoder and the rest, each with and without weight decay; before them
    the adapting image encoder and the label head, if there are any, with rates (and weight decay) of their own.

    Matrices decay, vectors (biases and norms) do not. The published weight decay is 0.
    """
    settings = {
        ADAPTING: (image_learning_rate, 0.0),  # decay would pull at what the encoder knew before
        "label_head": label_head,
        "vad_encoder": (vad_learning_rate, weight_decay),
        "": (learning_rate, weight_decay),
    }
    parts: dict[str, list[nn.Parameter]] = {part: [] for part in settings}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        if parameter.requires_grad:
            parts[part if part in parts else ""].append(parameter)
    groups = []
    for part, (rate, decay) in settings.items():
        groups.append({"params": [p for p in parts[part] if p.ndim >= 2], "lr": rate, "weight_decay": decay})
        groups.append({"params": [p for p in parts[part] if p.ndim < 2], "lr": rate, "weight_decay": 0.0})
    return AdamW([group for group in groups if group["params"]], epsilon)


def linear_schedule(optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Learning rates rise from 0 over `warmup_steps`, then fall to 0 at `total_steps`."""
    return LambdaLR(optimizer, lambda step: _remaining(step, total_steps, warmup_steps))


def cosine_schedule(optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """As `linear_schedule`, but falling along half a cosine (Loshchilov & Hutter 2017, without restarts)."""

    def factor(step: int) -> float:
        remaining = _remaining(step, total_steps, warmup_steps)
        return remaining if step < warmup_steps else 0.5 * (1 - math.cos(math.pi * remaining))

    return LambdaLR(optimizer, factor)


SCHEDULES: dict[Schedule, Callable[[torch.optim.Optimizer, int, int], LambdaLR]] = {
    "linear": linear_schedule,
    "cosine": cosine_schedule,
}


def _remaining(step: int, total: int, warmup: int) -> float:
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


# -------------------------------------------------------------------------------- evaluation while training


BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
TEMPERATURES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4)


@dataclass(frozen=True)
class Scores:
    """One evaluation.

    Attributes:
        accuracy: share of images with a dominant emotion (more than half of the annotators) whose generated emotion
            equals it, in 0..1; 0 without such images.
        bleu_4: corpus BLEU-4 of the explanations against all explanations of the image, in 0..1.
        lm_loss: cross-entropy per token of all captions, in nats: the mean of the batches' means per token, each batch
            weighted by its number of captions.
        dominant: images with a dominant emotion.
        images: all images.
        label_blend, label_temperature: with which label probabilities are nearest to the annotators' shares.
        cross_entropy: of these probabilities with the shares, in nats; None without a label head.
    """

    accuracy: float
    bleu_4: float
    lm_loss: float
    dominant: int
    images: int
    label_blend: float
    label_temperature: float
    cross_entropy: float | None


@dataclass(frozen=True)
class Evaluator:
    """Validation images with encoded captions and stored features, ready to be asked about."""

    captions: EncodedCaptions
    store: FeatureStore
    lookup: VADLookup
    batch_size: int

    def scores(self, model: SEVLM) -> Scores:
        """Calibrate the label probabilities, generate a caption per image, and put the model back in its mode."""
        examples = self.captions.examples
        training = model.training
        model.eval()
        try:
            blend, temperature, cross_entropy = self.calibrate(model)
            model.config = dataclasses.replace(model.config, label_blend=blend, label_temperature=temperature)
            generated = self.generate(model)
            loss = self._loss(model)
        finally:
            model.train(training)
        answered = [e.dominant_emotion == g.emotion for e, g in zip(examples, generated, strict=True)]
        dominant = sum(example.dominant_emotion is not None for example in examples)
        references = [[explanation for _, explanation in example.captions] for example in examples]
        return Scores(
            accuracy=sum(answered) / dominant if dominant else 0.0,
            bleu_4=corpus_bleu([g.explanation for g in generated], references),
            lm_loss=loss,
            dominant=dominant,
            images=len(examples),
            label_blend=blend,
            label_temperature=temperature,
            cross_entropy=cross_entropy,
        )

    def generate(self, model: SEVLM) -> list[Generated]:
        """One greedy caption per image, in order."""
        found: list[Generated] = []
        for batch in self._batches():
            seen = head_meta(model.config, batch)
            found += model.generate(self._grid(model, batch), lookup=self.lookup, meta=seen, n_best=1)
        return found

    @torch.no_grad()
    def calibrate(self, model: SEVLM) -> tuple[float, float, float | None]:
        """Blend and temperature of the lowest cross-entropy with the annotators' shares, and that cross-entropy."""
        config = model.config
        if not config.labels:
            return config.label_blend, config.label_temperature, None
        opinions = [
            label_opinions(model, self._grid(model, batch), self.lookup, head_meta(config, batch))
            for batch in self._batches()
        ]
        head, decoder = (torch.cat(part).cpu() for part in zip(*opinions, strict=True))
        shares = self.captions.label_shares(range(len(self.captions.examples)))

        def loss(blend: float, temperature: float) -> float:
            return float(-(shares * mixed(head, decoder, blend, temperature).log()).sum(dim=1).mean())

        best = min(((b, t) for b in BLENDS for t in TEMPERATURES), key=lambda pair: loss(*pair))
        return *best, loss(*best)

    @torch.no_grad()
    def _loss(self, model: SEVLM) -> float:
        """Every caption once, as the model reads it in training."""
        total = rows_seen = 0.0
        start = 0
        for batch in self._batches():
            rows = [CaptionRef(start + i, c) for i, example in enumerate(batch) for c in range(len(example.captions))]
            repeats = torch.tensor([len(example.captions) for example in batch])  # differ from image to image
            device = next(model.parameters()).device
            input_ids, labels, segment_ids, vad = (part.to(device) for part in self.captions.rows(rows))
            grid = self._grid(model, batch).repeat_interleave(repeats.to(device), dim=0)
            logits = model(grid, input_ids, segment_ids, vad).logits
            total += float(lm_loss(logits.float(), labels)) * len(rows)
            rows_seen += len(rows)
            start += len(batch)
        return total / rows_seen

    def _batches(self) -> list[Sequence[TrainingExample]]:
        examples = self.captions.examples
        return [examples[i : i + self.batch_size] for i in range(0, len(examples), self.batch_size)]

    @torch.no_grad()
    def _grid(self, model: SEVLM, examples: Sequence[TrainingExample]) -> torch.Tensor:
        reference = model.decoder.wte.weight
        stored = self.store.grid([example.image_path for example in examples])
        return model.image_grid(stored.to(reference.device, reference.dtype))


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], order: int = 4) -> float:
    """Corpus BLEU (Papineni et al. 2002) of uniform weights, closest reference length, no smoothing.

    Args:
        hypotheses: one text per item.
        references: one or more texts per item.
        order: longest n-gram.

    Returns:
        0..1; 0 where an order has no match.
    """
    matches, totals = [0] * order, [0] * order
    hypothesis_length = reference_length = 0
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        said, wanted = words(hypothesis), [words(text) for text in texts]
        hypothesis_length += len(said)
        reference_length += min((abs(len(w) - len(said)), len(w)) for w in wanted)[1]
        for n in range(1, order + 1):
            grams = _ngrams(said, n)
            best: Counter[tuple[str, ...]] = Counter()
            for reference in wanted:
                best |= _ngrams(reference, n)
            matches[n - 1] += (grams & best).total()
            totals[n - 1] += grams.total()
    if not all(matches):
        return 0.0
    precision = sum(math.log(m / t) for m, t in zip(matches, totals, strict=True)) / order
    brevity = min(0.0, 1 - reference_length / hypothesis_length)
    return math.exp(precision + brevity)


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
