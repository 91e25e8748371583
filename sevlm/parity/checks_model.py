"""What the model computes: forward pass, losses, gradients, optimiser steps, decoding, and the CLIP tower."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sevlm.checkpoint import SEVLM
from sevlm.config import FIXED_BOUNDARY, IMAGENET_MEAN, IMAGENET_STD
from sevlm.decoding import CaptionDecoder, greedy_steps, next_segments
from sevlm.generation import finish_caption
from sevlm.images import CLIPEncoder, Preprocessing
from sevlm.model import SEVLMOutput
from sevlm.official import parameter_name, tower_parameters
from sevlm.parity.fixture import EMOTIONS, Fixture, Report, official_groups
from sevlm.tokenization import because_id, encode_prompt, special_ids
from sevlm.train import AdamW, linear_schedule
from sevlm.vad import RowLookup, VADLookup, load_lemmatizer

GAP_TOLERANCE = 1e-4  # a difference of two logits, each within 5e-5
WEIGHTED = {"lm_loss_weight": 0.7, "contrastive_loss_weight": 0.3, "vad_loss_weight": 0.5}
"""The weights of `loss_weighted/*`, which the fixture's README states."""


def run_batch(
    fixture: Fixture,
    model: SEVLM,
    vad: str = "vad_identity",
    step: int | None = None,
    encoder: CLIPEncoder | None = None,
) -> SEVLMOutput:
    """Forward pass with losses over the recorded batch.

    Args:
        step: whose negatives are used; None takes those of the batch.
        encoder: image encoder to train along.
    """
    inputs = fixture.inputs
    grid, prefix = fixture.images("batch", encoder)
    semantic = inputs["batch/neg_semantic"] if step is None else inputs["steps/neg_semantic"][step]
    output: SEVLMOutput = model(
        grid,
        inputs["batch/input_ids"],
        inputs["batch/segment_ids"],
        inputs[f"batch/{vad}"],
        inputs["batch/labels"],
        fixture.negatives(semantic),
        prefix,
    )
    return output


