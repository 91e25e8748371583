"""How a model is trained: hyper-parameters, recipes that pair them with a model's configuration, and all that must be
ready before the first update.

A recipe is a YAML file with the keys `mode` (`official` or `improved`, the defaults of the model), `model` (keys of
`SEVLMConfig` that differ from the mode's) and `training` (keys of `TrainingConfig`). Three come with the library:
`official`, `small` and `demo`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import yaml
from accelerate.accelerator import Accelerator
from accelerate.state import AcceleratorState

from sevlm.checkpoint import SEVLM, Progress, load_gpt2_weights, model_from_official
from sevlm.config import TRAINED_ENCODER, SEVLMConfig, SEVLMError, check_fields, unknown_key, write_text
from sevlm.data import EncodedCaptions, Sampling, TrainingExample
from sevlm.images import FeatureCache, FeatureStore, ImageOpener, Stem, find_device, load_image_encoder, open_image
from sevlm.official import OFFICIAL_MODEL, read_official
from sevlm.tokenization import caption_text, config_for_tokenizer, pretrained_gpt2, train_bpe
from sevlm.vad import VADLookup, load_lexicon, words

Mode: TypeAlias = Literal["official", "improved"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
Schedule: TypeAlias = Literal["linear", "cosine"]
Score: TypeAlias = Literal["accuracy", "bleu_4", "lm_loss", "last"]

RECIPES = Path(__file__).with_name("configs")
_PATHS = ("decoder_init", "tokenizer", "lexicon", "init_from", "feature_cache")
_AT_LEAST_0 = ("weight_decay", "label_weight_decay", "warmup_steps", "max_grad_norm", "teacher_weight")
_IMAGE_PARTS = ("image_lora_rank", "image_blocks")
_POSITIVE = (
    *("epochs", "batch_pictures", "accumulate", "evaluation_batch", "log_every", "patience", "evaluate_every"),
    *("learning_rate", "vad_learning_rate", "label_learning_rate", "image_learning_rate", "adam_epsilon"),
    "feature_cache_gb",
)


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
    feature_cache_gb: float = 40.0  # ViT-B/16 needs 0.3 MB per image

    # Annotators that a teacher counts as, of an image that people annotated, too. However sure it is, it is one opinion
    # beside theirs; 0: it is heard on images without annotations alone.
    teacher_weight: float = 1.0

    # --- image encoder
    # Frozen features were made to name things, and a regression on them is as good as a head at finding emotions: more
    # can only be learned below them. Released: `fixed_encoder`, as here without either.
    image_lora_rank: int = 0  # of a transformer: low-rank updates of all its blocks, some hundred thousand values
    image_blocks: int = 0  # of a CNN: so many of its last blocks; the frozen ones below are computed once
    image_learning_rate: float = 1e-4  # small steps: what these weights know came from millions of images

    # --- optimisation
    epochs: int = 35  # an epoch shows one pair of captions per image
    batch_pictures: int = 32  # pairs per step: 64 captions
    accumulate: int = 1  # batches per update and process
    learning_rate: float = 2e-5
    vad_learning_rate: float = 4e-5  # of the VAD encoder
    # Of the label head: a regression on frozen features needs few, large steps and little freedom, at any size.
    label_learning_rate: float = 1.0e-3
    label_weight_decay: float = 1.0
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-6  # large beside the gradients of a small model from scratch: 1.0e-8 there
    schedule: Schedule = "linear"  # to 0 at the last update; or `cosine`
    warmup_steps: int = 0
    max_grad_norm: float | None = None  # null: no clipping
    precision: Precision = "fp32"  # bf16, fp16: autocast; weights and optimiser stay fp32
    compile: bool = False  # torch.compile; the first update then takes minutes, and what a GPU gains was not measured
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
        check_fields(self, _POSITIVE)
        for name in (*_AT_LEAST_0, *_IMAGE_PARTS):
            if (getattr(self, name) or 0) < 0:
                raise SEVLMError(f"{name} must be at least 0, not {getattr(self, name)!r}")
        if self.max_grad_norm == 0:
            raise SEVLMError("max_grad_norm must be more than 0; null clips nothing")
        if self.image_lora_rank and self.image_blocks:
            raise SEVLMError("image_lora_rank adapts a transformer, image_blocks a CNN: set one of them to 0")
        for name in _PATHS:
            if str(getattr(self, name)).startswith("~"):  # no shell expands it behind `key=`, nor in a file
                object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))


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
        if self.mode not in ("official", "improved"):
            raise SEVLMError(f"mode must be one of official, improved, not {self.mode!r}")

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
        flat: dict[str, Any] = {}
        for key, value in settings.items():
            if key not in ("model", "training"):
                flat[key] = value
            elif isinstance(value, Mapping):
                flat |= value
            else:
                raise SEVLMError(f"{key!r} must hold keys and values, not {value!r}")
        mode = flat.pop("mode", self.mode)
        model, training = dict(self.model), dataclasses.asdict(self.training)
        model_keys = [entry.name for entry in dataclasses.fields(SEVLMConfig)]
        for key, value in flat.items():
            if key not in training and key not in model_keys:
                raise unknown_key("training setting", key, [*training, *model_keys, "mode"])
            (training if key in training else model)[key] = value
        return Recipe(mode, model, TrainingConfig(**training))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as YAML or JSON values."""
        return {"mode": self.mode, "model": dict(self.model), "training": dataclasses.asdict(self.training)}


