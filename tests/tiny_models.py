"""Vision-language checkpoints of a few hundred kilobytes with random weights: the real classes, made in a second.

python tests/tiny_models.py llava|llava-taught|llava-wide-taught|llava-next|paligemma OUT

Random weights answer noise; `llava-taught` has learned, in seconds, to say `awe because ...` before bright pictures and
`fear because ...` before dark ones; the wide one's rows are as long as the blocks in which 4-bit weights are kept.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    GemmaConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

SIDE, PATCH = 56, 14
PATCHES = (SIDE // PATCH) ** 2
WIDTHS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
WIDE = WIDTHS | {"hidden_size": 64, "intermediate_size": 128}
PICTURES = {"image_size": SIDE, "patch_size": PATCH}
VISION = WIDTHS | PICTURES
SENTENCES = (
    "awe because the mountains are vast, fear because the night is dark, contentment because the lake is calm",
    "which emotion does this painting evoke and why? something else, amusement, anger, disgust, sadness, excitement",
)
BRIGHT, DARK = "awe because the mountains are vast", "fear because the night is dark"
CHAT = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 entries, trained on two sentences."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=2048,
    )


def text_settings(words: PreTrainedTokenizerFast, widths: dict[str, Any] = WIDTHS) -> dict[str, Any]:
    """Sizes and special tokens of the language model; greedy answers differ by picture with this spread of weights."""
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    return widths | ids | {"vocab_size": len(words), "num_key_value_heads": 2, "initializer_range": 0.5}


def clip(out: Path) -> None:
    """CLIP whose tokeniser knows letters and a few words."""
    letters = [chr(c) for c in range(33, 127)]
    words = ["a", "photo", "depicts", "sea", "the", "wind"]
    vocabulary = dict.fromkeys([*letters, *(f"{c}</w>" for c in letters), *(f"{w}</w>" for w in words)])
    vocabulary |= dict.fromkeys(["<|startoftext|>", "<|endoftext|>"])
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    tokens = CLIPTokenizer(vocab=ids, merges=[])
    sizes = WIDTHS | {
        "bos_token_id": ids["<|startoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    text = sizes | {"vocab_size": len(ids), "max_position_embeddings": 256}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=WIDTHS | PICTURES, projection_dim=8))
    model.save_pretrained(out)
    tokens.save_pretrained(out)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(out)


def llava(out: Path, widths: dict[str, Any] = WIDTHS) -> None:
    """LLaVA-1.5: 16 image tokens per picture."""
    words = tokenizer()
    image = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**widths, **PICTURES),
        text_config=LlamaConfig(**text_settings(words, widths)),
        image_token_id=image,
        image_seq_length=PATCHES,
        vision_feature_layer=-1,
    )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = LlavaProcessor(
        pictures,
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    _save(LlavaForConditionalGeneration(config), processor, out)


def llava_taught(out: Path, steps: int = 150, widths: dict[str, Any] = WIDTHS) -> None:
    """The tiny LLaVA, trained to tell bright pictures from dark ones whatever the prompt says."""
    llava(out, widths)
    processor: Any = LlavaProcessor.from_pretrained(out)
    model: Any = LlavaForConditionalGeneration.from_pretrained(out)
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.08)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    choose = random.Random(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / steps) + 1e-5
        model(**_lesson(processor, choose)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(out)


def _lesson(processor: Any, choose: random.Random, rows: int = 16) -> Any:
    """Pictures of any brightness, prompts of any words, and what to say about them; loss on the answer alone."""
    words = " ".join(SENTENCES).split()
    texts, pictures, answers = [], [], []
    for _ in range(rows):
        light = choose.choice([choose.randint(0, 100), choose.randint(150, 255)])
        pictures.append(Image.new("RGB", (SIDE, SIDE), tuple(light + choose.randint(0, 20) - 10 for _ in range(3))))
        prompt = " ".join(choose.choices(words, k=choose.randint(3, 20)))
        answers.append(BRIGHT if light > 125 else DARK)
        texts.append(f"USER: <image>\n{prompt} ASSISTANT: {answers[-1]}</s>")
    processor.tokenizer.padding_side = "left"
    batch = processor(images=pictures, text=texts, padding=True, return_tensors="pt")
    labels = torch.full_like(batch["input_ids"], -100)
    for row, answer in enumerate(answers):
        length = len(processor.tokenizer(f" {answer}</s>")["input_ids"])
        labels[row, -length:] = batch["input_ids"][row, -length:]
    return {**batch, "labels": labels}


def llava_next(out: Path) -> None:
    """LLaVA-NeXT: the number of image tokens depends on the picture's shape, so batches need padding."""
    words = tokenizer()
    grids = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**text_settings(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grids,
        vision_feature_layer=-1,
    )
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grids
    )
    processor = LlavaNextProcessor(
        pictures,
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    _save(LlavaNextForConditionalGeneration(config), processor, out)


def paligemma(out: Path) -> None:
    """PaliGemma: no chat template, the prompt is read in both directions, positions count from one."""
    words = tokenizer()
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VISION, projection_dim=32, vision_use_head=False).to_dict(),
        text_config=GemmaConfig(**text_settings(words), head_dim=16).to_dict(),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    pictures = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    pictures.image_seq_length = PATCHES
    _save(PaliGemmaForConditionalGeneration(config), PaliGemmaProcessor(pictures, words), out)


def _save(model: Any, processor: Any, out: Path) -> None:
    model.save_pretrained(out)
    processor.save_pretrained(out)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "llava": llava,
    "llava-taught": llava_taught,
    "llava-wide-taught": partial(llava_taught, widths=WIDE),
    "llava-next": llava_next,
    "paligemma": paligemma,
}


def build(kind: str, out: Path, seed: int = 0) -> Path:
    """Write the checkpoint `kind` with weights drawn from `seed` to `out`; equal seeds give equal files."""
    torch.manual_seed(seed)
    BUILDERS[kind](out)
    return out


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in BUILDERS:
        sys.exit(f"expected: python {sys.argv[0]} {'|'.join(BUILDERS)} OUT")
    print(build(sys.argv[1], Path(sys.argv[2])))
