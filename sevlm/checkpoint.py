"""The model as users hold it: loading, saving and generating; and what an interrupted training needs to resume.

    FOLDER/model.safetensors, config.json, tokenizer/, README.md      a checkpoint
    FOLDER/training.json                                              how it was trained, if `sevlm.train` made it

Files are written atomically, so that an interrupted save leaves the old ones whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sevlm.config import SEVLMConfig, SEVLMError, atomic_write, first_line, write_text
from sevlm.generation import Generated, generate, opinions
from sevlm.images import ENCODER_FOLDER, CLIPEncoder, ImageEncoder, Preprocessing, load_image_encoder
from sevlm.model import ADAPTING, Network
from sevlm.official import (
    OFFICIAL_FILES,
    OFFICIAL_MODEL,
    OfficialCheckpoint,
    clip_vision_from_openai,
    config_from_official,
    convert_state,
    read_official,
)
from sevlm.tokenization import config_for_tokenizer, load_tokenizer
from sevlm.vad import RowLookup, VADLexicon, VADLookup, load_lexicon, split_scale

WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer", "README.md"
STATE_FILE, LOG_FILE, SUMMARY_FILE = "training_state.pt", "training_log.jsonl", "training.json"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

_CARD = """---
{{ card_data }}
---

# SEVLM: which emotion does an artwork evoke, and why?

A small emotional vision-language model: image features, a GPT-2 decoder with cross-attention, and
valence-arousal-dominance (VAD) values of the words fused into its embeddings. It answers with one sentence,
"<emotion> because <explanation>".

Architecture: SEVLM (ECCV 2024, arXiv 2403.11150), re-implemented in the `sevlm` package. {{ mode }}

## Use

```python
from PIL import Image
from sevlm import SEVLM

model = SEVLM.from_pretrained("FOLDER"{{ lexicon_argument }})
answer, = model.generate([Image.open("artwork.jpg")])
print(answer.emotion, "|", answer.explanation)
```

## Size

| part | parameters |
|---|---:|
{{ sizes }}

The image encoder `{{ encoder }}` {{ encoder_place }}.

## Input

| setting | value |
|---|---|
{{ settings }}

## Limits

- The text is a guess about what annotators of its training data would write, not a statement about the image or
  about the person who looks at it. Emotions before art differ between people and cultures.
