"""`harness train llava`: LoRA through peft and transformers' Trainer on "emotion because explanation" targets."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.adapters.base import TrainRequest
from harness.adapters.hf_model import (
    CheckpointSettings,
    end_tokens,
    folder_digest,
    load_model,
    load_processor,
    pick_device,
    pick_dtype,
    without_future_warnings,
)
from harness.adapters.hf_processor import PromptReader
from harness.adapters.hf_trial import check_image_is_seen
from harness.atomic import write_atomically
from harness.images import open_image
from harness.tasks.prompts import CONTEXT_MARK, DEFAULT_PROMPT, render
from harness.types import Example, UserError
from harness.yaml_file import Settings, check_settings, read_yaml

IGNORED = -100
"""Label of tokens that carry no loss."""
STATE = "state"
CHECKPOINTING = {"use_reentrant": False}
"""The form of recomputed activations that needs no gradient at a block's input, which frozen layers do not have."""
VISION = ("vision", "visual", "image_encoder", "patch_embed", "embed_vision")
"""Parts of the name of whatever turns pixels into features."""
PROJECTOR = ("projector", "connector", "merger", "modality_projection", "language_projection", "qformer", "aligner")
"""Parts of the name of what takes these to the language model; some families keep it inside the vision tower."""
LEFT_OUT = ("lm_head", "embed_tokens", "gate", "router")
"""Left as they are: the vocabulary, and which expert is asked."""


class Recipe(Settings):
    """Settings of `harness train llava`.

    Attributes:
        checkpoint, revision, dtype, attention, quantization: as for running; `quantization: 4bit` is QLoRA.
        prompt: name of the task's prompt.
        rank, alpha, dropout: of LoRA.
        target_modules: regular expression over layer names; None: every linear layer of the language model (attention,
            fused and linear attention, MLP) and of the projector before it.
        vision: `lora` adapts the vision tower's linear layers too; `frozen` leaves it as it is.
        epochs: passes over all (image, annotation) pairs.
        max_steps: updates after which to stop, instead of `epochs`.
        batch_size, gradient_accumulation: pairs per update are their product.
        learning_rate, warmup_ratio, weight_decay, max_grad_norm, schedule: of AdamW and its schedule.
        gradient_checkpointing: compute activations twice and keep few of them.
        save_every: updates between resumable states.
        seed: of weights and order.
    """

    key_description: ClassVar[str] = "setting"

    checkpoint: str = "llava-hf/llava-1.5-7b-hf"
    revision: str | None = None
    dtype: str | None = None
    attention: str | None = None
    quantization: str | None = None
    prompt: str = "default"
    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: str | None = None
    vision: Literal["frozen", "lora"] = "frozen"
    epochs: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, ge=1)
    batch_size: int = Field(4, ge=1)
    gradient_accumulation: int = Field(4, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, ge=0)
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    gradient_checkpointing: bool = False
    save_every: int = Field(500, ge=1)
    seed: int = 0


def load_recipe(settings: Mapping[str, Any]) -> Recipe:
    """The defaults, under the file or shipped recipe named by `config`, under the other settings.

    Raises:
        UserError: no such file, an unknown setting, a value of another type or out of range.
    """
    given = dict(settings)
    written: dict[str, Any] = {}
    if (config := given.pop("config", None)) is not None:
        shipped = {p.stem.removeprefix("llava_"): p for p in sorted(Path(__file__).parent.glob("llava_*.yaml"))}
        path = shipped.get(config, Path(config))
        if not path.exists():
            raise UserError(f"--config {config}: no such file; shipped: {', '.join(shipped)}")
        written = read_yaml(path, Recipe).model_dump(exclude_unset=True)
    return check_settings(written | given, Recipe, "llava")


@dataclass(frozen=True)
class Pair:
    """An image, the question and one person's answer to it."""

    image: Path
    prompt: str
    answer: str


