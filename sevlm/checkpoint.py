"""Saving and loading models: a folder with model.safetensors, config.json, tokenizer/ and README.md.

Files are written beside their final names and renamed, so that an interrupted save leaves the old ones whole.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from sevlm.config import SEVLMConfig
from sevlm.errors import SEVLMError
from sevlm.model import SEVLM
from sevlm.model_card import model_card
from sevlm.tokenization import config_for_tokenizer, load_tokenizer

WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer", "README.md"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def save_checkpoint(model: SEVLM, folder: Path) -> None:
    """Writes a checkpoint; other files of an existing folder stay.

    Raises:
        SEVLMError: the model has no tokenizer.
    """
    from safetensors.torch import save_file

    tokenizer = model.tokenizer
    if tokenizer is None:
        raise SEVLMError("cannot save a model without its tokenizer: pass one to SEVLM(config, tokenizer)")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    _replace(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    _replace(folder / CONFIG, model.config.save)
    card = model_card(model.config, model.parameter_counts())
    _replace(folder / CARD, lambda path: _write_text(path, card))
    _replace_folder(folder / TOKENIZER, lambda path: tokenizer.save_pretrained(str(path)))


def load_checkpoint(path_or_hub_id: str | Path) -> SEVLM:
    """Loads a checkpoint folder or hub id in eval mode, on the CPU.

    Raises:
        SEVLMError: no such checkpoint, a damaged file, or tensors that do not fit the configuration.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = _find(path_or_hub_id)
    config = SEVLMConfig.load(folder / CONFIG)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    if config_for_tokenizer(config, tokenizer) != config:
        raise SEVLMError(f"{folder / TOKENIZER} is not the tokenizer that {folder / CONFIG} describes")
    model = SEVLM(config, tokenizer)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except FileNotFoundError:
        raise SEVLMError(f"incomplete checkpoint: {folder / WEIGHTS} is missing") from None
    except (SafetensorError, RuntimeError) as error:
        raise SEVLMError(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: {error}") from error
    return model.eval()


def _find(path_or_hub_id: str | Path) -> Path:
    folder = Path(path_or_hub_id)
    if (folder / CONFIG).is_file():
        return folder
    if folder.is_dir():
        official = any(folder.glob("nle_model_*"))
        hint = f"; type: python -m sevlm.convert {folder} OUT" if official else ""
        raise SEVLMError(f"{folder} is no SEVLM checkpoint: it has no {CONFIG}{hint}")
    if _HUB_ID.fullmatch(str(path_or_hub_id)):
        return _download(str(path_or_hub_id))
    raise SEVLMError(f"no SEVLM checkpoint at {folder}: expected a folder or a hub id like owner/name")


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS, CONFIG, f"{TOKENIZER}/*"]))
    except Exception as error:  # the hub client raises many types: offline, absent, gated
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SEVLMError(f"no folder {hub_id}, and the hub does not give it: {reason}") from error


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(aside)
        aside.chmod(0o644)  # safetensors writes private files
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _replace_folder(path: Path, write: Callable[[Path], object]) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        write(aside)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(aside, path)
        path.chmod(0o755)  # mkdtemp's folders are private
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