- {{ decoding }} of at most {{ tokens }} tokens; captions that the model does not end itself are cut.
- The VAD lexicon is not included: load the one that the model was trained with. Another one shifts the inputs.
"""
_SHOWN = (
    *("image_encoder", "image_size", "image_resize", "encoder_dim", "prompt", "max_length"),
    *("vad_dimensions", "vad_lookup", "lemmatizer", "labels", "label_blend", "label_temperature"),
    *("n_best", "sampling_temperature", "top_p", "sampling_seed", "no_repeat_ngram"),
    *("rank_by_log_prob", "rank_by_match", "rank_by_affect"),
)
_SWITCHES = (
    *("keep_last_token", "vad_lookup", "lemmatizer", "causal_vad_encoder", "fusion_boundary"),
    *("max_length", "soft_emotion_labels", "fusion_identity_init", "mask_padding_in_means", "use_vad_features"),
    *("use_vad_head", "use_contrastive_head", "image_resize", "image_encoder"),
    *("use_label_head", "label_meta", "label_smoothing", "explain_best_label", "n_best", "no_repeat_ngram"),
)


class SEVLM(  # the mixin
    Network,
    PyTorchModelHubMixin,
    model_card_template=_CARD,
    library_name="sevlm",
    pipeline_tag="image-to-text",
    language=["en"],
    tags=["sevlm", "affective-computing", "artwork", "emotion", "explanation"],
):
    """A SEVLM that loads, saves and answers.

        model = SEVLM.from_pretrained("checkpoints/sevlm", lexicon="NRC-VAD-Lexicon.txt")
        answers = model.generate([image], labels=["awe", "fear"])

    Attributes:
        lookup: affect of words; None if the lexicon is not known.
    """

    lookup: RowLookup | None = None
    _encoder: ImageEncoder | None = None

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, path_or_hub_id: str | Path, lexicon: str | Path | None = None, revision: str | None = None
    ) -> SEVLM:
        """Loads a checkpoint on the CPU, in eval mode.

        Args:
            path_or_hub_id: a folder written by `save_pretrained` or by the released script, or a hub id of either
                (downloaded on first use).
            lexicon: file of the VAD lexicon, or `vader`; None takes the one the model was trained with, if it is VADER
                or its file is still there.
            revision: branch, tag or commit of a hub id.

        Raises:
            SEVLMError: no such checkpoint, a damaged file, tensors that do not fit the configuration, or a lexicon
                other than the one the model was trained with.
        """
        folder = checkpoint_folder(path_or_hub_id, revision)
        if not (folder / CONFIG).is_file():
            model = model_from_official(read_official(folder))
            if model.config.use_vad_features and lexicon is not None:
                model.lookup = VADLookup.from_config(model.config, load_lexicon(lexicon))
            return model
        config = SEVLMConfig.load(folder / CONFIG)
        tokenizer = load_tokenizer(folder / TOKENIZER)
        if config_for_tokenizer(config, tokenizer) != config:
            raise SEVLMError(f"{folder / TOKENIZER} is not the tokenizer that {folder / CONFIG} describes")
        model = cls(config, tokenizer)
        try:
            model.load_state_dict(load_file(folder / WEIGHTS))
        except FileNotFoundError:
            raise SEVLMError(f"incomplete checkpoint: {folder / WEIGHTS} is missing") from None
        except (SafetensorError, RuntimeError) as error:
            raise SEVLMError(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: {error}") from error
        if config.encoder_is_trained:
            model.keep_encoder(load_image_encoder(config, folder))
        if config.use_vad_features:
            found = find_lexicon(folder, lexicon)
            model.lookup = None if found is None else VADLookup.from_config(config, found)
        return model.eval()

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Writes model.safetensors, config.json, tokenizer/ and README.md; other files of the folder stay.

        `push_to_hub("owner/name")` uploads them.

        Raises:
            SEVLMError: the model has no tokenizer.
        """
        folder, tokenizer = Path(folder), self.tokenizer
        if tokenizer is None:
            raise SEVLMError("cannot save a model without its tokenizer: pass one to SEVLM(config, tokenizer)")
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value for name, value in self.state_dict().items() if not name.startswith(f"{ADAPTING}.")}
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        atomic_write(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
        self.config.save(folder / CONFIG)
        write_text(folder / CARD, self.model_card())
        atomic_write(folder / TOKENIZER, lambda path: tokenizer.save_pretrained(str(path)))
        if self.config.encoder_is_trained:
            atomic_write(folder / ENCODER_FOLDER, self.image_encoder().save)

    def model_card(self) -> str:
        """The README.md that travels with the checkpoint, from its configuration alone."""
        config = self.config
        official = SEVLMConfig.official().to_dict()
        different = [name for name in _SWITCHES if config.to_dict()[name] != official[name]]
        mode = f"It differs from the released code in: {', '.join(f'`{name}`' for name in different)}."
        needs_file = config.use_vad_features and config.lexicon_name != "vader"
        card = self.generate_model_card(
            mode=mode if different else "It computes what the released code computes.",
            lexicon_argument=', lexicon="LEXICON"' if needs_file else "",
            sizes="\n".join(f"| {part.replace('_', ' ')} | {n:,} |" for part, n in self.parameter_counts().items()),
            encoder=config.image_encoder,
            encoder_place=f"was trained too and lies in `{ENCODER_FOLDER}/`"
            if config.encoder_is_trained
            else "is frozen and not part of this checkpoint",
            settings="\n".join(f"| `{name}` | `{getattr(config, name)!r}` |" for name in _SHOWN),
            decoding="Greedy decoding" if config.n_best == 1 else f"The best of {config.n_best} captions",
            tokens=config.max_new_tokens,
        )
        return str(card)

    def generate(
        self,
        images: Sequence[Image.Image | Tensor] | Tensor,
        labels: Sequence[str] | None = None,
        lookup: RowLookup | None = None,
        image_prefix: Tensor | None = None,
        meta: Sequence[str] | None = None,
        n_best: int | None = None,
    ) -> list[Generated]:
        """Captions, one per image; dropout is off during the call.

        Args:
            images: images, or what the image encoder's `preprocess` made of them, which go through the image encoder
                that the configuration names; or their patch features (B, P, encoder_dim).
            labels: emotions to report probabilities of; None reports none.
            lookup: affect of words, if it is not the model's own.
            image_prefix: (B, prefix_dim) float, required if `config.prefix_length` > 0.
            meta: value of `config.label_meta` for each image, empty where it is unknown.
            n_best: captions to choose each from, 1 for the greedy one; None: as many as the configuration says.

        Raises:
            SEVLMError: no look-up is known although the model fuses VAD features, or labels are not distinct.
        """
        lookup = lookup or self.lookup
        if lookup is None and self.config.use_vad_features:
            known = f" ({self.config.lexicon_name})" if self.config.lexicon_name else ""
            raise SEVLMError(
                f"this model fuses VAD features: pass its VAD lexicon{known}, as from_pretrained(FOLDER, lexicon=FILE)"
            )
        grid = images if isinstance(images, Tensor) else self._encoded(images)
        return generate(self, grid, labels, lookup, image_prefix, meta, n_best)

    def score_explanations(
        self, images: Sequence[Image.Image | Tensor], captions: Sequence[Sequence[tuple[str, str]]]
    ) -> Tensor:
        """How likely the model finds explanations of an emotion before an image; see `Opinions.log_prob`.

        Args:
            images: B images, or what the image encoder's `preprocess` made of them.
            captions: for each, K pairs of emotion and explanation.

        Returns:
            (B, K) mean log-probability of the tokens of each explanation.
        """
        grid = self._encoded(images)
        return opinions(self, grid, captions, self.lookup if self.config.use_vad_features else None).log_prob

    def _encoded(self, images: Sequence[Image.Image | Tensor]) -> Tensor:
        """Patch features (B, P, encoder_dim) of images; the encoder multiplies in the decoder's precision."""
        weight = self.decoder.wte.weight
        with torch.autocast(weight.device.type, weight.dtype, enabled=weight.dtype in (torch.bfloat16, torch.float16)):
            return self.image_encoder().encode(images)

    def image_encoder(self) -> ImageEncoder:
        """The image encoder, loaded once, on the model's device; `parameters()` excludes it unless it is adapting."""
        if self._encoder is None:
            self.keep_encoder(load_image_encoder(self.config))
        encoder: ImageEncoder = self.__dict__["_encoder"].to(self.decoder.wte.weight.device)
        return encoder

    def keep_encoder(self, encoder: ImageEncoder, adapting: bool = False) -> None:
        """Use this image encoder; one that is adapting is trained with the model."""
        self.__dict__["_encoder"] = encoder  # not a submodule
        if adapting:
            self.add_module(ADAPTING, encoder)

    def image_grid(self, stored: Tensor) -> Tensor:
        """What a training stores of B images (features, or what an adapting encoder starts from) -> (B, P, E)."""
        encoder: Any = self._modules.get(ADAPTING)
        grid: Tensor = stored if encoder is None else encoder.top(stored)
        return grid


def checkpoint_folder(path_or_hub_id: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint; a hub id is downloaded on first use, to a folder named by its commit.

    Raises:
        SEVLMError: no such checkpoint.
    """
    folder = Path(path_or_hub_id)
    if (folder / CONFIG).is_file() or any(folder.glob(f"{OFFICIAL_MODEL}*")):
        return folder
    if folder.is_dir():
        raise SEVLMError(f"{folder} is no SEVLM checkpoint: it has neither {CONFIG} nor {OFFICIAL_MODEL}*")
    if not HUB_ID.fullmatch(str(path_or_hub_id)):
        raise SEVLMError(f"no SEVLM checkpoint at {folder}: expected a folder or a hub id like owner/name")
    try:
        wanted = [WEIGHTS, CONFIG, f"{TOKENIZER}/*", f"{ENCODER_FOLDER}/*", SUMMARY_FILE, *OFFICIAL_FILES]
        return Path(snapshot_download(str(path_or_hub_id), revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub client raises many types: offline, absent, gated
        reason = first_line(error)
        raise SEVLMError(f"no folder {path_or_hub_id}, and the hub does not give it: {reason}") from error


def model_from_official(
    checkpoint: OfficialCheckpoint, config: SEVLMConfig | None = None, encoder_heads: int | None = None
) -> SEVLM:
    """Builds the model of an official checkpoint, in eval mode, with its image encoder if that was trained.

    Args:
        config: the faithful configuration by default.
        encoder_heads: attention heads of a trained image encoder; None takes CLIP's own, width / 64.

    Raises:
        SEVLMError: tensors are missing, left over, of another shape, or the output head is not tied.
    """
    tokenizer = load_tokenizer(checkpoint.tokenizer_folder)
    config = config_for_tokenizer(config or config_from_official(checkpoint), tokenizer)
    model = SEVLM(config, tokenizer)
    try:
        model.load_state_dict(convert_state(checkpoint, config))
    except RuntimeError as error:
        raise SEVLMError(f"the checkpoint does not fit its configuration: {error}") from error
    if checkpoint.tower is not None:
        tower = clip_vision_from_openai(checkpoint.tower, encoder_heads)
        model.keep_encoder(CLIPEncoder(tower, Preprocessing.from_config(config)).eval().requires_grad_(False))
    return model.eval()


def find_lexicon(folder: Path, name: str | Path | None = None) -> VADLexicon | None:
    """The lexicon of this name or file, else the one a checkpoint was trained with; None if that is not available.

    A checkpoint remembers its lexicon by name and checksum, in `config.json` or (trained by the first versions)
    `training.json`, which also says where the file was.

    Raises:
        SEVLMError: the lexicon cannot be read, or is not the one that the checkpoint was trained with.
    """
    recorded = recorded_lexicon(folder)
    source = name or recorded.get("source")
    if source is None or (name is None and source != "vader" and not split_scale(source)[0].is_file()):
        return None
    lexicon = load_lexicon(source)
    if recorded and lexicon.fingerprint() != recorded["fingerprint"]:
        told = ", ".join(filter(None, (recorded["name"], recorded.get("source"))))
        raise SEVLMError(f"{source} ({lexicon.name}) is not the lexicon that {folder} was trained with ({told})")
    return lexicon


def recorded_lexicon(folder: Path) -> dict[str, str]:
    """`name`, `fingerprint` and, if known, `source` of the lexicon a checkpoint was trained with; empty if unknown."""
    path = folder / SUMMARY_FILE
    if path.is_file():
        try:
            found: dict[str, str] = dict(json.loads(path.read_text(encoding="utf-8")).get("lexicon", {}))
            if found:
                return {key: found[key] for key in ("name", "fingerprint")} | found
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise SEVLMError(f"{path}: the lexicon of the training cannot be read ({first_line(error)})") from error
    if not (folder / CONFIG).is_file():  # a released checkpoint says nothing
        return {}
    config = SEVLMConfig.load(folder / CONFIG)
    if config.lexicon_name is None or config.lexicon_sha256 is None:
        return {}
    known = {"name": config.lexicon_name, "fingerprint": config.lexicon_sha256}
    return known | ({"source": "vader"} if config.lexicon_name == "vader" else {})


def digests(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of what decides the answers of a checkpoint."""
    found = {}
    patterns = (WEIGHTS, CONFIG, f"{TOKENIZER}/*", f"{ENCODER_FOLDER}/*", *OFFICIAL_FILES)
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def load_gpt2_weights(model: Network, source: str) -> None:
    """Copy a pretrained GPT-2's weights into the decoder, in place.

    Cross-attention, VAD fusion, heads and the added tokens' embeddings, which GPT-2 lacks, keep their initial values.

    Args:
        model: of the same width, depth and number of positions.
        source: hub id (`distilgpt2`) or folder.

    Raises:
        SEVLMError: the weights could not be loaded, or their sizes are others.
    """
    from transformers import GPT2Model

    try:
        loaded: Any = GPT2Model.from_pretrained(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        problem = f"decoder_init {source!r} cannot be loaded from a folder or the hub"
        raise SEVLMError(f"{problem}: {first_line(error)}") from error
    state = {name: parameter.detach() for name, parameter in loaded.named_parameters()}
    with torch.no_grad():
        embedding = state.pop("wte.weight")
        target = model.decoder.wte.weight
        if embedding.shape[0] > target.shape[0] or embedding.shape[1] != target.shape[1]:
            raise SEVLMError(f"{source}: embeddings {tuple(embedding.shape)} do not fit {tuple(target.shape)}")
        target[: len(embedding)] = embedding
        own = dict(model.decoder.named_parameters())
        for name, value in state.items():
            if name not in own or own[name].shape != value.shape:
                found = tuple(own[name].shape) if name in own else "no such layer"
                raise SEVLMError(f"{source}: {name} {tuple(value.shape)} does not fit the decoder's {found}")
            own[name].copy_(value)
    layers = {name.split(".")[1] for name in state if name.startswith("h.")}
    if len(layers) != model.config.n_layer:
        raise SEVLMError(f"{source} has {len(layers)} layers, the configuration says {model.config.n_layer}")


# ---------------------------------------------------------------------------------- interrupted trainings


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch, batch: the next batch to train on.
        update: optimiser updates so far.
        best: best value so far of each score.
        kept: score -> update whose weights are kept for it; the folder `best-<update>` holds them.
        stale: evaluations since the last gain.
        seconds: wall time so far, over all sessions.
        evaluations: all evaluations so far.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    best: dict[str, float] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    stale: int = 0
    seconds: float = 0.0
    evaluations: list[dict[str, float]] = field(default_factory=list)


class Checkpointer:
    """Writes and reads the state of one training in its output folder.

    Weights of a better evaluation go to a folder of their own first; the state that names it comes next; older folders
    go last. So each moment leaves one consistent pair on disk. (accelerate's `save_state` writes several files that an
    interruption can leave half new.)

    Args:
        out: the output folder.
        identity: what the training computes (recipe, data, lexicon); a state of another identity is refused.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.out = out
        self.identity = json.loads(json.dumps(identity))
        out.mkdir(parents=True, exist_ok=True)

    def best_folder(self, update: int) -> Path:
        """Folder with the weights of an update."""
        return self.out / f"best-{update}"

    def save_best(self, model: SEVLM, update: int) -> None:
        """Write the model's folder `best-<update>`."""
        atomic_write(self.best_folder(update), model.save_pretrained)

    def save(
        self,
        progress: Progress,
        model: SEVLM,
        optimizer: Optimizer,
        schedule: LRScheduler,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Write the state, then drop the weights that it no longer names.

        Raises:
            OSError: it cannot be written; the state before is untouched.
        """
        state = {
            "identity": self.identity,
            "progress": asdict(progress),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "scaler": scaler.state_dict(),
        }
        atomic_write(self.out / STATE_FILE, lambda path: _torch_save(state, path))
        named = {self.best_folder(update) for update in progress.kept.values()}
        for folder in self.out.glob("best-*"):
            if folder not in named:
                shutil.rmtree(folder, ignore_errors=True)

    def load(
        self, model: SEVLM, optimizer: Optimizer, schedule: LRScheduler, scaler: torch.amp.GradScaler
    ) -> Progress | None:
        """Restore an interrupted training, or None if there is none.

        Raises:
            SEVLMError: the folder holds another training's state.
        """
        path = self.out / STATE_FILE
        if not path.exists():
            return None
        device = next(model.parameters()).device
        state = torch.load(path, map_location=device, weights_only=True)
        self._check_identity(state["identity"])
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        scaler.load_state_dict(state["scaler"])
        return Progress(**state["progress"])

    def finished(self) -> dict[str, Any] | None:
        """The summary, if this training has ended before.

        Raises:
            SEVLMError: the folder holds another training.
        """
        path = self.out / SUMMARY_FILE
        if not path.exists():
            return None
        try:
            summary: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
            identity = dict(summary.get("identity", {}))
        except (ValueError, TypeError) as error:
            raise SEVLMError(f"{path}: no record of a training ({first_line(error)})") from error
        if not identity:
            raise SEVLMError(f"{self.out} holds a finished training of an older version; choose another folder")
        self._check_identity(identity, "a finished")
        return summary

    def _check_identity(self, found: Mapping[str, Any], which: str = "an interrupted") -> None:
        different = sorted(key for key in {*found, *self.identity} if found.get(key) != self.identity.get(key))
        if different:
            raise SEVLMError(
                f"{self.out} holds {which} training with other {', '.join(different)}; "
                "repeat the same command, or choose another folder"
            )

    def finish(self, kept: Mapping[str, int], chosen: str, write_card: Callable[[Path], None]) -> None:
        """Copy the chosen weights to the output folder, and the best by another score beside them.

        Args:
            kept: score -> update.
            chosen: the score whose weights become the checkpoint.
            write_card: completes the model card in a folder.
        """
        write_card(self.best_folder(kept[chosen]))
        shutil.copytree(self.best_folder(kept[chosen]), self.out, dirs_exist_ok=True)
        for score, update in kept.items():
            if update != kept[chosen]:
                shutil.copytree(self.best_folder(update), self.out / f"best-{score}", dirs_exist_ok=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary, which marks the training as finished, and drop what only an interrupted one needs."""
        write_text(self.out / SUMMARY_FILE, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        for update in summary["kept_updates"].values():
            shutil.rmtree(self.best_folder(update), ignore_errors=True)
        (self.out / STATE_FILE).unlink(missing_ok=True)
        for left in self.out.glob(".*.part"):  # of sessions that were killed
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _torch_save(state: Mapping[str, Any], path: Path) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # torch's writer does not say what the system said
        size = path.stat().st_size
        raise OSError(errno.EIO, f"writing stopped after {size} bytes (is the disk full?)", str(path)) from error


class TrainingLog:
    """One JSON object per line, each with the update it belongs to; on request TensorBoard's files too.

    Args:
        path: lines up to the update that the training resumes at are kept.
        resumed_at: that update.
        tensorboard: write to the folder `tensorboard` beside `path`.

    Raises:
        SEVLMError: TensorBoard is asked for but not installed.
    """

    def __init__(self, path: Path, resumed_at: int, tensorboard: bool = False) -> None:
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                if float(json.loads(line)["update"]) <= resumed_at:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):  # a line that was cut off belongs to no saved state
                continue
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._path = path
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise SEVLMError("tensorboard: true needs the package; type: pip install tensorboard") from None
            self._board = SummaryWriter(str(path.with_name("tensorboard")), purge_step=resumed_at + 1)

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line: `update`, and numbers by name, which may stand in groups."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, Mapping):
                    for inner, number in value.items():
                        self._board.add_scalar(f"{name}/{inner}", number, values["update"])
                elif name != "update":
                    self._board.add_scalar(name, value, values["update"])
            self._board.flush()
