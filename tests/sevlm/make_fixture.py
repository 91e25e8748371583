"""Fixtures of the golden layout in other shapes: texts and tokenizer of the golden one, sizes and weights of their own.

Numbers are computed by this library, so a fixture shows that its shape is read in full and that nothing in it is left
out of the comparison; that the numbers are those of the released code only the golden fixture shows.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sevlm.config import SEVLMConfig
from sevlm.decoding import CaptionDecoder, greedy_steps, next_segments
from sevlm.generation import finish_caption
from sevlm.model import Network
from sevlm.official import _RENAMED, MASKED_BIAS
from sevlm.parity import checks_model, checks_text
from sevlm.parity.fixture import Fixture, Report
from sevlm.tokenization import because_id, encode_caption, encode_prompt, special_ids

TOTAL_STEPS = 20  # of the linear schedule


@dataclass(frozen=True)
class Shape:
    """What differs from the golden fixture; `patches` of a trained tower that takes squares of four pixels each."""

    name: str
    n_layer: int
    n_head: int
    n_embd: int
    prefix: int
    vad_heads: int
    prompt: str
    items: tuple[int, ...]
    trained: bool
    patches: int = 4


TRAINED = Shape("trained_tower", 1, 3, 24, 2, 3, " it feels like", (0, 6, 8), True)
FROZEN = Shape("frozen_features", 3, 1, 16, 0, 1, " i think", (6,), False)


def make_fixture(golden: Path, folder: Path, shape: Shape) -> Path:
    """Write the fixture."""
    shutil.copytree(golden, folder)
    torch.manual_seed(11)
    _write_settings(folder, shape)
    _write_checkpoint(folder, shape)
    fixture = Fixture(folder)
    _write_texts(fixture)
    _write_inputs(fixture, shape)
    _write_outputs(Fixture(folder), shape)
    _write_readme(folder, shape)
    return folder


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(content), ensure_ascii=False), encoding="utf-8")


def _write_settings(folder: Path, shape: Shape) -> None:
    sizes = {"n_layer": shape.n_layer, "n_head": shape.n_head, "n_embd": shape.n_embd, "len_prefix": shape.prefix}
    sizes |= {"prefix_size": shape.n_embd, "encoder_dim": shape.n_embd}
    _edit(folder / "nle_model_best-res" / "config.json", lambda config: config | sizes)
    own = {"name": shape.name, "prompt_text": shape.prompt, "VAD_En_Heads": shape.vad_heads}
    own |= {"batch_items": list(shape.items), "second_caption": [0] * len(shape.items)}
    grads = ["decoder.transformer.wte.weight", "decoder.sim_mlp.pred.0.weight", "emo_encoder.norm.weight"]
    stepped = ["decoder.VAD_head.bias", "emo_encoder.encoder.layers.1.fc.0.weight"]
    if shape.trained:
        own["clip"] = {"heads": 2}
        grads += ["encoder.encoder.conv1.weight", "encoder.encoder.transformer.resblocks.0.attn.in_proj_weight"]
        stepped += ["encoder.encoder.transformer.resblocks.1.attn.in_proj_bias", "encoder.encoder.ln_post.weight"]
        (folder / "clip_tower_encoder_state.safetensors").unlink()
    _edit(folder / "generate.json", lambda s: s | sizes | own | {"grads": grads, "step_params": stepped})


def _write_checkpoint(folder: Path, shape: Shape) -> None:
    config = SEVLMConfig.official(
        vocab_size=705,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_embd=shape.n_embd,
        n_positions=64,
        encoder_dim=shape.n_embd,
        prefix_length=shape.prefix,
        prefix_dim=shape.n_embd,
        vad_heads=shape.vad_heads,
        vad_positions=64,
    )
    network = Network(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        old = next(old + name.removeprefix(new) for old, new in _RENAMED if name.startswith(new))
        state[old] = value
    decoder = {name.removeprefix("decoder."): v for name, v in state.items() if name.startswith("decoder.")}
    decoder["lm_head.weight"] = decoder["transformer.wte.weight"].clone()
    for layer in range(shape.n_layer):
        for kind in ("attn", "crossattention"):
            decoder[f"transformer.h.{layer}.{kind}.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.uint8).tril()
            decoder[f"transformer.h.{layer}.{kind}.masked_bias"] = torch.tensor(MASKED_BIAS)
    torch.save(decoder, folder / "nle_model_best-res" / "pytorch_model.bin")
    path = folder / "ckpt_stats_best-res.tar"
    stats = torch.load(path, weights_only=True)
    stats["emo_encoder_state_dict"] = {
        name.removeprefix("emo_encoder."): value for name, value in state.items() if name.startswith("emo_encoder.")
    }
    if shape.trained:
        stats["encoder_state_dict"] = _tower(shape)
    torch.save(stats, path)
    groups = checks_model.official_groups(Fixture(folder))
    rates = [group["lr"] for group in groups]
    counts = [len(group["params"]) for group in groups]
    saved = [{"params": [0] * n, "lr": 0.9 * r, "initial_lr": r} for n, r in zip(counts, rates, strict=True)]
    stats["optimizer_state_dict"] = {"param_groups": saved, "state": {}}
    stats["scheduler"] |= {"_last_lr": [0.9 * rate for rate in rates], "base_lrs": rates}
    torch.save(stats, path)
    settings = {"weight_decay": 0.0, "eps": 1e-6, "betas": [0.9, 0.999], "correct_bias": True}
    sizes = [
        {"n_tensors": n, "n_values": sum(p.numel() for p in g["params"])} for n, g in zip(counts, groups, strict=True)
    ]
    listed = [size | {"lr0": rate} | settings for size, rate in zip(sizes, rates, strict=True)]
    (folder / "optimizer_groups.json").write_text(json.dumps(listed), encoding="utf-8")


def _tower(shape: Shape) -> dict[str, Tensor]:
    """A CLIP visual tower of random weights, in OpenAI's names and order."""
    width = shape.n_embd
    sizes: dict[str, tuple[int, ...]] = {
        "class_embedding": (width,),
        "positional_embedding": (shape.patches + 1, width),
    }
    sizes |= {"proj": (width, 8), "conv1.weight": (width, 3, 4, 4), "ln_pre.weight": (width,), "ln_pre.bias": (width,)}
    for layer in range(2):
        block = {"attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,)}
        block |= {"attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,)}
        block |= {"ln_1.weight": (width,), "ln_1.bias": (width,), "ln_2.weight": (width,), "ln_2.bias": (width,)}
        block |= {"mlp.c_fc.weight": (2 * width, width), "mlp.c_fc.bias": (2 * width,)}
        block |= {"mlp.c_proj.weight": (width, 2 * width), "mlp.c_proj.bias": (width,)}
        sizes |= {f"transformer.resblocks.{layer}.{name}": size for name, size in block.items()}
    sizes |= {"ln_post.weight": (width,), "ln_post.bias": (width,)}
    return {f"encoder.{name}": 0.3 * torch.randn(size) + ("ln" in name) for name, size in sizes.items()}


def _write_texts(fixture: Fixture) -> None:
    folder, model = fixture.folder, fixture.model
    tokenizer, config = model.tokenizer, model.config
    odd = "<pad><prefix> is the sea <explanation> dark"
    prompt = checks_text._row(fixture, encode_prompt(tokenizer, config))

    def tokenization(content: Any) -> Any:
        for item in content["train_items"]:
            for row in item["rows"]:
                row |= checks_text._row(fixture, encode_caption(tokenizer, config, row["emotion"], row["explanation"]))
        for item in content["eval_items"]:
            item |= {key: prompt[key] for key in ("input_ids", "segment_ids", "words_for_vad")}
        content["strings"].insert(0, checks_text._string_case(tokenizer, fixture, odd))
        return content

    def scripted(cases: Any) -> Any:
        because = because_id(tokenizer)
        for case in cases:
            segments = list(encode_prompt(tokenizer, config).segment_ids)
            for token in case["generated_ids"][:-1]:
                new = next_segments(config, because, torch.tensor(segments[-1]), torch.tensor(token))
                segments.append(int(new))
            case["segment_ids_before_last_step"] = segments
        return cases

    _edit(folder / "tokenization.json", tokenization)
    _edit(folder / "scripted_decode.json", scripted)
    rows = [row["words_for_vad"] for item in fixture.json("tokenization.json")["train_items"] for row in item["rows"]]
    rows += fixture.settings["lemma_extra"]
    zero = [0.0] * 3
    entries = [
        {"words": r, "pos": ["NN"] * len(r), "lemmas": r, "vad": [fixture.lexicon.get(w) or zero for w in r]}
        for r in rows
    ]
    _edit(folder / "lemmas.json", lambda content: content | {"rows": entries})
    count = len(rows) - len(fixture.settings["lemma_extra"])
    _edit(folder / "generate.json", lambda s: s | {"strings": [odd, *s["strings"]], "lemma_rows": count})


def _write_inputs(fixture: Fixture, shape: Shape) -> None:
    tensors = checks_text.batch_tensors(fixture, None)
    rows, images = len(tensors["batch/labels"]), len(tensors["decode/image_id"])
    side = 4 * math.isqrt(shape.patches)
    size, name = ((3, side, side), "pixels") if shape.trained else ((9, shape.n_embd), "image_grid")
    tensors[f"batch/{name}"] = torch.randn(rows // 2, *size).repeat_interleave(2, dim=0)
    tensors[f"decode/{name}"] = torch.randn(images, *size)
    for part in ("batch", "decode"):
        tensors[f"{part}/vad_nltk"] = tensors[f"{part}/vad_identity"].clone()
    steps = torch.stack([(torch.arange(rows) + 2 + step) % rows for step in range(5)])
    tensors |= {"batch/neg_semantic": steps[0].clone(), "steps/neg_semantic": steps}
    tensors["filter/logits"] = load_file(fixture.folder / "inputs.safetensors")["filter/logits"]
    save_file(tensors, fixture.folder / "inputs.safetensors")


def _write_outputs(fixture: Fixture, shape: Shape) -> None:
    """First what the recomputation takes from the recorded outputs (sizes, learning rates), then all of them."""
    path, old = fixture.folder / "outputs.safetensors", load_file(fixture.folder / "outputs.safetensors")
    kept = {n: v for n, v in old.items() if n.startswith(("filter/", "preprocess/", "clip/"))}
    if shape.trained:
        kept = {name: value for name, value in kept.items() if not name.startswith("clip/")}
    rates = [group["lr"] for group in checks_model.official_groups(fixture)]
    share = torch.tensor([1 - step / TOTAL_STEPS for step in range(5)], dtype=torch.float64)
    kept["steps/lr"] = share[:, None] * torch.tensor(rates, dtype=torch.float64)
    kept |= {f"grad/{name}": torch.zeros(64) for name in fixture.settings["grads"]}
    kept |= {f"decode_{name}/logits_per_step_of_first_images": torch.zeros(25, 2) for name in ("identity", "nltk")}
    save_file(kept, path)
    fixture = Fixture(fixture.folder)
    computed: dict[str, Tensor] = dict(checks_model.model_tensors(fixture))
    computed |= checks_model.gradients(fixture) | checks_model.optimizer_steps(fixture)
    decoded = checks_model.decode_tensors(fixture, Report(), "identity", recorded=False)
    computed |= decoded | {name.replace("identity", "nltk"): value for name, value in decoded.items()}
    save_file({name: value.detach().contiguous().clone() for name, value in (kept | computed).items()}, path)
    _write_captions(fixture)


def _write_captions(fixture: Fixture) -> None:
    model, tokenizer = fixture.model, fixture.model.tokenizer
    grid, prefix = fixture.images("decode")
    captions = CaptionDecoder(model, grid, checks_model.lookup_for(fixture, "identity", recorded=False), prefix)
    best = torch.stack([step.logits.topk(2, dim=-1).values for step in greedy_steps(captions, False)])
    tokens, ends = captions.generated.tolist(), set(special_ids(tokenizer))
    found = [finish_caption(tokenizer, model.config, row) for row in tokens]
    names = list(fixture.json("data_val.json"))
    said = {
        "results_full": [{"image_id": n, "caption": c.text} for n, c in zip(names, found, strict=True)],
        "results_exp": [{"image_id": n, "caption": c.explanation} for n, c in zip(names, found, strict=True)],
        "end_idx": [next((i + 1 for i, t in enumerate(row) if t in ends), 25) for row in tokens],
        "raw_25_tokens": [tokenizer.convert_ids_to_tokens(row) for row in tokens],
        "min_top1_top2_logit_gap": (best[..., 0] - best[..., 1]).min().item(),
    }
    (fixture.folder / "decode.json").write_text(json.dumps({"identity": said, "nltk": said}), encoding="utf-8")
    shares = [item["origin_emotion_distribution"] for item in fixture.json("data_val.json").values()]
    emotions = [caption.emotion for caption in found]
    accuracy = {"sub_acc": checks_model.accuracy(shares, emotions)}
    accuracy["sub_acc_of_first_three_predictions_only"] = checks_model.accuracy(shares, emotions[:3])
    (fixture.folder / "sub_acc.json").write_text(json.dumps({"identity": accuracy, "nltk": accuracy}), encoding="utf-8")


def _write_readme(folder: Path, shape: Shape) -> None:
    tensors: Mapping[str, Tensor] = load_file(folder / "inputs.safetensors") | load_file(folder / "outputs.safetensors")
    types = checks_text._DTYPES
    rows = [f"| {name} | {list(value.shape)} | {types[value.dtype]} | made |" for name, value in tensors.items()]
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8").replace("# sevlm_tiny_A:", f"# {shape.name}:")
    kept = [line for line in text.splitlines() if not re.match(r"\| \S+/\S+ \|", line)]
    path.write_text("\n".join([*kept, *rows]) + "\n", encoding="utf-8")