def pairs_of(examples: Sequence[Example], prompt: str) -> list[Pair]:
    """One pair per annotation that has an explanation; the prompt shows each image's own text."""
    return [
        Pair(example.image, prompt.replace(CONTEXT_MARK, example.context), f"{said.emotion} because {said.explanation}")
        for example in examples
        for said in example.annotations
        if said.explanation
    ]


class Collator:
    """Pairs -> model inputs with labels on the answer only, padded on the right.

    Args:
        processor: the checkpoint's.
        ends: ids that end an answer when the model generates; None: the tokenizer's own.

    Raises:
        UserError: the checkpoint has no chat template, or is an encoder and a decoder.
    """

    def __init__(self, processor: Any, ends: frozenset[int] | None = None) -> None:
        self.reader = PromptReader(processor)
        if self.reader.template is None:
            raise UserError("llava: training needs a checkpoint with a chat template")
        tokenizer = self.reader.tokenizer
        own = tokenizer.eos_token_id
        self.end = str(tokenizer.convert_ids_to_tokens(own if not ends or own in ends else min(ends)))

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Inputs of `len(pairs)` rows; `labels` (B, T) is -100 on prompt and padding.

        Raises:
            ImageError: an image cannot be decoded.
            UserError: the tokenizer joins prompt and answer, so that the loss would not start at the answer.
        """
        images = [open_image(pair.image) for pair in pairs]
        rendered = [self.reader.render_answered(pair.prompt, pair.answer) for pair in pairs]
        inputs = self.reader.encode_texts([f"{text}{self.end}" for _, text in rendered], images, "right")
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        labels = ids.new_full(ids.shape, IGNORED)
        for row, (prompt, text) in enumerate(rendered):
            # how many tokens stand for the image makes no difference to how many the answer has
            asked, whole = (
                list(self.reader.tokenizer(part, add_special_tokens=False)["input_ids"])
                for part in (prompt, f"{text}{self.end}")
            )
            if whole[: len(asked)] != asked:
                raise UserError("llava: this tokenizer joins prompt and answer; choose another prompt")
            end = int(mask[row].nonzero().max()) + 1  # whichever side was padded
            start = end - (len(whole) - len(asked))
            labels[row, start:end] = ids[row, start:end]
        return {**inputs, "labels": labels}

    def trained_on(self, batch: Mapping[str, Any]) -> list[str]:
        """The text that carries the loss, per row."""
        return [self.reader.tokenizer.decode(row[row != IGNORED].tolist()) for row in batch["labels"]]

    def check(self, pairs: Sequence[Pair]) -> None:
        """See that the loss falls on the answers and nothing else.

        Raises:
            UserError: it does not.
        """
        for pair, text in zip(pairs, self.trained_on(self(pairs)), strict=True):
            if " ".join(text.split()) != " ".join(f"{pair.answer}{self.end}".split()):
                raise UserError(f"llava: the loss would fall on {text[:80]!r} not on the answer {pair.answer[:80]!r}")


def lora_layers(model: Any, *, vision: bool) -> list[str]:
    """Names of the linear layers to adapt: of the language model and of the projector; with `vision` of the tower too.

    Layers are found by what they are and where they stand rather than by a list of names, so that fused projections
    (`gate_up_proj`) and linear attention (`in_proj_qkv`) are among them.
    """
    import torch

    chosen = []
    for name, layer in model.named_modules():
        parts = name.split(".")
        if not isinstance(layer, torch.nn.Linear) or any(part in LEFT_OUT for part in parts):
            continue
        projector = any(word in part for part in parts for word in PROJECTOR)
        tower = any(word in part for part in parts for word in VISION) and not projector
        if vision or not tower:
            chosen.append(name)
    return chosen


def train_lora(request: TrainRequest) -> None:
    """Train and write the LoRA weights to `request.out`; an interrupted training is resumed from its last state.

    A training that has ended is left as it is. Several processes (`accelerate launch`, `torchrun`) train on a device
    each, with `batch_size` pairs per process; the loss is the mean over the answers' tokens of all of them. The first
    one writes. What could not be asked afterwards is refused before it is trained.

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
    from accelerate.state import PartialState

    processes: Any = PartialState(cpu=request.device == "cpu")
    checkpoint = CheckpointSettings(
        recipe.checkpoint,
        recipe.revision,
        recipe.dtype,
        request.device if processes.num_processes == 1 else str(processes.device),
        attention=recipe.attention,
        quantization=recipe.quantization,
        trust_remote_code=request.trust_remote_code,
    )
    with processes.main_process_first():
        _note_training(request, recipe, checkpoint, pairs, processes.num_processes)
    if (request.out / "adapter_config.json").exists():
        print(f"llava: this training has ended before; to train anew, remove {request.out} or choose another --out")
        return
    processor = load_processor(checkpoint)
    base = load_model(checkpoint)
    if base.config.is_encoder_decoder:
        raise UserError("llava: training needs a decoder alone; this checkpoint has an encoder and a decoder")
    collator = Collator(processor, end_tokens(base))
    collator.check(sorted(pairs[:64], key=lambda pair: len(pair.answer))[:: max(1, min(len(pairs), 64) - 1)])
    for layer in base.modules():
        if type(layer).__name__ == "Linear4bit":
            layer.train()  # once asked as in use, those on a CPU pass no gradients any more
    check_image_is_seen(base, collator.reader)
    with without_future_warnings():
        model = _with_lora(base, recipe, request.init_from)
    arguments = _arguments(recipe, checkpoint, request.out / STATE)
    from transformers import Trainer

    trainer = Trainer(model=model, args=arguments, data_collator=collator, train_dataset=pairs)
    trainer.train(resume_from_checkpoint=_last_state(request.out / STATE))
    if processes.is_main_process:
        model.save_pretrained(request.out)
    processes.wait_for_everyone()


