"""Checkpoints of 26 families, made on the spot: the real classes with random weights of a few hundred kilobytes.

What a family's tokenizer adds (a BOS or none) and what its chat template writes is as its makers have it, as far as that
could be known without their files; structure is tested here, not quality.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from harness.tasks.prompts import DEFAULT_PROMPT

SIDE, PATCH = 56, 14
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
VISION = SMALL | {"image_size": SIDE, "patch_size": PATCH}
TEXT = SMALL | {"num_key_value_heads": 2, "max_position_embeddings": 32768}
MIXED: dict[str, Any] = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"] * 2}
"""Four layers, two of which see the last tokens only: fewer than any prompt has."""


def rope(**settings: Any) -> dict[str, Any]:
    """Settings of rotary positions; a new dictionary each time, since configurations change theirs."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, **settings}}


AXES: dict[str, Any] = {"mrope_section": [2, 3, 3]}
THREE_AXES = TEXT | {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "head_dim": 16,
}

Made = tuple[Any, Any, tuple[str, ...]]
"""A model, its processor, and further tokens that end an answer."""
FAMILIES: dict[str, Callable[[], Made]] = {}


def family(name: str) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Register a maker."""

    def register(maker: Callable[[], Made]) -> Callable[[], Made]:
        FAMILIES[name] = maker
        return maker

    return register


def build(name: str, folder: Path) -> Path:
    """Write a family's checkpoint to `folder / name`; equal calls give equal files."""
    torch.manual_seed(0)
    model, processor, ends = FAMILIES[name]()
    words = processor.tokenizer
    ids = [words.eos_token_id, *words.convert_tokens_to_ids(list(ends))]
    model.generation_config.eos_token_id = ids if ends else ids[0]
    model.generation_config.pad_token_id = words.pad_token_id
    model.save_pretrained(folder / name)
    processor.save_pretrained(folder / name)
    return folder / name


# ---------------------------------------------------------------------- words

SENTENCES = (
    DEFAULT_PROMPT,
    "amusement, awe, contentment, excitement, anger, disgust, fear, sadness, something else because the painting is "
    "bright and dark and calm, with mountains, a lake, people and the sky; which emotion does it evoke, and why?",
)


@cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Pieces of bytes learned from two sentences, and the merges that build them."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = _splitting()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learned.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    state = json.loads(learned.to_str())["model"]
    return state["vocab"], [tuple(pair) for pair in state["merges"]]


def _splitting() -> Any:
    """Words with their leading space; line breaks stay together, as in the tokenizers of these families."""
    pieces = pre_tokenizers.Split(Regex(r"\s*[\r\n]+|[^\S\r\n]?[^\s]+|\s+"), "isolated")
    return pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def words(
    *special: str,
    eos: str,
    pad: str,
    bos: str | None = None,
    adds_bos: bool = False,
    first: tuple[str, ...] = (),
    named: dict[str, str] | None = None,
    **settings: Any,
) -> hf.PreTrainedTokenizerFast:
    """A tokenizer with a family's special tokens.

    Args:
        special, eos, pad, bos: tokens without a name of their own, and with one.
        adds_bos: put the BOS before every text.
        first: tokens that must have the lowest ids.
        named: attribute of the tokenizer -> token.
        settings: of the tokenizer's class.
    """
    known, merges = vocabulary()
    ids = {token: place for place, token in enumerate([*first, *known])}
    made = Tokenizer(models.BPE(vocab=ids, merges=merges))
    made.pre_tokenizer, made.decoder = _splitting(), decoders.ByteLevel()
    tokens = [token for token in (bos, eos, pad, *special, *(named or {}).values()) if token]
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in dict.fromkeys(tokens)])
    if adds_bos:
        before = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))])
        made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), before])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        extra_special_tokens=named or {},
        model_max_length=100_000,
        **settings,
    )


def ends_of(tokenizer: Any) -> dict[str, Any]:
    """What a text configuration must know of its tokenizer."""
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return ids | {"bos_token_id": tokenizer.bos_token_id, "vocab_size": len(tokenizer)}


