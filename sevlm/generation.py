"""Greedy decoding of captions, "<emotion> because <explanation>", and the probability of each emotion label.

Follows the released rules (artEmisX_train.py, `sample_sequences`): at most `config.max_new_tokens` tokens, the segment
switches at the piece " because", the first special token ends a caption. What is faster changes nothing: keys and
values of the image are computed once, the last block computes the last token only, and decoding stops when every row
has ended. Keys and values of the text are cached as far as no later token can change them: all of them with a causal
VAD encoder (or none), else those before the first token that VAD features are fused into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.model import KeyValue, Network, explanation_mask
from sevlm.tokenization import (
    IGNORE_INDEX,
    Tokenizer,
    because_id,
    decode,
    encode_label,
    encode_prompt,
    next_word,
    special_ids,
    split_caption,
)
from sevlm.vad import RowLookup, VADLookup, Values


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated caption.

    Attributes:
        text: the caption before its end.
        emotion: what stands before "because"; any string, not only one of the labels.
        explanation: what stands after it; may be empty.
        ended: whether the model ended the caption itself.
        label_probs: probability of each requested label, summing to 1; None if none was requested.
        token_ids: the generated tokens, the end token included.
        vad: valence, arousal and dominance, each about -1..1, as the VAD head predicts them: the mean over the
            explanation's tokens; without explanation, what a model that was trained on ratings of images predicts at
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
    """Inputs and outputs of one step.

    Attributes:
        segment_ids: (B, T) int64, input of the decoder.
        vad: (B, T, 3) float, input of the VAD encoder; None if the model has none.
        vad_features: (B, T, 3) float, its output.
        logits: (B, V) float, scores of the next token.
        next_vad: (B, 3) float, VAD values of the next token as the VAD head predicts them; None without that head.
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

    Attributes:
        input_ids, segment_ids: (B, T) int64, prompt included.
        vad: (B, T, 3) float; None if the model has no VAD encoder.

    Raises:
        SEVLMError: the model has no tokenizer, or needs a look-up that is missing.
    """

    def __init__(
        self, model: Network, image_grid: Tensor, lookup: RowLookup | None, image_prefix: Tensor | None = None
    ) -> None:
        if model.vad_encoder is not None and lookup is None:
            raise SEVLMError("this model fuses VAD features: pass a VAD look-up (sevlm.VADLookup)")
        if model.tokenizer is None:
            raise SEVLMError("the model has no tokenizer: pass one to SEVLM(config, tokenizer)")
        weight = model.decoder.wte.weight
        self.model, self.lookup, self.tokenizer = model, lookup, model.tokenizer
        self.image_prefix = None if image_prefix is None else image_prefix.to(weight)
        self.image_memory = model.decoder.image_memory(image_grid.to(weight))
        self.causal = model.config.causal_vad_encoder or model.vad_encoder is None
        self.cache: tuple[KeyValue, ...] | None = None
        self.cached = 0  # positions in the cache
        self._because = because_id(self.tokenizer)
        prompt = encode_prompt(self.tokenizer, model.config)
        rows = len(image_grid)
        self.prompt_length = len(prompt.input_ids)
        self.input_ids = torch.tensor([prompt.input_ids] * rows, device=weight.device)
        self.segment_ids = torch.tensor([prompt.segment_ids] * rows, device=weight.device)
        self._words: list[list[str]] = [[] for _ in range(rows)]
        self._unfinished: list[tuple[int, ...]] = [()] * rows
        self.vad: Tensor | None = None
        self._extend_vad([[token] * rows for token in prompt.input_ids])

    @property
    def generated(self) -> Tensor:
        """(B, N) int64 tokens so far."""
        return self.input_ids[:, self.prompt_length :]

    def next_step(self) -> DecodingStep:
        """Scores the next token of every row; caches what no later token can change."""
        decoder = self.model.decoder
        features = self.model.encode_vad(self.vad)
        embeddings = decoder.embed(self.input_ids, self.segment_ids, features, self.image_prefix, self.cached)
        states = decoder(embeddings, self.image_memory, self.cache, last_only=True)
        self.cached = self.num_cacheable()
        self.cache = tuple((key[:, :, : self.cached], value[:, :, : self.cached]) for key, value in states.cache)
        final = states.hidden_states[-1][:, -1]  # (B, D)
        predicted = None if self.model.vad_head is None else self.model.vad_head(final)
        return DecodingStep(self.segment_ids, self.vad, features, decoder.logits(final), predicted)

    def append(self, tokens: Tensor) -> None:
        """Adds one token to every row: (B,) int64."""
        new = next_segments(self.model.config, self._because, self.segment_ids[:, -1], tokens)
        self.input_ids = torch.cat((self.input_ids, tokens[:, None]), dim=1)
        self.segment_ids = torch.cat((self.segment_ids, new[:, None]), dim=1)
        self._extend_vad([tokens.tolist()])

    def num_cacheable(self) -> int:
        """Leading positions whose states no later token changes, the same number for every row."""
        if self.causal:
            return self.input_ids.shape[1]
        fused = explanation_mask(self.model.config, self.segment_ids).any(dim=0)  # (T,)
        return int((fused.cumsum(0) == 0).sum())

    def _extend_vad(self, columns: Sequence[Sequence[int]]) -> None:
        """Looks up the words of new tokens, each column one per row.

        A tagger gets whole rows and may change its mind about old words. With a causal encoder only its new value is
        taken: what is cached was computed with the first opinion.
        """
        if self.lookup is None or self.model.vad_encoder is None:
            return
        unit, weight = self.model.config.vad_lookup, self.model.decoder.wte.weight
        word_lookup = self.lookup.values if isinstance(self.lookup, VADLookup) and not self.lookup.contextual else None
        values: list[Values] = []
        for tokens in columns:
            for row, token in enumerate(tokens):
                self._unfinished[row], word = next_word(self.tokenizer, unit, self._unfinished[row], token)
                if word_lookup is None:
                    self._words[row].append(word)
                else:
                    values += word_lookup((word,))
        if word_lookup is None:
            new = torch.stack([self.lookup(words) for words in self._words]).to(weight)
            new = new if self.vad is None or not self.causal else new[:, -1:]
        else:
            new = torch.tensor(values, dtype=weight.dtype, device=weight.device)
            new = new.view(len(columns), -1, 3).transpose(0, 1)  # (B, columns, 3)
        grows = self.vad is not None and (word_lookup is not None or self.causal)
        self.vad = torch.cat((self.vad, new), dim=1) if grows else new  # type: ignore[arg-type]


def next_segments(config: SEVLMConfig, because: int, segments: Tensor, tokens: Tensor) -> Tensor:
    """Segment of each new token (B,): explanation from " because" on, emotion before it."""
    explanation = (tokens == because) | (segments == config.explanation_token_id)
    return torch.where(explanation, config.explanation_token_id, config.emotion_token_id)


@torch.no_grad()
def greedy_steps(captions: CaptionDecoder, stop_when_ended: bool = True) -> Iterator[DecodingStep]:
    """Decodes greedily, advancing the captions; rows go on after their end.

    Args:
        captions: the batch.
        stop_when_ended: stop once every row has a special token; no caption changes by it.

    Yields:
        Each step, at most `config.max_new_tokens`; `captions.generated` then holds the tokens up to it.
    """
    ends = torch.tensor(special_ids(captions.tokenizer), device=captions.input_ids.device)
    ended = torch.zeros(len(captions.input_ids), dtype=torch.bool, device=ends.device)
    for _ in range(captions.model.config.max_new_tokens):
        step = captions.next_step()
        tokens = step.logits.argmax(dim=-1)  # (B,)
        captions.append(tokens)
        yield step
        ended |= torch.isin(tokens, ends)
        if stop_when_ended and bool(ended.all()):
            break


def greedy_tokens(captions: CaptionDecoder, stop_when_ended: bool = True) -> Tensor:
    """Decodes greedily; the (B, N) int64 generated tokens."""
    for _ in greedy_steps(captions, stop_when_ended):
        pass
    return captions.generated


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
    kept = tuple(tokens[: length + 1] if ended else tokens[:length])
    return Generated(text, *split_caption(text), ended, label_probs, kept)


@torch.no_grad()
def generate(
    model: Network,
    image_grid: Tensor,
    labels: Sequence[str] | None = None,
    lookup: RowLookup | None = None,
    image_prefix: Tensor | None = None,
) -> list[Generated]:
    """Generates one caption per image; see `SEVLM.generate`. Dropout is off during the call."""
    training = model.training
    model.eval()
    try:
        captions = CaptionDecoder(model, image_grid, lookup, image_prefix)
        probabilities: Sequence[Mapping[str, float] | None] = [None] * len(image_grid)
        if labels is not None:
            probabilities = label_probabilities(captions, labels)
        predicted = [step.next_vad for step in greedy_steps(captions)]
    finally:
        model.train(training)
    rows = zip(captions.generated.tolist(), probabilities, strict=True)
    found = [finish_caption(captions.tokenizer, model.config, row, probs) for row, probs in rows]
    return _with_vad(captions, found, [vad for vad in predicted if vad is not None])


def _with_vad(captions: CaptionDecoder, found: list[Generated], predicted: Sequence[Tensor]) -> list[Generated]:
    """Adds the mean of the VAD head's values, one (B, 3) per generated token, over each explanation."""
    if not predicted:
        return found
    values = torch.stack(list(predicted), dim=1).float()  # (B, N, 3)
    explained = explanation_mask(captions.model.config, captions.segment_ids)[:, -values.shape[1] :]  # (B, N)
    result = []
    for row, caption in enumerate(found):
        words = len(caption.token_ids) - caption.ended
        chosen = values[row, :words][explained[row, :words]]
        if not caption.explanation:  # an image's rating stands where the caption ends
            chosen = values[row, words : words + (caption.ended and captions.model.config.rates_pictures)]
        mean = tuple(chosen.mean(dim=0).tolist()) if len(chosen) else None
        result.append(replace(caption, vad=mean))
    return result


