"""`harness train llava`: LoRA through peft and transformers' Trainer on "emotion because explanation" targets."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.adapters.base import TrainRequest
from harness.adapters.hf_checkpoint import (
    CheckpointSettings,
    folder_digest,
    load_model,
    load_processor,
    pick_device,
    pick_dtype,
)
from harness.adapters.hf_reader import PromptReader
from harness.adapters.llava_recipe import Recipe, load_recipe
from harness.atomic import write_atomically
from harness.types import Example, UserError, open_image

IGNORED = -100
"""Label of tokens that carry no loss."""
STATE = "state"
CHECKPOINTING = {"use_reentrant": False}
"""The form of recomputed activations that needs no gradient at a block's input, which frozen layers do not have."""


@dataclass(frozen=True)
class Pair:
    """A picture, the question and one person's answer to it."""

    image: Path
    prompt: str
    answer: str


def pairs_of(examples: Sequence[Example], prompt: str) -> list[Pair]:
    """One pair per annotation that has an explanation; the prompt shows each picture's own text."""
    from harness.types import CONTEXT_MARK

    return [
        Pair(example.image, prompt.replace(CONTEXT_MARK, example.context), f"{said.emotion} because {said.explanation}")
        for example in examples
        for said in example.annotations
        if said.explanation
    ]


