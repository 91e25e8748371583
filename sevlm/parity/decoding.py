"""Generated captions: step by step, their strings, scripted cases, accuracy and the sampling filter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sevlm.generation import (
    CaptionDecoder,
    DecodingStep,
    RowLookup,
    finish_caption,
    greedy_tokens,
    next_segments,
)
from sevlm.lemmatizer import load_lemmatizer
from sevlm.parity.fixture import Fixture
from sevlm.parity.report import Report
from sevlm.tokenization import because_id, encode_prompt, special_ids
from sevlm.vad_lookup import VADLookup

EMOTIONS = ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else")
"""Order of `origin_emotion_distribution` in the official json files."""
GAP_TOLERANCE = 1e-4  # a difference of two logits, each within 5e-5


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
    name = f"decode_{lemmatizer}"
    steps: list[DecodingStep] = []
    grid, prefix = fixture.images("decode")
    captions = CaptionDecoder(fixture.model, grid, lookup_for(fixture, lemmatizer, recorded), prefix)
    tokens = greedy_tokens(captions, stop_when_ended=False, on_step=steps.append)
    _compare_strings(fixture, report, lemmatizer, tokens, steps)
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


def _compare_strings(
    fixture: Fixture, report: Report, lemmatizer: str, tokens: Tensor, steps: Sequence[DecodingStep]
) -> None:
    model, tokenizer = fixture.model, fixture.model.tokenizer
    assert tokenizer is not None  # the importer loads it
    expected, name = fixture.json("decode.json")[lemmatizer], f"decode.json[{lemmatizer}]"
    identifiers = list(fixture.json("data_val.json"))
    captions = [finish_caption(tokenizer, model.config, row) for row in tokens.tolist()]
    full = [{"image_id": i, "caption": c.text} for i, c in zip(identifiers, captions, strict=True)]
    explained = [{"image_id": i, "caption": c.explanation} for i, c in zip(identifiers, captions, strict=True)]
    report.equal(f"{name} results_full", full, expected["results_full"])
    report.equal(f"{name} results_exp", explained, expected["results_exp"])
    ends, limit = set(special_ids(tokenizer)), model.config.max_new_tokens
    found = [next((i + 1 for i, t in enumerate(row) if t in ends), limit) for row in tokens.tolist()]
    report.equal(f"{name} end_idx", found, expected["end_idx"])
    pieces = [tokenizer.convert_ids_to_tokens(row) for row in tokens.tolist()]
    report.equal(f"{name} raw_25_tokens", pieces, expected["raw_25_tokens"])
    best = torch.stack([step.logits.topk(2, dim=-1).values for step in steps])  # (steps, B, 2)
    gap = (best[..., 0] - best[..., 1]).min()
    wanted = torch.tensor(expected["min_top1_top2_logit_gap"])
    report.tensor(f"{name} min_top1_top2_logit_gap", gap, wanted, GAP_TOLERANCE)
    _compare_accuracy(fixture, report, lemmatizer, [caption.emotion for caption in captions])


def _compare_accuracy(fixture: Fixture, report: Report, lemmatizer: str, emotions: Sequence[str]) -> None:
    expected = fixture.json("sub_acc.json")[lemmatizer]
    shares = [item["origin_emotion_distribution"] for item in fixture.json("data_val.json").values()]
    got = {"sub_acc": accuracy(shares, emotions)}
    got["sub_acc_of_first_three_predictions_only"] = accuracy(shares, emotions[:3])
    report.equal(f"sub_acc.json[{lemmatizer}]", got, expected)


def accuracy(shares: Sequence[Sequence[float]], emotions: Sequence[str]) -> float:
    """The released emotion accuracy: share of right answers among pictures with an emotion above one half.

    Args:
        shares: share of annotators per emotion of every picture, in the order of `EMOTIONS`.
        emotions: answers for the first pictures; the others count as wrong.

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
