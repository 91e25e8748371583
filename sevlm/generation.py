"""Greedy decoding of captions: "<emotion> because <explanation>".

Follows the released rules (artEmisX_train.py, `sample_sequences`): at most `config.max_new_tokens` tokens, the segment
switches at the piece " because", the first special token ends a caption. What is faster changes nothing: keys and
values of the image are computed once, the last block computes the last token only, and decoding stops when every row
has ended. Keys and values of the text are cached as far as no later token can change them: all of them with a causal
VAD encoder (or none), else those before the first token that VAD features are fused into.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from sevlm.attention import KeyValue
from sevlm.config import SEVLMConfig
from sevlm.decoder import explanation_mask
from sevlm.errors import SEVLMError
from sevlm.tokenization import (
    RunningWords,
    Tokenizer,
    because_id,
    decode,
    encode_prompt,
    special_ids,
    split_caption,
)

if TYPE_CHECKING:
    from sevlm.model import SEVLM

RowLookup: TypeAlias = Callable[[Sequence[str]], Tensor]
"""VAD values of the T words of one row, (T, 3) float in -1..1, zeros where unknown (`sevlm.vad_lookup.VADLookup`).

It gets whole rows, because a tagger needs the neighbours of a word.
"""


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated caption.

    Attributes:
        text: the caption before its end.
        emotion: what stands before "because"; any string, not only one of the labels.
        explanation: what stands after it; may be empty.
        ended: whether the model ended the caption itself.
        label_probs: probability of each asked label, summing to 1; None when none was asked for.
        token_ids: the generated tokens, the end token included.
        vad: valence, arousal and dominance, each about -1..1, as the model's VAD head foresaw them: the mean over the
            explanation's tokens; without explanation, what a model that was trained on pictures' ratings foresaw at
            the end (`TrainingExample.vad`). None for a model without that head, and for any other caption without
            explanation.
    """

    text: str
    emotion: str
    explanation: str
    ended: bool
    label_probs: Mapping[str, float] | None
    token_ids: tuple[int, ...]
    vad: tuple[float, ...] | None = None


class DecodingStep(NamedTuple):
    """What one step saw and said; for tests and parity checks.

    Attributes:
        segment_ids: (B, T) int64, input of the decoder.
        vad: (B, T, 3) float, input of the VAD encoder; None when the model has none.
        vad_features: (B, T, 3) float, its output.
        logits: (B, V) float, scores of the next token.
        next_vad: (B, 3) float, VAD values of the next token as the VAD head foresees them; None without that head.
    """

    segment_ids: Tensor
    vad: Tensor | None
    vad_features: Tensor | None
    logits: Tensor
    next_vad: Tensor | None = None


class CaptionDecoder:
    """The growing captions of one batch of images.

    Args:
        model: in eval mode, with a tokenizer.
        image_grid: (B, P, encoder_dim) float; brought to the model's device and dtype.
        lookup: VAD look-up; None only for models without VAD features.
        image_prefix: (B, prefix_dim) float, for models with a prefix.

    Raises:
        SEVLMError: the model has no tokenizer, or needs a look-up that is missing.
    """

    def __init__(
        self, model: SEVLM, image_grid: Tensor, lookup: RowLookup | None, image_prefix: Tensor | None = None
    ) -> None:
        if model.vad_encoder is not None and lookup is None:
            raise SEVLMError("this model fuses VAD features: pass a VAD look-up (sevlm.vad_lookup.VADLookup)")
        weight = model.decoder.wte.weight
        self.model, self.lookup = model, lookup
        self.image_prefix = None if image_prefix is None else image_prefix.to(weight)
        self.tokenizer = require_tokenizer(model)
        self.image_memory = model.decoder.image_memory(image_grid.to(weight))
        self.causal = model.config.causal_vad_encoder or model.vad_encoder is None
        self.cache: tuple[KeyValue, ...] | None = None
        self.cached = 0  # positions in the cache
        self._because = because_id(self.tokenizer)
        prompt = encode_prompt(self.tokenizer, model.config)
        rows, device = len(image_grid), weight.device
        self.input_ids = torch.tensor([prompt.input_ids] * rows, device=device)  # (B, T)
        self.segment_ids = torch.tensor([prompt.segment_ids] * rows, device=device)  # (B, T)
        self._words = [RunningWords(self.tokenizer, model.config) for _ in range(rows)]
        for token in prompt.input_ids:
            self._read([token] * rows)
        self.vad = self._look_up()  # (B, T, 3)

    def next_logits(self) -> DecodingStep:
        """Scores the next token of every row; caches what no later token can change."""
        decoder = self.model.decoder
        features = self.model.encode_vad(self.vad)
        start = self.cached
        embeddings = decoder.embed(self.input_ids, self.segment_ids, features, self.image_prefix, start)
        states = decoder(embeddings, self.image_memory, self.cache, last_only=True)
        self.cached = self.settled()
        self.cache = tuple((key[:, :, : self.cached], value[:, :, : self.cached]) for key, value in states.cache)
        final = states.hidden_states[-1][:, -1]  # (B, D)
        foreseen = None if self.model.vad_head is None else self.model.vad_head(final)
        return DecodingStep(self.segment_ids, self.vad, features, decoder.logits(final), foreseen)

    def append(self, tokens: Tensor) -> None:
        """Adds one token to every row: (B,) int64."""
        new = next_segments(self.model.config, self._because, self.segment_ids[:, -1], tokens)
        self.input_ids = torch.cat((self.input_ids, tokens[:, None]), dim=1)
        self.segment_ids = torch.cat((self.segment_ids, new[:, None]), dim=1)
        self._read(tokens.tolist())
        values = self._look_up()
        if values is not None and self.vad is not None and self.causal:
            # A tagger may change its mind about old words; what is cached was computed with the first opinion.
            values = torch.cat((self.vad, values[:, -1:]), dim=1)
        self.vad = values

    def settled(self) -> int:
        """Leading positions whose states no later token changes, the same number for every row."""
        if self.causal:
            return self.input_ids.shape[1]
        fused = explanation_mask(self.model.config, self.segment_ids).any(dim=0)  # (T,)
        return int((fused.cumsum(0) == 0).sum())

    def _read(self, tokens: Sequence[int]) -> None:
        for words, token in zip(self._words, tokens, strict=True):
            words.add(token)

    def _look_up(self) -> Tensor | None:
        if self.lookup is None or self.model.vad_encoder is None:
            return None
        return torch.stack([self.lookup(row.words) for row in self._words]).to(self.image_memory[0][0])


