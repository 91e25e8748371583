"""How a model is trained: hyper-parameters, and recipes that pair them with a model's configuration.

A recipe is a YAML file with the keys `mode` (`official` or `improved`, the defaults of the model), `model` (keys of
`SEVLMConfig` that differ from the mode's) and `training` (keys of `TrainingConfig`). Three come with the library:
`official`, `small` and `demo`.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from sevlm.config import SEVLMConfig
from sevlm.errors import SEVLMError
from sevlm.field_types import check_types
from sevlm.optimization import Schedule
from sevlm.pairs import Sampling
from sevlm.recipe_file import read_recipe_file

Mode: TypeAlias = Literal["official", "improved"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
Score: TypeAlias = Literal["accuracy", "bleu_4", "lm_loss", "last"]

RECIPES = Path(__file__).with_name("configs")
_CHOICES = {
    "sampling": get_args(Sampling),
    "precision": get_args(Precision),
    "schedule": get_args(Schedule),
    "keep_best_by": get_args(Score),
}
_PATHS = ("decoder_init", "tokenizer", "lexicon", "init_from", "feature_cache")
_COUNTS = ("epochs", "batch_pictures", "accumulate", "evaluation_batch", "log_every", "patience")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Hyper-parameters. The defaults are those of the paper's released script.

    Raises:
        SEVLMError: a value outside its range or choices.
    """

    # --- start
    decoder_init: str | None = "distilgpt2"  # GPT-2 weights, hub id or folder; null: from scratch
    tokenizer: str = "distilgpt2"  # hub id or folder; `train:4000`: a BPE of that many pieces from the captions
    lexicon: str = ""  # path of a VAD lexicon file, or `vader` (valence only: not the published model)
    # SEVLM checkpoint to go on from, ours or the released script's folder; replaces decoder_init, tokenizer and the
    # model keys (of a released one all but image_encoder and lemmatizer).
    init_from: str | None = None

    # --- data
    sampling: Sampling = "every-caption"  # `last-caption` is what the released loader does in effect
    feature_cache: str | None = None  # folder for frozen image features; null: `sevlm-features` beside the output
    feature_cache_gb: float = 40.0  # ViT-B/16 needs 0.3 MB per picture

    # --- optimisation
    epochs: int = 35  # an epoch shows one pair of captions per picture
    batch_pictures: int = 32  # pairs per step: 64 captions
    accumulate: int = 1  # batches per update and process
    learning_rate: float = 2e-5
    vad_learning_rate: float = 4e-5  # of the VAD encoder
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-6  # large beside the gradients of a small model from scratch: 1.0e-8 there
    schedule: Schedule = "linear"  # to 0 at the last update; or `cosine`
    warmup_steps: int = 0
    max_grad_norm: float | None = None  # null: no clipping
    precision: Precision = "fp32"  # bf16, fp16: autocast; weights and optimiser stay fp32
    seed: int = 0

    # --- evaluation during training
    evaluate_every: int | None = 2000  # updates; null: once per epoch
    evaluation_batch: int = 64
    patience: int = 11  # evaluations without gain in accuracy and BLEU-4 before stopping (released: the 11th stops)
    # Whose best weights become the checkpoint; `last`: those of the last evaluation. The best of accuracy and of
    # BLEU-4 are kept beside it, in `best-accuracy` and `best-bleu_4`, where they are others.
    keep_best_by: Score = "bleu_4"
    log_every: int = 20  # updates between lines of the log
    tensorboard: bool = False  # also write TensorBoard's files (extra `[tensorboard]`)

    def __post_init__(self) -> None:
        self._check_values()
        for name in _PATHS:
            if str(getattr(self, name)).startswith("~"):  # no shell expands it behind `key=`, nor in a file
                object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))

    def _check_values(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SEVLMError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in (*_COUNTS, *(("evaluate_every",) if self.evaluate_every is not None else ())):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SEVLMError(f"{name} must be a positive whole number, got {value!r}")
        for name in ("learning_rate", "vad_learning_rate", "adam_epsilon", "feature_cache_gb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise SEVLMError(f"{name} must be a positive number (YAML wants 2.0e-5, not 2e-5), got {value!r}")
        check_types(self)
        for name in ("weight_decay", "warmup_steps", "max_grad_norm"):
            if (getattr(self, name) or 0) < 0:
                raise SEVLMError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        if self.max_grad_norm == 0:
            raise SEVLMError("max_grad_norm must be more than 0; null clips nothing")


@dataclass(frozen=True)
class Recipe:
    """A model's configuration and how it is trained.

    Attributes:
        mode: whose defaults the model has.
        model: keys of `SEVLMConfig` that differ from them.
        training: hyper-parameters.
    """

    mode: Mode = "improved"
    model: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise SEVLMError(f"mode must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")

    def model_config(self) -> SEVLMConfig:
        """The model's configuration, before the tokenizer decides the vocabulary."""
        if self.mode == "official":
            return SEVLMConfig.official(**self.model)
        return SEVLMConfig.from_dict(self.model)

    def updated(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with other settings: `mode`, the mappings `model` and `training`, or any key of theirs alone.

        Raises:
            SEVLMError: an unknown key (the nearest known one is suggested) or a bad value.
        """
        model, training = dict(self.model), dataclasses.asdict(self.training)
        mode = settings.get("mode", self.mode)
        for key, value in _flattened(settings).items():
            if key in training:
                training[key] = value
            elif key in _model_keys():
                model[key] = value
            else:
                near = difflib.get_close_matches(key, [*training, *_model_keys(), "mode"], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise SEVLMError(f"unknown training setting {key!r}{hint}")
        return Recipe(mode, model, TrainingConfig(**training))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as YAML or JSON values."""
        return {"mode": self.mode, "model": dict(self.model), "training": dataclasses.asdict(self.training)}


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe that comes with the library, by name, or a YAML file.

    Raises:
        SEVLMError: no such recipe, not YAML, or an unknown key.
    """
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    path = RECIPES / f"{name_or_path}.yaml" if str(name_or_path) in known else Path(name_or_path)
    try:
        values = read_recipe_file(path, Recipe().updated)
    except OSError:
        raise SEVLMError(f"no recipe {name_or_path}: expected {', '.join(known)} or the path of a YAML file") from None
    return Recipe().updated(values)


def _flattened(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if key in ("model", "training"):
            if not isinstance(value, Mapping):
                raise SEVLMError(f"{key!r} must hold keys and values, got {value!r}")
            flat |= value
        elif key != "mode":
            flat[key] = value
    return flat


def _model_keys() -> list[str]:
    return [entry.name for entry in dataclasses.fields(SEVLMConfig)]