@torch.no_grad()
def label_probabilities(captions: CaptionDecoder, labels: Sequence[str]) -> list[dict[str, float]]:
    """How probable the model finds each emotion of a closed set, for each image of a batch that is not yet decoded.

    P(label) is proportional to exp(sum of log p(token)) over the tokens of the label and the " because" that follows
    it, given image and prompt. "because" belongs to the score, else a label that begins another one ("content",
    "contentment") would get its share. One pass over all images and labels; a non-causal VAD encoder sees the whole
    label, as in training.

    Args:
        captions: the batch; it is not advanced.
        labels: distinct, non-empty emotions.

    Returns:
        One dict label -> probability per image, in the order of `labels`, summing to 1.

    Raises:
        SEVLMError: no labels, or a label twice.
    """
    if not labels or len(set(labels)) != len(labels):
        raise SEVLMError(f"labels must be distinct and at least one, got {list(labels)}")
    model, images, count = captions.model, len(captions.input_ids), len(labels)
    config, weight = model.config, model.decoder.wte.weight
    encoded = [encode_label(captions.tokenizer, config, label) for label in labels]

    def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
        tensors = [torch.tensor(row) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=fill).to(weight.device)  # (L, T)

    input_ids = padded([one.input_ids for one in encoded], config.pad_token_id)
    segment_ids = padded([one.segment_ids for one in encoded], config.explanation_token_id)
    targets = padded([one.labels for one in encoded], IGNORE_INDEX)
    features = None
    if model.vad_encoder is not None and captions.lookup is not None:  # each alone: an encoder must not see padding
        rows = [model.vad_encoder(captions.lookup(one.words)[None].to(weight))[0] for one in encoded]
        features = pad_sequence(rows, batch_first=True).repeat(images, 1, 1)  # (B * L, T, 3)
    prefix = captions.image_prefix
    embeddings = model.decoder.embed(
        input_ids.repeat(images, 1),
        segment_ids.repeat(images, 1),
        features,
        None if prefix is None else prefix.repeat_interleave(count, dim=0),
    )
    states = model.decoder(embeddings, captions.image_memory)
    scored = targets[:, 1:] != IGNORE_INDEX  # (L, T - 1)
    hidden = states.hidden_states[-1].unflatten(0, (images, count))[:, :, :-1][:, scored]  # (B, S, D)
    log_probs = model.decoder.logits(hidden).log_softmax(dim=-1)  # (B, S, V)
    picked = log_probs.gather(2, targets[:, 1:][scored].expand(images, -1)[..., None]).squeeze(2)  # (B, S)
    owner = torch.arange(count, device=weight.device)[:, None].expand_as(scored)[scored]  # (S,) label of each token
    scores = picked.new_zeros(images, count).index_add(1, owner, picked)  # (B, L)
    return [dict(zip(labels, row, strict=True)) for row in scores.double().softmax(dim=1).tolist()]
