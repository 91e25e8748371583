"""How to fine-tune a vision-language model: a YAML file's settings, the command line's over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.suggestions import nearest
from harness.types import UserError
from harness.yaml_file import YamlFile

TARGETS = (
    r".*(language_model|text_model|multi_modal_projector|connector).*\."
    r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|linear_1|linear_2)"
)
"""Linear layers of the language model and of the projector before it; the vision tower stays as it is."""

SCHEDULES = ("cosine", "linear", "constant", "constant_with_warmup")
"""Those of transformers that need no settings of their own."""


@dataclass(frozen=True)
class Recipe:
    """Settings of `harness train llava`.

    Attributes:
        checkpoint, revision, dtype, attention, quantization: as for running; `quantization: 4bit` is QLoRA.
        prompt: name of the task's prompt.
        rank, alpha, dropout, target_modules: of LoRA; `target_modules` is a regular expression over layer names.
        epochs: passes over all (picture, annotation) pairs.
        max_steps: updates after which to stop, instead of `epochs`.
        batch_size, gradient_accumulation: pairs per update are their product.
        learning_rate, warmup_ratio, weight_decay, max_grad_norm, schedule: of AdamW and its schedule.
        gradient_checkpointing: compute activations twice and keep few of them.
        save_every: updates between resumable states.
        seed: of weights and order.

    Raises:
        UserError: a value out of range.
    """

    checkpoint: str = "llava-hf/llava-1.5-7b-hf"
    revision: str | None = None
    dtype: str | None = None
    attention: str | None = None
    quantization: str | None = None
    prompt: str = "default"
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    target_modules: str = TARGETS
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 4
    gradient_accumulation: int = 4
    learning_rate: float = 2e-4
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    schedule: str = "cosine"
    gradient_checkpointing: bool = False
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "batch_size", "gradient_accumulation", "save_every"):
            if getattr(self, name) < 1:
                raise UserError(f"llava: {name}={getattr(self, name)}: expected at least 1")
        if not self.learning_rate > 0 or not self.epochs > 0 or not self.alpha > 0:
            raise UserError("llava: learning_rate, epochs and alpha must be more than 0")
        for name in ("dropout", "warmup_ratio"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"llava: {name}={getattr(self, name)}: expected at least 0 and less than 1")
        for name in ("weight_decay", "max_grad_norm"):
            if not getattr(self, name) >= 0:
                raise UserError(f"llava: {name}={getattr(self, name)}: expected at least 0")
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"llava: max_steps={self.max_steps}: expected at least 1")
        if self.schedule not in SCHEDULES:
            raise UserError(f"llava: schedule={self.schedule}: expected one of {', '.join(SCHEDULES)}")


def load_recipe(settings: Mapping[str, Any]) -> Recipe:
    """The defaults, under the file or shipped recipe named by `config`, under the other settings.

    Raises:
        UserError: no such file, an unknown setting, or a value of another type.
    """
    given = dict(settings)
    config = given.pop("config", None)
    values = (_read(config) if config is not None else {}) | given
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    for name, value in values.items():
        if name not in fields:
            raise UserError(f"llava: unknown setting {name!r}; {nearest(name, fields)}")
        values[name] = _typed(name, value, str(fields[name].type))
    return Recipe(**values)


def _read(config: str) -> dict[str, Any]:
    shipped = {p.stem.removeprefix("llava_"): p for p in sorted(Path(__file__).parent.glob("llava_*.yaml"))}
    path = shipped.get(config, Path(config))
    if not path.exists():
        raise UserError(f"--config {config}: no such file; shipped: {', '.join(shipped)}")
    document = YamlFile(path)
    fields = {field.name: str(field.type) for field in dataclasses.fields(Recipe)}
    values = {}
    for name, key, node in document.mapping(document.root):
        if name not in fields:
            raise document.error(key, f"unknown setting {name!r}; {nearest(name, fields)}")
        try:
            values[name] = _typed(name, document.plain(node), fields[name])
        except UserError as error:
            raise document.error(node, str(error)) from None
    return values


def _typed(name: str, value: Any, hint: str) -> Any:
    """A YAML scalar as the field's type; YAML reads `2e-4` as text."""
    if value is None and "None" in hint:
        return None
    kind = {"int": int, "float": float, "str": str, "bool": bool}[hint.split(" ")[0]]
    try:
        fitting = isinstance(value, bool) if kind is bool else not isinstance(value, bool) and value is not None
        if not fitting or (kind is int and int(value) != float(value)):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"llava: {name}={value!r}: expected {hint}") from None
