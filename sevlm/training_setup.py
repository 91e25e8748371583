"""Everything a training needs before its first update: features, tokenizer, captions, model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sevlm.bpe import caption_text, pretrained_gpt2, train_bpe
from sevlm.collate import EncodedCaptions
from sevlm.config import SEVLMConfig
from sevlm.errors import SEVLMError
from sevlm.examples import TrainingExample
from sevlm.features import FeatureCache, FeatureStore
from sevlm.gpt2_weights import load_gpt2_weights
from sevlm.image_encoder import load_image_encoder
from sevlm.lexicon import VADLexicon, load_lexicon
from sevlm.model import SEVLM
from sevlm.official import OFFICIAL_MODEL, model_from_official, read_official
from sevlm.processes import Processes
from sevlm.tokenization import Tokenizer, config_for_tokenizer
from sevlm.training_config import Recipe, TrainingConfig
from sevlm.vad_lookup import VADLookup


@dataclass(frozen=True)
class Setup:
    """A training, ready to start.

    Attributes:
        recipe: what was asked for.
        model: on the device, in training mode, with its tokenizer.
        lookup: affect of words.
        train, validation: captions of readable pictures; validation may be empty.
        store: their image features.
        encoder_fingerprint: of the frozen image encoder.
        processes: this process, its device, and the others.
    """

    recipe: Recipe
    model: SEVLM
    lookup: VADLookup
    train: EncodedCaptions
    validation: EncodedCaptions
    store: FeatureStore
    encoder_fingerprint: str
    processes: Processes

    def identity(self) -> dict[str, Any]:
        """What the training computes; an interrupted one may only be resumed with the same."""
        values = self.recipe.to_dict()
        for name in ("feature_cache", "feature_cache_gb", "log_every", "tensorboard", "lexicon"):
            del values["training"][name]  # they change no weight; the lexicon's content stands below
        return {
            **values,
            "lexicon": self.lookup.lexicon.fingerprint(),
            "image encoder": self.encoder_fingerprint,
            "training data": _data_hash(self.train.examples, self.store),
            "validation data": _data_hash(self.validation.examples, self.store),
            "number of processes": self.processes.count,
        }


def prepare(
    recipe: Recipe,
    train: Sequence[TrainingExample],
    validation: Sequence[TrainingExample],
    out: Path,
    device: str | None = None,
    progress: bool = True,
) -> Setup:
    """Load or make everything that a training needs; see `sevlm.train.train`."""
    settings = recipe.training
    if not train:
        raise SEVLMError("no training example")
    processes = Processes(device)
    if settings.precision == "fp16" and processes.device.type != "cuda":
        raise SEVLMError("precision fp16 needs a CUDA device; use bf16 or fp32")
    torch.manual_seed(settings.seed)
    lexicon = _lexicon(settings)
    base = _base(recipe) if settings.init_from else None
    config = base.config if base is not None else recipe.model_config()
    rated = config.causal_vad_encoder and any(e.vad is not None and e.is_unexplained for e in train)
    config = dataclasses.replace(config, vad_dimensions=lexicon.dimensions, rates_pictures=rated)
    if config.prefix_length:
        raise SEVLMError("training with a visual prefix is not supported: set prefix_length to 0")
    with processes.first_one_first():  # the others then find the features in the cache
        store, fingerprint = _features(config, settings, [*train, *validation], out, str(processes.device), progress)
    kept = [[example for example in part if example.image_path in store] for part in (train, validation)]
    if not kept[0]:
        raise SEVLMError(f"no training picture can be read; the first: {next(iter(store.unreadable.values()))}")
    model = _model(base, config, settings, kept[0]).to(processes.device)
    lookup = VADLookup.from_config(model.config, lexicon)
    encoded = [EncodedCaptions(part, model.tokenizer, model.config, lookup, progress) for part in kept]
    return Setup(recipe, model.train(), lookup, encoded[0], encoded[1], store, fingerprint, processes)


def _base(recipe: Recipe) -> SEVLM:
    """The model to go on from: a checkpoint of this library, or a folder of the released training script.

    A released folder with several checkpoints is told apart by naming its `nle_model_<name>` folder. Of a released
    checkpoint the recipe chooses image encoder and lemmatiser: no file says where their weights and data lie.
    """
    folder = Path(str(recipe.training.init_from))
    if folder.name.startswith(OFFICIAL_MODEL):
        model = model_from_official(read_official(folder.parent, folder.name.removeprefix(OFFICIAL_MODEL)))
    elif any(folder.glob(f"{OFFICIAL_MODEL}*")):
        model = model_from_official(read_official(folder))
    else:
        return SEVLM.from_pretrained(str(recipe.training.init_from))
    chosen = {key: recipe.model[key] for key in ("image_encoder", "lemmatizer") if key in recipe.model}
    model.config = dataclasses.replace(model.config, **chosen)
    return model


def _lexicon(settings: TrainingConfig) -> VADLexicon:
    if not settings.lexicon:
        raise SEVLMError(
            "training needs a VAD lexicon: set lexicon to an NRC-VAD, Glasgow or Warriner file, "
            "or to 'vader' (valence only, not the published SEVLM)"
        )
    return load_lexicon(settings.lexicon)


def _features(
    config: SEVLMConfig,
    settings: TrainingConfig,
    examples: Sequence[TrainingExample],
    out: Path,
    device: str,
    progress: bool,
) -> tuple[FeatureStore, str]:
    encoder = load_image_encoder(config)
    folder = Path(settings.feature_cache) if settings.feature_cache else out.parent / "sevlm-features"
    cache = FeatureCache(folder, settings.feature_cache_gb, progress=progress)
    store = cache.build(encoder, [example.image_path for example in examples], device)
    return store, encoder.fingerprint()


def _model(
    base: SEVLM | None, config: SEVLMConfig, settings: TrainingConfig, train: Sequence[TrainingExample]
) -> SEVLM:
    if base is not None:
        base.config = config
        return base
    tokenizer = _tokenizer(config, settings, train)
    model = SEVLM(config_for_tokenizer(config, tokenizer), tokenizer)
    if settings.decoder_init is not None:
        load_gpt2_weights(model, settings.decoder_init)
    else:
        _scale_embeddings(model)
    return model


def _scale_embeddings(model: SEVLM) -> None:
    """Draw word and position embeddings anew with standard deviation 1 / sqrt(width).

    VAD features are of order 1. Beside GPT-2's 0.02 they drown the words, and a decoder that starts from nothing needs
    about twice the updates; pretrained embeddings are large enough.
    """
    scale = float(model.config.n_embd) ** -0.5
    torch.nn.init.normal_(model.decoder.wte.weight, std=scale)
    torch.nn.init.normal_(model.decoder.wpe.weight, std=scale)


def _tokenizer(config: SEVLMConfig, settings: TrainingConfig, train: Sequence[TrainingExample]) -> Tokenizer:
    kind, _, size = settings.tokenizer.partition(":")
    if kind != "train":
        return pretrained_gpt2(settings.tokenizer)
    if not size.isdecimal():
        raise SEVLMError(f"tokenizer must be a hub id, a folder, or train:SIZE such as train:4000; got {kind}:{size}")
    return train_bpe([caption_text(config, *caption) for e in train for caption in e.captions], int(size))


def _data_hash(examples: Sequence[TrainingExample], store: FeatureStore) -> str:
    content = [
        (e.id, store.digest(e.image_path), e.captions, sorted((e.histogram or {}).items()), e.vad) for e in examples
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
