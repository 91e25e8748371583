"""Everything that decides what a SEVLM computes, in one dataclass that round-trips through JSON.

`SEVLMConfig()` is the improved mode; `SEVLMConfig.official()` computes what the code released with the paper
computes (BetterZH/SEVLM-code), number for number. Each difference is one field whose comment gives the reason.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from sevlm.errors import SEVLMError
from sevlm.field_types import check_types

VAD_DIMENSIONS = ("valence", "arousal", "dominance")
"""Order of the last axis of every VAD tensor in this library."""

FIXED_BOUNDARY = 6
"""Tokens before the explanation that the official code assumes: bos, three prompt words, emotion, because."""

FusionBoundary: TypeAlias = Literal["fixed6", "token_type"]
ImageResize: TypeAlias = Literal["squash", "crop"]
VADLookupUnit: TypeAlias = Literal["piece", "word"]

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_CHOICES: dict[str, tuple[str, ...]] = {
    "fusion_boundary": get_args(FusionBoundary),
    "image_resize": get_args(ImageResize),
    "vad_lookup": get_args(VADLookupUnit),
}
_TUPLES = ("image_mean", "image_std", "vad_dimensions")
_POSITIVE = (
    *("vocab_size", "n_layer", "n_head", "n_embd", "n_positions", "encoder_dim", "max_length"),
    *("max_new_tokens", "vad_layers", "vad_heads", "vad_feedforward", "vad_positions", "image_size"),
)


@dataclass(frozen=True, kw_only=True)
class SEVLMConfig:
    """Sizes, switches and preprocessing of one model. Immutable; `dataclasses.replace` makes variants.

    Raises:
        SEVLMError: a value outside its choices or sizes that do not fit together.
    """

    # --- decoder: GPT-2 with cross-attention; the defaults are distilgpt2 plus four added tokens
    vocab_size: int = 50261
    n_layer: int = 6
    n_head: int = 12
    n_embd: int = 768
    n_positions: int = 1024
    dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    bos_token_id: int = 50256  # also the end token: GPT-2 has one for both
    pad_token_id: int = 50257
    prefix_token_id: int = 50258
    emotion_token_id: int = 50259
    explanation_token_id: int = 50260

    # --- image side: chosen by name in sevlm.image_encoder
    image_encoder: str = "clip-vit-base-patch16"
    image_size: int = 224
    # CLIP was trained on centre crops with its own statistics; official: squashed, ImageNet statistics.
    image_resize: ImageResize = "crop"
    image_mean: tuple[float, ...] = CLIP_MEAN
    image_std: tuple[float, ...] = CLIP_STD
    encoder_dim: int = 768  # width of the patch features; projected when it differs from n_embd
    # Share of feature channels dropped per picture in training: frozen features tell a few thousand pictures apart so
    # well that a decoder learns their emotions by heart. Official: none.
    image_dropout: float = 0.0
    prefix_length: int = 0  # pseudo-tokens mapped from one image vector and put before the text
    prefix_dim: int = 768  # width of that image vector

    # --- text
    prompt: str = " the emotion is"  # the leading space is part of the BPE segmentation
    # Tokens of a training caption, prefix and prompt included; official: 30, which cuts the end off one in five or so
    # of ArtEmis' captions, and a model that never sees an end does not learn to stop.
    max_length: int = 64
    max_new_tokens: int = 60  # official: 25
    # The 25th token is part of the sentence as much as the 24th; official: dropped when nothing ended the row.
    keep_last_token: bool = True

    # --- VAD features and their encoder
    use_vad_features: bool = True  # off: no fusion and no VAD encoder (ablation)
    vad_layers: int = 3
    vad_heads: int = 1
    vad_feedforward: int = 128
    vad_positions: int = 5000
    # Dimensions that the lexicon knows; the others are fed as 0 and left out of the VAD loss.
    vad_dimensions: tuple[str, ...] = VAD_DIMENSIONS
    # Whole words have known VAD values, BPE pieces have them by accident ("b" + "looming"); official: pieces.
    vad_lookup: VADLookupUnit = "word"
    lemmatizer: str = "simplemma"  # by name in sevlm.lemmatizer; official: nltk
    # Captions without explanation were trained with people's ratings of the picture (`TrainingExample.vad`): the VAD
    # head foresees these at the end of the caption. Set by training; needs the causal encoder.
    rates_pictures: bool = False
    # The features of token t must not see tokens > t, else the VAD head reads its target; official: they do.
    causal_vad_encoder: bool = True
    # Emotions of several pieces move the explanation to the right; official: it starts at token 6 always.
    fusion_boundary: FusionBoundary = "token_type"
    # Starts the fusion as the identity, so that pretrained embeddings survive step 0; official: N(0, 0.02).
    fusion_identity_init: bool = True

    # --- losses
    # One caption's emotion is one annotator's; the shares of all of them are known. Official: the caption's alone.
    soft_emotion_labels: bool = True
    # The emotion is one token of twenty, but it is what the picture decides; above 1 it counts so much more in the
    # language loss. Needs soft labels.
    emotion_weight: float = 1.0
    # Padding says nothing about the explanation, and its share depends on the batch; official: averaged in.
    mask_padding_in_means: bool = True
    use_vad_head: bool = True
    use_contrastive_head: bool = True
    lm_loss_weight: float = 1.0
    contrastive_loss_weight: float = 1.0
    vad_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in _TUPLES:
            if isinstance(getattr(self, name), list):  # from JSON or YAML
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_types(self)
        self._check_values()
        self._check_sizes()

    @classmethod
    def official(cls, **overrides: Any) -> SEVLMConfig:
        """The faithful mode: every quirk of the released code that its checkpoints depend on is kept."""
        faithful: dict[str, Any] = {
            "image_resize": "squash",
            "image_mean": IMAGENET_MEAN,
            "image_std": IMAGENET_STD,
            "max_length": 30,
            "max_new_tokens": 25,
            "keep_last_token": False,
            "vad_lookup": "piece",
            "lemmatizer": "nltk",
            "causal_vad_encoder": False,
            "fusion_boundary": "fixed6",
            "fusion_identity_init": False,
            "soft_emotion_labels": False,
            "mask_padding_in_means": False,
        }
        return cls.from_dict(faithful | overrides)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SEVLMConfig:
        """Builds a configuration from JSON values.

        Raises:
            SEVLMError: an unknown key (the nearest known one is suggested) or a bad value.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise SEVLMError(f"unknown SEVLM configuration key {key!r}{hint}")
        return cls(**values)

    @classmethod
    def load(cls, path: str | Path) -> SEVLMConfig:
        """Reads a `config.json`.

        Raises:
            SEVLMError: the file is absent, no JSON object, or holds unknown keys.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SEVLMError(f"no SEVLM configuration at {path}") from None
        except ValueError as error:  # not UTF-8, or not JSON
            raise SEVLMError(f"{path} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise SEVLMError(f"{path} must hold a JSON object, not {type(values).__name__}")
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; `from_dict` of it is equal to this configuration."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    def save(self, path: str | Path) -> None:
        """Writes the configuration as indented JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    def _check_values(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SEVLMError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise SEVLMError(f"{name} must be a positive whole number, not {getattr(self, name)}")
        unknown = set(self.vad_dimensions) - set(VAD_DIMENSIONS)
        if unknown or not self.vad_dimensions:
            raise SEVLMError(f"vad_dimensions must be some of {VAD_DIMENSIONS}, not {self.vad_dimensions!r}")
        if self.rates_pictures and not self.causal_vad_encoder:
            raise SEVLMError("rates_pictures needs causal_vad_encoder, else the VAD head reads the rating")
        if self.emotion_weight <= 0 or (self.emotion_weight != 1 and not self.soft_emotion_labels):
            raise SEVLMError(f"emotion_weight must be positive, and 1 without soft labels, not {self.emotion_weight}")
        for name in ("dropout", "image_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise SEVLMError(f"{name} must lie in [0, 1), not {getattr(self, name)}")

    def _check_sizes(self) -> None:
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != len("RGB"):
                raise SEVLMError(f"{name} must hold 3 numbers, for red, green and blue, not {getattr(self, name)!r}")
        if self.n_embd % self.n_head:
            raise SEVLMError(f"n_embd {self.n_embd} must be a multiple of n_head {self.n_head}")
        if len(VAD_DIMENSIONS) % self.vad_heads:
            raise SEVLMError(f"vad_heads must be 1 or 3 (they divide the 3 VAD values), not {self.vad_heads}")
        if self.prefix_length < 0 or self.max_length > self.n_positions:
            raise SEVLMError(
                f"need prefix_length >= 0 and max_length <= n_positions, got {self.prefix_length}, "
                f"{self.max_length}, {self.n_positions}"
            )
