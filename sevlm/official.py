"""Reads checkpoints in the layout of the released training script.

    DIR/nle_model_<name>/{config.json, pytorch_model.bin}   decoder, heads
    DIR/ckpt_stats_<name>.tar                               VAD encoder, optimiser, scheduler, scores; with the script's
                                                            fixed_encoder off also the CLIP tower that was trained
    DIR/nle_gpt2_tokenizer_0/                               tokenizer

Files are opened with `torch.load(weights_only=True)`: nothing in them is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sevlm.config import TRAINED_ENCODER, SEVLMConfig, SEVLMError

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

_RENAMED = (
    ("decoder.transformer.VAD_linear.", "decoder.vad_fusion."),
    ("decoder.transformer.clip_project.", "decoder.prefix_projection."),
    ("decoder.transformer.", "decoder."),
    ("decoder.sim_mlp.pred.", "contrastive_head.mlp."),
    ("decoder.VAD_head.", "vad_head."),
    ("emo_encoder.pos_encoder.", "vad_encoder.position_embedding."),
    ("emo_encoder.encoder.layers.", "vad_encoder.layers."),
    ("emo_encoder.decoder.", "vad_encoder.scalar_head."),
    ("emo_encoder.norm.", "vad_encoder.norm."),
)
BUFFERS = (".attn.bias", ".attn.masked_bias", ".crossattention.bias", ".crossattention.masked_bias")
"""Ends of the names of tensors that are no parameters."""
OFFICIAL_MODEL = "nle_model_"
"""How the folders of the decoder's weights begin; the rest is the checkpoint's name."""
OFFICIAL_FILES = (f"{OFFICIAL_MODEL}*/*", "ckpt_stats_*.tar", "nle_gpt2_tokenizer_0/*")
_SUPPORTED = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": True,
}
MASKED_BIAS = -1e4
"""The official attention's stand-in for minus infinity; in fp32 softmax both give exactly 0."""


@dataclass(frozen=True)
class OfficialCheckpoint:
    """The files of one official checkpoint, read but not interpreted.

    Attributes:
        folder: where it was found.
        name: the part of the file names that says which checkpoint of the run, e.g. `best-res`.
        config: `config.json` of the decoder.
        decoder_state: tensors of pytorch_model.bin, buffers included.
        stats: content of the .tar; `emo_encoder_state_dict` is absent if VAD features were off, `encoder_state_dict`
            if the image encoder was frozen.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    decoder_state: Mapping[str, Tensor]
    stats: Mapping[str, Any]

    @property
    def tokenizer_folder(self) -> Path:
        """The tokenizer saved once per run."""
        return self.folder / "nle_gpt2_tokenizer_0"

    @property
    def tower(self) -> Mapping[str, Tensor] | None:
        """State dict of the image encoder if it was trained."""
        return self.stats.get("encoder_state_dict")

    def state(self) -> dict[str, Tensor]:
        """All tensors under the names of the official ModuleDict (`encoder.*`, `emo_encoder.*`, `decoder.*`)."""
        encoder = self.stats.get("emo_encoder_state_dict", {})
        parts = {"encoder": self.tower or {}, "decoder": self.decoder_state, "emo_encoder": encoder}
        return {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}


def parameter_name(official: str) -> str:
    """This library's name of a parameter of the official ModuleDict."""
    for old, new in _RENAMED:
        if official.startswith(old):
            return new + official.removeprefix(old)
    raise SEVLMError(f"no SEVLM parameter corresponds to {official!r}")


