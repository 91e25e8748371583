"""SEVLM: a small emotional vision-language model (ECCV 2024, arXiv 2403.11150) as a plain PyTorch library.

    from sevlm import SEVLM

    model = SEVLM.from_pretrained("checkpoints/sevlm", lexicon="NRC-VAD-Lexicon.txt")
    answers = model.generate([image], labels=["awe", "fear"])

To read it in an hour: config, model (the network on one page), decoding, generation, tokenization, vad, images, data,
train, recipe, checkpoint, official. Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sevlm.checkpoint import SEVLM as SEVLM
    from sevlm.checkpoint import model_from_official as model_from_official
    from sevlm.config import VAD_DIMENSIONS as VAD_DIMENSIONS
    from sevlm.config import SEVLMConfig as SEVLMConfig
    from sevlm.config import SEVLMError as SEVLMError
    from sevlm.data import TrainingExample as TrainingExample
    from sevlm.generation import Generated as Generated
    from sevlm.images import find_device as find_device
    from sevlm.images import load_image_encoder as load_image_encoder
    from sevlm.official import read_official as read_official
    from sevlm.recipe import Recipe as Recipe
    from sevlm.recipe import TrainingConfig as TrainingConfig
    from sevlm.recipe import load_recipe as load_recipe
    from sevlm.vad import VADLexicon as VADLexicon
    from sevlm.vad import VADLookup as VADLookup
    from sevlm.vad import load_lemmatizer as load_lemmatizer
    from sevlm.vad import load_lexicon as load_lexicon

_HOMES = {
    "checkpoint": ("SEVLM", "model_from_official"),
    "config": ("SEVLMConfig", "SEVLMError", "VAD_DIMENSIONS"),
    "data": ("TrainingExample",),
    "generation": ("Generated",),
    "images": ("find_device", "load_image_encoder"),
    "official": ("read_official",),
    "recipe": ("Recipe", "TrainingConfig", "load_recipe"),
    "vad": ("VADLexicon", "VADLookup", "load_lemmatizer", "load_lexicon"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sevlm' has no attribute {name!r}")
    return getattr(import_module(f"sevlm.{_HOME[name]}"), name)
