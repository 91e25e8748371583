"""Everything that decides what a SEVLM computes, in one dataclass that round-trips through JSON; and the ground that
all modules stand on: the error type and atomic writes.

`SEVLMConfig()` is the improved mode; `SEVLMConfig.official()` computes what the code released with the paper
computes (BetterZH/SEVLM-code), number for number. Each difference is one field whose comment gives the reason.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

VAD_DIMENSIONS = ("valence", "arousal", "dominance")
"""Order of the last axis of every VAD tensor in this library."""

FIXED_BOUNDARY = 6
"""Tokens before the explanation that the official code assumes: bos, three prompt words, emotion, because."""

FusionBoundary: TypeAlias = Literal["fixed6", "token_type"]
ImageResize: TypeAlias = Literal["squash", "crop"]
VADLookupUnit: TypeAlias = Literal["piece", "word"]

TRAINED_ENCODER = "trained"
"""`image_encoder` of a model whose encoder was trained with it and lies in the checkpoint, in `image_encoder/`.
Behind a colon stands which one it was before; without, it is a CLIP tower that the released script trained."""

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_TUPLES = ("image_mean", "image_std", "vad_dimensions", "labels", "meta_values")
_GREEDY = {"n_best": 1, "no_repeat_ngram": 0}
"""How the released code decodes; files that were written before these were fields mean it, too."""
_POSITIVE = (
    *("vocab_size", "n_layer", "n_head", "n_embd", "n_positions", "encoder_dim", "max_length"),
    *("max_new_tokens", "vad_layers", "vad_heads", "vad_feedforward", "vad_positions", "image_size"),
    *("label_temperature", "n_best", "sampling_temperature", "top_p"),
)


class SEVLMError(ValueError):
    """A configuration, checkpoint or argument that SEVLM cannot work with.

    The message is one line: what was expected, what was got and, where it helps, what to do. What it quotes from a file
    may hold anything, so line breaks and control characters are taken out of it here.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in " ".join(message.split())))