def read_official(folder: str | Path, name: str | None = None) -> OfficialCheckpoint:
    """Reads an official checkpoint folder.

    Args:
        folder: holds `nle_model_*`, `ckpt_stats_*.tar` and `nle_gpt2_tokenizer_0`.
        name: which checkpoint; needed when the folder holds several.

    Raises:
        SEVLMError: a file is missing, unreadable or needs code to be executed.
    """
    folder = Path(folder)
    if name is None:
        names = sorted(path.name.removeprefix(OFFICIAL_MODEL) for path in folder.glob(f"{OFFICIAL_MODEL}*"))
        if len(names) != 1:
            found = f"several ({', '.join(names)}): say which" if names else "none"
            raise SEVLMError(f"expected one nle_model_* folder in {folder}, found {found}")
        (name,) = names
    model = folder / f"{OFFICIAL_MODEL}{name}"
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        decoder_state = torch.load(model / "pytorch_model.bin", map_location="cpu", weights_only=True)
        stats = torch.load(folder / f"ckpt_stats_{name}.tar", map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SEVLMError(f"incomplete official checkpoint: {error.filename} is missing") from None
    except Exception as error:  # torch.load raises many types for files that are damaged or unsafe
        raise SEVLMError(f"cannot read the official checkpoint in {folder}: {error}") from error
    return OfficialCheckpoint(folder, name, config, decoder_state, stats)


def config_from_official(
    checkpoint: OfficialCheckpoint, prompt: str = " the emotion is", vad_heads: int = 1
) -> SEVLMConfig:
    """The faithful configuration of an official checkpoint.

    Args:
        checkpoint: its tensors say the sizes that its config.json leaves out.
        prompt: the script's `--prompt_text`, which no file of the checkpoint records.
        vad_heads: the script's `--VAD_En_Heads`, which no tensor shape tells.

    Raises:
        SEVLMError: the checkpoint uses what this library does not (an activation, attention scaling, heads).
    """
    values = checkpoint.config
    for key, wanted in _SUPPORTED.items():
        if values.get(key, wanted) != wanted:
            raise SEVLMError(f"official config.json has {key}={values[key]!r}; only {wanted!r} is supported")
    inner = values.get("n_inner")
    if inner not in (None, 4 * int(values["n_embd"])):
        raise SEVLMError(f"official config.json has n_inner={inner}; only 4 * n_embd is supported")
    found: dict[str, Any] = {
        key: int(values[key]) for key in ("vocab_size", "n_layer", "n_head", "n_embd", "n_positions")
    }
    if checkpoint.tower is not None:
        found["image_encoder"] = TRAINED_ENCODER
    encoder = checkpoint.stats.get("emo_encoder_state_dict")
    if encoder is not None:
        found["vad_layers"] = len({key.split(".")[2] for key in encoder if key.startswith("encoder.layers.")})
        found["vad_feedforward"] = encoder["encoder.layers.0.fc.0.weight"].shape[0]
        found["vad_positions"] = encoder["pos_encoder.weight"].shape[0]
    return SEVLMConfig.official(
        **found,
        layer_norm_epsilon=float(values["layer_norm_epsilon"]),
        dropout=float(values["resid_pdrop"]),
        image_size=int(values["img_size"]) if checkpoint.tower is None else tower_side(checkpoint.tower),
        encoder_dim=int(values["encoder_dim"]),
        prefix_length=int(values["len_prefix"]),
        prefix_dim=int(values["prefix_size"]),
        max_length=int(values["max_seq_len"]),
        prompt=prompt,
        vad_heads=vad_heads,
        use_vad_features=encoder is not None,
        use_vad_head=bool(values.get("use_VAD_loss")),
        use_contrastive_head=bool(values.get("use_cl_loss")),
    )


def convert_state(checkpoint: OfficialCheckpoint, config: SEVLMConfig) -> dict[str, Tensor]:
    """The official tensors under this library's names, as fp32.

    Attention buffers and the tied output head are checked and dropped; so is the fusion layer, which official
    checkpoints hold even when VAD features were off and it was never used.
    """
    state = checkpoint.state()
    if not torch.equal(state.pop("decoder.lm_head.weight"), state["decoder.transformer.wte.weight"]):
        raise SEVLMError("lm_head.weight differs from transformer.wte.weight; SEVLM ties them")
    converted = {}
    for name, value in state.items():
        if name.endswith(BUFFERS):  # rebuilt here, so they must be what is rebuilt
            masked = name.endswith("masked_bias")
            expected = torch.full_like(value, MASKED_BIAS) if masked else torch.ones_like(value).tril()
            if not torch.equal(value, expected):
                raise SEVLMError(f"{name} is not the causal attention buffer of GPT-2")
        elif not name.startswith("encoder.") and (config.use_vad_features or "VAD_linear" not in name):
            converted[parameter_name(name)] = value.float()
    return converted


# ------------------------------------------------------------------------------------------ the CLIP tower

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


def tower_side(state: Mapping[str, Tensor]) -> int:
    """Height and width in pixels of the images that a tower takes."""
    tensors = _without_prefix(state)
    patch, patches = tensors["conv1.weight"].shape[-1], tensors["positional_embedding"].shape[0] - 1
    return int(patch * round(patches**0.5))


def tower_parameters(tower: CLIPVisionModel, name: str) -> list[nn.Parameter]:
    """The parameters that hold an official tensor such as `encoder.conv1.weight`.

    Three for query, key and value together; none for the projection, which is left out.
    """
    own = {key.removeprefix("vision_model."): value for key, value in tower.named_parameters()}
    name = name.removeprefix("encoder.").removeprefix("encoder.")
    if name in _TOP:
        return [own[_TOP[name]]]
    if not name.startswith("transformer.resblocks."):
        return []
    _, _, layer, rest = name.split(".", 3)
    return [own[f"encoder.layers.{layer}.{new}"] for new in _block_names(rest)]


def clip_vision_from_openai(state: Mapping[str, Tensor], heads: int | None = None) -> CLIPVisionModel:
    """Build the tower from the state dict of CLIP's `VisionTransformer`.

    The projection to the joint text-image space is left out: the decoder attends to unprojected patches.

    Args:
        state: tensors named `conv1.weight`, `transformer.resblocks.0...`, with or without a prefix `encoder.` or
            `visual.`; fp16 values become fp32.
        heads: attention heads, which no shape tells; None takes CLIP's own, width / 64.

    Raises:
        SEVLMError: a tensor is missing or has a wrong shape.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    tensors = _without_prefix(state)
    width, _, patch, _ = tensors["conv1.weight"].shape
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        num_hidden_layers=len({name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")}),
        num_attention_heads=heads or max(1, width // 64),
        image_size=tower_side(tensors),
        patch_size=patch,
        hidden_act="quick_gelu",
    )
    model = CLIPVisionModel(config)
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in model.state_dict()) else ""
    renamed: dict[str, Tensor] = {new: tensors[old] for old, new in _TOP.items() if old in tensors}
    try:
        for name, value in tensors.items():
            if name.startswith("transformer.resblocks."):
                _, _, layer, rest = name.split(".", 3)
                names = _block_names(rest)
                parts = zip(names, value.chunk(len(names)), strict=True)  # (3D, ...) -> query, key, value: (D, ...)
                renamed |= {f"encoder.layers.{layer}.{new}": part for new, part in parts}
        model.load_state_dict({prefix + name: value.float() for name, value in renamed.items()})
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


def _block_names(rest: str) -> list[str]:
    """Our names for a tensor of one block."""
    module, kind = rest.replace("in_proj_", "in_proj.").rsplit(".", 1)
    if module == "attn.in_proj":
        return [f"self_attn.{letter}_proj.{kind}" for letter in "qkv"]
    return [f"{_BLOCK.get(module, module)}.{kind}"]
