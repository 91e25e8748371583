"""A vision-language checkpoint of transformers: loaded, asked for text, and for the probability of labels."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.cards import card_of
from harness.types import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

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
            raise UserError(f"checkpoint={self.checkpoint}: no such folder; give an existing one or a hub id")

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
    """The checkpoint's processor: tokenizer, image preprocessing and chat template.

    Raises:
        UserError: it could be loaded neither from a folder nor from the hub, or needs a package that is absent.
    """
    from transformers import AutoProcessor

    auto: Any = AutoProcessor
    try:
        processor: Any = auto.from_pretrained(settings.source, **_source(settings))
    except Exception as error:  # a checkpoint's files are somebody else's
        raise _unavailable(settings, error) from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise UserError(f"checkpoint {settings.checkpoint!r} has no processor for both text and images")
    return processor


def load_model(settings: CheckpointSettings) -> Any:
    """The model in eval mode on its device.

    Raises:
        UserError: as for the processor; also a device or an attention that is not there, weights that are missing,
            bitsandbytes or accelerate absent.
    """
    import torch

    if settings.device is not None:
        try:
            torch.empty(1, device=settings.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch without CUDA asserts
            raise UserError(
                f"device={settings.device}: cannot be used here ({first_line(error)}); give cpu, cuda or cuda:N, or "
                "nothing"
            ) from error
    arguments: dict[str, Any] = {"dtype": pick_dtype(settings), **_source(settings)}
    if settings.attention is not None:
        arguments["attn_implementation"] = settings.attention
    if settings.quantization is not None:
        arguments["quantization_config"] = _quantization(settings.quantization, arguments["dtype"])
    spread = settings.device_map or (pick_device(settings) if settings.quantization else None)
    if spread is not None:
        arguments["device_map"] = spread
    try:
        model, found = _auto_class(settings).from_pretrained(settings.source, output_loading_info=True, **arguments)
        placed = model if spread is not None else model.to(pick_device(settings))
    except Exception as error:
        raise _unavailable(settings, error) from error
    # transformers would go on with random weights; one that is tied to another may be called missing
    missing, weights = found["missing_keys"], dict(model.named_parameters(remove_duplicate=False))
    loaded = {weight.data_ptr() for name, weight in weights.items() if name not in missing}
    random = sorted(name for name in missing if name not in weights or weights[name].data_ptr() not in loaded)
    if random:
        raise UserError(
            f"checkpoint {settings.checkpoint!r} lacks {len(random)} of its weights ({random[0]} …); is it whole?"
        )
    return (placed if settings.lora is None else _with_lora(placed, settings.lora, settings.merged)).eval()


def _auto_class(settings: CheckpointSettings) -> Any:
    """The class of transformers that loads the checkpoint: the one its own code is written for, else the widest."""
    import transformers

    own: Any = {}
    if settings.trust_remote_code:
        config: Any = transformers.AutoConfig.from_pretrained(settings.source, **_source(settings))
        own = getattr(config, "auto_map", None) or {}
    names = ("AutoModelForImageTextToText", "AutoModelForMultimodalLM", "AutoModelForCausalLM")
    return getattr(transformers, next((name for name in names if name in own), names[1]))


def _with_lora(model: Any, folder: str, merge: bool) -> Any:
    """The model with LoRA weights in its layers, or added to its weights.

    Raises:
        UserError: peft is absent, or the weights are damaged or another checkpoint's.
    """
    if importlib.util.find_spec("peft") is None:
        raise UserError("lora= needs peft; type: pip install 'sevlm-harness[lora]'")
    import peft
    import torch
    from safetensors import SafetensorError

    try:
        with without_future_warnings():
            wrapped: Any = peft.PeftModel.from_pretrained(model, str(Path(folder).expanduser()))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"lora={folder}: these weights cannot be used with the checkpoint: {first_line(error)}"
        ) from error
    adapted = wrapped.get_base_model()
    if not merge:
        return adapted
    # an adapted output layer gets its own vocabulary: merged into a shared one, LoRA would change the input too
    head, words = adapted.get_output_embeddings(), adapted.get_input_embeddings()
    held = getattr(head, "base_layer", None)
    if held is not None and held.weight.data_ptr() == words.weight.data_ptr():
        held.weight = torch.nn.Parameter(held.weight.detach().clone(), requires_grad=False)
    return wrapped.merge_and_unload()


@contextlib.contextmanager
def without_future_warnings() -> Iterator[None]:
    """Leave out what peft and transformers have to tell each other about names that will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def lora_base(folder: str) -> str:
    """The checkpoint that LoRA weights were trained for.

    Raises:
        UserError: the folder holds no LoRA weights.
    """
    try:
        config = json.loads((Path(folder).expanduser() / "adapter_config.json").read_text(encoding="utf-8"))
        return str(config["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"lora={folder}: no LoRA weights there ({type(error).__name__}); train some: harness train hf --task T"
        ) from None


def _source(settings: CheckpointSettings) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` that both parts share."""
    arguments: dict[str, Any] = {"revision": settings.revision} if settings.revision else {}
    # Said even if it is False: otherwise transformers asks on the terminal.
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
    """One line that names the setting concerned and says what to type; transformers' own messages run over many."""
    said = str(error).lower()
    why = f"({type(error).__name__}: {first_line(error)})"
    checkpoint = f"checkpoint {settings.checkpoint!r}"
    if "torchvision" in said:
        advice = "type: pip install 'sevlm-harness[vlm]', with the torchvision that was built for your torch"
        return UserError(f"{checkpoint} needs torchvision for its images; {advice}")
    if "trust_remote_code" in said or "custom code" in said:
        return UserError(f"{checkpoint} runs code of its own; read it, and if you trust it add --trust-remote-code")
    if settings.attention is not None and ("attn" in said or "attention" in said or "flash" in said):
        return UserError(f"attention={settings.attention}: cannot be used with {checkpoint} {why}; try sdpa or eager")
    if settings.device_map is not None and ("device_map" in said or "device map" in said):
        return UserError(f"device_map={settings.device_map}: cannot be used {why}; try auto")
    if (isinstance(error, ImportError) and "requires" in said) or "pip install" in said:
        return UserError(f"{checkpoint} needs a package that is not installed {why}")
    if settings.folder is not None:
        return UserError(f"{checkpoint} could not be loaded {why}; expected a folder with an image-text checkpoint")
    if isinstance(error, OSError):
        card = card_of(settings.checkpoint)
        size = f"about {card.download_gb:.0f} GB" if card and card.download_gb else "its weights"
        typed = f"{card.name}:checkpoint=FOLDER" if card else "hf:FOLDER"
        return UserError(
            f"{checkpoint} is not on this machine and could not be fetched {why}; {size} would be downloaded from the "
            f"hub; for a copy in a folder give checkpoint=FOLDER (--models {typed})"
        )
    return UserError(f"{checkpoint} could not be loaded {why}; expected a folder or hub id of an image-text checkpoint")


def first_line(error: Exception) -> str:
    """The first line of an error's text that holds any, shortened to 200 characters."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


# ---------------------------------------------------------------------- text


@dataclass(frozen=True)
class Generated:
    """What one batch gave.

    Attributes:
        tokens: (B, T) answer tokens, the prompt left out, padded after the end token.
        lengths: tokens of each answer, its end token included.
        truncated: per row, whether the token limit came before an end token.
        logits: T tensors (B, V) before any processing, if asked for.
        cache: keys and values of prompt and answer.
    """

    tokens: Tensor
    lengths: list[int]
    truncated: list[bool]
    logits: tuple[Tensor, ...] | None
    cache: Any


def generate(
    model: Any,
    inputs: Any,
    max_new_tokens: int,
    *,
    min_new_tokens: int = 0,
    logits: bool = False,
    forced: Sequence[int] | None = None,
) -> Generated:
    """The most probable next token, again and again, until each row has ended or the limit is reached.

    Args:
        model, inputs: as loaded and as encoded, on the model's device.
        max_new_tokens, min_new_tokens: limits of an answer's length.
        logits: keep each step's.
        forced: take these tokens instead of the most probable ones.
    """
    import torch
    from transformers import LogitsProcessorList

    limits: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    if min_new_tokens:
        limits["min_new_tokens"] = min_new_tokens
    if forced is not None:
        steps = iter(forced)
        limits["logits_processor"] = LogitsProcessorList([lambda _, scores: _only(scores, next(steps))])
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            **limits,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            return_dict_in_generate=True,
            output_logits=logits,
        )
    prompt = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    tokens = output.sequences[:, prompt:]
    ends = end_tokens(model)
    # up to and including the first end token; None without one
    lengths = [next((i for i, token in enumerate(row, start=1) if token in ends), None) for row in tokens.tolist()]
    truncated = [length is None for length in lengths]
    counted = [tokens.shape[1] if length is None else length for length in lengths]
    return Generated(tokens, counted, truncated, output.logits, getattr(output, "cache", None))


def _only(scores: Tensor, token: int) -> Tensor:
    """Scores (B, V) that leave one token to choose."""
    alone = scores.new_full(scores.shape, -float("inf"))
    alone[:, token] = 0
    return alone


def end_tokens(model: Any) -> frozenset[int]:
    """Ids that end an answer."""
    ids = model.generation_config.eos_token_id
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


# ---------------------------------------------------------------------- label probabilities

Scorer = Callable[[Any, Any, Any, Sequence[Sequence[int]]], "Tensor"]
"""(model, inputs of B prompts, cache left by generation, L continuations) -> (B, L) float64: the log-probability of
each continuation right after each prompt, Σ_t log p(token_t | prompt, tokens before it)."""


def score_by_cut_cache(model: Any, inputs: Any, cache: Any, continuations: Sequence[Sequence[int]]) -> Tensor:
    """Nothing is computed twice: the cache is cut back to all prompt tokens but the last, which is fed again with the
    continuation. For caches of plain attention; the prompt and its image cost nothing."""
    import torch

    prompt = inputs["input_ids"]  # (B, P)
    known = prompt.shape[1] - 1
    scores = []
    with torch.inference_mode():
        for tokens in continuations:
            wanted = _repeated(tokens, prompt)  # (B, T)
            _cut(cache, known)
            log_probs = _continued(model, inputs, cache, known, torch.cat([prompt[:, -1:], wanted[:, :-1]], dim=1))
            scores.append(_picked(log_probs, wanted))
        _cut(cache, known)
    return torch.stack(scores, dim=1).cpu().double()


def score_by_copied_cache(model: Any, inputs: Any, cache: Any, continuations: Sequence[Sequence[int]]) -> Tensor:
    """One more pass over the prompt, whose cache is copied for each continuation. For caches that cannot be cut: those
    of linear attention, of sliding windows that are full, and of cross-attention."""
    import torch

    prompt = inputs["input_ids"]
    asked = generate(model, inputs, 1, logits=True)
    assert asked.logits is not None  # asked for
    first = asked.logits[0].float().log_softmax(dim=-1)[:, None]  # (B, 1, V)
    scores = []
    with torch.inference_mode():
        for tokens in continuations:
            wanted, log_probs = _repeated(tokens, prompt), first
            if len(tokens) > 1:
                kept = copy.deepcopy(asked.cache)
                rest = _continued(model, inputs, kept, prompt.shape[1], wanted[:, :-1])
                log_probs = torch.cat([first, rest], dim=1)  # (B, T, V)
            scores.append(_picked(log_probs, wanted))
    return torch.stack(scores, dim=1).cpu().double()


def score_by_forcing(model: Any, inputs: Any, cache: Any, continuations: Sequence[Sequence[int]]) -> Tensor:
    """Generation itself, made to say each continuation; right for every model that generates, and the slowest."""
    import torch

    opening = opening_tokens(model)
    scores = []
    for tokens in continuations:
        said = generate(model, inputs, len(opening) + len(tokens), logits=True, forced=[*opening, *tokens])
        assert said.logits is not None  # asked for
        log_probs = torch.stack(said.logits[len(opening) :], dim=1).float().log_softmax(dim=-1)  # (B, T, V)
        scores.append(_picked(log_probs, _repeated(tokens, log_probs.new_empty(log_probs.shape[:1]).long())))
    return torch.stack(scores, dim=1).cpu().double()


SCORERS: dict[str, Scorer] = {
    "cut cache": score_by_cut_cache,
    "copied cache": score_by_copied_cache,
    "forced generation": score_by_forcing,
}
"""From the quickest to the most general."""


def _continued(model: Any, inputs: Any, cache: Any, known: int, fed: Tensor) -> Tensor:
    """Log-probabilities (B, T, V) after each of the tokens `fed` (B, T), which follow `known` tokens in the cache."""
    import torch

    mask = torch.cat([inputs["attention_mask"][:, :known], torch.ones_like(fed)], dim=1)  # (B, known + T)
    more: dict[str, Any] = {}
    if "cross_attention_mask" in inputs:  # (B, P, images, tiles): what the last prompt token saw
        more["cross_attention_mask"] = inputs["cross_attention_mask"][:, -1:].expand(-1, fed.shape[1], -1, -1)
    # The model's own rule, since an image may count as fewer positions than it has tokens.
    positions = model._prepare_position_ids_for_generation(fed, {"attention_mask": mask, "cache": cache})
    step = model.prepare_inputs_for_generation(
        fed,
        cache=cache,
        attention_mask=mask,
        position_ids=positions[..., -fed.shape[1] :],
        use_cache=True,
        **more,
    )
    log_probs: Tensor = model(**step).logits.float().log_softmax(dim=-1)
    return log_probs


def _cut(cache: Any, length: int) -> None:
    """Forget everything after the first `length` tokens."""
    cache.crop(-(cache.get_seq_length() - length))


def _repeated(tokens: Sequence[int], like: Tensor) -> Tensor:
    """One continuation for every row: T tokens -> (B, T) on the device of `like` (B, …)."""
    import torch

    return torch.tensor([list(tokens)], device=like.device).expand(like.shape[0], -1)


def _picked(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Sum over T of the log-probability (B, T, V) of each token (B, T) -> (B,)."""
    return log_probs.gather(2, tokens[:, :, None]).sum(dim=(1, 2))


def opening_tokens(model: Any) -> list[int]:
    """Tokens that a decoder beside an encoder always begins with."""
    forced = getattr(model.generation_config, "forced_bos_token_id", None)
    return [forced] if model.config.is_encoder_decoder and forced is not None else []
