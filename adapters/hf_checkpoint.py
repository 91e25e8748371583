"""Finding and loading a vision-language checkpoint of the transformers library, and saying which one it was."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.types import UserError

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
QUANTIZATIONS = ("4bit", "8bit")
NOT_QUANTIZED = ("lm_head", r".*(vision_tower|vision_model|visual|multi_modal_projector|connector)")
"""Layers (regular expressions over names) that keep their precision: few weights, and what is seen hangs on them."""
IDENTITY_SUFFIXES = frozenset({".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py"})


@dataclass(frozen=True)
class CheckpointSettings:
    """Which weights, and how to hold them.

    Attributes:
        checkpoint: hub id or folder.
        revision: branch, tag or commit on the hub.
        dtype: `fp32`, `bf16` or `fp16`; None: bf16 on CUDA, fp32 elsewhere.
        device: torch device; None: CUDA where there is one.
        device_map: `auto` spreads the weights over all devices (needs accelerate), instead of `device`.
        attention: transformers' `attn_implementation` (`sdpa`, `eager`, `flash_attention_2`).
        quantization: `4bit` (NF4 with quantised constants) or `8bit` weights of the language model; needs bitsandbytes.
        trust_remote_code: let the checkpoint run its own code.
        lora: folder of LoRA weights for this checkpoint.
        merge: add the LoRA weights to the checkpoint's (faster), instead of computing them apart; quantised weights
            would round them away, so there they are always apart.

    Raises:
        UserError: an unknown choice, two that exclude each other, or a folder that does not exist.
    """

    checkpoint: str
    revision: str | None = None
    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None
    attention: str | None = None
    quantization: str | None = None
    trust_remote_code: bool = False
    lora: str | None = None
    merge: bool = True

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UserError(f"dtype={self.dtype}: expected one of {', '.join(DTYPES)}")
        if self.quantization is not None and self.quantization not in QUANTIZATIONS:
            raise UserError(f"quantization={self.quantization}: expected one of {', '.join(QUANTIZATIONS)}")
        if self.device is not None and self.device_map is not None:
            raise UserError(f"device={self.device} and device_map={self.device_map} exclude each other: give one")
        if looks_like_path(self.checkpoint) and not Path(self.checkpoint).expanduser().is_dir():
            raise UserError(f"checkpoint={self.checkpoint}: no such folder; type llava:checkpoint=PATH or a hub id")

    @property
    def merged(self) -> bool:
        """Whether LoRA weights are added to the checkpoint's."""
        return self.merge and self.quantization is None

    @property
    def source(self) -> str:
        """What transformers loads from: the folder, its `~` resolved, or the hub id."""
        return str(self.folder or self.checkpoint)

    @property
    def folder(self) -> Path | None:
        """The checkpoint's folder, or None for a hub id."""
        path = Path(self.checkpoint).expanduser()
        return path if path.is_dir() else None

    def identity(self) -> dict[str, Any]:
        """What the answers depend on: for a folder the SHA-256 of its files, for a hub id its revision."""
        named: dict[str, Any] = {"checkpoint": self.checkpoint, "revision": self.revision or "main"}
        if self.folder is not None:
            named = {"checkpoint": self.folder.resolve().name, "sha256": folder_digest(self.folder.resolve())}
        if self.lora is not None:
            named["lora"] = {"sha256": folder_digest(Path(self.lora).expanduser().resolve()), "merged": self.merged}
        return named | {"dtype": self.dtype, "attention": self.attention, "quantization": self.quantization}


def looks_like_path(checkpoint: str) -> bool:
    """Whether a name can only be a path: hub ids are `NAME` or `OWNER/NAME`."""
    return checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1 or "\\" in checkpoint