def first_line(error: BaseException) -> str:
    """First line of an error's message, at most 300 characters; the name of its type if there is no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file or a folder whole or not at all: an interruption leaves the old content.

    Args:
        path: what to write; its folder exists.
        write: writes the new content to the path it is given.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(aside)
        if aside.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            aside.chmod(0o644)  # safetensors writes private files
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    atomic_write(path, lambda aside: aside.write_text(text, encoding="utf-8"))


# ----------------------------------------------------------------------------------------- checked settings


_type_hints = cache(get_type_hints)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a finite number (YAML wants 2.0e-5, not 2e-5)", _is_number),
    str: ("text", lambda value: isinstance(value, str)),
    tuple[float, ...]: ("a list of numbers", lambda value: isinstance(value, tuple) and all(map(_is_number, value))),
    tuple[str, ...]: (
        "a list of texts",
        lambda value: isinstance(value, tuple) and all(isinstance(text, str) for text in value),
    ),
}


def check_fields(settings: Any, positive: Collection[str]) -> None:
    """Check that each field of a dataclass holds what its annotation says: a text such as "no" would count as true.

    Args:
        settings: its fields are plain values, lists as tuples, `Literal`s, or one of these or None.
        positive: names of numbers that must be more than 0.

    Raises:
        SEVLMError: a field does not.
    """
    for name, hint in _type_hints(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, name)
        options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if value is None and type(None) in options:
            continue
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                raise SEVLMError(f"{name} must be one of {', '.join(get_args(hint))}, not {value!r}")
            continue
        kind = next(option for option in options if option in _KINDS)
        wanted, fits = _KINDS[kind]
        if name in positive and kind is int:
            wanted = "a positive whole number"
        if not fits(value):
            raise SEVLMError(f"{name} must be {wanted}, not {value!r}")
        if name in positive and value <= 0:
            raise SEVLMError(f"{name} must be {'more than 0' if kind is float else wanted}, not {value!r}")


def unknown_key(kind: str, key: str, known: Collection[str]) -> SEVLMError:
    """The error for a key that is not known; it names the nearest one that is."""
    near = difflib.get_close_matches(key, known, n=1)
    return SEVLMError(f"unknown {kind} {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


# ------------------------------------------------------------------------------------------- configuration


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

    # --- image side: chosen by name in sevlm.images
    image_encoder: str = "clip-vit-base-patch16"
    image_size: int = 224
    # CLIP was trained on centre crops with its own statistics; official: squashed, ImageNet statistics.
    image_resize: ImageResize = "crop"
    image_mean: tuple[float, ...] = CLIP_MEAN
    image_std: tuple[float, ...] = CLIP_STD
    encoder_dim: int = 768  # width of the patch features; projected when it differs from n_embd
    image_trained: int = 0  # values of the encoder that were trained with the model; set by training
    # Share of feature channels dropped per image in training: frozen features tell a few thousand images apart so
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
    lemmatizer: str = "simplemma"  # by name in sevlm.vad; official: nltk
    # The lexicon that the model was trained with: its layout, and SHA-256 of its content. Set by training.
    lexicon_name: str | None = None
    lexicon_sha256: str | None = None
    # Captions without explanation were trained with people's ratings of the image (`TrainingExample.vad`): the VAD
    # head predicts these at the end of the caption. Set by training; needs the causal encoder.
    rates_pictures: bool = False
    # The features of token t must not see tokens > t, else the VAD head reads its target; official: they do.
    causal_vad_encoder: bool = True
    # Emotions of several pieces move the explanation to the right; official: it starts at token 6 always.
    fusion_boundary: FusionBoundary = "token_type"
    # Starts the fusion as the identity, so that pretrained embeddings survive step 0; official: N(0, 0.02).
    fusion_identity_init: bool = True

    # --- label head
    # Which emotion an image evokes is decided by the image alone, and a regression on its features decides it better
    # than a decoder that must also learn to write. Official: the decoder's first words are the label.
    use_label_head: bool = True
    labels: tuple[str, ...] = ()  # that the head tells apart; set by training, empty: there is no head
    # A key of the examples' `meta` (`style`, say) that the head sees beside the image, and its known values, which
    # training sets. Official: none.
    label_meta: str | None = None
    meta_values: tuple[str, ...] = ()
    # Share of a target that goes to labels near in valence, arousal and dominance: who felt awe nearly felt excitement.
    label_smoothing: float = 0.0
    # Share of the head in the probability of a label, the rest is the decoder's; and the temperature of the mixture:
    # an over-confident model is flattened by one above 1. Training chooses both by cross-entropy if it has validation
    # images.
    label_blend: float = 0.75
    label_temperature: float = 1.0
    # The decoder explains the most probable label, not the one that it would begin with itself.
    explain_best_label: bool = True

    # --- choosing an explanation
    # The most probable words one by one are seldom the most probable sentence. Explanations to choose from: the greedy
    # one and samples. Official: the greedy one.
    n_best: int = 8
    # A small model has the tail of its distributions wrong: logits are divided by the temperature, then drawn from the
    # most probable tokens that together have this probability.
    sampling_temperature: float = 0.3
    top_p: float = 0.9
    sampling_seed: int = 0
    # No caption says so many tokens in a row twice, the greedy one included: a small model falls into loops ("very very
    # very"). Official: 0, anything may be repeated.
    no_repeat_ngram: int = 3
    # How much each opinion counts, standardised among the candidates: the decoder's mean log-probability per token,
    # which favours no length; the contrastive head's score of image, emotion and explanation, which in trials brought
    # explanations no nearer to people's; how near the words' affect is to what the VAD head predicts.
    rank_by_log_prob: float = 1.0
    rank_by_match: float = 0.0
    rank_by_affect: float = 0.5

    # --- losses
    # One caption's emotion is one annotator's; the shares of all of them are known. Official: the caption's alone.
    soft_emotion_labels: bool = True
    # The emotion is one token of twenty, but it is what the image decides; above 1 it counts so much more in the
    # language loss. Needs soft labels.
    emotion_weight: float = 1.0
    # Padding says nothing about the explanation, and its share depends on the batch; official: averaged in.
    mask_padding_in_means: bool = True
    use_vad_head: bool = True
    use_contrastive_head: bool = True
    lm_loss_weight: float = 1.0
    label_loss_weight: float = 1.0
    contrastive_loss_weight: float = 1.0
    vad_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in _TUPLES:
            if isinstance(getattr(self, name), list):  # from JSON or YAML
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_fields(self, _POSITIVE)
        self._check_values()
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
            "use_label_head": False,
            "explain_best_label": False,
            "soft_emotion_labels": False,
            "mask_padding_in_means": False,
            **_GREEDY,
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
                raise unknown_key("SEVLM configuration key", key, known)
        return cls(**values)

    @property
    def encoder_is_trained(self) -> bool:
        """Whether the image encoder was trained with the model, and so lies in its checkpoint."""
        return self.image_encoder.partition(":")[0] == TRAINED_ENCODER

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
        return cls.from_dict(_GREEDY | values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; `from_dict` of it is equal to this configuration."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    def save(self, path: str | Path) -> None:
        """Writes the configuration as indented JSON."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")

    def _check_values(self) -> None:
        unknown = set(self.vad_dimensions) - set(VAD_DIMENSIONS)
        if unknown or not self.vad_dimensions:
            raise SEVLMError(f"vad_dimensions must be some of {VAD_DIMENSIONS}, not {self.vad_dimensions!r}")
        if self.rates_pictures and not self.causal_vad_encoder:
            raise SEVLMError("rates_pictures needs causal_vad_encoder, else the VAD head reads the rating")
        if self.emotion_weight <= 0 or (self.emotion_weight != 1 and not self.soft_emotion_labels):
            raise SEVLMError(f"emotion_weight must be positive, and 1 without soft labels, not {self.emotion_weight}")
        for name in ("label_blend", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise SEVLMError(f"{name} must lie in [0, 1], not {getattr(self, name)}")
        if self.top_p > 1:
            raise SEVLMError(f"top_p must lie in (0, 1], not {self.top_p}")
        if self.no_repeat_ngram < 0:
            raise SEVLMError(f"no_repeat_ngram must be at least 0, not {self.no_repeat_ngram}")
        for name in ("dropout", "image_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise SEVLMError(f"{name} must lie in [0, 1), not {getattr(self, name)}")