def require_tokenizer(model: SEVLM) -> Tokenizer:
    """The model's tokenizer; SEVLMError when it has none."""
    if model.tokenizer is None:
        raise SEVLMError("the model has no tokenizer: pass one to SEVLM(config, tokenizer)")
    return model.tokenizer


def next_segments(config: SEVLMConfig, because: int, segments: Tensor, tokens: Tensor) -> Tensor:
    """Segment of each new token (B,): explanation from " because" on, emotion before it."""
    explanation = (tokens == because) | (segments == config.explanation_token_id)
    return torch.where(explanation, config.explanation_token_id, config.emotion_token_id)


@torch.no_grad()
def greedy_tokens(
    captions: CaptionDecoder,
    stop_when_ended: bool = True,
    on_step: Callable[[DecodingStep], None] | None = None,
) -> Tensor:
    """Decodes greedily.

    Args:
        captions: the batch; it is advanced.
        stop_when_ended: stop once every row has a special token; no caption changes by it.
        on_step: called with every step.

    Returns:
        (B, N) int64 generated tokens, N at most `config.max_new_tokens`; rows go on after their end.
    """
    config = captions.model.config
    ends = torch.tensor(special_ids(captions.tokenizer), device=captions.input_ids.device)
    ended = torch.zeros(len(captions.input_ids), dtype=torch.bool, device=ends.device)
    prompt_length = captions.input_ids.shape[1]
    for _ in range(config.max_new_tokens):
        step = captions.next_logits()
        if on_step is not None:
            on_step(step)
        tokens = step.logits.argmax(dim=-1)  # (B,)
        captions.append(tokens)
        ended |= torch.isin(tokens, ends)
        if stop_when_ended and bool(ended.all()):
            break
    return captions.input_ids[:, prompt_length:]


def finish_caption(
    tokenizer: Tokenizer,
    config: SEVLMConfig,
    tokens: Sequence[int],
    label_probs: Mapping[str, float] | None = None,
) -> Generated:
    """Turns the generated tokens of one row into a caption: cut at its end, decoded, split at "because"."""
    ends = set(special_ids(tokenizer))
    length = next((index for index, token in enumerate(tokens) if token in ends), None)
    ended = length is not None
    if length is None:
        length = len(tokens) if config.keep_last_token else min(len(tokens), config.max_new_tokens - 1)
    text = decode(tokenizer, tokens[:length], skip_special_tokens=True).lstrip()
    emotion, explanation = split_caption(text)
    kept = tuple(tokens[: length + 1] if ended else tokens[:length])
    return Generated(text, emotion, explanation, ended, label_probs, kept)


@torch.no_grad()
def generate(
    model: SEVLM,
    image_grid: Tensor,
    labels: Sequence[str] | None = None,
    lookup: RowLookup | None = None,
    image_prefix: Tensor | None = None,
) -> list[Generated]:
    """Generates one caption per image; see `SEVLM.generate`. Dropout is off during the call."""
    from sevlm.label_probabilities import label_probabilities

    training = model.training
    model.eval()
    try:
        captions = CaptionDecoder(model, image_grid, lookup, image_prefix)
        probabilities: Sequence[Mapping[str, float] | None] = [None] * len(image_grid)
        if labels is not None:
            probabilities = label_probabilities(captions, labels)
        foreseen: list[Tensor | None] = []
        tokens = greedy_tokens(captions, on_step=lambda step: foreseen.append(step.next_vad)).tolist()
    finally:
        model.train(training)
    found = [
        finish_caption(captions.tokenizer, model.config, row, probs)
        for row, probs in zip(tokens, probabilities, strict=True)
    ]
    return _with_foreseen_vad(captions, found, [vad for vad in foreseen if vad is not None])


def _with_foreseen_vad(
    captions: CaptionDecoder, found: Sequence[Generated], foreseen: Sequence[Tensor]
) -> list[Generated]:
    """Adds the mean of the VAD head's values, one (B, 3) per generated token, over each explanation."""
    if not foreseen:
        return list(found)
    values = torch.stack(list(foreseen), dim=1).float()  # (B, N, 3)
    explained = explanation_mask(captions.model.config, captions.segment_ids)[:, -values.shape[1] :]  # (B, N)
    result = []
    for row, caption in enumerate(found):
        words = len(caption.token_ids) - caption.ended
        chosen = values[row, :words][explained[row, :words]]
        if not caption.explanation:  # a picture's rating stands where the caption ends
            chosen = values[row, words : words + (caption.ended and captions.model.config.rates_pictures)]
        mean = tuple(chosen.mean(dim=0).tolist()) if len(chosen) else None
        result.append(dataclasses.replace(caption, vad=mean))
    return result