@lru_cache(maxsize=8)
def folder_digest(folder: Path) -> str:
    """SHA-256 over names and contents of a checkpoint's weights, configuration and tokenizer files."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in IDENTITY_SUFFIXES:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def pick_device(settings: CheckpointSettings) -> str:
    """The device asked for, else CUDA where there is one."""
    import torch

    return settings.device or ("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(settings: CheckpointSettings) -> torch.dtype:
    """The dtype asked for, else bf16 on CUDA and fp32 elsewhere."""
    import torch

    default = "bf16" if pick_device(settings).startswith("cuda") else "fp32"
    dtype: torch.dtype = getattr(torch, DTYPES[settings.dtype or default])
    return dtype


def load_processor(settings: CheckpointSettings) -> Any:
    """The checkpoint's processor: tokenizer, picture preprocessing and chat template.

    Raises:
        UserError: it can be had neither from a folder nor from the hub, or needs a package that is absent.
    """
    from transformers import AutoProcessor

    auto: Any = AutoProcessor
    try:
        processor: Any = auto.from_pretrained(settings.source, **_source(settings))
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _unavailable(settings, error) from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise UserError(f"checkpoint {settings.checkpoint!r} has no processor for both text and pictures")
    return processor


def load_model(settings: CheckpointSettings) -> Any:
    """The model in eval mode on its device.

    Raises:
        UserError: as for the processor; also bitsandbytes or accelerate absent.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    arguments: dict[str, Any] = {"dtype": pick_dtype(settings), **_source(settings)}
    if settings.attention is not None:
        arguments["attn_implementation"] = settings.attention
    if settings.quantization is not None:
        arguments["quantization_config"] = _quantization(settings.quantization, arguments["dtype"])
    spread = settings.device_map or (pick_device(settings) if settings.quantization else None)
    if spread is not None:
        arguments["device_map"] = spread
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(settings.source, **arguments)
        placed = model if spread is not None else model.to(pick_device(settings))
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, AssertionError, SafetensorError) as error:
        raise _unavailable(settings, error) from error  # asked for a GPU, torch without CUDA says so by an assertion
    return (placed if settings.lora is None else _with_lora(placed, settings.lora, settings.merged)).eval()


def _with_lora(model: Any, folder: str, merge: bool) -> Any:
    """The model with LoRA weights in its layers, or added to its weights.

    Raises:
        UserError: peft is absent, or the weights are damaged or another checkpoint's.
    """
    if importlib.util.find_spec("peft") is None:
        raise UserError("lora= needs peft; type: pip install 'sevlm-harness[lora]'")
    import peft
    from safetensors import SafetensorError

    try:
        wrapped: Any = peft.PeftModel.from_pretrained(model, str(Path(folder).expanduser()))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"lora={folder}: these weights cannot be used with the checkpoint: {_first_line(error)}"
        ) from error
    return wrapped.merge_and_unload() if merge else wrapped.get_base_model()


def lora_base(folder: str) -> str:
    """The checkpoint that LoRA weights were trained for.

    Raises:
        UserError: the folder holds no LoRA weights.
    """
    try:
        config = json.loads((Path(folder).expanduser() / "adapter_config.json").read_text(encoding="utf-8"))
        return str(config["base_model_name_or_path"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"lora={folder}: no LoRA weights there ({type(error).__name__}); train some: harness train llava --task T"
        ) from None


def _source(settings: CheckpointSettings) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` that both parts share."""
    arguments: dict[str, Any] = {"revision": settings.revision} if settings.revision else {}
    # Said even where it is False: where nothing is said, transformers asks on the terminal.
    return arguments | {"trust_remote_code": settings.trust_remote_code}


def _quantization(bits: str, dtype: torch.dtype) -> Any:
    """How bitsandbytes holds the weights; it computes in `dtype`."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"quantization={bits} needs bitsandbytes; type: pip install 'sevlm-harness[quantization]'")
    import transformers

    configuration: Any = transformers.BitsAndBytesConfig
    if bits == "8bit":
        # says at every layer of every token that activations are cast to fp16, which is how 8 bits work
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return configuration(load_in_8bit=True, llm_int8_skip_modules=list(NOT_QUANTIZED))
    return configuration(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(NOT_QUANTIZED),
    )


def _unavailable(settings: CheckpointSettings, error: Exception) -> UserError:
    """One line that says what to type; transformers' own messages run over many."""
    if "torchvision" in str(error):
        return UserError(
            f"checkpoint {settings.checkpoint!r} needs torchvision for its pictures; install the build that matches "
            "your torch, or choose another checkpoint: llava:checkpoint=PATH|HUB_ID"
        )
    return UserError(
        f"checkpoint {settings.checkpoint!r} cannot be loaded from a folder or the hub "
        f"({type(error).__name__}: {_first_line(error)}); type llava:checkpoint=PATH|HUB_ID"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