# ---------------------------------------------------------------------------------------- recipes in YAML

_DEEPEST = 50
"""Levels of nesting; reading very deep YAML takes time that grows with the square of the depth."""
_GROUPS = ("model", "training")


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe that comes with the library, by name, or a YAML file.

    The file holds plain values only, without aliases, which a few bytes can expand without bound.

    Raises:
        SEVLMError: no such recipe, not UTF-8, not YAML, or a key that is unknown, given twice or of a bad value; the
            message names its line.
    """
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    path = RECIPES / f"{name_or_path}.yaml" if str(name_or_path) in known else Path(name_or_path)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=_PlainLoader)
    except OSError:
        raise SEVLMError(f"no recipe {name_or_path}: expected {', '.join(known)} or the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise SEVLMError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SEVLMError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    values: dict[str, Any] = {}
    for key, line, node in _entries(path, root):
        entries = [(key, line, node)] if key not in _GROUPS else list(_entries(path, node))
        found = {}
        for name, at, inner in entries:
            try:
                found[name] = yaml.constructor.SafeConstructor().construct_document(inner)
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                problem = getattr(error, "problem", error)
                raise SEVLMError(f"{path}, line {at}: not a plain value: {problem}") from None
        for name, at, _ in entries:
            try:
                Recipe().updated({name: found[name]})  # one key at a time, to know its line
            except SEVLMError as error:
                raise SEVLMError(f"{path}, line {at}: {error}") from None
        values[key] = found if key in _GROUPS else found[key]
    return Recipe().updated(values)


class _PlainLoader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases are not supported; repeat the value", problem_mark=mark)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.YAMLError(f"more than {_DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _entries(path: Path, node: yaml.Node | None) -> Iterator[tuple[str, int, yaml.Node]]:
    """Key, line and value of each entry of a mapping."""
    if not isinstance(node, yaml.MappingNode):
        line = f", line {node.start_mark.line + 1}" if node is not None else ""
        raise SEVLMError(f"{path}{line} must hold the keys mode, model and training, with values")
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.value in seen:
            raise SEVLMError(f"{path}, line {line}: expected a key of text, each once, got {str(key.value)[:60]!r}")
        seen.add(key.value)
        yield key.value, line, value


# ------------------------------------------------------------------------------------ before the first update


@dataclass(frozen=True)
class Setup:
    """A training, ready to start.

    Attributes:
        model: on the device, in training mode, with its tokenizer.
        train, validation: captions of readable images; validation may be empty.
        store: their image features.
        teachers: name -> what is noted of it.
        accelerator: this process and the others, and the precision they compute in.
        device: of this process.
    """

    recipe: Recipe
    model: SEVLM
    lookup: VADLookup
    train: EncodedCaptions
    validation: EncodedCaptions
    store: FeatureStore
    encoder_fingerprint: str
    teachers: Mapping[str, Mapping[str, Any]]
    accelerator: Accelerator
    device: torch.device

    def identity(self) -> dict[str, Any]:
        """What the training computes; an interrupted one may only be resumed with the same."""
        values = self.recipe.to_dict()
        for name in ("feature_cache", "feature_cache_gb", "log_every", "tensorboard", "lexicon"):
            del values["training"][name]  # they change no weight; the lexicon's content stands below
        if not self.recipe.training.compile:
            del values["training"]["compile"]  # trainings from before the setting was there may go on
        return {
            **values,
            "lexicon": self.lookup.lexicon.fingerprint(),
            "image encoder": self.encoder_fingerprint,
            "training data": _data_hash(self.train.examples, self.store),
            "validation data": _data_hash(self.validation.examples, self.store),
            "number of processes": self.accelerator.num_processes,
        }


COVERAGE_SAMPLE = 20_000
"""Captions over which the lexicon's coverage is counted."""