def template(user: str, assistant: str, image: str, *, start: str = "", end: str = "", ask: str, sep: str = "") -> str:
    """A chat template: `start`, then turns that begin with their role's text and close with `end`; `ask` opens an
    answer, `sep` stands before one's text."""
    spoken = "{% if m['role'] == 'assistant' %}" + sep + "{% endif %}{{ c['text'] }}"
    content = "{% if c['type'] == 'image' %}" + image + "{% else %}" + spoken + "{% endif %}"
    role = "{% if m['role'] == 'assistant' %}" + assistant + "{% else %}" + user + "{% endif %}"
    turn = role + "{% for c in m['content'] %}" + content + "{% endfor %}" + end
    asked = "{% if add_generation_prompt %}" + ask + "{% endif %}"
    return start + "{% for m in messages %}" + turn + "{% endfor %}" + asked


def chatml(image: str, *, start: str = "", thinking: str = "") -> str:
    turn = "<|im_start|>%s\n"
    answer = turn % "assistant"
    return template(turn % "user", answer, image, start=start, end="<|im_end|>\n", ask=answer + thinking)


def chatml_words(*special: str, **settings: Any) -> hf.PreTrainedTokenizerFast:
    return words("<|im_start|>", *special, eos="<|im_end|>", pad="<|endoftext|>", **settings)


def square(side: int = SIDE) -> dict[str, int]:
    return {"height": side, "width": side}


# ---------------------------------------------------------------------- LLaVA and its kin

GRIDS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
CROPPED = {"size": {"shortest_edge": SIDE}, "crop_size": square()}


@family("llava-1.5")
def llava() -> Made:
    text = words("<image>", bos="<s>", eos="</s>", pad="<pad>", adds_bos=True)
    config = hf.LlavaConfig(
        vision_config=VISION | {"model_type": "clip_vision_model"},
        text_config=TEXT | ends_of(text) | {"model_type": "llama"},
        image_token_index=text.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(**CROPPED), text, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("USER: ", "ASSISTANT:", "<image>\n", end=" ", ask="ASSISTANT:", sep=" "),
    )  # fmt: skip
    return hf.LlavaForConditionalGeneration(config), processor, ()


@family("llava-next")
def llava_next() -> Made:
    text = words("<image>", bos="<s>", eos="</s>", pad="<pad>", adds_bos=True)
    config = hf.LlavaNextConfig(
        vision_config=VISION | {"model_type": "clip_vision_model"},
        text_config=TEXT | ends_of(text) | {"model_type": "mistral"},
        image_token_index=text.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=GRIDS,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    processor = hf.LlavaNextProcessor(
        hf.LlavaNextImageProcessor(**CROPPED, image_grid_pinpoints=GRIDS), text, patch_size=PATCH,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template("[INST] ", "", "<image>\n", ask="[/INST]", sep=" "),
    )  # fmt: skip
    return hf.LlavaNextForConditionalGeneration(config), processor, ()


@family("llava-onevision")
def onevision() -> Made:
    text = chatml_words("<image>", "<video>")
    grids = [[SIDE, SIDE], *GRIDS]
    config = hf.LlavaOnevisionConfig(
        vision_config=VISION | {"model_type": "siglip_vision_model"},
        text_config=TEXT | ends_of(text) | {"model_type": "qwen2"},
        image_token_index=text.convert_tokens_to_ids("<image>"),
        video_token_index=text.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
    )
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessor(size=square(), image_grid_pinpoints=grids), text,
        hf.LlavaOnevisionVideoProcessor(size=square()), num_image_tokens=16, vision_feature_select_strategy="full",
        chat_template=template("<|im_start|>user ", "<|im_start|>assistant\n", "<image>\n", end="<|im_end|>",
                               ask="<|im_start|>assistant\n"),
    )  # fmt: skip
    return hf.LlavaOnevisionForConditionalGeneration(config), processor, ()