def _prompt(request: TrainRequest, recipe: Recipe) -> str:
    prompts = {"default": DEFAULT_PROMPT, **request.task.prompts}
    if recipe.prompt not in prompts:
        raise UserError(f"llava: task {request.task.name!r} has no prompt {recipe.prompt!r}")
    return render(prompts[recipe.prompt], request.task.emotions, request.task.ratings)


def _note_training(
    request: TrainRequest, recipe: Recipe, checkpoint: CheckpointSettings, pairs: Sequence[Pair], processes: int
) -> None:
    """Keep what the weights depend on beside them: an interrupted training may only be resumed with the same.

    Raises:
        UserError: the folder holds another training.
    """
    asked_and_said = [(pair.image.name, pair.prompt, pair.answer) for pair in pairs]
    identity = {
        **recipe.model_dump(),
        "weights": checkpoint.identity(),
        "init_from": None if request.init_from is None else folder_digest(request.init_from.resolve()),
        "training data": hashlib.sha256(json.dumps(asked_and_said).encode()).hexdigest(),
        "number of processes": processes,
    }
    path, text = request.out / "recipe.json", json.dumps(identity, indent=1) + "\n"
    if path.exists():
        found, identity = _json_object(path), json.loads(text)
        if other := sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key)):
            raise UserError(
                f"{request.out} holds a training with other {', '.join(other)}; repeat the same command to resume it, "
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
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=CHECKPOINTING)
    if init_from is not None:
        return peft.PeftModel.from_pretrained(model, str(init_from), is_trainable=True)
    torch.manual_seed(recipe.seed)
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]  # peft divides it by the rank, so that fractions work
        lora_dropout=recipe.dropout,
        target_modules=recipe.target_modules or lora_layers(model, vision=recipe.vision == "lora"),
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, config)
    except (ValueError, re.error) as error:
        raise UserError(f"llava: target_modules: {str(error).splitlines()[0][:200]}") from error


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
