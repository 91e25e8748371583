"""The visual tower of OpenAI's CLIP package as a transformers `CLIPVisionModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from sevlm.errors import SEVLMError

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig, CLIPVisionModel

_TOP = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def clip_vision_from_openai(state: Mapping[str, Tensor], heads: int) -> CLIPVisionModel:
    """Build the tower from the state dict of CLIP's `VisionTransformer`.

    The projection to the joint text-image space is left out: the decoder attends to unprojected patches.

    Args:
        state: tensors named `conv1.weight`, `transformer.resblocks.0...`, with or without a prefix `encoder.` or
            `visual.`; fp16 values become fp32.
        heads: attention heads, which no shape tells (CLIP itself has width / 64).

    Raises:
        SEVLMError: a tensor is missing or has a wrong shape.
    """
    from transformers import CLIPVisionModel

    tensors = _without_prefix(state)
    model = CLIPVisionModel(_config(tensors, heads))
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in model.state_dict()) else ""
    try:
        model.load_state_dict({prefix + name: value.float() for name, value in _renamed(tensors).items()})
    except RuntimeError as error:
        raise SEVLMError(f"not the state dict of a CLIP visual transformer: {error}") from error
    model.train(False)
    return model


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for name in state:
        if name.endswith("conv1.weight"):
            prefix = name.removesuffix("conv1.weight")
            return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    raise SEVLMError("not the state dict of a CLIP visual transformer: no tensor is named conv1.weight")


def _config(tensors: Mapping[str, Tensor], heads: int) -> CLIPVisionConfig:
    from transformers import CLIPVisionConfig

    width, _, patch, _ = tensors["conv1.weight"].shape
    patches = tensors["positional_embedding"].shape[0] - 1
    layers = {name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")}
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        image_size=patch * round(patches**0.5),
        patch_size=patch,
        hidden_act="quick_gelu",
    )


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {new: tensors[old] for old, new in _TOP.items() if old in tensors}
    for name, value in tensors.items():
        if name.startswith("transformer.resblocks."):
            _, _, layer, rest = name.split(".", 3)
            renamed |= {f"encoder.layers.{layer}.{new}": part for new, part in _block(rest, value).items()}
    return renamed


def _block(rest: str, value: Tensor) -> dict[str, Tensor]:
    module, kind = rest.replace("in_proj_", "in_proj.").rsplit(".", 1)
    if module == "attn.in_proj":
        parts = value.chunk(3)  # (3D, ...) -> query, key, value, each (D, ...)
        return {f"self_attn.{letter}_proj.{kind}": part for letter, part in zip("qkv", parts, strict=True)}
    return {f"{_BLOCK.get(module, module)}.{kind}": value}