def prepare(
    recipe: Recipe,
    train: Sequence[TrainingExample],
    validation: Sequence[TrainingExample],
    out: Path,
    device: str | None = None,
    progress: bool = True,
    open_image: ImageOpener = open_image,
    teachers: Mapping[str, Mapping[str, Any]] | None = None,
) -> Setup:
    """Load or make everything that a training needs; see `sevlm.train.train`."""
    settings = recipe.training
    if not train:
        raise SEVLMError("no training example")
    accelerator, place = start_processes(device, settings.precision)
    torch.manual_seed(settings.seed)
    if not settings.lexicon:
        raise SEVLMError(
            "training needs a VAD lexicon: set lexicon to an NRC-VAD, Glasgow or Warriner file, "
            "or to 'vader' (valence only, not the published SEVLM)"
        )
    lexicon = load_lexicon(settings.lexicon)
    if accelerator.is_main_process:
        print(f"lexicon {settings.lexicon}: {len(lexicon):,} words, read as {lexicon.name} ({lexicon.recognised})")
    base = _base(recipe) if settings.init_from else None
    config = base.config if base is not None else recipe.model_config()
    if any(example.lessons for example in train) and (recipe.mode == "official" or not config.soft_emotion_labels):
        raise SEVLMError("a teacher's soft labels need mode improved with soft_emotion_labels; add: mode=improved")
    train = [example.taught(settings.teacher_weight) for example in train]
    rated = config.causal_vad_encoder and any(e.vad is not None and e.is_unexplained for e in train)
    config = dataclasses.replace(
        config,
        vad_dimensions=lexicon.dimensions,
        lexicon_name=lexicon.name,
        lexicon_sha256=lexicon.fingerprint(),
        rates_pictures=rated,
    )
    if base is None:
        labels, values = label_sets(config, train)
        config = dataclasses.replace(config, labels=labels, meta_values=values)
    if config.prefix_length:
        raise SEVLMError("training with a visual prefix is not supported: set prefix_length to 0")
    encoder = base.image_encoder() if base is not None and config.encoder_is_trained else load_image_encoder(config)
    fingerprint = encoder.fingerprint()
    adapting = bool(settings.image_lora_rank or settings.image_blocks)
    if adapting:
        encoder.adapt(settings.image_lora_rank, settings.image_blocks)
        number = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
        name = config.image_encoder if config.encoder_is_trained else f"{TRAINED_ENCODER}:{config.image_encoder}"
        config = dataclasses.replace(config, image_encoder=name, image_trained=number)
    folder = Path(settings.feature_cache) if settings.feature_cache else out.parent / "sevlm-features"
    cache = FeatureCache(folder, settings.feature_cache_gb, progress=progress, open_image=open_image)
    with accelerator.main_process_first():  # the others then find the features in the cache
        store = cache.build(
            Stem(encoder) if adapting else encoder,
            [example.image_path for example in (*train, *validation)],
            str(place),
        )
    kept = [[example for example in part if example.image_path in store] for part in (train, validation)]
    if not kept[0]:
        raise SEVLMError(f"no training image can be read; the first: {next(iter(store.unreadable.values()))}")
    model = _model(base, config, settings, kept[0])
    if adapting:
        model.keep_encoder(encoder, adapting=True)
    model.to(place)
    model.lookup = lookup = VADLookup.from_config(model.config, lexicon)
    encoded = [EncodedCaptions(part, model.tokenizer, model.config, lookup, progress) for part in kept]
    parts = (encoded[0], encoded[1], store, fingerprint)
    return Setup(recipe, model.train(), lookup, *parts, teachers or {}, accelerator, place)