class Collator:
    """Pairs -> model inputs with labels on the answer only, padded on the right."""

    def __init__(self, processor: Any) -> None:
        self.reader = PromptReader(processor)
        if self.reader.template is None:
            raise UserError("llava: training needs a checkpoint with a chat template")
        self.reader.tokenizer.padding_side = "right"

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Inputs of `len(pairs)` rows; `labels` (B, T) is -100 on prompt and padding.

        Raises:
            ImageError: a picture cannot be decoded.
            UserError: the tokenizer joins prompt and answer, so that the loss would not start at the answer.
        """
        pictures = [open_image(pair.image) for pair in pairs]
        prompts = [self.reader.render(pair.prompt) for pair in pairs]
        end = self.reader.tokenizer.eos_token
        texts = [f"{prompt} {pair.answer}{end}" for prompt, pair in zip(prompts, pairs, strict=True)]
        encode: Any = self.reader.processor
        inputs = encode(images=pictures, text=texts, padding=True, return_tensors="pt")
        ends = inputs["attention_mask"].sum(dim=1).tolist()
        labels = inputs["input_ids"].new_full(inputs["input_ids"].shape, IGNORED)
        for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            start = ends[row] - self._answer_tokens(prompt, text)
            labels[row, start : ends[row]] = inputs["input_ids"][row, start : ends[row]]
        return {**inputs, "labels": labels}

    def _answer_tokens(self, prompt: str, text: str) -> int:
        """Tokens of `text` after `prompt`; how many stand for the picture makes no difference."""
        asked, whole = (list(self.reader.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in (prompt, text))
        if whole[: len(asked)] != asked:
            raise UserError("llava: this tokenizer joins prompt and answer; choose another prompt")
        return len(whole) - len(asked)


def train_lora(request: TrainRequest) -> None:
    """Train and write the LoRA weights to `request.out`; an interrupted training goes on where it was.

    A training that has ended is left as it is. Several processes (`accelerate launch`, `torchrun`) train on a device
    each, with `batch_size` pairs per process; the loss is the mean over the answers' tokens of all of them. The first
    one writes.

    Raises:
        UserError: packages are missing, the recipe or the checkpoint cannot be used, or there is nothing to train on.
    """
    for package in ("peft", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"llava: training needs {package}; type: pip install 'sevlm-harness[lora]'")
    recipe = load_recipe({"seed": request.seed} | dict(request.settings))
    pairs = pairs_of(request.train, _prompt(request, recipe))
    if not pairs:
        raise UserError(f"llava: the training split of {request.task.name!r} has no annotation with an explanation")
    processes = _processes(request.device)
    checkpoint = CheckpointSettings(
        recipe.checkpoint,
        recipe.revision,
        recipe.dtype,
        request.device if processes.num_processes == 1 else str(processes.device),
        attention=recipe.attention,
        quantization=recipe.quantization,
    )
    with processes.main_process_first():
        _note_training(request.out, _identity(request, recipe, checkpoint, pairs, processes.num_processes))
    if (request.out / "adapter_config.json").exists():
        print(f"llava: this training has ended before; to train anew, remove {request.out} or choose another --out")
        return
    collator = Collator(load_processor(checkpoint))
    model = _with_lora(load_model(checkpoint), recipe, request.init_from)
    trainer = _trainer(model, collator, pairs, _arguments(recipe, checkpoint, request.out / STATE))
    trainer.train(resume_from_checkpoint=_last_state(request.out / STATE))
    if processes.is_main_process:
        model.save_pretrained(request.out)
    processes.wait_for_everyone()


def _processes(device: str | None) -> Any:
    """The processes of this training, as accelerate sees them."""
    from accelerate.state import PartialState

    state: Any = PartialState(cpu=device == "cpu")
    return state


def _prompt(request: TrainRequest, recipe: Recipe) -> str:
    from harness.tasks.prompts import DEFAULT_PROMPT, render

    prompts = {"default": DEFAULT_PROMPT, **request.task.prompts}
    if recipe.prompt not in prompts:
        raise UserError(f"llava: task {request.task.name!r} has no prompt {recipe.prompt!r}")
    return render(prompts[recipe.prompt], request.task.emotions, request.task.ratings)


def _identity(
    request: TrainRequest, recipe: Recipe, checkpoint: CheckpointSettings, pairs: Sequence[Pair], processes: int
) -> dict[str, Any]:
    """What the weights depend on: an interrupted training may only go on with the same."""
    asked_and_said = [(pair.image.name, pair.prompt, pair.answer) for pair in pairs]
    return {
        **dataclasses.asdict(recipe),
        "weights": checkpoint.identity(),
        "init_from": None if request.init_from is None else folder_digest(request.init_from.resolve()),
        "training data": hashlib.sha256(json.dumps(asked_and_said).encode()).hexdigest(),
        "number of processes": processes,
    }


def _note_training(out: Path, identity: Mapping[str, Any]) -> None:
    """Keep what is trained, on what, beside the weights.

    Raises:
        UserError: the folder holds another training.
    """
    path, text = out / "recipe.json", json.dumps(identity, indent=1) + "\n"
    if path.exists():
        found, identity = _json_object(path), json.loads(text)
        if other := sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key)):
            raise UserError(
                f"{out} holds a training with other {', '.join(other)}; repeat the same command to resume it, "
                "or choose another --out"
            )
    write_atomically(path, text)


def _with_lora(model: Any, recipe: Recipe, init_from: Path | None) -> Any:
    import peft
    import torch

    if recipe.quantization is not None:
        for_few_bits: Any = peft.prepare_model_for_kbit_training
        model = for_few_bits(model, recipe.gradient_checkpointing, gradient_checkpointing_kwargs=CHECKPOINTING)
    elif recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=CHECKPOINTING)
    if init_from is not None:
        return peft.PeftModel.from_pretrained(model, str(init_from), is_trainable=True)
    torch.manual_seed(recipe.seed)
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]  # peft divides it by the rank, so that fractions work
        lora_dropout=recipe.dropout,
        target_modules=recipe.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, config)
    except (ValueError, re.error) as error:
        raise UserError(f"llava: target_modules: {str(error).splitlines()[0][:200]}") from error


def _trainer(model: Any, collator: Collator, pairs: list[Pair], arguments: Any) -> Any:
    from transformers import Trainer

    return Trainer(model=model, args=arguments, data_collator=collator, train_dataset=pairs)


def _arguments(recipe: Recipe, checkpoint: CheckpointSettings, state: Path) -> Any:
    import torch
    from transformers import TrainingArguments

    device = pick_device(checkpoint)
    return TrainingArguments(
        output_dir=str(state),
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps if recipe.max_steps is not None else -1,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        lr_scheduler_type=recipe.schedule,
        save_strategy="steps",
        save_steps=recipe.save_every,
        save_total_limit=2,
        logging_steps=50,
        report_to=[],
        remove_unused_columns=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=pick_dtype(checkpoint) == torch.bfloat16 and device.startswith("cuda"),
        use_cpu=device == "cpu",
        dataloader_pin_memory=device.startswith("cuda"),
    )


def _last_state(folder: Path) -> str | None:
    """The newest complete state of an interrupted training; the Trainer writes `trainer_state.json` last."""
    states = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in states if _json_object(path / "trainer_state.json")]
    return str(whole[-1]) if whole else None


def _json_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing, if it is missing or torn."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
