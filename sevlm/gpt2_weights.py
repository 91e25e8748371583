"""Start the decoder from pretrained GPT-2 weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sevlm.errors import SEVLMError
from sevlm.model import SEVLM


def load_gpt2_weights(model: SEVLM, source: str) -> None:
    """Copy a GPT-2's weights into the decoder, in place.

    Cross-attention, VAD fusion, heads and the added tokens' embeddings, which GPT-2 lacks, keep their initial values.

    Args:
        model: of the same width, depth and number of positions.
        source: hub id (`distilgpt2`) or folder.

    Raises:
        SEVLMError: the weights cannot be had, or their sizes are others.
    """
    state = _state(source)
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


def _state(source: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from transformers import GPT2Model

    try:
        loaded: Any = GPT2Model.from_pretrained(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise SEVLMError(f"decoder_init {source!r} cannot be loaded from a folder or the hub: {first}") from error
    return {name: parameter.detach() for name, parameter in loaded.named_parameters()}