def model_tensors(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `vad_encoder/*`, `lm/*`, `loss*/*`, `contrastive/*`, `vad_head/*`, `no_vad/*` and `prompt/*`."""
    model, decoder, inputs = fixture.model, fixture.model.decoder, fixture.inputs
    ids, segments = inputs["batch/input_ids"], inputs["batch/segment_ids"]
    grid, prefix = fixture.images("batch")
    tensors: dict[str, Tensor] = {}
    with torch.no_grad():
        output = run_batch(fixture, model)
        final = output.hidden_states[-1]
        tensors |= {f"lm/hidden_{index}": state for index, state in enumerate(output.hidden_states)}
        tensors |= {"lm/logits": output.logits} | _losses("loss", output)
        tensors |= _losses("loss_nltk", run_batch(fixture, model, "vad_nltk"))
        tensors |= _losses("loss_weighted", run_batch(fixture, fixture.new_model(**WEIGHTED)))
        if model.vad_encoder is not None:
            hidden = model.vad_encoder(inputs["batch/vad_identity"])
            scalars = model.vad_encoder.scalars(hidden)
            tensors |= {"vad_encoder/hidden": hidden, "vad_encoder/out": scalars, "vad_encoder/first": scalars[:, 0]}

        emotion, explanation = model.part_means(final, ids, segments)
        tensors |= {"lm/image_mean": grid.mean(1), "lm/explanation_mean": explanation}
        if model.contrastive_head is not None:
            rows = {
                "pos_sim": torch.arange(len(grid)),
                "neg_sim_swap": inputs["batch/neg_swap"],
                "neg_sim_semantic": inputs["batch/neg_semantic"],
            }
            for name, picked in rows.items():
                score = model.contrastive_head(grid.mean(1), emotion, explanation[picked])
                tensors[f"contrastive/{name}"] = score
        if model.vad_head is not None:
            start = model.config.prefix_length + FIXED_BOUNDARY - 1
            tensors["vad_head/all_positions_from_5"] = model.vad_head(final[:, start:])

        embeddings = decoder.embed(ids, segments, None, prefix)
        states = decoder(embeddings, decoder.image_memory(grid))
        tensors["no_vad/logits_last"] = decoder.logits(states[-1][:, -1])
        grid, prefix = fixture.images("decode")
        prompt = (inputs[f"decode/{name}"] for name in ("input_ids", "segment_ids", "vad_identity"))
        tensors["prompt/logits"] = model(grid, *prompt, image_prefix=prefix).logits
    return tensors


def _losses(name: str, output: SEVLMOutput) -> dict[str, Tensor]:
    parts = {
        "total": output.loss,
        "xe_text": output.lm_loss,
        "contrastive": output.contrastive_loss,
        "vad": output.vad_loss,
    }
    return {f"{name}/{part}": value for part, value in parts.items() if value is not None}


def gradients(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `grad/*`: the gradient of the total loss, cut to the recorded rows."""
    model, encoder = fixture.new_model(), fixture.new_encoder(trained=True) if fixture.is_trained else None
    loss = run_batch(fixture, model, encoder=encoder).loss
    assert loss is not None  # labels were given
    loss.backward()
    tensors = {}
    for name in fixture.settings["grads"]:
        gradients = [p.grad for p in own_parameters(model, encoder, name) if p.grad is not None]
        if gradients and f"grad/{name}" in fixture.outputs:
            tensors[f"grad/{name}"] = torch.cat(gradients)[: len(fixture.outputs[f"grad/{name}"])]
    return tensors


def own_parameters(model: SEVLM, encoder: CLIPEncoder | None, official: str) -> list[nn.Parameter]:
    """Our parameters that, one below the other, are a parameter of the official ModuleDict; none if we leave it out."""
    if not official.startswith("encoder."):
        return [dict(model.named_parameters())[parameter_name(official)]]
    assert encoder is not None  # a checkpoint without a trained tower has no such name
    return tower_parameters(encoder.tower, official.removeprefix("encoder."))


def optimizer_steps(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `steps/*`: AdamW with a linear schedule from the checkpoint, dropout off."""
    model, encoder = fixture.new_model(), fixture.new_encoder(trained=True) if fixture.is_trained else None
    groups = official_groups(fixture)
    for group in groups:
        group["params"] = [p for name in group.pop("names") for p in own_parameters(model, encoder, name)]
    optimizer = AdamW(groups)
    first, second = (float(rate) for rate in fixture.outputs["steps/lr"][:2, 0])
    total = round(first / (first - second))  # no file states it: rates fall by 1 / total of the first one per step
    schedule = linear_schedule(optimizer, total)
    losses, rates = [], []
    for step in range(len(fixture.outputs["steps/lr"])):
        output = run_batch(fixture, model, step=step, encoder=encoder)
        parts = (output.loss, output.lm_loss, output.contrastive_loss, output.vad_loss)
        losses.append(torch.stack([part.detach() for part in parts if part is not None]))
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.zero_grad()
        assert output.loss is not None  # labels were given
        output.loss.backward()
        optimizer.step()
        schedule.step()
    changed = {
        f"steps/param/{name}": torch.cat([p.detach() for p in own_parameters(model, encoder, name)])
        for name in fixture.settings["step_params"]
    }
    return {"steps/losses": torch.stack(losses), "steps/lr": torch.tensor(rates, dtype=torch.float64)} | changed


def compare_groups(fixture: Fixture, report: Report) -> None:
    """`optimizer_groups.json`: sizes and settings of the groups."""
    optimizer = AdamW(official_groups(fixture))
    got = [
        {
            "n_tensors": len(group["params"]),
            "n_values": sum(parameter.numel() for parameter in group["params"]),
            "lr0": group["lr"],
            "weight_decay": group["weight_decay"],
            "eps": optimizer.epsilon,
            "betas": list(group["betas"]),
            "correct_bias": True,
        }
        for group in optimizer.param_groups
    ]
    report.equal("optimizer_groups.json", got, fixture.json("optimizer_groups.json"))


# ---------------------------------------------------------------------------------------------- decoding


class RecordedLookup:
    """Replays recorded VAD values, row after row and step after step, where NLTK's data is absent."""

    def __init__(self, vad_per_step: Tensor) -> None:
        self._values = vad_per_step  # (steps, B, T, 3)
        self._calls = 0

    def __call__(self, words: Sequence[str]) -> Tensor:
        """The values of the next row; zeros after the last step, whose token is never fed."""
        steps, rows = self._values.shape[:2]
        step, row = divmod(self._calls, rows)
        self._calls += 1
        return self._values[step, row, : len(words)] if step < steps else torch.zeros(len(words), 3)


def lookup_for(fixture: Fixture, lemmatizer: str, recorded: bool) -> RowLookup:
    """The released look-up with a lemmatiser, or the recorded values of its decoding."""
    if recorded:
        return RecordedLookup(fixture.outputs[f"decode_{lemmatizer}/vad_per_step"])
    return VADLookup(fixture.lexicon, load_lemmatizer(lemmatizer), "piece")


def decode_tensors(fixture: Fixture, report: Report, lemmatizer: str, recorded: bool) -> dict[str, Tensor]:
    """Recomputes `decode_<lemmatizer>/*` and compares `decode.json` and `sub_acc.json`."""
    name, tokenizer = f"decode_{lemmatizer}", fixture.model.tokenizer
    assert tokenizer is not None  # the importer loads it
    grid, prefix = fixture.images("decode")
    captions = CaptionDecoder(fixture.model, grid, lookup_for(fixture, lemmatizer, recorded), prefix)
    steps = list(greedy_steps(captions, stop_when_ended=False))
    tokens = captions.generated

    expected, file = fixture.json("decode.json")[lemmatizer], f"decode.json[{lemmatizer}]"
    images = fixture.json("data_val.json")
    rows = tokens.tolist()
    written = [finish_caption(tokenizer, fixture.config, row) for row in rows]
    full = [{"image_id": i, "caption": c.text} for i, c in zip(images, written, strict=True)]
    explained = [{"image_id": i, "caption": c.explanation} for i, c in zip(images, written, strict=True)]
    report.equal(f"{file} results_full", full, expected["results_full"])
    report.equal(f"{file} results_exp", explained, expected["results_exp"])
    ends, limit = set(special_ids(tokenizer)), fixture.config.max_new_tokens
    found = [next((i + 1 for i, t in enumerate(row) if t in ends), limit) for row in rows]
    report.equal(f"{file} end_idx", found, expected["end_idx"])
    pieces = [tokenizer.convert_ids_to_tokens(row) for row in rows]
    report.equal(f"{file} raw_25_tokens", pieces, expected["raw_25_tokens"])
    best = torch.stack([step.logits.topk(2, dim=-1).values for step in steps])  # (steps, B, 2)
    gap = (best[..., 0] - best[..., 1]).min()
    wanted = torch.tensor(expected["min_top1_top2_logit_gap"])
    report.tensor(f"{file} min_top1_top2_logit_gap", gap, wanted, GAP_TOLERANCE)
    shares = [item["origin_emotion_distribution"] for item in images.values()]
    emotions = [caption.emotion for caption in written]
    got = {"sub_acc": accuracy(shares, emotions)}
    got["sub_acc_of_first_three_predictions_only"] = accuracy(shares, emotions[:3])
    report.equal(f"sub_acc.json[{lemmatizer}]", got, fixture.json("sub_acc.json")[lemmatizer])

    first = fixture.outputs[f"{name}/logits_per_step_of_first_images"].shape[1]
    tensors = {
        f"{name}/generated_ids": tokens,
        f"{name}/logits_per_step_of_first_images": torch.stack([step.logits[:first] for step in steps]),
        f"{name}/segment_ids_last_call": steps[-1].segment_ids,
    }
    if steps[-1].vad is not None and steps[-1].vad_features is not None:
        width = steps[-1].vad.shape[1]
        padded = [F.pad(s.vad, (0, 0, 0, width - s.vad.shape[1])) for s in steps if s.vad is not None]
        tensors[f"{name}/vad_encoder_hidden_last_call"] = steps[-1].vad_features
        tensors[f"{name}/vad_per_step"] = torch.stack(padded)
    return tensors


def accuracy(shares: Sequence[Sequence[float]], emotions: Sequence[str]) -> float:
    """The released emotion accuracy: share of right answers among images with an emotion above one half.

    Args:
        shares: share of annotators per emotion of every image, in the order of `EMOTIONS`.
        emotions: answers for the first images; the others count as wrong.

    Returns:
        0..1, or -1 when no answer is right (as in the released code).
    """
    dominant = [EMOTIONS[row.index(max(row))] if max(row) > 0.5 else None for row in map(list, shares)]
    right = sum(answer == truth for answer, truth in zip(emotions, dominant, strict=False))
    return right / sum(truth is not None for truth in dominant) if right else -1


def compare_scripted(fixture: Fixture, report: Report) -> None:
    """`scripted_decode.json`: strings and segments of given token sequences."""
    model, tokenizer = fixture.model, fixture.model.tokenizer
    assert tokenizer is not None  # the importer loads it
    because = because_id(tokenizer)
    for case in fixture.json("scripted_decode.json"):
        name = f"scripted_decode.json[{case['case']}]"
        ids = case["generated_ids"]
        report.equal(f"{name} tokens", tokenizer.convert_ids_to_tokens(ids), case["tokens"])
        caption = finish_caption(tokenizer, model.config, ids)
        expected = (case["caption_full"], case["caption_exp"])
        report.equal(f"{name} captions", (caption.text, caption.explanation), expected)
        segments = list(encode_prompt(tokenizer, model.config).segment_ids)
        for token in ids[:-1]:
            new = next_segments(model.config, because, torch.tensor(segments[-1]), torch.tensor(token))
            segments.append(int(new))
        report.equal(f"{name} segment_ids", segments, case["segment_ids_before_last_step"])


def filter_tensors(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `filter/*`: top-k, then nucleus filtering, which greedy decoding is blind to."""
    tensors = {}
    for name in fixture.outputs:
        if name.startswith("filter/top_k_"):
            top_k, top_p = name.removeprefix("filter/top_k_").split("_top_p_")
            tensors[name] = filter_logits(fixture.inputs["filter/logits"], int(top_k), float(top_p))
    return tensors


def filter_logits(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Removes improbable tokens: the released `top_filtering1`, without editing its argument.

    Args:
        logits: (B, V) float.
        top_k: keep this many tokens; 0 keeps all.
        top_p: keep the smallest set of probable tokens whose mass exceeds this; 0 keeps all.

    Returns:
        (B, V) float, -inf where removed.
    """
    if top_k > 0:
        weakest = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < weakest, -torch.inf)
    if top_p > 0:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        mass_before = F.pad(probabilities.cumsum(dim=-1)[:, :-1], (1, 0))  # of the more probable tokens
        removed = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order, mass_before > top_p)
        logits = logits.masked_fill(removed, -torch.inf)
    return logits


# ---------------------------------------------------------------------------------------------- images

_EVERY = "_every_16th"


def clip_tensors(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `clip/*` from the recorded pixels, if there are any."""
    if "clip/pixels" not in fixture.outputs:
        return {}
    with torch.no_grad():
        grid = fixture.clip(fixture.outputs["clip/pixels"])
        return {"clip/grid_feats": grid, "clip/grid_feats_0": fixture.clip.official_prefix(grid)}


def preprocess_tensors(fixture: Fixture) -> dict[str, Tensor]:
    """Recomputes `preprocess/*` from the images of the same name."""
    tensors = {}
    for name in fixture.outputs:
        if not name.startswith("preprocess/"):
            continue
        stem, size = name.removeprefix("preprocess/").removesuffix(_EVERY).rsplit("_", 1)
        preprocessing = Preprocessing(int(size), IMAGENET_MEAN, IMAGENET_STD, "squash")
        with Image.open(fixture.path(f"preprocess/{stem}.png")) as image:
            pixels = preprocessing(image)
        tensors[name] = pixels[:, ::16, ::16] if name.endswith(_EVERY) else pixels
    return tensors


def compare_file_names(fixture: Fixture, report: Report) -> None:
    """`file_names.json`: what is tried for a name of the annotation file, in order."""
    expected = fixture.json("file_names.json")
    report.equal("file_names.json names", list(expected), fixture.settings["file_names"])
    for name, tried in expected.items():
        path = f"<folder>/{name}"
        report.equal(f"file_names.json[{name}]", [path, escaped_path(path)], tried)


def escaped_path(path: str) -> str:
    """The second path that the released data set tries, for archives with escaped file names.

    Composes characters, writes combining marks that remain as `#Uxxxx`, then everything outside ASCII as Python's
    unicode_escape with `\\\\x` turned into `#U00`. Characters above U+00FF become a literal backslash-u.
    """
    composed = unicodedata.normalize("NFC", path)
    marked = "".join(f"#U{ord(c):04x}" if unicodedata.category(c) in ("Mn", "Mc") else c for c in composed)
    return marked.encode("unicode_escape").decode().replace("\\x", "#U00")