def label_sets(config: SEVLMConfig, train: Sequence[TrainingExample]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels that the head tells apart, and the values of `meta` that it knows; none without a head.

    Raises:
        SEVLMError: no training image has `meta`.
    """
    if not config.use_label_head:
        return (), ()
    told = {example.meta.get(config.label_meta, "") for example in train} - {""} if config.label_meta else set()
    if config.label_meta and not told:
        raise SEVLMError(f"label_meta: no training image has {config.label_meta!r}")
    labels = {label for example in train for label, count in example.counts.items() if count}
    return tuple(sorted(labels)), tuple(sorted(told))


def start_processes(device: str | None, precision: Precision) -> tuple[Accelerator, torch.device]:
    """The processes of one training, this one alone or several that `accelerate launch` started, and this one's device.

    Several processes on GPUs get one each, whatever is asked for; a process alone takes the device of this name.

    Raises:
        SEVLMError: there is no such device, or it lacks the precision.
    """
    place = find_device(device)
    if precision == "fp16" and place.type != "cuda":
        raise SEVLMError("precision fp16 needs a CUDA device; use bf16 or fp32")
    AcceleratorState._reset_state(reset_partial_state=True)  # another training of this process had its own
    mixed = "no" if precision == "fp32" else precision
    accelerator = Accelerator(cpu=place.type == "cpu", mixed_precision=mixed)
    return accelerator, place if accelerator.num_processes == 1 else accelerator.device


def _base(recipe: Recipe) -> SEVLM:
    """The model to go on from: a checkpoint of this library, or a folder of the released training script.

    A released folder with several checkpoints is told apart by naming its `nle_model_<name>` folder. Of a released
    checkpoint the recipe chooses image encoder and lemmatiser: no file says where their weights and data lie.
    """
    folder = Path(str(recipe.training.init_from))
    if folder.name.startswith(OFFICIAL_MODEL):
        model = model_from_official(read_official(folder.parent, folder.name.removeprefix(OFFICIAL_MODEL)))
    else:
        model = SEVLM.from_pretrained(folder)
        if not any(folder.glob(f"{OFFICIAL_MODEL}*")):
            return model
    chosen = {key: recipe.model[key] for key in ("image_encoder", "lemmatizer") if key in recipe.model}
    model.config = dataclasses.replace(model.config, **chosen)
    return model


def _model(
    base: SEVLM | None, config: SEVLMConfig, settings: TrainingConfig, train: Sequence[TrainingExample]
) -> SEVLM:
    if base is not None:
        base.config = config
        if base.vad_encoder is not None:
            base.vad_encoder.know(config.vad_dimensions)
        return base
    kind, _, size = settings.tokenizer.partition(":")
    if kind != "train":
        tokenizer = pretrained_gpt2(settings.tokenizer)
    elif size.isdecimal():
        tokenizer = train_bpe([caption_text(config, *caption) for e in train for caption in e.captions], int(size))
    else:
        raise SEVLMError(
            f"tokenizer must be a hub id, a folder, or train:SIZE such as train:4000; got {settings.tokenizer}"
        )
    model = SEVLM(config_for_tokenizer(config, tokenizer), tokenizer)
    if settings.decoder_init is not None:
        load_gpt2_weights(model, settings.decoder_init)
        return model
    # VAD features are of order 1. Beside GPT-2's 0.02 they drown the words, and a decoder that starts from nothing
    # needs about twice the updates; pretrained embeddings are large enough.
    for embedding in (model.decoder.wte, model.decoder.wpe):
        torch.nn.init.normal_(embedding.weight, std=float(config.n_embd) ** -0.5)
    return model


def _data_hash(examples: Sequence[TrainingExample], store: FeatureStore) -> str:
    content = [
        (
            e.id,
            store.digest(e.image_path),
            e.captions,
            sorted((e.histogram or {}).items()),
            e.vad,
            sorted(e.meta.items()),
        )
        for e in examples
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------ what a training says about itself

_TRAINING_CARD = """
## Training

| | |
|---|---|
| pictures, captions | {pictures:,}, {captions:,} |
| captions cut at the maximal length | {truncated:.1%} |
| image encoder | {image} |
| VAD lexicon | {name} ({dimensions}), sha256 `{fingerprint}` |
| running words that the lexicon knows | {coverage:.1%} |
| epochs, updates | {epochs}, {updates} |
| weights kept from update | {kept} |
| device, hours | {device}, {hours:.2f} |
"""
_TEACHER = "| learned from `{name}`, another model | {outcomes:,} outcomes of {file}, sha256 `{sha256}` |\n"
_ALONE = "| pictures learned from models alone | {:,}; elsewhere each counts as `teacher_weight` {:g} annotators |\n"
_VALENCE_ONLY = """
**Not the published SEVLM.** Its lexicon (NRC-VAD) measures valence, arousal and dominance; this model was trained with
a lexicon of valence only, and its arousal and dominance inputs are always 0. Do not report its numbers as SEVLM's.
"""


def summarise(setup: Setup, progress: Progress, planned: int, stopped_early: bool) -> dict[str, Any]:
    """The contents of `training.json`."""
    examples, lexicon = setup.train.examples, setup.lookup.lexicon
    captions = (explanation for example in examples for _, explanation in example.captions)
    kept_update = progress.kept[setup.recipe.training.keep_best_by]
    kept = next((e for e in progress.evaluations if e["update"] == kept_update), None)
    return {
        "identity": setup.identity(),
        "recipe": setup.recipe.to_dict(),
        "pictures": len(examples),
        "captions": len(setup.train),
        "validation_pictures": len(setup.validation.examples),
        "teachers": taught_by(setup),
        "pictures_without_annotations": sum(0 < len(e.lessons) == len(e.captions) for e in examples),
        "unreadable": {str(path): reason for path, reason in setup.store.unreadable.items()},
        "truncated": setup.train.truncated,
        "lexicon": {
            "name": lexicon.name,
            "source": setup.recipe.training.lexicon,
            "fingerprint": lexicon.fingerprint(),
            "dimensions": list(lexicon.dimensions),
            "entries": len(lexicon),
            "coverage": setup.lookup.coverage(map(words, islice(captions, COVERAGE_SAMPLE))),
        },
        "departures_from_published": departures(setup),
        "image_encoder_fingerprint": setup.encoder_fingerprint,
        "parameters": setup.model.parameter_counts(),
        "epochs": progress.epoch,
        "updates": progress.update,
        "planned_updates": planned,
        "stopped_early": stopped_early,
        "kept_update": kept_update,
        "kept_updates": progress.kept,
        "kept_scores": kept,
        "evaluations": progress.evaluations,
        "wall_s": round(progress.seconds, 2),
        "device": torch.cuda.get_device_name(setup.device)
        if setup.device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "processes": setup.accelerator.num_processes,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors", "pillow")},
    }


def taught_by(setup: Setup) -> list[dict[str, Any]]:
    """The teachers: name, what is noted of them, and of how many pictures each taught what it said."""
    used = Counter(lesson.teacher for example in setup.train.examples for lesson in example.lessons)
    return [{"name": name, **setup.teachers.get(name, {}), "outcomes": used[name]} for name in sorted(used)]


def departures(setup: Setup) -> list[str]:
    """What keeps a model from being the published SEVLM: configuration keys, `lexicon`, `decoder_init`."""
    official, own = SEVLMConfig.official().to_dict(), setup.model.config.to_dict()
    no_choice = {
        "vocab_size",
        *("labels", "meta_values", "label_blend", "label_temperature", "image_trained"),  # training finds them
        "lexicon_name",
        "lexicon_sha256",
        *(name for name in own if name.endswith("_token_id")),
    }
    found = [name for name in own if own[name] != official[name] and name not in no_choice]
    if not setup.lookup.lexicon.name.startswith("nrc-vad"):
        found.append("lexicon")
    if taught_by(setup):
        found.append("teachers")
    if setup.recipe.training.decoder_init != "distilgpt2" or setup.recipe.training.init_from:
        found.append("decoder_init")
    return found


def write_card(folder: Path, summary: Mapping[str, Any]) -> None:
    """Append the training to the checkpoint's model card."""
    lexicon, training = summary["lexicon"], summary["recipe"]["training"]
    image = "frozen"
    if rank := training["image_lora_rank"]:
        image = f"adapted, low-rank updates of rank {rank} merged into its weights"
    elif blocks := training["image_blocks"]:
        image = f"last {blocks} blocks and head trained"
    text = _TRAINING_CARD.format(
        pictures=summary["pictures"],
        captions=summary["captions"],
        truncated=summary["truncated"],
        image=image,
        name=lexicon["name"],
        dimensions=", ".join(lexicon["dimensions"]),
        fingerprint=lexicon["fingerprint"][:16],
        coverage=lexicon["coverage"],
        epochs=summary["epochs"],
        updates=summary["updates"],
        kept=summary["kept_update"],
        device=summary["device"],
        hours=summary["wall_s"] / 3600,
    )
    if teachers := summary["teachers"]:
        text += "".join(_TEACHER.format(**{"file": "?", "sha256": "?"} | teacher) for teacher in teachers)
        text += _ALONE.format(summary["pictures_without_annotations"], training["teacher_weight"])
    if lexicon["dimensions"] == ["valence"]:
        text += _VALENCE_ONLY
    card = folder / "README.md"
    written = card.read_text(encoding="utf-8").split("\n## Training\n")[0]  # a resumed finish writes it once
    write_text(card, written + text)