@family("internvl")
def internvl() -> Made:
    named = {"start_image_token": "<img>", "end_image_token": "</img>"}
    text = chatml_words(named=named | {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"})
    config = hf.InternVLConfig(
        vision_config=SMALL | {"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]},
        text_config=TEXT | ends_of(text) | {"model_type": "qwen2"},
        image_token_id=text.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    tiles = hf.GotOcr2ImageProcessor(size=square(), crop_to_patches=True, min_patches=1, max_patches=4)
    videos = hf.InternVLVideoProcessor(size=square())
    processor = hf.InternVLProcessor(tiles, text, videos, image_seq_length=4, chat_template=chatml("<IMG_CONTEXT>\n"))
    return hf.InternVLForConditionalGeneration(config), processor, ()


def _pixtral_words() -> hf.PreTrainedTokenizerFast:
    marks = ("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    return words(*marks, bos="<s>", eos="</s>", pad="<pad>", adds_bos=True)


PIXTRAL_TOWER = VISION | {"model_type": "pixtral", "image_size": 2 * SIDE, "head_dim": 16}
PIXTRAL_CHAT = template("[INST]", "", "[IMG]", start="{{ bos_token }}", ask="[/INST]")


@family("pixtral")
def pixtral() -> Made:
    text = _pixtral_words()
    config = hf.LlavaConfig(
        vision_config=PIXTRAL_TOWER | rope(),
        text_config=TEXT | ends_of(text) | {"model_type": "mistral", "head_dim": 16},
        image_token_index=text.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    images = hf.PixtralImageProcessor(size={"longest_edge": 2 * SIDE}, patch_size=PATCH)
    processor = hf.PixtralProcessor(images, text, patch_size=PATCH, spatial_merge_size=1, chat_template=PIXTRAL_CHAT)
    return hf.LlavaForConditionalGeneration(config), processor, ()


@family("mistral3")
def mistral3() -> Made:
    text = _pixtral_words()
    config = hf.Mistral3Config(
        vision_config=PIXTRAL_TOWER | rope(),
        text_config=TEXT | ends_of(text) | {"model_type": "mistral", "head_dim": 16},
        image_token_index=text.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )
    images = hf.PixtralImageProcessor(size={"longest_edge": 2 * SIDE}, patch_size=2 * PATCH)
    processor = hf.PixtralProcessor(images, text, patch_size=PATCH, spatial_merge_size=2, chat_template=PIXTRAL_CHAT)
    return hf.Mistral3ForConditionalGeneration(config), processor, ()


@family("ovis2")
def ovis2() -> Made:
    marks = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
    text = chatml_words("<image>", "<IMG_ATOM>", *marks)
    config = hf.Ovis2Config(
        vision_config=VISION | {"vocab_size": 64, "hidden_stride": 2, "num_visual_indicator_tokens": 5},
        text_config=TEXT | ends_of(text) | {"model_type": "qwen2"},
        image_token_id=text.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=text.convert_tokens_to_ids(list(marks)),
        vocab_size=len(text),
        hidden_size=32,
    )
    images = hf.Ovis2ImageProcessor(size=square(), crop_to_patches=False)
    processor = hf.Ovis2Processor(images, text, image_seq_length=4, chat_template=chatml("<image>\n"))
    return hf.Ovis2ForConditionalGeneration(config), processor, ()


@family("molmo2")
def molmo2() -> Made:
    marks = ("<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<im_end>")
    frames = ("<frame_start>", "<frame_end>", "<im_low>", "<|image|>", "<|video|>")
    text = chatml_words(*marks, *frames, bos="<|endoftext|>")
    keys = ("image_patch_id", "image_start_token_id", "low_res_image_start_token_id", "image_end_token_id")
    ids = dict(zip(keys, text.convert_tokens_to_ids(["<im_patch>", *marks[2:]]), strict=True))
    heads = {"num_key_value_heads": 2, "head_dim": 16}
    config = hf.Molmo2Config(
        vision_config=VISION | heads | {"image_size": [SIDE, SIDE]},
        adapter_config=heads
        | {"vision_feature_layer": [-1, 0], "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        | {"text_hidden_size": 32, "initializer_range": 0.2},
        text_config=TEXT | ends_of(text) | {"head_dim": 16, "additional_vocab_size": 0},
        **ids,
        frame_start_token_id=text.convert_tokens_to_ids("<frame_start>"),
        frame_end_token_id=text.convert_tokens_to_ids("<frame_end>"),
    )
    images = hf.Molmo2ImageProcessor(
        size=square(), max_crops=2, overlap_margins=[1, 1], patch_size=PATCH, pooling_size=[2, 2]
    )
    videos = hf.Molmo2VideoProcessor(size=square(), patch_size=PATCH)
    processor = hf.Molmo2Processor(images, videos, text, chat_template=chatml("<|image|>"))
    return hf.Molmo2ForConditionalGeneration(config), processor, ()


# ---------------------------------------------------------------------- Qwen, GLM: positions of three axes

QWEN_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


def _qwen_ids(text: Any) -> dict[str, int]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return dict(zip(names, text.convert_tokens_to_ids(list(QWEN_MARKS)), strict=True))


def _pixels(patch: int, **settings: Any) -> Any:
    unit = 2 * patch
    size = {"shortest_edge": 4 * unit**2, "longest_edge": 150 * unit**2}
    return hf.Qwen2VLImageProcessor(patch_size=patch, size=size, **settings)


@family("qwen2-vl")
def qwen2_vl() -> Made:
    text = chatml_words(*QWEN_MARKS)
    tower = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "initializer_range": 0.2}
    config = hf.Qwen2VLConfig(
        **_qwen_ids(text), text_config=THREE_AXES | rope(**AXES) | ends_of(text), vision_config=tower
    )
    processor = hf.Qwen2VLProcessor(
        image_processor=_pixels(14), tokenizer=text, video_processor=hf.Qwen2VLVideoProcessor(),
        chat_template=chatml(QWEN_IMAGE, start=QWEN_SYSTEM),
    )  # fmt: skip
    return hf.Qwen2VLForConditionalGeneration(config), processor, ("<|endoftext|>",)


QWEN_TOWER = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "num_heads": 2,
    "initializer_range": 0.2,
}  # fmt: skip


@family("qwen2.5-vl")
def qwen25_vl() -> Made:
    text = chatml_words(*QWEN_MARKS)
    tower = QWEN_TOWER | {"window_size": 112, "fullatt_block_indexes": [1]}
    config = hf.Qwen2_5_VLConfig(
        **_qwen_ids(text), text_config=THREE_AXES | rope(**AXES) | ends_of(text), vision_config=tower
    )
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=_pixels(14), tokenizer=text, video_processor=hf.Qwen2VLVideoProcessor(),
        chat_template=chatml(QWEN_IMAGE, start=QWEN_SYSTEM),
    )  # fmt: skip
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor, ("<|endoftext|>",)


HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@family("qwen3-vl")
def qwen3_vl() -> Made:
    text = chatml_words(*QWEN_MARKS)
    tower = QWEN_TOWER | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    turning = rope(**AXES, mrope_interleaved=True)
    config = hf.Qwen3VLConfig(**_qwen_ids(text), text_config=THREE_AXES | turning | ends_of(text), vision_config=tower)
    processor = hf.Qwen3VLProcessor(
        image_processor=_pixels(16, **HALF), tokenizer=text, video_processor=hf.Qwen3VLVideoProcessor(),
        chat_template=chatml(QWEN_IMAGE),
    )  # fmt: skip
    return hf.Qwen3VLForConditionalGeneration(config), processor, ("<|endoftext|>",)


@family("qwen3.5")
def qwen35() -> Made:
    """Linear attention in three of four layers, and a template that switches thinking."""
    text = chatml_words(*QWEN_MARKS, "<think>", "</think>")
    linear = {
        "head_dim": 32, "num_hidden_layers": 4, "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
    }  # fmt: skip
    turning = rope(**AXES, mrope_interleaved=True, partial_rotary_factor=0.5)
    config = hf.Qwen3_5Config(
        **_qwen_ids(text),
        text_config=THREE_AXES | linear | turning | ends_of(text),
        vision_config=QWEN_TOWER | {"patch_size": 16, "num_position_embeddings": 64},
    )
    switch = "<think>\n{% if enable_thinking is defined and enable_thinking is false %}\n</think>\n\n{% endif %}"
    processor = hf.Qwen3VLProcessor(
        image_processor=_pixels(16, **HALF), tokenizer=text, video_processor=hf.Qwen3VLVideoProcessor(),
        chat_template=chatml(QWEN_IMAGE, thinking=switch),
    )  # fmt: skip
    return hf.Qwen3_5ForConditionalGeneration(config), processor, ("<|endoftext|>",)


@family("glm4v")
def glm4v() -> Made:
    marks = ["image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video"]
    turns = ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>")
    text = words(*turns, *(f"<|{mark}|>" for mark in marks), eos="<|endoftext|>", pad="<|endoftext|>")
    keys = ["image_token_id", "video_token_id", "image_start_token_id", "image_end_token_id"]
    keys += ["video_start_token_id", "video_end_token_id"]
    ids = dict(zip(keys, text.convert_tokens_to_ids([f"<|{mark}|>" for mark in marks]), strict=True))
    config = hf.Glm4vConfig(
        text_config=THREE_AXES | rope(**AXES, partial_rotary_factor=1.0) | ends_of(text),
        vision_config=QWEN_TOWER | {"image_size": SIDE, "patch_size": PATCH},
        **ids,
    )
    size = {"shortest_edge": 2 * SIDE**2, "longest_edge": 300 * (2 * PATCH) ** 2}
    chat = template("<|user|>\n", "<|assistant|>\n", "<|begin_of_image|><|image|><|end_of_image|>",
                    start="[gMASK]<sop>", ask="<|assistant|>\n")  # fmt: skip
    processor = hf.Glm4vProcessor(hf.Glm4vImageProcessor(size=size), text, hf.Glm4vVideoProcessor(), chat_template=chat)
    return hf.Glm4vForConditionalGeneration(config), processor, ("<|user|>",)


# ---------------------------------------------------------------------- Idefics, SmolVLM

TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
IDEFICS_MARKS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>")


def _idefics_chat(start: str) -> str:
    end = "<end_of_utterance>\n"
    return template("User:", "Assistant:", "<image>", start=start, end=end, ask="Assistant:", sep=" ")


@family("idefics2")
def idefics2() -> Made:
    text = words(*IDEFICS_MARKS, bos="<s>", eos="</s>", pad="<unk>", adds_bos=True)
    resampler = {
        "hidden_size": 32, "rms_norm_eps": 1e-6, "resampler_n_latents": 8, "resampler_depth": 2, "resampler_n_heads": 2,
        "resampler_head_dim": 16, "num_key_value_heads": 2,
    }  # fmt: skip
    config = hf.Idefics2Config(
        image_token_id=text.convert_tokens_to_ids("<image>"),
        vision_config=VISION,
        perceiver_config=resampler,
        text_config=TEXT | ends_of(text) | {"model_type": "mistral"},
    )
    images = hf.Idefics2ImageProcessor(size={"shortest_edge": 42, "longest_edge": SIDE}, do_image_splitting=False)
    processor = hf.Idefics2Processor(images, text, image_seq_len=8, chat_template=_idefics_chat(""))
    return hf.Idefics2ForConditionalGeneration(config), processor, ("<end_of_utterance>",)


SPLIT = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}


def _tiled(kind: Any, text: Any) -> Any:
    return kind(
        image_token_id=text.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=text.pad_token_id,
        vision_config=VISION,
        text_config=TEXT | ends_of(text) | {"model_type": "llama"},
    )


@family("idefics3")
def idefics3() -> Made:
    marks = (*IDEFICS_MARKS, "<global-img>", *TILES)
    text = words(*marks, bos="<|begin_of_text|>", eos="<|eot|>", pad="<|pad|>", adds_bos=True)
    images = hf.Idefics3ImageProcessor(**SPLIT, do_image_splitting=True)
    chat = _idefics_chat("<|begin_of_text|>")
    processor = hf.Idefics3Processor(images, text, image_seq_len=4, chat_template=chat)
    return hf.Idefics3ForConditionalGeneration(_tiled(hf.Idefics3Config, text)), processor, ("<end_of_utterance>",)


@family("smolvlm2")
def smolvlm2() -> Made:
    marks = ("<fake_token_around_image>", "<image>", "<global-img>", "<video>", *TILES)
    text = words(*marks, bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>")
    images = hf.SmolVLMImageProcessor(**SPLIT, do_image_splitting=True)
    videos = hf.SmolVLMVideoProcessor(**SPLIT)
    chat = _idefics_chat("<|im_start|>")
    processor = hf.SmolVLMProcessor(images, text, videos, image_seq_len=4, chat_template=chat)
    return hf.SmolVLMForConditionalGeneration(_tiled(hf.SmolVLMConfig, text)), processor, ()


# ---------------------------------------------------------------------- Gemma, Llama, Cohere, Liquid


@family("gemma3")
def gemma3() -> Made:
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    turns = ("<start_of_turn>", "<end_of_turn>")
    text = words(*turns, bos="<bos>", eos="<eos>", pad="<pad>", adds_bos=True, named=named)
    config = hf.Gemma3Config(
        vision_config=VISION,
        text_config=TEXT | MIXED | ends_of(text) | {"num_hidden_layers": 4, "head_dim": 16, "sliding_window": 1024},
        mm_tokens_per_image=4,
        image_token_index=text.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=text.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=text.convert_tokens_to_ids("<end_of_image>"),
    )
    answer = "<start_of_turn>model\n"
    chat = template("<start_of_turn>user\n", answer, "<start_of_image>", start="{{ bos_token }}",
                    end="<end_of_turn>\n", ask=answer)  # fmt: skip
    images = hf.Gemma3ImageProcessor(size=square())
    processor = hf.Gemma3Processor(images, text, chat_template=chat, image_seq_length=4)
    model = hf.Gemma3ForConditionalGeneration(config)
    for name, weights in model.named_parameters():  # these start at nothing, which would hide the image
        if "mm_input_projection_weight" in name:
            torch.nn.init.normal_(weights, std=0.3)
        if "mm_soft_emb_norm" in name:
            torch.nn.init.constant_(weights, 1.0)
    return model, processor, ("<end_of_turn>",)


@family("paligemma")
def paligemma() -> Made:
    text = words("<image>", bos="<bos>", eos="<eos>", pad="<pad>", adds_bos=True)
    images = hf.SiglipImageProcessor(size=square())
    images.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(images, text)
    config = hf.PaliGemmaConfig(
        vision_config=VISION,
        text_config=TEXT | ends_of(text) | {"model_type": "gemma", "head_dim": 16},
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor, ()


@family("llama-3.2-vision")
def mllama() -> Made:
    """The image reaches the text by cross-attention; its token comes last, behind the vocabulary of the output."""
    turns = ("<|start_header_id|>", "<|end_header_id|>")
    text = words(*turns, bos="<|begin_of_text|>", eos="<|eot_id|>", pad="<|finetune_right_pad_id|>", adds_bos=True)
    rows = ends_of(text)
    text._tokenizer.add_special_tokens(["<|image|>"])
    tower = {
        "hidden_size": 32, "attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 2,
        "image_size": SIDE, "patch_size": PATCH, "vision_output_dim": 96, "intermediate_layers_indices": [0, 1],
        "max_num_tiles": 4, "initializer_range": 0.2,
        "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    }  # fmt: skip
    layers = {"num_hidden_layers": 4, "cross_attention_layers": [1, 3]} | rope()
    config = hf.MllamaConfig(
        vision_config=tower,
        text_config=TEXT | layers | rows,
        image_token_index=text.convert_tokens_to_ids("<|image|>"),
    )
    turn = "<|start_header_id|>%s<|end_header_id|>\n\n"
    chat = template(turn % "user", turn % "assistant", "<|image|>", start="{{ bos_token }}", end="<|eot_id|>",
                    ask=turn % "assistant")  # fmt: skip
    images = hf.MllamaImageProcessor(size=square(), max_image_tiles=4)
    model = hf.MllamaForConditionalGeneration(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "gate" in name and weights.numel() == 1:  # these start at 0, which would hide the image
                weights.fill_(1.0)
    return model, hf.MllamaProcessor(images, text, chat_template=chat), ()


COHERE_TURNS = ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<image>")


def _cohere_chat(image: str) -> str:
    turn, answer = "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
    return template(turn, answer, image, start="{{ bos_token }}", end="<|END_OF_TURN_TOKEN|>", ask=answer)


COHERE = TEXT | MIXED | {"model_type": "cohere2", "head_dim": 16, "num_hidden_layers": 4}
COHERE_ENDS: dict[str, Any] = {
    "bos": "<BOS_TOKEN>", "eos": "<|END_OF_TURN_TOKEN|>", "pad": "<PAD>", "adds_bos": True,
}  # fmt: skip


@family("aya-vision")
def aya_vision() -> Made:
    marks = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL")
    text = words(*COHERE_TURNS, *marks, *(f"TILE_{number}" for number in range(1, 13)), **COHERE_ENDS)
    images = hf.GotOcr2ImageProcessor(size=square(), crop_to_patches=True, min_patches=1, max_patches=4)
    processor = hf.AyaVisionProcessor(
        images, text, patch_size=PATCH, img_size=SIDE, downsample_factor=2, chat_template=_cohere_chat("<image>")
    )
    config = hf.AyaVisionConfig(
        vision_config=VISION | {"model_type": "siglip_vision_model"},
        text_config=COHERE | ends_of(text),
        vision_feature_layer=-1,
        downsample_factor=2,
        adapter_layer_norm_eps=1e-6,
        image_token_index=text.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return hf.AyaVisionForConditionalGeneration(config), processor, ()


@family("cohere2-vision")
def cohere2_vision() -> Made:
    named = {"image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>"}
    text = words(*COHERE_TURNS, named=named | {"img_line_break_token": "<|IMG_LINE_BREAK|>"}, **COHERE_ENDS)
    images = hf.Cohere2VisionImageProcessor(size=square(), patch_size=2, downsample_factor=2, max_patches=4)
    processor = hf.Cohere2VisionProcessor(images, text, chat_template=_cohere_chat("<|IMG_PATCH|>"))
    config = hf.Cohere2VisionConfig(
        vision_config=VISION | {"model_type": "siglip_vision_model"},
        text_config=COHERE | ends_of(text),
        downsample_factor=2,
        image_token_id=text.convert_tokens_to_ids("<|IMG_PATCH|>"),
        alignment_intermediate_size=64,
    )
    return hf.Cohere2VisionForConditionalGeneration(config), processor, ()


@family("lfm2-vl")
def lfm2_vl() -> Made:
    """Convolutions in three of four layers."""
    rows = tuple(f"<|img_row_{row}_col_{column}|>" for row in range(1, 4) for column in range(1, 4))
    named = {"image_token": "<image>", "image_start_token": "<|image_start|>", "image_end_token": "<|image_end|>"}
    named |= {"image_thumbnail": "<|img_thumbnail|>"}
    text = words(
        "<|im_start|>", *rows, bos="<|startoftext|>", eos="<|im_end|>", pad="<|pad|>", adds_bos=True, named=named
    )
    convolving = {"layer_types": ["conv", "conv", "full_attention", "conv"], "conv_L_cache": 3, "block_multiple_of": 1}
    config = hf.Lfm2VlConfig(
        vision_config=SMALL | {"model_type": "siglip2_vision_model", "num_patches": 16, "patch_size": PATCH},
        text_config=SMALL | convolving | ends_of(text)
        | {"model_type": "lfm2", "num_hidden_layers": 4, "num_key_value_heads": 2},
        image_token_id=text.convert_tokens_to_ids("<image>"),
        downsample_factor=2,
        projector_hidden_size=64,
    )  # fmt: skip
    images = hf.Lfm2VlImageProcessor(
        encoder_patch_size=PATCH, tile_size=SIDE, max_num_patches=16, min_image_tokens=2, max_image_tokens=4,
        max_tiles=4, downsample_factor=2,
    )  # fmt: skip
    chat = chatml("<image>", start="{{ bos_token }}")
    return hf.Lfm2VlForConditionalGeneration(config), hf.Lfm2VlProcessor(images, text, chat_template=chat), ()


# ---------------------------------------------------------------------- without a chat template

QUERIES = SMALL | {"encoder_hidden_size": 32, "cross_attention_frequency": 1}


@family("blip2")
def blip2() -> Made:
    text = words(bos="</s>", eos="</s>", pad="<pad>", adds_bos=True)
    processor = hf.Blip2Processor(hf.BlipImageProcessor(size=square()), text, num_query_tokens=4)
    opt = {
        "model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "word_embed_proj_dim": 32, "max_position_embeddings": 2048, "init_std": 0.2,
    }  # fmt: skip
    config = hf.Blip2Config(
        vision_config=VISION,
        qformer_config=QUERIES | {"vocab_size": 1000},
        text_config=opt | ends_of(text),
        num_query_tokens=4,
        image_token_index=text.convert_tokens_to_ids("<image>"),
    )
    return hf.Blip2ForConditionalGeneration(config), processor, ()


@family("instructblip")
def instructblip() -> Made:
    text = words(bos="<s>", eos="</s>", pad="<pad>", adds_bos=True)
    letters = [chr(97 + place) for place in range(26)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    questions = hf.BertTokenizer(vocab={piece: place for place, piece in enumerate(pieces)})
    images = hf.BlipImageProcessor(size=square())
    processor = hf.InstructBlipProcessor(images, text, questions, num_query_tokens=4)
    config = hf.InstructBlipConfig(
        vision_config=VISION,
        qformer_config=QUERIES | {"vocab_size": len(pieces), "max_position_embeddings": 512},
        text_config=TEXT | ends_of(text) | {"model_type": "llama"},
        num_query_tokens=4,
        image_token_index=text.convert_tokens_to_ids("<image>"),
    )
    return hf.InstructBlipForConditionalGeneration(config), processor, ()


@family("kosmos2")
def kosmos2() -> Made:
    first = ("<s>", "<pad>", "</s>", "<unk>")
    text = words(bos="<s>", eos="</s>", pad="<pad>", adds_bos=True, first=first, unk_token="<unk>")
    images = hf.CLIPImageProcessor(**CROPPED)
    processor = hf.Kosmos2Processor(images, text, num_patch_index_tokens=16)
    magneto = {
        "embed_dim": 32, "layers": 2, "ffn_dim": 64, "attention_heads": 2, "max_position_embeddings": 2048, "init_std": 0.2,
    }  # fmt: skip
    config = hf.Kosmos2Config(vision_config=VISION, text_config=magneto | ends_of(text), latent_query_num=64)
    return hf.Kosmos2ForConditionalGeneration(config), processor, ()


@family("florence2")
def florence2() -> Made:
    """An encoder, which reads image and prompt, and a decoder."""
    text = words("<mask>", bos="<s>", eos="</s>", pad="<pad>", named={"image_token": "<image>"})
    images = hf.CLIPImageProcessor(size=square(64), do_center_crop=False, crop_size=square(64))
    images.image_seq_length = 65
    processor = hf.Florence2Processor(images, text, num_additional_image_tokens=0)
    bart = {
        "model_type": "bart", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 2048,
        "init_std": 0.2, "decoder_start_token_id": text.eos_token_id, "forced_eos_token_id": None,
    }  # fmt: skip
    davit = {
        "depths": [1, 1], "embed_dim": [16, 32], "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
        "patch_prenorm": [False, True], "num_heads": [1, 2], "num_groups": [1, 2], "window_size": 4,
        "projection_dim": 32, "max_temporal_embeddings": 1, "max_position_embeddings": 50,
    }  # fmt: skip
    image = text.convert_tokens_to_ids("<image>")
    config = hf.Florence2Config(vision_config=davit, text_config=bart | ends_of(text), image_token_id=image)
    model = hf.Florence2ForConditionalGeneration(config)
    model.generation_config.decoder_start_token_id = text.eos_token_id
    model.generation_config.forced_eos_token_id = None
    return model, processor, ()
